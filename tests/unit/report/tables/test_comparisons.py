"""The tables of comparisons and of selection: known answers, missing runs, and files that trace every number."""

import json
import math
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rkd.errors import RkdError
from rkd.report.figures.forest import forest, read_comparisons
from rkd.report.inputs import read_histories
from rkd.report.statistics.comparison import compare
from rkd.report.statistics.predictions import Predictions
from rkd.report.statistics.verdicts import holm
from rkd.report.tables.base import write
from rkd.report.tables.comparisons import comparisons
from rkd.report.tables.selection import selection
from rkd.specs.report import ReportSpec, Selection, Variant
from rkd.tasks import get
from tests.helpers import ROOT, TIMEOUT

SCRIPTS = ROOT / "workflow_scripts"
SPEC = ReportSpec(
    tasks=("cola", "rte"),
    variants=(
        Variant("finetune", "finetune", "Fine-tuning"),
        Variant("kd", "kd", "KD"),
        Variant("reptile", "reptile", "Reptile"),
    ),
    seeds=(1, 2, 3),
    synthetic=False,
    teacher_model="org/big",
    student_model="org/small",
    selection=Selection("best", "best"),
)
RIGHT = {"finetune": 0.55, "kd": 0.7, "reptile": 0.72}
N = 200


def predictions(folder, task, variant, seed, right=None):
    rng = np.random.default_rng([seed, list(RIGHT).index(variant), len(task)])
    labels = np.arange(N) % 2
    hit = rng.random(N) < (RIGHT[variant] if right is None else right)
    path = folder / "students" / task / variant / f"seed-{seed}" / "predictions.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    split = get(task).primary_split
    content = {
        "split": split,
        "idx": np.arange(N),
        "label": labels * 1.0,
        "prediction": np.where(hit, labels, 1 - labels),
    }
    pd.DataFrame(content).to_parquet(path)
    return str(path)


def history(folder, task, variant, seed, values):
    path = folder / "students" / task / variant / f"seed-{seed}" / "history.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"epoch": epoch, "step": 10 * epoch, "primary_score": value} for epoch, value in enumerate(values)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def all_files(folder):
    return [predictions(folder, task, name, seed) for task in SPEC.tasks for name in RIGHT for seed in SPEC.seeds]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return all_files(tmp_path_factory.mktemp("comparisons"))


def of(files, task, variant):
    return [file for file in files if f"/{task}/{variant}/" in file]


def test_each_pair_is_compared_once_and_corrected_over_the_table(files):
    table = comparisons(SPEC, files, resamples=200)
    frame = table.frame()
    pairs = list(frame[["row", "baseline", "task"]].itertuples(index=False, name=None))
    assert pairs == [
        *(("reptile", "kd", task) for task in ("cola", "rte", "average")),
        *(("kd", "finetune", task) for task in ("cola", "rte", "average")),
        *(("reptile", "finetune", task) for task in ("cola", "rte", "average")),
    ]
    for family in (frame[frame["task"] == "average"], frame[frame["task"] != "average"]):
        assert family["p_holm"].tolist() == holm(family["p"]).tolist()
    one = compare(
        Predictions.read(of(files, "rte", "kd")), Predictions.read(of(files, "rte", "finetune")), resamples=200
    )
    line = frame.iloc[pairs.index(("kd", "finetune", "rte"))]
    assert line["difference"] == pytest.approx(100 * one.difference)
    assert (line["low"], line["high"]) == pytest.approx([100 * end for end in one.interval()])
    assert (line["p"], line["sampling_error"]) == pytest.approx((one.p, 100 * one.sampling_error))
    assert (line["seeds"], line["examples"]) == (3, N)
    assert frame.query("row == 'kd' and task == 'average'")["p"].item() < 0.05 < frame["p"].iloc[0]


def test_a_control_is_compared_with_the_row_whose_method_it_changes(tmp_path):
    control = Variant("no-lookahead", "reptile", "No look-ahead")
    spec = replace(SPEC, variants=(*SPEC.variants, control))
    frame = comparisons(spec, all_files(tmp_path), resamples=50).frame()
    assert frame.empty is False
    planned = comparisons(spec, [], resamples=50).planned
    assert [pair for pair in planned if pair[1] == "reptile"] == [
        ("no-lookahead", "reptile", task) for task in ("cola", "rte", "average")
    ]
    assert len(planned) == 3 * (1 + 1 + 2 + 2)
    assert "**Against Reptile**" in comparisons(spec, [], resamples=50).grid().markdown()


def test_it_prints_signs_intervals_and_corrections(files):
    markdown = comparisons(SPEC, files, resamples=200).grid().markdown()
    lines = {tuple(cell.strip() for cell in line.split("|")[1:3]): line for line in markdown.splitlines()}
    shown = lines["KD − Fine-tuning", "Average"]
    assert "| +" in shown
    assert " to +" in shown
    assert re.search(r"\| 0\.0\d\d \|  better \|      1\.00 \|", shown)
    assert "paired by seed and example, on CoLA, RTE" in markdown
    assert "equivalent if it lies within ±0.5 points" in markdown
    assert "missing" not in markdown
    latex = comparisons(SPEC, files, resamples=200).grid().latex("tab:c")
    assert r"KD $-$ Fine-tuning" in latex
    assert "−" not in latex


def planted(folder, right, seeds=SPEC.seeds):
    """Predictions of kd as they are, and of reptile with another share of right answers on the same examples."""
    made = [predictions(folder, task, "kd", seed) for task in SPEC.tasks for seed in seeds]
    return made + [predictions(folder, task, "reptile", seed, right) for task in SPEC.tasks for seed in seeds]


def verdicts_of(files):
    frame = comparisons(SPEC, files, resamples=500, margin=0.05).frame()
    return frame.query("row == 'reptile' and baseline == 'kd'").set_index("task")["verdict"]


def test_a_planted_difference_is_worse_in_the_table_and_in_the_forest_plot(tmp_path):
    files = planted(tmp_path, 0.4)
    assert set(verdicts_of(files)) == {"worse"}
    write(comparisons(SPEC, files, resamples=500), tmp_path)
    command = [sys.executable, SCRIPTS / "plot_forest.py", "--spec", SPEC.json(), "--margin", "0.5"]
    command += ["--comparisons", tmp_path / "main.csv", "--out", tmp_path / "forest"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")
    drawn = read_comparisons(tmp_path / "main.csv")
    assert set(drawn["verdict"]) == {"worse"}
    figure = forest(SPEC, drawn, 0.5)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Margin ±0.5", "Average", "Worse"]


def test_a_row_against_itself_with_other_seeds_is_open_or_equivalent(tmp_path):
    """Ten tables without a difference. Each has two families, which are wrong in 5 % of all tables at most."""
    found = []
    for place in range(10):
        rng, made = np.random.default_rng(place), []
        for task in SPEC.tasks:
            for row in ("kd", "reptile"):
                for seed in SPEC.seeds:
                    made.append(predictions(tmp_path / str(place), task, row, seed))
                    frame = pd.read_parquet(made[-1])
                    right = rng.random(N) < RIGHT["kd"]
                    frame.assign(prediction=np.where(right, frame["label"], 1 - frame["label"])).to_parquet(made[-1])
        found += verdicts_of(made).tolist()
    assert len(found) == 30
    assert sum(verdict in ("better", "worse") for verdict in found) <= 3
    assert sum(verdict.startswith(("open", "equivalent")) for verdict in found) >= 27


def test_the_interval_for_a_new_task_needs_three_tasks(files, tmp_path):
    assert comparisons(SPEC, files, resamples=200).frame()["new_low"].isna().all()
    spec = replace(SPEC, tasks=("cola", "rte", "sst2"))
    more = [predictions(tmp_path, task, name, seed) for task in spec.tasks for name in RIGHT for seed in spec.seeds]
    table = comparisons(spec, more, resamples=200)
    line = table.frame().query("row == 'kd' and task == 'average'").iloc[0]
    assert line["new_low"] < line["low"] < line["difference"] < line["high"] < line["new_high"]
    markdown = table.grid().markdown()
    assert re.search(r"KD − Fine-tuning +\| New task \| +– \| +[+−]", markdown)
    write(table, tmp_path)
    assert (read_comparisons(tmp_path / "main.csv")["task"] == "new task").sum() == 1, "reptile against kd"


def test_related_examples_are_resampled_in_groups(files, tmp_path):
    """Each example ten times in a group of its own: the intervals are those of a tenth of the examples."""
    file = tmp_path / "rte.parquet"
    content = {"split": "validation", "idx": np.arange(N), "cluster": np.arange(N) // 10}
    pd.DataFrame(content).to_parquet(file)
    own = [path for path in files if "/rte/" in path]
    for path in map(Path, own):  # equal answers within a group
        frame = pd.read_parquet(path)
        place = tmp_path.joinpath(*path.parts[-5:])
        place.parent.mkdir(parents=True)
        right = (frame["prediction"] == frame["label"]).to_numpy().reshape(-1, 10)[:, :1].repeat(10, axis=1).ravel()
        frame.assign(prediction=np.where(right, frame["label"], 1 - frame["label"])).to_parquet(place)
    made = [str(tmp_path.joinpath(*Path(path).parts[-5:])) for path in own]
    spec = replace(SPEC, tasks=("rte",))
    single, grouped = (
        comparisons(spec, made, resamples=2000, clusters=clusters) for clusters in (None, {"rte": str(file)})
    )
    ratio = grouped.frame()["sampling_error"] / single.frame()["sampling_error"]
    assert ratio.tolist() == pytest.approx([math.sqrt(10)] * 3, rel=0.1)
    assert "Related examples are resampled in groups on RTE." in grouped.grid().markdown()
    assert "in groups" not in single.grid().markdown()
    pd.DataFrame({**content, "idx": np.arange(N) + 1}).to_parquet(file)
    with pytest.raises(RkdError, match=r"rte\.parquet: found no cluster for 1 examples of validation"):
        comparisons(spec, made, resamples=10, clusters={"rte": str(file)})


def test_equal_predictions_bound_nothing(files):
    same = [path for path in files if "/kd/" in path]
    spec = replace(SPEC, variants=(SPEC.variants[1], Variant("reptile", "reptile", "Reptile")))
    places = []
    for path in map(Path, same):
        copy = Path(str(path).replace("/kd/", "/reptile/").replace("students", "copies/students"))
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        places.append(str(copy))
    frame = comparisons(spec, [*same, *places], resamples=100).frame()
    assert set(frame["verdict"]) == {"open"}
    assert frame[["detectable", "seeds_needed"]].isna().all(axis=None)


def test_missing_runs_are_dashes_and_counted(files):
    present = [file for file in files if file not in of(files, "rte", "reptile") and "cola/kd/seed-2" not in file]
    table = comparisons(SPEC, present, resamples=100)
    frame = table.frame()
    assert set(frame["task"][frame["row"] == "reptile"]) == {"cola"}
    assert frame.query("row == 'reptile' and baseline == 'kd'")["seeds"].tolist() == [2]
    assert frame.query("row == 'kd' and task == 'average'").empty, "its tasks have different seeds"
    markdown = table.grid().markdown()
    assert "4 of 18 runs are missing; a comparison without a common seed is –." in markdown
    dashes = [line for line in markdown.splitlines() if line.count(" – |") == 9]
    assert len(dashes) == 5, "two of reptile against either baseline, and the average of kd"
    empty = comparisons(SPEC, [], resamples=100)
    assert empty.frame().empty
    assert "18 of 18 runs are missing" in empty.grid().markdown()


def test_one_seed_is_said(files):
    spec = replace(SPEC, seeds=(1,))
    table = comparisons(spec, [file for file in files if "seed-1/" in file], resamples=100)
    assert "With one seed, interval and p reflect the examples only" in table.grid().markdown()


def test_foreign_runs_and_missing_baselines_are_errors(files):
    with pytest.raises(RkdError, match="seed is 3; this report is about 1, 2"):
        comparisons(replace(SPEC, seeds=(1, 2)), files)
    with pytest.raises(RkdError, match="none of the variants pkd exists; found finetune, kd, reptile"):
        comparisons(SPEC, files, baselines=["pkd"])


def test_every_comparison_names_its_files(files, tmp_path):
    table = comparisons(SPEC, files, resamples=100)
    paths = write(table, tmp_path, "comparisons")
    assert [path.name for path in paths] == [f"comparisons.{end}" for end in ("csv", "md", "tex", "html", "json")]
    cells = json.loads(paths[-1].read_text())["cells"]
    assert len(cells) == len(table.found)
    for cell in cells:
        tasks = ["cola", "rte"] if cell["task"] == "average" else [cell["task"]]
        expected = {file for task in tasks for side in ("row", "baseline") for file in of(files, task, cell[side])}
        assert set(cell["files"]) == expected
        assert statistics.mean(cell["differences"]) == pytest.approx(cell["difference"])


def run(script, spec, *arguments):
    command = [sys.executable, SCRIPTS / script, "--spec", spec.json(), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)


def test_scripts_write_the_same_in_processes_of_their_own(files, tmp_path):
    out = tmp_path / "out"
    result = run("make_comparisons.py", SPEC, "--out-dir", out, "--resamples", "100", "--predictions", *files)
    assert (result.returncode, result.stderr) == (0, "")
    expected = write(comparisons(SPEC, files, resamples=100), tmp_path / "here", "comparisons")
    *texts, _ = expected  # the sidecar of the script tells its command too
    assert all((out / path.name).read_bytes() == path.read_bytes() for path in texts)
    histories = [history(tmp_path, "rte", "kd", 1, [0.1, 0.5, 0.4])]
    result = run("make_selection_table.py", SPEC, "--out-dir", out, "--histories", *histories)
    assert (result.returncode, result.stderr) == (0, "")
    assert (out / "selection.tex").is_file()


# --- selection -----------------------------------------------------------------------------------------------


def test_best_and_last_epoch_stand_side_by_side(tmp_path):
    paths = [
        history(tmp_path, "rte", "kd", 1, [0.9, 0.5, 0.6, 0.55]),
        history(tmp_path, "rte", "kd", 2, [0.1, 0.7, None, 0.65]),
    ]
    table = selection(SPEC, read_histories(paths))
    frame = table.frame().set_index("selection")
    assert frame["mean"].to_dict() == pytest.approx({"best": 65.0, "last": 60.0}), "step 0 is no candidate"
    assert frame["std"]["last"] == pytest.approx(statistics.stdev([55, 65]))
    assert "| 65.0 ± 7.1 | 60.0 ± 7.1 |" in table.grid().markdown()
    assert "16 of 18 runs are missing" in table.grid().markdown()
    cells = write(table, tmp_path, "selection")[-1].read_text()
    assert {tuple(cell["files"]) for cell in json.loads(cells)["cells"]} == {tuple(map(str, paths))}


def test_held_out_data_choose_an_epoch_of_their_own(tmp_path):
    path = history(tmp_path, "rte", "kd", 1, [0.9, 0.5, 0.6, 0.55])
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    held_out = [0.9, 0.7, None, 0.1]
    Path(path).write_text(
        "".join(json.dumps({**line, "held_out": h}) + "\n" for line, h in zip(lines, held_out, strict=True))
    )
    table = selection(SPEC, read_histories([path]))
    means = table.frame().set_index("selection")["mean"].to_dict()
    assert means == pytest.approx({"best": 60.0, "held-out": 50.0, "last": 55.0})
    assert "Held-out: the dev score" in table.grid().markdown()


def test_an_undefined_last_epoch_is_a_dash(tmp_path):
    paths = [history(tmp_path, "rte", "kd", seed, [0.1, 0.5, None]) for seed in (1, 2)]
    found = selection(SPEC, read_histories(paths)).scores
    assert found["kd", "rte", "best"].mean == pytest.approx(50)
    assert math.isnan(found["kd", "rte", "last"].mean)
    assert "| 50.0 ± 0.0 |        – |" in selection(SPEC, read_histories(paths)).grid().markdown()
