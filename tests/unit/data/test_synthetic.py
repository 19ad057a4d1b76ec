"""The synthetic tasks: the official layout, deterministic, balanced, and not one text twice."""

from collections import Counter
from pathlib import Path

import pytest

from rkd.data import load_raw, synthetic
from rkd.data.glue_dir import read_split
from rkd.errors import RkdError
from rkd.tasks import TASKS, get

ROWS = (600, 120, 100)

# (share of class 0, of class 1, …), the imbalance of CoLA, MRPC and QQP among them
SHARES = {
    "cola": (0.36, 0.64),
    "sst2": (0.5, 0.5),
    "mrpc": (0.4, 0.6),
    "qqp": (0.55, 0.45),
    "mnli": (1 / 3, 1 / 3, 1 / 3),
    "qnli": (0.5, 0.5),
    "rte": (0.5, 0.5),
    "wnli": (0.5, 0.5),
}


@pytest.fixture(scope="module")
def data() -> dict:
    return {name: load_raw(name, "synthetic", rows=ROWS) for name in TASKS}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.tsv")}


@pytest.mark.parametrize("name", TASKS)
def test_same_seed_same_bytes(tmp_path: Path, name: str) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        synthetic.write(tmp_path / folder, name, (30, 10, 10), seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


@pytest.mark.parametrize("name", TASKS)
def test_reads_as_official_files(data: dict, name: str) -> None:
    task = get(name)
    assert list(data[name]) == list(task.splits)
    for split, rows in data[name].items():
        count = ROWS[0] if split == "train" else ROWS[1] if split in task.dev_splits else ROWS[2]
        assert rows.num_rows == count
        assert all(text.strip() for field in task.text_fields for text in rows[field])
        if split in task.test_splits:
            assert not any(label >= 0 for label in rows["label"])  # -1 or NaN
        else:
            assert all(0 <= label <= max(5 * task.regression, task.num_labels - 1) for label in rows["label"])


@pytest.mark.parametrize("name", TASKS)
def test_no_example_occurs_twice(data: dict, name: str) -> None:
    fields = get(name).text_fields
    keys = [
        frozenset(texts) for split in data[name].values() for texts in zip(*(split[f] for f in fields), strict=True)
    ]
    assert len(keys) == len(set(keys))
    assert all(len(key) == len(fields) for key in keys)


@pytest.mark.parametrize("name", SHARES)
def test_classes_are_as_frequent_as_meant(data: dict, name: str) -> None:
    labels = Counter(data[name]["train"]["label"])
    for label, share in enumerate(SHARES[name]):
        assert labels[label] / ROWS[0] == pytest.approx(share, abs=0.08)


def test_scores_cover_the_whole_range(data: dict) -> None:
    scores = data["stsb"]["train"]["label"]
    assert min(scores) == 0
    assert max(scores) == 5
    assert len(set(scores)) > 300


def test_default_rows_exist_for_every_task(tmp_path: Path) -> None:
    """The grammar has enough different sentences for the default sizes, and its classes stay balanced there."""
    for name in TASKS:
        synthetic.write(tmp_path, name)
        if name in SHARES:
            labels = Counter(read_split(get(name), "train", tmp_path, official_counts=False)["label"])
            assert labels[0] / synthetic.ROWS[0] == pytest.approx(SHARES[name][0], abs=0.05)


def test_official_layout(tmp_path: Path) -> None:
    for name in ("cola", "mrpc", "mnli", "qqp", "stsb", "sst2"):
        synthetic.write(tmp_path, name, (3, 2, 2))
    first = {file: content.split(b"\n")[0].decode() for file, content in contents(tmp_path).items()}
    assert first["CoLA/train.tsv"].split("\t")[1] in ("0", "1")  # no header
    assert first["CoLA/test.tsv"] == "index\tsentence"
    assert first["SST-2/train.tsv"] == "sentence\tlabel"
    assert first["MRPC/train.tsv"] == "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    assert first["MRPC/test.tsv"] == "index\t#1 ID\t#2 ID\t#1 String\t#2 String"
    assert first["QQP/dev.tsv"] == "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"
    assert first["QQP/test.tsv"] == "id\tquestion1\tquestion2"
    assert first["STS-B/train.tsv"].count("\t") == 9
    assert [first[f"MNLI/{file}.tsv"].count("\t") + 1 for file in ("train", "dev_matched", "test_matched")] == [
        12,
        16,
        10,
    ]
    assert first["diagnostic/diagnostic.tsv"] == "index\tsentence1\tsentence2"


@pytest.mark.parametrize("name", TASKS)
def test_headers_are_those_of_the_real_files(glue_dir: Path, tmp_path: Path, name: str) -> None:
    synthetic.write(tmp_path, name, (2, 2, 2))
    for split, (file, _) in get(name).splits.items():
        if (glue_dir / file).is_file() and not (name == "cola" and split not in get(name).test_splits):
            with (glue_dir / file).open("rb") as real, (tmp_path / file).open("rb") as ours:
                assert ours.readline() == real.readline()


def test_more_rows_than_sentences() -> None:
    with pytest.raises(RkdError, match=r"synthetic wnli: the grammar has only about \d+ different examples"):
        load_raw("wnli", "synthetic", rows=(100_000, 1, 1))


@pytest.mark.parametrize("rows", [(0, 1, 1), (10, 10)])
def test_rows_must_be_three_positive_numbers(rows: tuple) -> None:
    with pytest.raises(RkdError, match=r"rows: found \[.*\]; expected three numbers of at least 1"):
        load_raw("cola", "synthetic", rows=rows)
