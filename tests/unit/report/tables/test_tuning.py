"""The table of tuning, and the overlay with the chosen values."""

import json

import pytest
import yaml

from rkd.report.tables.tuning import tuning
from rkd.specs.report import Selection, Variant
from rkd.specs.tuning import Tried, TuningSpec

DIGESTS = {"low": "0000000001", "middle": "0000000002", "high": "0000000003"}
RATES = {"low": 1e-5, "middle": 1e-4, "high": 1e-3}


def spec(**changes):
    tried = tuple(
        Tried(task, row, {"learning_rate": RATES[name]}, f"{row}.tune.{name}", digest)
        for task in ("cola", "rte")
        for row in ("finetune", "kd")
        for name, digest in DIGESTS.items()
    )
    fields = {
        "tasks": ("cola", "rte"),
        "variants": (Variant("finetune", "finetune", "finetune"), Variant("kd", "kd", "kd")),
        "seeds": (7,),
        "synthetic": False,
        "teacher_model": "org/big",
        "student_model": "org/small",
        "selection": Selection("best", "held-out"),
        "tried": tried,
    }
    return TuningSpec(**(fields | changes))


@pytest.fixture
def write(tmp_path):
    """Write the history of a run with held-out scores by epoch; returns its path."""

    def written(task, row, name, scores):
        folder = tmp_path / f"runs/{task}/{row}.tune.{name}-{DIGESTS[name]}/seed-7"
        folder.mkdir(parents=True)
        lines = [{"epoch": 0, "step": 0, "primary_score": 0.9, "held_out": 0.99}]
        lines += [
            {"epoch": at, "step": 10 * at, "primary_score": 0.9, "held_out": score}
            for at, score in enumerate(scores, 1)
        ]
        (folder / "history.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return str(folder / "history.jsonl")

    return written


def chosen(table):
    return {(one.task, one.row): one.values["learning_rate"] for one in table.chosen()}


def test_the_best_epoch_on_held_out_examples_counts_and_the_start_does_not(write):
    files = [
        write("cola", "kd", "low", [0.1, 0.5, 0.2]),
        write("cola", "kd", "middle", [0.3, 0.4, 0.4]),
        write("cola", "kd", "high", [0.2, None, 0.1]),
    ]
    table = tuning(spec(), files)
    assert chosen(table) == {("cola", "kd"): 1e-5}
    assert table.frame().query("row == 'kd' and task == 'cola'")["held_out"].tolist() == pytest.approx([50, 40, 20])


def test_equal_scores_choose_the_first_and_nothing_if_all_are_equal(write):
    files = [
        *(write("cola", "kd", name, [score]) for name, score in (("low", 0.1), ("middle", 0.4), ("high", 0.4))),
        *(write("rte", "kd", name, [0.5]) for name in DIGESTS),
    ]
    table = tuning(spec(), files)
    assert chosen(table) == {("cola", "kd"): 1e-4}
    notes = " ".join(note.text for note in table.grid().notes)
    assert "All values have the same score for kd on RTE: nothing is chosen there." in notes
    assert "6 of 12 runs are missing" in notes
    assert "was best" not in notes, "the middle one of three"


def test_the_overlay_keeps_the_settings_per_task_and_adds_the_choice(write):
    files = [write("cola", row, name, [RATES[name]]) for row in ("finetune", "kd") for name in DIGESTS]
    given = {"cola": {"student": {"epochs": 3}, "variants": {"kd": {"temperature": 2.0, "learning_rate": 0.5}}}}
    table = tuning(spec(per_task=given), files)
    text = table.overlay("tune")
    assert text.startswith("# Written by `snakemake tune`")
    assert yaml.safe_load(text) == {
        "per_task": {
            "cola": {
                "student": {"epochs": 3},
                "variants": {
                    "kd": {"temperature": 2.0, "learning_rate": 1e-3},
                    "finetune": {"learning_rate": 1e-3},
                },
            }
        }
    }
    assert given["cola"]["variants"]["kd"]["learning_rate"] == 0.5, "the spec is not changed"
    notes = " ".join(note.text for note in table.grid().notes)
    assert "The lowest or highest learning_rate was best for finetune on CoLA, kd on CoLA" in notes


def test_what_is_chosen_for_a_teacher_are_settings_of_the_teacher(write):
    names = ("low", "middle")
    tried = tuple(
        Tried("cola", "teacher", {"epochs": epochs}, f"teacher.tune.{name}", DIGESTS[name])
        for epochs, name in enumerate(names, 1)
    )
    files = [write("cola", "teacher", name, [score]) for name, score in zip(names, (0.1, 0.2), strict=True)]
    table = tuning(spec(tried=tried), files)
    assert yaml.safe_load(table.overlay("tune_teacher")) == {"per_task": {"cola": {"teacher": {"epochs": 2}}}}
