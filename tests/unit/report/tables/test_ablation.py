"""Ablation axes, tables and panels."""

import json
import math
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rkd.errors import RkdError
from rkd.report.figures.ablation import ablation_figure
from rkd.report.inputs import read_metrics
from rkd.report.tables.ablation import ablation_table
from rkd.report.tables.base import write
from rkd.specs.report import Axis, ReportSpec, Selection, Variant
from tests.helpers import ROOT, TIMEOUT

SCRIPTS = ROOT / "workflow_scripts"
NAMES = ("kd", "reptile", "first", "hot", "cold", "quick")
SPEC = ReportSpec(
    tasks=("cola", "rte"),
    variants=tuple(Variant(name, "kd", name.upper()) for name in NAMES),
    seeds=(1, 2),
    synthetic=False,
    teacher_model="org/big",
    student_model="org/small",
    selection=Selection("best", "best"),
)
AXES = {
    "layer-map": Axis("layer-map", (("skip", "reptile"), ("first", "first")), ("cola", "rte")),
    "temperature": Axis("temperature", ((1, "cold"), (5, "reptile"), (10.0, "hot")), ("rte",)),
    "grid": Axis(
        "grid",
        (([5.0, 0.5], "kd"), ([5.0, 0.1], "hot"), ([1.0, 0.5], "cold"), ([1.0, 0.1], "quick")),
        ("cola", "rte"),
        ("temperature", "alpha"),
        "kd",
    ),
}


def metrics_file(folder, task, variant, seed, value):
    metric = {"cola": "matthews_correlation", "rte": "accuracy"}[task]
    content = {
        "task": task,
        "variant": variant,
        "method": "kd",
        "seed": seed,
        "primary_score": value,
        "synthetic": False,
    }
    path = folder / task / variant / f"seed-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, "splits": {"validation": {metric: value, "rows": 9}}}))
    return str(path)


@pytest.fixture
def files(tmp_path):
    return [
        metrics_file(tmp_path / "metrics", task, name, seed, 0.5 + place / 100 + seed / 50)
        for task in SPEC.tasks
        for place, name in enumerate(NAMES)
        for seed in SPEC.seeds
    ]


def table(files, axis="layer-map", spec=SPEC):
    return ablation_table(replace(spec, axis=AXES[axis]), read_metrics(files))


def test_numbers_have_a_scale_and_words_do_not():
    assert [axis.numeric for axis in AXES.values()] == [False, True, False]
    assert [axis.logarithmic for axis in AXES.values()] == [False, True, False]
    assert not Axis("alpha", ((0, "kd"), (0.5, "hot")), ("rte",)).logarithmic


def test_a_spec_without_an_axis_is_told():
    with pytest.raises(RkdError, match="report spec: the key 'axis' is missing"):
        ablation_table(SPEC, read_metrics([]))


def test_cells_are_means_over_seeds(files):
    found = table(files)
    markdown = found.grid().markdown()
    assert "| skip  | 54.0 ± 1.4 |   54.0 ± 1.4 |     2 |" in markdown
    assert "| first | 55.0 ± 1.4 |   55.0 ± 1.4 |     2 |" in markdown
    assert "missing" not in markdown
    line = found.frame().query("value == 'skip' and task == 'rte'").iloc[0]
    assert (line["variant"], line["n"]) == ("reptile", 2)
    assert line["mean"] == pytest.approx(54)
    assert line["std"] == pytest.approx(statistics.stdev([53, 55]))


def test_missing_runs_are_dashes_and_counted(files):
    found = table([file for file in files if "cola/first" not in file and "rte/reptile/seed-2" not in file])
    markdown = found.grid().markdown()
    assert "3 of 8 runs are missing; a cell without any run is –." in markdown
    assert "| skip  | 54.0 ± 1.4 |         53.0 |   1–2 |" in markdown


def test_files_trace_every_cell(files, tmp_path):
    paths = write(table(files), tmp_path, "ablation_layer-map")
    cells = json.loads(paths[-1].read_text())["cells"]
    assert len(cells) == 4
    for cell in cells:
        contents = [json.loads(Path(file).read_text()) for file in cell["files"]]
        assert {(content["task"], content["variant"]) for content in contents} == {(cell["task"], cell["variant"])}
        assert statistics.mean(content["primary_score"] for content in contents) == pytest.approx(cell["mean"] / 100)


def drawn(axes):
    """Places and heights of the dots."""
    return axes.containers[0].lines[0].get_xydata().tolist()


def test_numbers_lie_on_their_scale_and_words_beside_each_other(files):
    numeric = ablation_figure(table(files, "temperature")).axes
    assert [axes.get_title(loc="left") for axes in numeric] == ["RTE"]
    assert numeric[0].get_xscale() == "log"
    assert [tick.get_text() for tick in numeric[0].get_xticklabels()] == ["1", "5", "10"]
    assert drawn(numeric[0]) == [[1, pytest.approx(57)], [5, pytest.approx(54)], [10, pytest.approx(56)]]
    words = ablation_figure(table(files)).axes
    assert [axes.get_title(loc="left") for axes in words] == ["CoLA", "RTE"]
    assert [place for place, _ in drawn(words[0])] == [0, 1]


def test_references_are_level_lines_unless_on_the_axis(files):
    figure = ablation_figure(table(files), references=("kd", "reptile"))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == ["KD (mean)", "Mean over seeds"]


def test_intervals_are_students_and_one_seed_has_none(files):
    half = 12.7062 * math.sqrt(2) / math.sqrt(2)  # t of one degree of freedom × standard error of (53, 55)
    bars = ablation_figure(table(files)).axes[0].containers[0].lines[2][0].get_segments()
    assert [end for _, end in bars[0]] == pytest.approx([54 - half, 54 + half], abs=1e-3)
    one = [file for file in files if "seed-1" in file]
    figure = ablation_figure(table(one, spec=replace(SPEC, seeds=(1,))))
    assert "One seed, no interval." in " ".join(text.get_text() for text in figure.texts)


def test_a_grid_is_a_heat_map_with_its_numbers(files):
    without = [file for file in files if "quick" not in file]
    figure = ablation_figure(table(without, "grid"))
    left, _ = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["CoLA", "RTE"]
    assert (left.get_ylabel(), left.get_xlabel()) == ("temperature", "alpha")
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["1", "5"]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["0.1", "0.5"]
    told = {text.get_position(): text.get_text() for text in left.texts}
    assert told == {(0, 0): "–", (1, 0): "57.0", (0, 1): "56.0", (1, 1): "53.0"}
    assert [patch.get_xy() for patch in left.patches] == [(1 - 0.48, 1 - 0.48)]
    assert "Frame: KD." in " ".join(text.get_text() for text in figure.texts)


def test_the_table_of_a_grid_names_its_parameters(files):
    [section] = table(files, "grid").grid().sections
    assert section.lines[0][0].text == "temperature 5, alpha 0.5"
    assert table(files, "grid").frame()["value"].iloc[0] == "[5.0, 0.5]"


def test_nothing_to_draw_is_an_error():
    with pytest.raises(RkdError, match="ablation of layer-map: no metrics"):
        ablation_figure(table([]))


def test_scripts_write_table_and_figure(files, tmp_path):
    shared = ["--spec", replace(SPEC, axis=AXES["layer-map"]).json(), "--metrics", *files]
    for script, out in (("make_ablation_table.py", "--out-dir"), ("plot_ablation.py", "--out")):
        place = tmp_path / "out" if out == "--out-dir" else tmp_path / "out" / "ablation_layer-map"
        command = [sys.executable, SCRIPTS / script, *shared, out, place]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        assert (result.returncode, result.stderr) == (0, "")
    ends = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert ends == [f"ablation_layer-map.{end}" for end in ("csv", "html", "json", "md", "pdf", "png", "tex")]
