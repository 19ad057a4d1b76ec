"""A submission made by the workflow from the real GLUE files: tiny models, the official rows."""

import json
import zipfile

import pandas as pd
import pytest

from rkd.submission import MEMBERS, main, validate
from tests.workflow.conftest import Workflow

TASKS = ("rte", "stsb", "wnli")
RUN = {"RTE.tsv", "STS-B.tsv", "WNLI.tsv"}


@pytest.fixture(scope="module")
def submitted(glue_dir, tmp_path_factory) -> Workflow:
    """The workflow's folder, after `snakemake results/demo/submission/kd.zip` on three tasks."""
    for folder in ("RTE", "STS-B", "WNLI"):
        if not (glue_dir / folder / "test.tsv").is_file():
            pytest.skip(f"no {folder} in {glue_dir}")
    workflow = Workflow(tmp_path_factory.mktemp("submission"))
    model = json.loads((workflow.folder / "configs/models/bert-2x128.json").read_text())
    model |= {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    (workflow.folder / "tiny.json").write_text(json.dumps(model))
    workflow.overlay(
        {
            "glue_dir": str(glue_dir),
            "tasks": list(TASKS),
            "seeds": [1],
            "max_length": 32,
            "teacher_model": "tiny.json",
            "student_model": "tiny.json",
            "teacher": {"epochs": 1, "batch_size": 64},
            "student": {"epochs": 1, "batch_size": 64},
            "variants": {"finetune": None, "reptile": None, "no-lookahead": None},
            "ablations": {"teacher-lr": None},
            "fill_missing_tasks": True,
        }
    )
    workflow.snakemake("results/demo/submission/kd.zip")
    return workflow


def test_the_zip_is_valid_and_says_what_was_not_run(submitted, capsys):
    path = submitted.folder / "results/demo/submission/kd.zip"
    assert validate(path) == []
    assert main(["validate", str(path)]) == 0
    assert "valid, 11 files" in capsys.readouterr().out
    note = (path.parent / "kd.FILLED.txt").read_text()
    assert {line.split(":")[0] for line in note.splitlines()} == {member.name for member in MEMBERS} - RUN


def test_its_rows_are_the_runs_predictions(submitted):
    with zipfile.ZipFile(submitted.folder / "results/demo/submission/kd.zip") as archive:
        frame = pd.read_csv(archive.open("RTE.tsv"), sep="\t")
    run = submitted.run("kd", task="rte") / "predictions.parquet"
    test = pd.read_parquet(run).query("split == 'test'").sort_values("idx")
    assert len(frame) == 3000
    assert frame["prediction"].map({"entailment": 0, "not_entailment": 1}).tolist() == test["prediction"].tolist()


def test_a_row_less_is_refused(submitted, tmp_path, capsys):
    whole = submitted.folder / "results/demo/submission/kd.zip"
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.rsplit(b"\n", 2)[0] + b"\n" if name == "RTE.tsv" else content)
    assert main(["validate", str(damaged)]) == 1
    assert "RTE.tsv: 2999 rows; expected 3000" in capsys.readouterr().out
