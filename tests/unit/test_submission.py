"""Submissions: what is written from predictions, and that the validator refuses every corruption with its reason."""

import math
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from rkd.errors import RkdError
from rkd.submission import MEMBERS, build, choose, main, validate
from rkd.tasks import get
from tests.helpers import ROOT, TIMEOUT

SCRIPT = ROOT / "workflow_scripts" / "make_submission.py"
ROWS = {member.name: member.rows for member in MEMBERS}
TRAINED = tuple(dict.fromkeys(member.task.name for member in MEMBERS))


def predictions(folder, task, seed=1, right=0.5, variant="kd", rows=None, score=None):
    """A predictions file with dev labels, of which a share `right` is met, and all test splits of official size."""
    task = get(task)
    frames = []
    for split in (*task.dev_splits, *task.test_splits):
        dev = split in task.dev_splits
        n = 20 if dev else (rows or task.splits[split].rows)
        idx = np.arange(n)[::-1]  # files are put in order
        labels = idx / 4 if task.regression else idx % task.num_labels
        met = idx < right * n
        predicted = np.where(met, labels, (labels + 1) % max(2, task.num_labels))
        if score is not None and not dev:
            predicted = np.full(n, score)
        frames.append(
            pd.DataFrame({"split": split, "idx": idx, "label": labels if dev else math.nan, "prediction": predicted})
        )
    path = folder / "students" / task.name / variant / f"seed-{seed}" / "predictions.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(frames).astype({"label": float, "prediction": float}).to_parquet(path)
    return str(path)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def rewritten(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
    return path


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """Members of a zip that was built from predictions of every task."""
    folder = tmp_path_factory.mktemp("submission")
    out = folder / "kd.zip"
    assert build(choose([predictions(folder, task) for task in TRAINED]), out) == []
    assert validate(out) == []
    return members(out)


def test_the_zip_has_the_official_files_and_spellings(valid):
    assert list(valid) == [
        *("AX.tsv", "CoLA.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "MRPC.tsv", "QNLI.tsv", "QQP.tsv", "RTE.tsv"),
        *("SST-2.tsv", "STS-B.tsv", "WNLI.tsv"),
    ]
    for name, text in valid.items():
        header, first, *rest = text.splitlines()
        assert (header, first.split("\t")[0], len(rest) + 1) == ("index\tprediction", "0", ROWS[name])
    spelled = {name: {line.split("\t")[1] for line in text.splitlines()[1:]} for name, text in valid.items()}
    assert spelled["RTE.tsv"] == spelled["QNLI.tsv"] == {"entailment", "not_entailment"}
    assert spelled["AX.tsv"] == spelled["MNLI-mm.tsv"] == {"entailment", "neutral", "contradiction"}
    assert spelled["CoLA.tsv"] == spelled["WNLI.tsv"] == spelled["SST-2.tsv"] == {"0", "1"}


@pytest.mark.parametrize(("score", "written"), [(7.25, "5.000"), (-0.5, "0.000"), (3.14159, "3.142")])
def test_scores_are_cut_to_the_range_of_the_task(tmp_path, score, written):
    build(choose([predictions(tmp_path, "stsb", score=score)]), tmp_path / "a.zip", fill_missing=True)
    assert {line.split("\t")[1] for line in members(tmp_path / "a.zip")["STS-B.tsv"].splitlines()[1:]} == {written}
    assert validate(tmp_path / "a.zip") == []


def test_the_best_seed_on_dev_is_chosen_or_the_one_asked_for(tmp_path):
    files = [predictions(tmp_path, "rte", seed, right) for seed, right in ((3, 0.9), (1, 0.5), (2, 0.9))]
    assert choose(files)["rte"].run.seed == 2, "the first of equals"
    assert choose(files)["rte"].primary_score == pytest.approx(0.9)
    assert choose(files, seed=1)["rte"].run.seed == 1
    with pytest.raises(RkdError, match="no predictions of rte with seed 9"):
        choose(files, seed=9)
    with pytest.raises(RkdError, match="a run occurs twice"):
        choose([files[0], files[0]])
    with pytest.raises(RkdError, match="variants finetune, kd; expected those of one"):
        choose([files[0], predictions(tmp_path, "cola", variant="finetune")])


def test_missing_tasks_are_refused_or_filled_and_marked(tmp_path):
    chosen = choose([predictions(tmp_path, "mnli")])
    with pytest.raises(RkdError, match=r"no predictions for CoLA\.tsv, MRPC\.tsv, .* the server requires all 11 files"):
        build(chosen, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()
    filled = build(chosen, tmp_path / "a.zip", fill_missing=True)
    assert validate(tmp_path / "a.zip") == []
    assert set(filled) == set(ROWS) - {"AX.tsv", "MNLI-m.tsv", "MNLI-mm.tsv"}
    note = (tmp_path / "a.FILLED.txt").read_text()
    assert [line.split(":")[0] for line in note.splitlines()] == filled
    assert len(members(tmp_path / "a.zip")) == 11, "the note lies beside the zip, not in it"


def test_the_same_predictions_give_the_same_bytes(tmp_path):
    chosen = choose([predictions(tmp_path, "rte")])
    for name in ("a.zip", "b.zip"):
        build(chosen, tmp_path / name, fill_missing=True)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_predictions_of_synthetic_size_make_an_invalid_zip(tmp_path):
    build(choose([predictions(tmp_path, "rte", rows=200)]), tmp_path / "a.zip", fill_missing=True)
    assert validate(tmp_path / "a.zip") == ["RTE.tsv: 200 rows; expected 3000"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "validation"}, r"no split 'test' for RTE\.tsv; found validation"),
        ({"prediction": 2.0}, "rte: prediction 2; expected a class id below 2"),
        ({"prediction": math.nan}, "predictions of test are NaN or infinite"),
        ({"idx": 0}, "2999 examples of test occur more than once"),
    ],
)
def test_broken_predictions_are_told_and_leave_no_zip(tmp_path, change, message):
    chosen = choose([predictions(tmp_path, "rte")])
    frame = pd.read_parquet(chosen["rte"].file)
    for column, value in change.items():
        frame.loc[frame["split"] == "test", column] = value
    frame.to_parquet(chosen["rte"].file)
    with pytest.raises(RkdError, match=message):
        build(chosen, tmp_path / "a.zip", fill_missing=True)
    assert not (tmp_path / "a.zip").exists()


def without_last_line(text):
    return text[: text.rstrip("\n").rindex("\n") + 1]


def swapped(text):
    lines = text.split("\n")
    lines[1], lines[2] = lines[2], lines[1]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "corrupt", "reason"),
    [
        ("RTE.tsv", without_last_line, "RTE.tsv: 2999 rows; expected 3000"),
        ("RTE.tsv", lambda text: text + "3000\tentailment\n", "RTE.tsv: 3001 rows; expected 3000"),
        ("WNLI.tsv", swapped, "WNLI.tsv: line 2 has index '1'; expected 0 (0 to 145 in order)"),
        ("WNLI.tsv", lambda text: text.replace("\n0\t", "\n00\t", 1), "line 2 has index '00'; expected 0"),
        (
            "CoLA.tsv",
            lambda text: text.replace("\n0\t0", "\n0\t2"),
            "CoLA.tsv: line 2 has prediction '2'; expected 0 or 1",
        ),
        ("QNLI.tsv", lambda text: text.replace("\n0\tentailment", "\n0\t0"), "expected entailment or not_entailment"),
        (
            "AX.tsv",
            lambda text: text.replace("neutral", "Neutral", 1),
            "has prediction 'Neutral'; expected entailment or",
        ),
        ("STS-B.tsv", lambda text: text.replace("\n3\t", "\n3\t9"), "line 5 has prediction '9"),
        ("STS-B.tsv", lambda text: text.replace("\n0\t", "\n0\t-1"), "expected a number from 0 to 5"),
        (
            "STS-B.tsv",
            lambda text: text.replace("\n0\t", "\n0\tnan#").replace("#", ""),
            "expected a number from 0 to 5",
        ),
        ("MRPC.tsv", lambda text: text.replace("index\tprediction", "id\tlabel"), "MRPC.tsv: header is 'id\\tlabel'"),
        ("MRPC.tsv", lambda text: text.replace("\n1\t", "\n1 "), "MRPC.tsv: line 3 has 1 columns; expected 2"),
        ("MRPC.tsv", lambda text: text.replace("\n0\t", "\n0 "), "MRPC.tsv: line 2 has 1 columns; expected 2"),
        ("MRPC.tsv", lambda text: "", "MRPC.tsv: 0 rows; expected 1725"),
    ],
)
def test_corrupted_files_are_refused_with_the_reason(valid, tmp_path, name, corrupt, reason):
    broken = corrupt(valid[name])
    assert broken != valid[name]
    problems = validate(rewritten(tmp_path / "a.zip", {**valid, name: broken}))
    assert any(reason in problem for problem in problems), problems
    assert all(problem.startswith(f"{name}: ") for problem in problems)


def test_missing_extra_and_nested_files_are_refused(valid, tmp_path):
    lacking = {name: text for name, text in valid.items() if name != "AX.tsv"}
    assert validate(rewritten(tmp_path / "a.zip", lacking)) == ["AX.tsv: missing"]
    extra = {**valid, "FILLED.txt": "x"}
    assert validate(rewritten(tmp_path / "a.zip", extra)) == ["FILLED.txt: not a file of a submission"]
    nested = {**lacking, "kd/AX.tsv": valid["AX.tsv"]}
    assert validate(rewritten(tmp_path / "a.zip", nested)) == [
        "AX.tsv: missing",
        "kd/AX.tsv: not a file of a submission",
    ]


def test_what_is_no_zip_is_refused(tmp_path):
    (tmp_path / "a.zip").write_text("PK but no zip")
    assert validate(tmp_path / "a.zip")[0].startswith("not a readable zip file")
    assert validate(tmp_path / "absent.zip")[0].startswith("not a readable zip file")
    with pytest.raises(RkdError, match=r"absent\.zip: found no file; expected the zip of a submission"):
        main(["validate", str(tmp_path / "absent.zip")])


def test_a_damaged_file_is_refused(valid, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, text in valid.items():
            archive.writestr(name, text)
    path.write_bytes(path.read_bytes().replace(b"1\tneutral", b"1\tnEutral", 1))
    assert validate(path) == ["AX.tsv: damaged (its checksum is wrong)"]


def test_the_command_tells_and_returns(valid, tmp_path, capsys):
    good = rewritten(tmp_path / "good.zip", valid)
    assert main(["validate", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: valid, 11 files\n"
    bad = rewritten(tmp_path / "bad.zip", {"AX.tsv": valid["AX.tsv"]})
    assert main(["validate", str(bad)]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 10


def test_script_writes_and_checks(tmp_path):
    small = predictions(tmp_path, "rte", rows=200)
    command = [sys.executable, SCRIPT, "--predictions", small, "--out", tmp_path / "kd.zip", "--fill-missing"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (result.returncode, result.stderr) == (1, f"{tmp_path / 'kd.zip'}: RTE.tsv: 200 rows; expected 3000\n")
    assert result.stdout.splitlines()[0] == f"rte: seed 1 (best on dev; dev 50.00), {small}"
    assert "AX.tsv: no run of this task; FILLED" in result.stdout
    result = subprocess.run(command[:-1], capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert result.returncode == 2
    assert result.stderr.startswith("error: submission: no predictions for AX.tsv")
