"""The main table from hand-made metrics files: numbers, gaps, captions, escaping and traceability."""

import csv
import io
import json
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from rkd.report.inputs import read_metrics
from rkd.report.names import model_name
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.report.tables import literature
from rkd.report.tables.base import write
from rkd.report.tables.main import columns, main_table
from rkd.specs.report import ReportSpec, Selection, Variant
from rkd.tasks import TASKS, get, primary_score
from tests.helpers import ROOT, TIMEOUT

SCRIPT = ROOT / "workflow_scripts" / "make_main_table.py"
SPEC = ReportSpec(
    tasks=("cola", "mrpc"),
    variants=(Variant("finetune", "finetune", "Fine-tuning"), Variant("kd", "kd", "KD")),
    seeds=(1, 2),
    synthetic=False,
    teacher_model="org/big",
    student_model="org/small",
    selection=Selection("best", "best"),
)
# task → variant → one score per seed; MRPC's are (f1, accuracy)
SCORES = {
    "cola": {"teacher": [0.5, 0.54], "finetune": [0.4, 0.4], "kd": [0.421, 0.419]},
    "mrpc": {
        "teacher": [(0.9, 0.86), (0.92, 0.88)],
        "finetune": [(0.85, 0.8), (0.87, 0.82)],
        "kd": [(0.88, 0.84), (0.86, 0.82)],
    },
}
ALL_TASKS = tuple(task.name for task in TASKS.values() if task.trainable)


def metrics_file(folder, task, variant, seed, value, synthetic=False):
    """A metrics file whose dev metrics all are `value`, or for MRPC a pair (f1, accuracy)."""
    registry = get(task)
    values = dict(zip(("f1", "accuracy"), value, strict=True)) if isinstance(value, tuple) else {}
    scores = {name: values.get(name, value) for name in registry.metrics}
    content = {
        "task": task,
        "variant": variant,
        "method": "finetune" if variant == "teacher" else variant,
        "seed": seed,
        "splits": {split: {**scores, "rows": 100} for split in registry.dev_splits},
        "primary_score": None if value is None else primary_score(registry, scores),
        "synthetic": synthetic,
    }
    path = folder / task / variant / f"seed-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def all_files(folder, seeds=(1, 2), synthetic=False):
    return [
        metrics_file(folder, task, variant, seed, values[seed - 1], synthetic)
        for task, rows in SCORES.items()
        for variant, values in rows.items()
        for seed in seeds
    ]


def printed(table):
    """The Markdown table's lines as lists of cells, by row label."""
    lines = [line for line in table.grid().markdown().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {line[0]: line[1:] for line in cells}


def cell(table, row, task, metric):
    found = table.frame().query("row == @row and task == @task and metric == @metric")
    assert len(found) == 1
    return found.iloc[0]


def test_cells_are_mean_and_sample_deviation_in_points(tmp_path):
    table = main_table(SPEC, read_metrics(all_files(tmp_path)))
    teacher = cell(table, "teacher", "cola", "matthews_correlation")
    assert teacher["mean"] == pytest.approx(52)
    assert teacher["std"] == pytest.approx(statistics.stdev([50, 54]))
    assert teacher["n"] == 2
    assert printed(table)["Teacher"] == ["52.0 ± 2.8", "91.0 ± 1.4", "87.0 ± 1.4", "70.5 ± 2.1", "2"]
    assert printed(table)["Fine-tuning"][:2] == ["40.0 ± 0.0", "86.0 ± 1.4"]
    assert printed(table)["KD"][0] == "42.0 ± 0.1"
    assert printed(table)[""] == ["CoLA MCC", "MRPC F1", "MRPC Acc", "Avg.", "Seeds"]


def test_the_average_is_over_primary_score_scores_seed_by_seed(tmp_path):
    found = cell(main_table(SPEC, read_metrics(all_files(tmp_path))), "kd", "average", "primary_score")
    by_seed = [(42.1 + 86) / 2, (41.9 + 84) / 2]
    assert found["mean"] == pytest.approx(statistics.mean(by_seed))
    assert found["std"] == pytest.approx(statistics.stdev(by_seed))


def test_rows_follow_the_config_and_those_of_the_literature_come_last(tmp_path):
    table = main_table(SPEC, read_metrics(all_files(tmp_path)))
    assert [row.name for row in table.of_kind("measured")] == ["teacher", "finetune", "kd"]
    assert [row.kind for row in table.rows] == sorted((row.kind for row in table.rows), reverse=True)
    assert [*printed(table)][-1].startswith("ReptileDistil")


def test_one_seed_has_no_deviation(tmp_path):
    table = main_table(replace(SPEC, seeds=(1,)), read_metrics(all_files(tmp_path, seeds=(1,))))
    assert printed(table)["KD"] == ["42.1", "88.0", "84.0", "64.0", "1"]
    assert "one seed (1), so no deviation" in table.caption
    assert pd.isna(cell(table, "kd", "cola", "matthews_correlation")["std"])


def test_missing_runs_are_dashes_and_counted(tmp_path):
    files = [
        file
        for file in all_files(tmp_path)
        if file.relative_to(tmp_path).as_posix()
        not in ("cola/kd/seed-2.json", "mrpc/finetune/seed-1.json", "mrpc/finetune/seed-2.json")
    ]
    table = main_table(SPEC, read_metrics(files))
    assert printed(table)["KD"] == ["42.1", "87.0 ± 1.4", "83.0 ± 1.4", "–", "1–2"]
    assert printed(table)["Fine-tuning"] == ["40.0 ± 0.0", "–", "–", "–", "2"]
    assert "3 of 12 runs are missing; a cell without any run is –." in table.remarks
    empty = main_table(SPEC, read_metrics([]))
    assert printed(empty)["KD"] == ["–"] * 5


def test_an_undefined_seed_makes_the_mean_undefined(tmp_path):
    spec = replace(SPEC, tasks=("stsb",), variants=SPEC.variants[1:])
    files = [metrics_file(tmp_path, "stsb", "kd", seed, value) for seed, value in ((1, 0.8), (2, None))]
    table = main_table(spec, read_metrics(files))
    assert printed(table)["KD"] == ["–", "–", "2"]
    assert any("undefined" in remark for remark in table.remarks)


def test_synthetic_data_are_said_plainly_and_stand_alone(tmp_path):
    spec = replace(SPEC, synthetic=True)
    table = main_table(spec, read_metrics(all_files(tmp_path, synthetic=True)))
    assert not table.of_kind("literature")
    for text in (table.grid().markdown(), table.grid().latex("tab:x")):
        assert "SYNTHETIC" in text
        assert "not comparable with published ones" in text
        assert "ReptileDistil" not in text


def test_caption_names_split_models_seeds_and_selection(tmp_path):
    spec = replace(SPEC, teacher_model="/models/big", selection=Selection("best", "last"))
    caption = main_table(spec, read_metrics(all_files(tmp_path))).caption
    assert caption == (
        "GLUE dev scores (×100) on CoLA, MRPC. Teacher: big; student: org/small. "
        "Measured rows: mean ± sample standard deviation over the seeds 1, 2 (95 % intervals in the CSV). "
        "Model scored: last epoch (teacher: best epoch on dev)."
    )
    assert "choosing on dev makes dev scores optimistic" in main_table(SPEC, read_metrics([])).caption
    several = replace(SPEC, selection=Selection("held-out/held-out-loss", "best/last"))
    assert main_table(several, read_metrics([])).caption.endswith(
        "Model scored: best epoch on dev or, by row, last epoch (teacher: best epoch on held-out training data or, "
        "by row, epoch of the lowest loss on held-out training data); choosing on dev makes dev scores optimistic."
    )
    assert model_name("google-bert/bert-base-uncased") == "google-bert/bert-base-uncased"


def test_all_tasks_have_the_columns_of_the_papers():
    heads = [f"{column.task.title} {column.header}" for column in columns(ALL_TASKS)]
    assert heads == [
        "CoLA MCC",
        "SST-2 Acc",
        "MRPC F1",
        "MRPC Acc",
        "STS-B Pear",
        "STS-B Spear",
        "QQP F1",
        "QQP Acc",
        "MNLI m",
        "MNLI mm",
        "QNLI Acc",
        "RTE Acc",
        "WNLI Acc",
    ]


def test_published_numbers_of_the_paper():
    table = main_table(replace(SPEC, tasks=ALL_TASKS), read_metrics([]))
    rows = printed(table)
    reptile = "54.8 | 92.2 | 91.6 | 87.7 | 89.5 | 89.3 | 87.6 | 90.1 | 83.7 | 83.7 | 90.5 | 75.3 | – | 83.1 | 1"
    assert " | ".join(next(cells for name, cells in rows.items() if name.startswith("ReptileDistil"))) == reptile
    primary_scores = [54.8, 92.2, (91.6 + 87.7) / 2, (89.5 + 89.3) / 2, (87.6 + 90.1) / 2, 83.7, 90.5, 75.3]
    average = cell(table, "ReptileDistil", "average", "primary_score")["mean"]
    assert average == pytest.approx(statistics.mean(primary_scores))
    # A mean of pairs stands once for both columns; the average is the one that the source prints.
    vanilla = "45.1 | 90.5 | 86.2 † | † | 84.9 † | † | 88.1 † | † | 80.1 † | † | 88.0 | 64.9 | – | 78.5 † | 5"
    assert " | ".join(rows["Vanilla KD³"]) == vanilla


def test_every_published_row_is_found_on_dev_with_its_source():
    for row in literature.ENTRIES:
        found = [score for task in TASKS.values() for score in literature.scores(row, task)]
        assert found, row.method
        assert all(score.source.startswith(row.source) for score in found)
        assert all(0 < score.value < 100 for score in found)


def test_published_rows_show_only_the_tasks_run():
    table = main_table(replace(SPEC, tasks=("cola",)), read_metrics([]))
    frame = table.frame()
    assert set(frame["task"]) == {"cola"}
    assert "MetaDistil (reproduction)" not in set(frame["row"])  # its source has no CoLA


def test_files_hold_what_the_table_says(tmp_path):
    files = all_files(tmp_path / "metrics")
    table = main_table(SPEC, read_metrics(files))
    paths = write(table, tmp_path / "tables")
    assert [path.name for path in paths] == ["main.csv", "main.md", "main.tex", "main.html", "main.json"]
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == sorted(path.name for path in paths)
    rows = list(csv.DictReader(io.StringIO(paths[0].read_text())))
    assert list(rows[0]) == ["row", "kind", "task", "metric", "mean", "std", "low", "high", "n", "source"]
    kd = next(row for row in rows if (row["row"], row["metric"]) == ("kd", "f1"))
    assert float(kd["mean"]) == pytest.approx(87, abs=1e-12)
    assert float(kd["std"]) == pytest.approx(2**0.5, abs=1e-12)
    assert float(kd["high"]) - 87 == pytest.approx(12.7062, abs=1e-3), "t of one degree of freedom, times 1"
    paper = next(row for row in rows if (row["row"], row["metric"]) == ("ReptileDistil", "f1"))
    assert (paper["kind"], paper["mean"], paper["std"], paper["n"]) == ("literature", "91.6", "", "")
    assert paper["source"].startswith("maxinge8698/ReptileDistil README.md @8f914d9")


def test_every_measured_cell_names_the_files_it_is_the_mean_of(tmp_path):
    files = all_files(tmp_path / "metrics")
    table = main_table(SPEC, read_metrics(files))
    sidecar = json.loads(write(table, tmp_path / "tables")[-1].read_text())
    cells = {(cell["row"], cell["task"], cell["metric"]): cell for cell in sidecar["cells"]}
    measured = table.frame().query("kind == 'measured'")
    assert set(cells) == set(measured[["row", "task", "metric"]].itertuples(index=False, name=None))
    for (row, task, metric), found in cells.items():
        if task == "average":
            assert set(found["files"]) == {str(file) for file in files if file.parent.name == row}
            continue
        contents = [json.loads(Path(file).read_text()) for file in found["files"]]
        assert [(content["task"], content["variant"]) for content in contents] == [(task, row)] * 2
        values = [
            c["primary_score"] if metric == "primary_score" else c["splits"]["validation"][metric] for c in contents
        ]
        assert found["mean"] == pytest.approx(100 * statistics.mean(values))


def test_latex_is_a_booktabs_table_with_published_rows_below_a_rule(tmp_path):
    latex = main_table(SPEC, read_metrics(all_files(tmp_path))).grid().latex("tab:main")
    assert r"\label{tab:main}" in latex
    assert r"Teacher & 52.0 {\scriptsize $\pm$ 2.8} & 91.0" in latex
    body = latex[latex.index(r"\toprule") : latex.index(r"\bottomrule")]
    head, measured, others = body.split(r"\midrule")
    assert r"\multicolumn{2}{c}{MRPC}" in head
    assert r"\cmidrule(lr){3-4}" in head
    assert "ReptileDistil" in others
    assert "ReptileDistil" not in measured
    assert r"\multicolumn{2}{c}{86.2$^{\dagger}$}" in others
    for line in [line for line in body.splitlines() if line.endswith(r"\\")]:
        spanned = sum(int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", line))
        assert len(re.findall(r"(?<!\\)&", line)) + spanned == 5, line


def test_latex_and_markdown_escape_text():
    nasty = r"50% & a_b #1 $x$ {y} ~ ^ \ <i> | * [z] ± → –"
    section = Section("S", ((Cell(nasty), Cell("-1.5")),))
    grid = Grid((("T_1", ("h%",)),), (section,), nasty, (Note("n_1", "1"),))
    latex = grid.latex("tab:x")
    assert (
        r"50\% \& a\_b \#1 \$x\$ \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{} "
        r"\textless{}i\textgreater{} | {*} {[}z{]} $\pm$ $\to$ -- & $-1.5$ \\"
    ) in latex
    assert r"\multicolumn{1}{c}{T\_1}" in latex
    assert r"$^{1}$ n\_1" in latex
    markdown = grid.markdown()
    assert r"50% & a_b #1 \$x\$ {y} \~ ^ \\ \<i\> \| \* \[z\] ± → –" in markdown
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in markdown.splitlines() if line.startswith("|"))


def test_markdown_columns_are_aligned(tmp_path):
    markdown = main_table(SPEC, read_metrics(all_files(tmp_path))).grid().markdown()
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1


def script(tmp_path, spec, *arguments):
    command = [
        sys.executable,
        SCRIPT,
        "--spec",
        spec.json(),
        "--out-dir",
        tmp_path / "out",
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)


def test_script_takes_paths_or_a_file_of_them(tmp_path):
    files = all_files(tmp_path)
    (tmp_path / "list.txt").write_text("\n".join(map(str, files)))
    result = script(tmp_path, SPEC, "--metrics", f"@{tmp_path / 'list.txt'}")
    assert (result.returncode, result.stderr) == (0, "")
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert script(tmp_path, SPEC, "--metrics", *files).returncode == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first


def test_script_tells_a_broken_file_in_one_line_and_writes_nothing(tmp_path):
    (tmp_path / "broken.json").write_text("{}")
    result = script(tmp_path, SPEC, "--metrics", tmp_path / "broken.json")
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path / 'broken.json'}: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
