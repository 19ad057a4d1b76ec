"""The configs that take everything from the hub, from a hub on loopback to tables, submissions and verification."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from tests.helpers import ROOT, TIMEOUT
from tests.hub.conftest import wnli_digests
from tests.hub.repositories import BERT, MINILM, PARAPHRASE, PINS, TINYBERT, everything
from tests.hub.server import Hub
from tests.workflow.conftest import Workflow

SMALL = {
    "tasks": ["wnli"],
    "max_length": 16,
    "teacher": {"epochs": 1},
    "student": {"epochs": 1},
    "fill_missing_tasks": True,
}
CONTROLS = (
    "no-lookahead",
    "random-direction",
    "pull-to-initial",
    "encoder-only",
    "sgd-outer",
    "inner-steps-4",
    "quiz-batch",
    "step-target",
)
RIVALS = ("step-target", "online", "prokt", "lgtm", "kd-low-loss", "kd-ensemble", "tinybert")


def of(config: str, folder: Path, **changes) -> Workflow:
    """A workflow with one of our configs, made small, and our WNLI as the official one."""
    folder.mkdir()
    workflow = Workflow(folder)
    overlay = yaml.safe_load((ROOT / "configs" / config).read_text())
    update_config(overlay, SMALL)
    update_config(overlay, changes)
    workflow.overlay(overlay)
    with (folder / "rkd/data/official.py").open("a") as module:
        module.write(f"\nSHA256 = {wnli_digests()!r}\n")
    return workflow


def rkd(workflow: Workflow, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(workflow.folder)}
    command = [sys.executable, "-m", "rkd", *arguments]
    done = subprocess.run(
        command, cwd=workflow.folder, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "changes", "trained", "models"),
    [
        (
            "paper.yaml",
            # All methods and all forms of a student; the controls of reptile take nothing else from the hub.
            {
                "seeds": [42],
                "variants": dict.fromkeys(CONTROLS),
                "ablations": {
                    "student-depth": {"tasks": ["wnli"]},
                    **dict.fromkeys(["inner-steps", "smoothing", "follow-weight", "controls"]),
                },
            },
            17,  # two teachers, one row for each method, its rivals, and three more students of the axis
            {"teachers": BERT, "students": TINYBERT},
        ),
        (
            "cpu.yaml",
            {
                "seeds": [1],
                "variants": dict.fromkeys(["no-lookahead", *RIVALS]),
                "ablations": dict.fromkeys(["controls", "smoothing"]),
            },
            5,  # the teacher, finetune, kd, reptile, and kd from reptile's last teacher
            {"teachers": MINILM, "students": PARAPHRASE},
        ),
    ],
)
def test_fetched_by_a_login_node_and_run_without_a_network(config, changes, trained, models, tmp_path, monkeypatch):
    workflow = of(config, tmp_path / "project", **changes)
    with Hub().serving() as hub:
        for repository in everything():
            hub.add(repository)
        for name, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        said = rkd(workflow, "fetch", "overlay.yaml")
        for name in models.values():
            assert f"{name}: " in said
            assert PINS[name] in said
        assert hub.unknown == []
        hub.reset()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        workflow.snakemake("all", "ablations", "submissions", offline=False)
        assert hub.requests == []

    results = workflow.folder / "results"
    runs = [json.loads(file.read_text()) for file in results.rglob("run.json")]
    assert len(runs) == trained
    for part, name in models.items():
        for file in (results / part).rglob("run.json"):
            record = json.loads(file.read_text())
            for found in record["hub"]:
                assert found["revision"] == PINS[found["name"]]
                assert any(name.startswith(("model.safetensors", "pytorch_model.bin")) for name in found["sha256"])
            assert record["data"]["revision"] == "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
            if not record["spec"]["variant"].startswith("reptile.student_model"):
                assert [found["name"] for found in record["hub"]] == [name]
    table = next(results.glob("*/tables/main.md")).read_text()
    assert "WNLI" in table
    with zipfile.ZipFile(next(results.glob("*/submission/kd.zip"))) as archive:
        assert len(archive.read("WNLI.tsv").splitlines()) == 147
    assert "no mismatch" in rkd(workflow, "verify", "results")
    assert workflow.planned("--configfile", "overlay.yaml") == {}
