"""What the code never does: unpickle, run code from elsewhere, use a network unasked, leave the results folder."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rkd.config.load import ConfigError, load
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.workflow.plan import Plan
from tests.helpers import ROOT
from tests.helpers.configs import merged

SOURCES = sorted(path for part in ("rkd", "workflow_scripts") for path in (ROOT / part).rglob("*.py"))


def calls(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The calls in a file: the function's name as written, and the arguments with a name that are constants."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            named = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
            yield ast.unparse(node.func), {str(name): value for name, value in named.items()}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_unpickling_no_code_from_elsewhere_and_no_shell(path: Path) -> None:
    for function, named in calls(path):
        last = function.rpartition(".")[2]
        assert function not in ("eval", "exec", "pickle.load", "pickle.loads", "os.system", "yaml.load"), function
        assert last not in ("read_pickle", "allow_pickle"), function
        assert named.get("trust_remote_code", False) is False, function
        assert named.get("shell", False) is False, function
        assert not named.get("allow_pickle"), function
        if function == "torch.load":
            assert named["weights_only"] is True, path
        if function.endswith("ForSequenceClassification.from_pretrained"):
            assert named["trust_remote_code"] is False, path
            assert named["weights_only"] is True, path


# The network.


@pytest.mark.parametrize(
    ("overlay", "needed"),
    [
        ("{}", False),
        ("{student_model: 'teacher-layers:1,3'}", False),
        ("{glue_dir: configs, data_source: hub}", False),
        ("data_source: hub", True),
        ("{teacher_model: org/big, student_model: org/small}", True),
        ("{teacher_model: org/big, student_model: 'teacher-layers:1,3'}", True),
    ],
)
def test_the_hub_is_needed_for_what_comes_from_there(
    overlay: str, needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert Plan(load(merged(overlay))).needs_hub is needed


# Paths.

ESCAPES = ["../x", "/etc/x", "a/b", "..", ".x", "a\0b", "a\nb", "A", "", "x y", "$(touch x)", "x;y", "~"]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize(
    "place",
    [
        lambda name: {"variants": {name: {"method": "kd"}}},
        lambda name: {"tasks": [name]},
        lambda name: {"custom_tasks": {name: {"train": "x.csv", "text": ["a"], "label": "b", "labels": ["0", "1"]}}},
        lambda name: {"ablations": {name: {"variant": "kd", "parameter": "temperature", "values": [1.0]}}},
        lambda name: {"ablations": {"heat": {"variant": "kd", "settings": {name: {"temperature": 1.0}}}}},
    ],
    ids=["variant", "task", "own task", "axis", "setting"],
)
def test_no_name_that_becomes_a_path_can_leave_its_folder(
    place: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    config = merged(yaml.safe_dump(place(name)))
    with pytest.raises(ConfigError):
        load(config)


@given(value=st.floats(1e-3, 1e3) | st.sampled_from(["skip", "first"]) | st.just([[0, 1], []]))
def test_the_names_of_ablations_variants_stay_in_their_folder(value: Any) -> None:
    from rkd.config.variants import expand

    base = merged("{}")
    parameter = "temperature" if isinstance(value, float) else "layer_map"
    base["ablations"] = {"axis": {"variant": "reptile", "parameter": parameter, "values": [value]}}
    variants = expand(base).overrides
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name) for name in variants)


# Tables.


@given(text=st.text(max_size=20), other=st.text(alphabet="&_%|$#{}\\~^<>[]*`\n\t", max_size=10))
def test_no_text_can_break_a_table(text: str, other: str) -> None:
    """Whatever names and titles hold, a table keeps its rows and columns."""
    label = f"x{text}{other}"
    line = (Cell(label), Cell("84.1", "0.3"), Cell("78.9"))
    grid = Grid(((label, ("F1", "Acc")),), (Section(label, (line,)),), label, (Note(label),))
    plain = Grid((("t", ("F1", "Acc")),), (Section("s", ((Cell("r"), *line[1:]),)),), "c", (Note("n"),))
    tables = [[row for row in each.markdown().splitlines() if row.startswith("|")] for each in (grid, plain)]
    assert [len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in tables[0]] == [4] * 3
    assert len(tables[0]) == len(tables[1]) == 3
    latex = grid.latex("tab:x").splitlines()
    assert len(latex) == len(plain.latex("tab:x").splitlines())
    [row] = [found for found in latex if "84.1" in found]
    assert len(re.findall(r"(?<!\\)&", row)) == 2
    assert row.endswith(r"\\")
    assert not re.search(r"(?<!\\)[%#_]", row)
    assert row.count("{") - row.count(r"\{") == row.count("}") - row.count(r"\}")
