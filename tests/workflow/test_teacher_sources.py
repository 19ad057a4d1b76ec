"""Where the teacher of a variant comes from, in real runs: another run, all seeds, or smoothed labels."""

import json
import shutil

import pandas as pd
import pytest
import torch

from rkd.models.soft_labels import mean_entropy
from rkd.verify import verify
from tests.workflow.conftest import TINY, Workflow

VARIANTS = {
    "kd-left": {"method": "kd", "teacher": {"from": "reptile"}},
    "kd-ensemble": {"method": "kd", "teacher": {"ensemble": "seeds"}},
    "kd-smooth": {"method": "kd", "teacher": {"match_entropy_of": "reptile"}},
    "kd-low-loss": {"method": "kd", "teacher": {"selection": "held-out-loss"}},
}
KEPT = "train_student_and_teacher"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A finished run whose variants have all kinds of teachers, with two seeds."""
    workflow = Workflow(tmp_path_factory.mktemp("sources"))
    workflow.overlay({**TINY, "seeds": [1, 2], "variants": {**TINY["variants"], **VARIANTS}})
    workflow.snakemake("all")
    return workflow


def record(workflow: Workflow, variant: str, seed: int = 1) -> dict:
    return json.loads((workflow.run(variant, seed=seed) / "run.json").read_text())


def bits(workflow: Workflow, variant: str) -> dict[str, str]:
    """SHA-256 of all that a run wrote, but for the history, which has the time that it took."""
    outputs = record(workflow, variant)["outputs"]
    return {name: sha256 for name, sha256 in outputs.items() if name != "history.jsonl"}


def test_a_run_leaves_its_teacher_behind_where_another_asks_for_it(finished):
    weights = {
        name: list((finished.folder / "results").glob(f"runs/*/{name}-*/seed-1/teacher/*"))
        for name in ("reptile", "kd-left")
    }
    assert {file.name for file in weights["reptile"]} >= {"model.safetensors", "config.json", "tokenizer.json"}
    assert weights["kd-left"] == []
    found = record(finished, "kd-left")
    place = found["inputs"]["learns_from"]["teachers"][0]
    assert place.startswith("reptile-")
    assert place.endswith("/seed-1/teacher")
    outputs = record(finished, "reptile")["outputs"]
    assert found["teacher"][f"{place}/model.safetensors"] == outputs["teacher/model.safetensors"]


def test_an_ensemble_is_of_all_seeds(finished):
    for seed in (1, 2):
        places = record(finished, "kd-ensemble", seed)["inputs"]["learns_from"]["teachers"]
        assert [place.rsplit("/", 2)[1] for place in places] == ["seed-1", "seed-2"]
    history = [json.loads(line) for line in (finished.run("kd-ensemble") / "history.jsonl").read_text().splitlines()]
    logits = []
    for seed in (1, 2):
        folder = finished.folder / "results/runs/mrpc" / f"teacher-{record(finished, 'kd')['inputs']['teacher']}"
        frame = pd.read_parquet(folder / f"seed-{seed}" / "logits.parquet")
        frame = frame[frame["split"] == "validation"]
        logits.append(torch.tensor(frame[[name for name in frame if name.startswith("logit_")]].to_numpy()))
    mean = torch.stack([z.softmax(dim=-1) for z in logits]).mean(dim=0).log()
    temperature = record(finished, "kd-ensemble")["spec"]["options"]["temperature"]
    assert history[0]["teacher"]["entropy"] == pytest.approx(mean_entropy(mean, temperature), rel=1e-4)


def test_smoothed_labels_have_the_entropy_of_those_that_reptile_ends_with(finished):
    found = record(finished, "kd-smooth")
    assert found["smoothing"]["divisor"] > 0
    assert found["inputs"]["learns_from"]["entropy_of"].startswith("reptile-")
    assert found["inputs"]["learns_from"]["teachers"][0].startswith("teacher-")


def test_the_epoch_of_the_lowest_loss_makes_another_teacher(finished):
    one, other = (record(finished, name)["inputs"]["teacher"] for name in ("kd", "kd-low-loss"))
    assert one != other
    folder = finished.folder / "results" / "runs" / "mrpc" / f"teacher-{other}" / "seed-1"
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert all(line["held_out_loss"] > 0 for line in history)


def test_results_agree_with_their_records(finished):
    assert verify([finished.folder / "results"]).mismatches == []
    assert finished.planned() == {}


def test_a_teacher_is_asked_for_later(finished):
    """A run that did not keep its teacher trains again, with the same bits, and so do those that learn from it."""
    before = {name: bits(finished, name) for name in ("reptile", "kd-left", "kd-smooth")}
    shutil.rmtree(finished.run("reptile") / "teacher")
    shutil.rmtree(finished.run("kd-left"))
    shutil.rmtree(finished.experiment)  # nothing is made again for tables that are there
    trained = {rule: n for rule, n in finished.planned().items() if rule.startswith(("train", "finetune"))}
    assert trained == {KEPT: 1, "train_student": 2}
    finished.snakemake("all")
    assert {name: bits(finished, name) for name in before} == before
