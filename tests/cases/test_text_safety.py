"""Text of a user's is data: no part of it is read as a command by Snakemake, a shell, LaTeX, Markdown, HTML or YAML."""

import copy
import csv
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rkd import cli
from rkd.config.load import check, load
from rkd.config.problems import ConfigError
from rkd.config.schema import schema
from rkd.config.variants import NAME, NAME_LENGTH, expand
from rkd.data.reading import read_columns, write_columns
from rkd.errors import RkdError
from rkd.export.card import model_card
from rkd.report.figures.ablation import ablation_figure
from rkd.report.figures.style import save
from rkd.report.inputs import read_metrics
from rkd.report.page import build
from rkd.report.tables.ablation import ablation_table
from rkd.report.tables.base import write
from rkd.report.tables.main import main_table
from rkd.specs.jobs import RunSpec
from rkd.specs.report import ReportSpec
from rkd.utils import escape
from rkd.workflow.forecast import planned_jobs
from rkd.workflow.plan import Plan
from tests.helpers import ROOT
from tests.helpers.seeds import SOAK
from tests.workflow.conftest import Workflow

# Every character that some language reads as a command, and some that do so at the start of a line only.
NASTY = (
    "# - {b} {{c}} {task} $x$ ${HOME} $(id) %s & &amp; | ` ' \" \\ <i>x</i> ~ ^ * _y_ [z] é 漢 😀 ~~s~~ -- {% raw %}"
)


def base() -> dict[str, Any]:
    """The default config with a task of one's own, an axis of values and one of settings."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    return {**config, "seeds": [1], "ablations": {}}


def own(folder: Path, name: str = NASTY.replace("/", "")) -> dict[str, Any]:
    """A task whose every text is `name`, with files that are there."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    rows = [(f"word {row}", f"{name} {'ab'[row % 2]}") for row in range(40)]
    for split in ("train", "dev"):
        with (place / f"{split} {name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([(f"text {name}", f"label {name}"), *rows])
    files = {split: str((place / f"{split} {name}.csv").relative_to(folder)) for split in ("train", "dev")}
    columns = {"text": [f"text {name}"], "label": f"label {name}", "labels": [f"{name} a", f"{name} b"]}
    return {**files, **columns, "title": name}


def nasty_config(folder: Path) -> dict[str, Any]:
    """A small config with such text at every key that takes any, and axes named like rules of the workflow."""
    task = own(folder)
    place = Path(task["train"]).parent
    for layers in (2, 4):
        model = (ROOT / f"configs/models/bert-{layers}x128.json").read_text(encoding="utf-8")
        (folder / place / f"{layers} {place.name}.json").write_text(model, encoding="utf-8")
    student, heat = str(place / f"2 {place.name}.json"), {"variant": "kd", "parameter": "temperature"}
    return {
        "tasks": ["moods"],
        "seeds": [1],
        "custom_tasks": {"moods": task},
        "glue_dir": str(place),
        "teacher_model": str(place / f"4 {place.name}.json"),
        "student_model": student,
        "variants": {"no-lookahead": None},
        "ablations": {
            "teacher-lr": None,
            "table": {**heat, "values": [1.0, 2.0]},
            "figure": {**heat, "parameter": "student_model", "values": [student, "configs/models/bert-2x128.json"]},
            "x_": {"variant": "kd", "settings": {"all": {"temperature": 3.0}, "none": {"alpha": 0.1}}},
        },
    }


# --- the workflow -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    workflow = Workflow(tmp_path_factory.mktemp("work $flow"))
    workflow.overlay(nasty_config(workflow.folder))
    return workflow


def test_snakemake_plans_a_config_with_nasty_text_at_every_key(workflow):
    planned = workflow.planned()
    assert (planned["prepare_data"], planned["finetune_teacher"], planned["train_student"]) == (1, 1, 3 + 2 + 1 + 2)
    assert (planned["axis_table"], planned["axis_figure"], planned["report"]) == (3, 3, 1)


def test_jobs_read_what_the_user_wrote_and_no_other_place_or_device_runs_one_again(workflow):
    """Real jobs: quoted by the shell, read by the script, compared by content."""
    only = ("--until", "prepare_data")
    workflow.snakemake("--cores", "1", *only)
    [file] = (workflow.folder / "results/data").glob("moods-*/manifest.json")
    manifest = json.loads(file.read_text(encoding="utf-8"))
    task = nasty_config(workflow.folder)["custom_tasks"]["moods"]
    assert manifest["custom_task"]["labels"] == task["labels"]
    assert manifest["custom_task"]["files"]["train"]["path"] == task["train"]
    moved = nasty_config(workflow.folder)
    for split in ("train", "dev"):
        (workflow.folder / f"{split} {{copy}}.csv").write_bytes((workflow.folder / task[split]).read_bytes())
        moved["custom_tasks"]["moods"][split] = f"{split} {{copy}}.csv"
    workflow.overlay({**moved, "threads": 2, "device": "cpu"})
    try:
        assert workflow.planned(*only) == {}
        moved["custom_tasks"]["moods"]["train"] = "other.jsonl"  # the same rows in another format
        columns = read_columns(workflow.folder / task["train"], [*task["text"], task["label"]])
        write_columns(workflow.folder / "other.jsonl", columns)
        workflow.overlay(moved)
        assert workflow.planned(*only) == {"prepare_data": 1}
    finally:
        workflow.overlay(nasty_config(workflow.folder))


def test_a_project_folder_that_snakemake_cannot_take_is_one_error(tmp_path):
    (tmp_path / "{x}").mkdir()
    found = Workflow(tmp_path / "{x}").snakemake("--dry-run", check=False)
    expected = f"error: {tmp_path}/{{x}}: found braces, which Snakemake takes for a wildcard; expected another folder"
    assert found.splitlines()[-1] == expected


def test_no_name_of_an_axis_or_task_makes_the_name_of_a_rule():
    text = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")])
    names = re.findall(r"^ *rule (\w+):", text, re.MULTILINE)
    names += re.findall(r'Product\(\n +"(\w+)"', text)
    assert len(names) > 20
    assert not [name for name in names if name.startswith("ablation_") or name.endswith("_all")]


def test_an_axis_and_a_task_with_one_target_are_one_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = {**base(), "tasks": ["ablation_x"], "custom_tasks": {"ablation_x": own(tmp_path)}}
    heat = {"variant": "kd", "parameter": "temperature", "values": [1.0, 2.0]}
    [problem] = check_in_root({**config, "ablations": {"x_all": heat}})
    assert str(problem) == (
        "ablations.x_all: found the name 'x_all' (text); expected another name: in the results this is the target "
        "ablation_x_all of a task"
    )
    assert check_in_root({**config, "ablations": {"x": heat}}) == []


def check_in_root(config: dict[str, Any]) -> Any:
    """The problems, with models by their absolute paths, as the working directory is another."""
    models = {f"{role}_model": str(ROOT / config[f"{role}_model"]) for role in ("teacher", "student")}
    return check({**config, **models})


# --- rkd plan -----------------------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `rkd plan` says on stderr when it ends with exit code 2."""
    with pytest.raises(SystemExit) as end:
        cli.main(["plan", *arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "error: {file}: cannot be read: No such file or directory; expected a config file\n"),
        ("a: [", "error: {file}, line 1, column 5: expected the node content, but found '<stream end>'; expected YAML"),
        ("- 1", "error: {file}: found [1]; expected keys and values (KEY: VALUE)\n"),
        ("a: \udc80", "error: {file}: 'utf-8' codec can't decode byte 0x80 in position 3: invalid start byte; "
         "expected YAML in UTF-8\n"),
        ("tasks: [colla]\nseeds: []", "error: The config has 2 problems:\n- seeds: found []; expected a list of at "
         "least one, none of them twice\n- tasks[0]: found 'colla' (text); expected one of cola, sst2, mrpc, stsb, "
         "qqp, mnli, qnli, rte, wnli; did you mean cola?\n"),
        ("seeds: [" + 5000 * "1" + "]", "error: {file}: Exceeds the limit"),
        ("seeds: &a [*a]", "error: The config has 1 problem:\n- seeds[0]: found ["),
    ],
)  # fmt: skip
def test_rkd_plan_says_what_is_wrong_with_a_config_file(tmp_path, capsys, content, expected):
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_bytes(content.encode(errors="surrogateescape"))
    found = told(capsys, "--configfile", str(file))
    assert found.startswith(expected.format(file=file))
    assert found.count("\n") == 1 + found.count("\n- "), "one line, and one for each problem"
    # The same as the second of two, as `snakemake` takes them.
    assert told(capsys, "--configfile", "configs/cpu.yaml", str(file)) == found


@pytest.mark.usefixtures("here")
def test_rkd_plan_takes_options_as_snakemake_does(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("rkd.workflow.forecast.planned_jobs", lambda arguments: seen.append(arguments) or [])
    arguments = [
        "tables",
        "--configfile",
        "configs/cpu.yaml",
        "configs/paper.yaml",
        "--config",
        "seeds=[1]",
        "tasks=[rte]",
    ]
    with pytest.raises(SystemExit):
        cli.main(["plan", *arguments, "--json"])
    assert seen == [arguments]
    assert json.loads(capsys.readouterr().out)["total"] == 0


@pytest.mark.usefixtures("here")
def test_snakemake_s_own_errors_are_one_line():
    with pytest.raises(RkdError, match=r"^snakemake: MissingRuleException: No rule to produce nowhere [^\n]*$"):
        planned_jobs(["nowhere"])


# --- ablations ----------------------------------------------------------------------------------------------


HELD_OUT = "ablations.a.parameter: found 'held_out_fraction'"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ({"parameter": "held_out_fraction", "values": ["x"]}, f"{HELD_OUT} (text); "
         "expected another key: held_out_fraction is read with selection held-out or held-out-loss alone, "
         "here selection is best"),
        ({"parameter": "held_out_fraction", "values": [0.1, 0.2]}, f"{HELD_OUT} (text)"),
        ({"settings": {"s": {"held_out_fraction": 0.1}}}, "ablations.a.settings.s.held_out_fraction: found 'held_out_"),
        ({"parameter": "temperature", "values": [1, "x"]}, "ablations.a.values[1]: found 'x' (text); expected a"),
        ({"settings": {"s": {"alpha": 0.2}, "t": {"alpha": 0.2}}}, "ablations.a.settings.t: found the same run as "
         "ablations.a.settings.s; expected a value that makes another run"),
        ({"settings": {"s": {"temperature": 2}, "t": {"temperature": 2.0}}}, "ablations.a.settings.t: found the same"),
        ({"settings": {"S {x}": {"alpha": 0.2}}}, "ablations.a.settings.'S {x}': found the name 'S {x}' (text); "
         "expected a name of lower-case letters"),
    ],
)  # fmt: skip
def test_an_axis_that_is_none_is_one_error(axis, expected):
    [problem] = check({**base(), "ablations": {"a": {"variant": "kd", **axis}}})
    assert str(problem).startswith(expected)


@pytest.mark.usefixtures("here")
def test_a_held_out_share_is_an_axis_where_it_is_read():
    settings = {"s": {"selection": "held-out", "held_out_fraction": 0.2}, "t": {"selection": "held-out"}}
    assert check({**base(), "ablations": {"a": {"variant": "kd", "settings": settings}}}) == []


@pytest.mark.usefixtures("here")
def test_two_values_that_look_alike_in_a_path_are_two_variants(tmp_path):
    """And a value never takes the place of a variant that is called so, nor is its name too long for a file."""
    text = (ROOT / "configs/models/bert-2x128.json").read_text(encoding="utf-8")
    names = ["A b", "a-b", "a" * 150, "a" * 150 + "b"]
    for name in names:
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    values = [str(tmp_path / f"{name}.json") for name in names]
    axis = {"variant": "kd", "parameter": "student_model", "values": values}
    heat = {"variant": "kd", "parameter": "temperature", "values": [2.0]}
    config = base() | {"ablations": {"a": axis, "b": heat}}
    config["variants"]["kd.temperature-2.0"] = {"method": "kd", "temperature": 7.0}
    loaded = load(config)
    variants, cells, _ = expand(loaded)
    assert [variants[cell.variant].get("student_model") for cell in cells[:4]] == values
    assert variants[cells[4].variant]["temperature"] == 2.0
    assert variants["kd.temperature-2.0"]["temperature"] == 7.0
    assert all(len(name) <= NAME_LENGTH for name in variants)
    assert [cell.variant for cell in expand(loaded)[1]] == [cell.variant for cell in cells], "the same every time"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("section", "name", "meaning"),
    [("variants", "student", "the model that students start from"), ("variants", "teacher", "the fine-tuned teacher")],
)
def test_names_that_stand_for_something_else_are_refused(section, name, meaning):
    config = base()
    config[section][name] = {"method": "kd"}
    [problem] = check(config)
    assert (
        str(problem)
        == f"variants.{name}: found the name '{name}' (text); expected another name: in the results this is {meaning}"
    )


# --- paths --------------------------------------------------------------------------------------------------


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    task = own(tmp_path, "x")
    for layers in (2, 4):
        (tmp_path / f"{layers}.json").write_bytes((ROOT / f"configs/models/bert-{layers}x128.json").read_bytes())
    config = base() | {
        "tasks": ["moods"],
        "custom_tasks": {"moods": {**task, **{split: f"~/{task[split]}" for split in ("train", "dev")}}},
        "glue_dir": "~/x",
        "teacher_model": "~/4.json",
        "student_model": "~/2.json",
        "ablations": {"a": {"variant": "kd", "parameter": "student_model", "values": ["~/2.json", "~/4.json"]}},
    }
    config["variants"]["other"] = {"method": "kd", "student_model": "~/4.json"}
    loaded = load(config)
    assert "~" not in json.dumps(loaded)
    assert loaded["custom_tasks"]["moods"]["train"] == str(tmp_path / task["train"])
    plan = Plan(loaded)
    assert plan.data("moods").custom_task["files"]["train"].keys() == {"format", "sha256"}
    assert plan.student("moods", "other", 1).model.source == str(tmp_path / "4.json")


@pytest.mark.usefixtures("here")
def test_variables_and_braces_in_a_path_are_themselves(tmp_path, monkeypatch):
    monkeypatch.setenv("WHERE", "elsewhere")
    task = own(tmp_path, "$WHERE {x} %s")
    files = {split: str(tmp_path / task[split]) for split in ("train", "dev")}
    loaded = load(base() | {"tasks": ["moods"], "custom_tasks": {"moods": {**task, **files}}})
    assert Plan(loaded).files("moods") == {"train": files["train"], "validation": files["dev"]}


# --- any text at any key ------------------------------------------------------------------------------------

Place = tuple[Any, ...]


def places(rule: dict[str, Any], path: Place = ()) -> list[Place]:
    """The path of every value in the config that may be text, and of every name; `…` is a name, an integer an item."""
    found: list[Place] = []
    types = rule.get("type", ["string"] if "enum" in rule else [])
    if "string" in ([types] if isinstance(types, str) else types):
        found.append(path)
    for key, item in rule.get("properties", {}).items():
        found += places(item, (*path, key))
    if isinstance(other := rule.get("additionalProperties"), dict):
        found += [(*path, "…"), *places(other, (*path, "one"))]
    if "items" in rule:
        found += places(rule["items"], (*path, 0))
    if path[-1:] == ("values",):
        found.append((*path, 0))
    return found


PLACES = places(schema())
PARTS = ["\0", "\x1b[31m", "\x7f", "\u202e", "\ud83d", "\u2028", "{task}", "{{", "}}", "$(id)", "../", "~", "null"]
FRAGMENTS = st.sampled_from([*"{}[]()<>$%&#~^*_|`'\"\\ \t\n\r/.:;,=-+!?@aZ0é漢😀", *PARTS])
TEXTS = st.one_of(
    st.lists(FRAGMENTS, max_size=12).map("".join),
    st.text(max_size=12),
    st.just(NASTY),
    st.from_regex(NAME, fullmatch=True),
)


def test_the_schema_has_many_places_for_text():
    assert len(PLACES) > 50
    assert {
        ("glue_dir",),
        ("custom_tasks", "one", "labels", 0),
        ("variants", "…"),
        ("ablations", "one", "values", 0),
    } < set(PLACES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A good config that has something at every place."""
    task = own(tmp_path_factory.mktemp("whole"), "x")
    folder = tmp_path_factory.getbasetemp()
    files = {key: str(next(folder.glob(f"whole*/{task[key]}"))) for key in ("train", "dev")}
    config = base() | {"tasks": ["one"], "custom_tasks": {"one": {**task, **files}}}
    config["variants"]["one"] = {"method": "kd", "temperature": 9.0}
    one = {"variant": "kd", "parameter": "temperature", "values": [1.0, 2.0], "tasks": ["one"]}
    return config | {"ablations": {"one": one, "two": {"variant": "kd", "settings": {"one": {"alpha": 0.1}}}}}


def put(config: dict[str, Any], path: Place, text: str) -> tuple[dict[str, Any], Place]:
    """The config with the text at a place, as a value or as a name, and that place."""
    config = copy.deepcopy(config)
    section: Any = config
    *above, last = (("two" if part == "one" and path[0] == "ablations" and "settings" in path and index == 1 else part)
                    for index, part in enumerate(path))  # fmt: skip
    for part in above:
        if isinstance(section, dict) and not isinstance(section.get(part), (dict, list)):
            section[part] = [text] if last == 0 else {}
        section = section[part]
    if last == "…":
        section[text] = section.pop("one", {"method": "kd"})
        last = text
        if path == ("custom_tasks", "…"):
            config["tasks"] = [text]
            config["ablations"]["one"]["tasks"] = [text]
    elif isinstance(section, list):
        section[last:] = [text, *section[last + 1 :]]
    else:
        section[last] = text
    return config, (*above, last)


@settings(max_examples=3000 if SOAK else 400, derandomize=True, database=None)
@given(st.sampled_from(PLACES), TEXTS)
@example(("custom_tasks", "one", "labels", 0), "{bad}")
@example(("custom_tasks", "one", "title"), "a\nb")
@example(("custom_tasks", "one", "label"), "\ud83d")
@example(("custom_tasks", "one", "text", 0), "a\nb")
@example(("teacher_model",), "{x}.json")
@example(("variants", "…"), "a\n- b: found")
@example(("ablations", "…"), "table")
@example(("ablations", "one", "values", 0), "nan")
def test_any_text_at_any_key_is_taken_as_it_is_or_refused_by_its_key(whole, path, text):
    config, where = put(whole, path, text)
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        problems = check(config)
        for problem in problems:
            assert escape.one_line(str(problem)) == str(problem), "one line"
            str(problem).encode()
        if problems:
            keys = [re.sub(r"[\[.'].*", "", problem.path) for problem in problems]
            assert where[0] in keys or path in {("custom_tasks", "…"), ("tasks", 0)}, (where, problems)
            with pytest.raises(ConfigError):
                load(config)
            return
        plan = Plan(load(config))
        for task, variant, seed, _ in plan.runs():
            spec = plan.teacher(task, seed) if variant == "teacher" else plan.student(task, variant, seed)
            assert RunSpec.from_json(spec.json()) == spec
            json.loads(plan.data(task).json())["custom_task"].keys()
        for axis in (None, *plan.axes):
            report = plan.report(axis)
            assert ReportSpec.from_json(report.json()) == report
        Plan.from_json(plan.page())
    finally:
        os.chdir(before)


@settings(max_examples=500 if SOAK else 60, derandomize=True, database=None)
@given(text=TEXTS.filter(lambda text: not set("/\0") & set(text) and len(text.encode(errors="replace")) < 100))
@example(text="{task}")
@example(text="$(id) `id` 'x' \"y\"")
def test_a_file_of_any_name_is_taken_at_every_key_for_a_path(whole, tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("named")
    try:
        place = folder / f"x{text}"
        place.mkdir()
    except (OSError, UnicodeEncodeError):  # no name that a file can have
        return
    for layers in (2, 4):
        (place / f"y{text}{layers}.json").write_bytes((ROOT / f"configs/models/bert-{layers}x128.json").read_bytes())
    custom_task = whole["custom_tasks"]["one"]
    write_columns(place / f"y{text}.csv", {name: ["a"] for name in (*custom_task["text"], custom_task["label"])})
    teacher, student, data = (str(place / f"y{text}{end}") for end in ("4.json", "2.json", ".csv"))
    config = copy.deepcopy(whole) | {"glue_dir": str(place), "teacher_model": teacher, "student_model": student}
    config["custom_tasks"]["one"] |= dict.fromkeys(("train", "dev", "test"), data)
    config["variants"]["one"] = {"method": "kd", "student_model": teacher}
    config["ablations"]["one"] |= {"parameter": "student_model", "values": [student, teacher]}
    problems = check(config)
    if problems:
        assert escape.has_control(text), problems
        assert {"glue_dir", "teacher_model", "student_model", "custom_tasks.one.train"} <= {
            one.path for one in problems
        }
        return
    plan = Plan(load(config))
    assert set(plan.files("one").values()) == {data}
    assert plan.teacher("one", 1).model.source == teacher
    assert plan.student("one", "one", 1).model.source == teacher
    assert [value for value, _ in plan.axes["one"].values] == [student, teacher]


# --- the report ---------------------------------------------------------------------------------------------


class Text(HTMLParser):
    """The text of a page outside of scripts and styles, its tags, and whether each is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.open = "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data


def assert_latex_is_escaped(text: str) -> None:
    """Braces balance, and every special character is escaped or one that the table itself needs."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[&%$#_{}]", "", body)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"[%#_~^`<>]", re.sub(r"\\label\{[^}]*\}", "", re.sub(r"\$\^\{.*?\}\$", "", bare)))
    assert len(re.findall(r"\$", bare)) % 2 == 0
    commands = set(re.findall(r"\\([A-Za-z]+)", bare))
    assert commands <= {
        "begin", "end", "centering", "small", "caption", "label", "toprule", "midrule", "bottomrule", "cmidrule",
        "multicolumn", "textwidth", "par", "medskip", "footnotesize", "raggedright", "textbackslash", "textasciitilde",
        "textasciicircum", "textasciigrave", "textless", "textgreater", "times", "pm", "to", "scriptsize",
    }, commands  # fmt: skip
    assert not re.search(r"\\(\\|midrule)\s*[\[*]", bare), "an argument of the command before"


def markdown_text(cell: str) -> str:
    """What GitHub shows for a line of escaped text."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell).strip()


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """Plan, spec, an axis's table and metrics of a config full of nasty text."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    plan = Plan(load({**base(), **overlaid(nasty_config(tmp_path))}))
    spec = ReportSpec.from_json(plan.report("figure").json())
    names = ["teacher", *plan.all_variants]
    files = []
    for number, variant in enumerate(names):
        file = tmp_path / f"results/metrics/moods/{variant}/seed-1.json"
        file.parent.mkdir(parents=True)
        score = 0.5 + number / 100
        method = "finetune" if variant == "teacher" else plan.method(variant)
        found = {"task": "moods", "variant": variant, "method": method, "seed": 1, "synthetic": False,
                 "splits": {"validation": {"accuracy": score, "rows": 40}}, "primary_score": score}  # fmt: skip
        file.write_text(json.dumps(found), encoding="utf-8")
        files.append(str(file.relative_to(tmp_path)))
    return plan, spec, read_metrics(files)


def overlaid(config: dict[str, Any]) -> dict[str, Any]:
    sections = {key: {**base()[key], **config[key]} for key in ("variants", "ablations")}
    return {**config, **sections}


def test_tables_show_nasty_text_as_it_is_in_every_format(rendered, tmp_path):
    plan, spec, metrics = rendered
    student, title = plan.config["student_model"], plan.config["custom_tasks"]["moods"]["title"]
    table = ablation_table(spec, metrics)
    starts = {"main": "Dev scores", "ablation_figure": "Ablation of figure: dev primary scores"}
    for stem, one in {"main": main_table(spec, metrics), "ablation_figure": table}.items():
        csv_file, md, tex, html, _ = write(one, tmp_path / "tables", stem)
        pd.testing.assert_frame_equal(pd.read_csv(csv_file, keep_default_na=True), one.frame(), check_dtype=False)
        lines = md.read_text(encoding="utf-8").splitlines()
        rows = [line for line in lines if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
        assert markdown_text(lines[0]).startswith(f"{starts[stem]} (×100) on {title} (custom data")
        assert_latex_is_escaped(tex.read_text(encoding="utf-8"))
        assert "漢" in tex.read_text(encoding="utf-8")
        assert ", LuaLaTeX or XeLaTeX, and a font" in tex.read_text(encoding="utf-8").splitlines()[0]
        parsed = Text(html.read_text(encoding="utf-8"))
        assert not parsed.open
        assert title in parsed.text
        assert not {"i", "b"} & {tag for tag, _ in parsed.tags}
    assert student in parsed.text
    assert pd.read_csv(tmp_path / "tables/ablation_figure.csv")["value"].tolist() == [
        student,
        "configs/models/bert-2x128.json",
    ]


def test_figures_draw_nasty_text_as_it_is(rendered, tmp_path):
    _, spec, metrics = rendered
    table = ablation_table(spec, metrics)
    broken = "$\\frac{$ \\sum_{ $x"
    axis = replace(table.axis, values=((broken, table.axis.values[0][1]), ("$a$", table.axis.values[1][1])))
    figure = ablation_figure(replace(table, axis=axis))
    save(figure, tmp_path / "figure")
    [axes] = figure.axes
    assert axes.get_title(loc="left").startswith("# - {b} {{c}} {task} $x$")
    labels = axes.get_xticklabels()
    assert [label.get_text() for label in labels] == [broken, "$a$"]
    assert not any(label.get_parse_math() for label in [*labels, axes.title])


def test_the_page_shows_nasty_text_as_it_is(rendered, tmp_path):
    plan, spec, metrics = rendered
    write(main_table(spec, metrics), tmp_path / f"results/{plan.experiment}/tables", "main")
    log = plan.run("moods", "kd", 1).log(tmp_path / f"results/{plan.experiment}")
    log.parent.mkdir(parents=True)
    log.write_text(f"ValueError: {NASTY}\x1b[31m\n", encoding="utf-8")
    html = build.page(Plan.from_json(plan.page()), tmp_path / "results", ROOT / "CITATION.cff", ["main"], [])
    parsed = Text(html)
    assert not parsed.open
    assert not {"i", "b"} & {tag for tag, _ in parsed.tags}
    title, files = plan.config["custom_tasks"]["moods"]["title"], ", ".join(plan.files("moods").values())
    assert f"{title} from {files}" in parsed.text
    assert f"{plan.config['teacher_model']} → {plan.config['student_model']};" in parsed.text
    assert f"ValueError: {NASTY}"[:200] in parsed.text
    assert "\x1b" not in html
    shown = parsed.text.partition("The whole config")[2].partition("\nTables\n")[0]
    config = yaml.safe_load(shown)
    assert config["custom_tasks"]["moods"]["title"] == title


def test_a_model_card_shows_nasty_text_as_it_is(tmp_path):
    name = NASTY
    definition = {
        "text": [name],
        "label": f"l{name}",
        "labels": [f"{name}|a", f"b\n---\n{name}"],
        "metrics": ["accuracy"],
        "primary_metrics": ["accuracy"],
        "test": False,
        "title": name,
    }
    folder = tmp_path / "student"
    folder.mkdir()
    spec = {
        "task": "moods-card",
        "custom_task": definition,
        "method": "kd",
        "seed": 1,
        "model": {"source": f"x/{name.replace('/', '')}"},
        "training": {"selection": "best"},
        "options": {"layer_map": [[1], [3]]},
    }
    record = {"spec": spec, "parameters": {"total": 1_000_000}, "data": {"source": "files", "sha256": "0"}}
    (folder / "run.json").write_text(json.dumps(record))
    metrics = {"splits": {"validation": {"accuracy": 0.5, "rows": 2}}, "primary_score": 0.5}
    card = model_card(distilled(folder, metrics), f"my {name}")
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header)["pipeline_tag"] == "text-classification"
    assert not [line for line in body.splitlines() if line.strip() == "---"]
    head = next(line for line in body.splitlines() if line.startswith("# "))
    assert markdown_text(head.removeprefix("# ")).startswith("my # - {b}")
    code = body.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert f"model={json.dumps(f'my {name}', ensure_ascii=False)}, " in code
    assert "| layer_map | \\[\\[1\\], \\[3\\]\\] |" in body
    for row in re.findall(r"^\|.*", body, re.MULTILINE):
        assert len(re.findall(r"(?<!\\)\|", row)) in (3, 4, 6)


def distilled(folder: Path, metrics: dict[str, Any]) -> Any:
    """A finished run, as far as a card reads it."""
    predictions = pd.DataFrame({"split": [], "label": [], "prediction": []})
    return SimpleNamespace(folder=folder, metrics=metrics, predictions=predictions)


# --- one function per language ------------------------------------------------------------------------------


@settings(max_examples=2000 if SOAK else 300, derandomize=True, database=None)
@given(TEXTS)
def test_escaped_markdown_is_the_text_again(text):
    escaped = escape.markdown(text)
    assert markdown_text(escaped) == escape.one_line(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`<*]", re.sub(r"\\[|`<*]", "", escaped))
    assert not re.match(r"(#{1,6}|[-+]|\d{1,9}[.)])(\s|$)", escaped)


@settings(max_examples=2000 if SOAK else 300, derandomize=True, database=None)
@given(TEXTS)
def test_escaped_latex_is_escaped(text):
    assert_latex_is_escaped(escape.latex(text))


@given(TEXTS)
@settings(max_examples=300, derandomize=True, database=None)
def test_one_line_is_one_line_and_can_be_written(text):
    line = escape.one_line(text)
    assert len(line.splitlines()) <= 1
    line.encode("utf-8")
    assert escape.one_line(line) == line
