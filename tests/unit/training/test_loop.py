"""The training loop and what a run leaves behind, on tiny synthetic tasks and random models."""

import hashlib
import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import AutoTokenizer

from rkd.data.prepare import prepare
from rkd.errors import RkdError
from rkd.layer_map import LayerMap
from rkd.methods import KD, FineTune, ReptileKD, kd
from rkd.metrics import scores as metrics
from rkd.models import loading
from rkd.runs.predictions import read_predictions
from rkd.specs.jobs import ModelSpec, RunSpec
from rkd.tasks import get
from rkd.training import evaluation, job, loop, tracking
from rkd.training.batches import load_splits
from rkd.training.data import TrainingData, set_aside
from rkd.utils.files import sha256

TRAINING = {
    "learning_rate": 1e-3,
    "epochs": 2,
    "batch_size": 8,
    "gradient_accumulation": 1,
    "weight_decay": 0.01,
    "warmup_ratio": 0.0,
    "max_grad_norm": 1.0,
    "adam_epsilon": 1e-8,
    "precision": "fp32",
    "group_by_length": False,
    "selection": "last",
}
KD_OPTIONS = {"alpha": 0.5, "temperature": 5.0, "regression_kd": "mse"}
OPTIONS = {
    "finetune": {},
    "kd": KD_OPTIONS,
    "reptile": {**KD_OPTIONS, "layer_map": "skip", "teacher_lr": 1e-4},
}
ROWS = (30, 20, 5)  # train, dev, test: the last training batch is smaller


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the configs of a teacher of two layers and of a student of one, with dropout."""
    folder = tmp_path_factory.mktemp("training")
    for layers in (1, 2):
        config = {
            "model_type": "bert",
            "hidden_size": 16,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
            "type_vocab_size": 2,
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
        }
        (folder / f"layers-{layers}.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def data(place):
    """`data(task)`: the prepared task's folder, made once."""

    def prepared(task):
        folder = place / "data" / task
        if not folder.exists():
            prepare(
                task,
                folder,
                source="synthetic",
                tokenizer=str(place / "layers-2.json"),
                vocab_size=300,
                max_length=48,
                synthetic_rows=ROWS,
            )
        return folder

    return prepared


def spec_of(place, task, method="finetune", variant=None, layers=1, seed=1, options=None, **overrides):
    return RunSpec(
        task,
        variant or method,
        method,
        seed,
        ModelSpec(str(place / f"layers-{layers}.json")),
        {**TRAINING, **overrides},
        {**OPTIONS[method], **(options or {})},
    )


@pytest.fixture(scope="module")
def teacher(place, data):
    """`teacher(task)`: the model folder of a fine-tuned teacher, made once."""

    def finetuned(task):
        folder = place / "teachers" / task
        if not folder.exists():
            spec = spec_of(place, task, variant="teacher", layers=2)
            job.run(spec, data(task), folder, device="cpu")
        return folder / "model"

    return finetuned


def history_of(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def timeless(history):
    return [{key: value for key, value in line.items() if key != "seconds"} for line in history]


# What a run leaves behind.


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("method", ["finetune", "kd", "reptile"])
def test_a_run_leaves_model_predictions_history_and_record(method, place, data, teacher, tmp_path):
    spec = spec_of(place, "cola", method)
    guide = None if method == "finetune" else teacher("cola")
    code = {"rkd/losses.py": "b3c86eb12e8a"}
    job.run(spec, data("cola"), tmp_path, teachers=[guide] if guide else [], device="cpu", threads=1, code=code)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model",
        "predictions.parquet",
        "logits.parquet",
        "history.jsonl",
        "run.json",
    }

    frame = read_predictions(tmp_path / "predictions.parquet")
    assert list(frame.columns) == ["split", "idx", "label", "prediction", "logit_0", "logit_1"]
    assert frame.dtypes.astype(str).to_dict() | {"split": "str"} == {
        "split": "str",
        "idx": "int64",
        "label": "float64",
        "prediction": "float64",
        "logit_0": "float32",
        "logit_1": "float32",
    }
    assert frame["split"].value_counts().to_dict() == {"validation": 20, "test": 5}
    by_split = dict(list(frame.groupby("split")))
    assert by_split["validation"]["label"].isin([0, 1]).all()
    assert by_split["test"]["label"].isna().all()
    assert by_split["validation"]["idx"].tolist() == list(range(20))
    assert (frame["prediction"] == (frame["logit_1"] > frame["logit_0"])).all()

    # The saved model makes these predictions, with the saved tokenizer.
    model = loading.load_finetuned(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model", local_files_only=True)
    assert len(tokenizer) == model.config.vocab_size
    split = load_splits(data("cola"), tokenizer.pad_token_id)["validation"]
    z = evaluation.predict(model, split, torch.device("cpu")).numpy()
    np.testing.assert_array_equal(z, by_split["validation"][["logit_0", "logit_1"]].to_numpy())
    assert model.config.id2label == {0: "unacceptable", 1: "acceptable"}

    run = json.loads((tmp_path / "run.json").read_text())
    assert RunSpec.from_json(json.dumps(run["spec"])) == spec
    manifest = json.loads((data("cola") / "manifest.json").read_text())
    files = run["data"].pop("files")
    assert run["data"] == {"source": "synthetic", "revision": None, "sha256": manifest["sha256"]}
    assert set(files) == {str(path.relative_to(data("cola"))) for path in data("cola").rglob("*/*") if path.is_file()}
    assert files["dataset/train/data-00000-of-00001.arrow"] == sha256_of(
        data("cola") / "dataset/train/data-00000-of-00001.arrow"
    )
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "run.json"]
    assert run["outputs"] == {str(path.relative_to(tmp_path)): sha256_of(path) for path in written}
    weights = guide and sha256_of(guide / "model.safetensors")
    assert (run["teacher"] or {}).get("model.safetensors") == weights
    assert run["precision"] == "fp32"
    assert run["code"] == code
    assert run["parameters"] == loading.count_parameters(model)
    assert run["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert {"transformers", "datasets", "accelerate", "numpy", "pandas", "snakemake"} < set(run["packages"])
    assert (run["device"], run["threads"]) == ("cpu", 1)
    assert run["processor"]
    assert 0 < run["seconds"] < 600
    assert 50 < run["peak_memory_mib"] < 100_000
    assert run["started"].endswith("Z")
    assert set(run["git"]) <= {"commit", "dirty"}

    history = history_of(tmp_path)
    assert [(line["epoch"], line["step"]) for line in history] == [(0, 0), (1, 4), (2, 8)]
    assert history[0]["train"] == {}
    parts = {"finetune": {"loss", "task"}}.get(method, {"loss", "task", "kd"})
    for line in history:
        expected = {"epoch", "step", "seconds", "train", "dev", "primary_score", "warnings"}
        assert set(line) == expected | ({"teacher"} if guide else set())
        assert set(line["dev"]) == {"validation"}
        assert line["dev"]["validation"] == {"matthews_correlation": line["primary_score"]}
        if line["step"]:
            assert set(line["train"]) == parts
            assert line["train"]["loss"] > 0
        if method == "kd":
            assert set(line["teacher"]) == {"primary_score", "kl", "entropy"}
        if method == "reptile":
            assert set(line["teacher"]) == {"primary_score", "kl", "entropy", "distance"}
            assert line["teacher"]["kl"] > 0
            assert 0 < line["teacher"]["entropy"] <= math.log(2) + 1e-9
    assert [line["seconds"] for line in history] == sorted(line["seconds"] for line in history)
    if method == "kd":
        assert history[0]["teacher"]["primary_score"] == history[-1]["teacher"]["primary_score"]
    if method == "reptile":
        distances = [line["teacher"]["distance"] for line in history]
        assert distances[0] == 1
        assert distances[2] < distances[1] < 1


def test_the_history_holds_the_means_over_the_epoch_and_the_score_of_the_predictions(place, data, tmp_path):
    seen = []

    class Watched(FineTune):
        def step(self, batch):
            assert self.student.training
            seen.append((len(batch["labels"]), super().step(batch)["loss"]))
            return {"loss": seen[-1][1]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rkd.methods.build.by_name", lambda name: Watched)
        job.run(spec_of(place, "cola"), data("cola"), tmp_path, device="cpu")
    assert [size for size, _ in seen] == [8, 8, 8, 6] * 2
    history = history_of(tmp_path)
    for epoch in (1, 2):
        steps = [loss for _, loss in seen[4 * epoch - 4 : 4 * epoch]]
        assert history[epoch]["train"]["loss"] == pytest.approx(np.mean(steps))
    scored = metrics.from_predictions("cola", pd.read_parquet(tmp_path / "predictions.parquet"))
    assert scored["primary_score"] == history[-1]["primary_score"]


@pytest.mark.parametrize("method", ["finetune", "reptile"])
def test_the_same_spec_gives_the_same_run(method, place, data, teacher, tmp_path):
    guide = teacher("cola") if method == "reptile" else None
    for name in ("one", "two"):
        torch.manual_seed(len(name) * 1000 + ord(name[0]))  # what ran before must not matter
        job.run(
            spec_of(place, "cola", method),
            data("cola"),
            tmp_path / name,
            teachers=[guide] if guide else [],
            device="cpu",
        )
    job.run(
        spec_of(place, "cola", method, seed=2),
        data("cola"),
        tmp_path / "other",
        teachers=[guide] if guide else [],
        device="cpu",
    )
    one, two, other = (read_predictions(tmp_path / name / "predictions.parquet") for name in ("one", "two", "other"))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert timeless(history_of(tmp_path / "one")) == timeless(history_of(tmp_path / "two"))
    weights = [sha256(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two", "other")]
    assert weights[0] == weights[1] != weights[2]
    assert not one["logit_0"].equals(other["logit_0"])


def test_a_run_replaces_what_an_earlier_one_left(place, data, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "pytorch_model.bin").touch()
    (tmp_path / "history.jsonl").write_text("old\n")
    job.run(spec_of(place, "cola", epochs=1), data("cola"), tmp_path, device="cpu")
    assert not (tmp_path / "model" / "pytorch_model.bin").exists()
    assert len(history_of(tmp_path)) == 2


def test_kd_with_alpha_0_is_the_fine_tuning_run(place, data, teacher, tmp_path):
    """Loading and evaluating a teacher must not shift the student's dropout masks."""
    job.run(spec_of(place, "cola"), data("cola"), tmp_path / "finetune", device="cpu")
    spec = spec_of(place, "cola", "kd", options={"alpha": 0.0})
    job.run(spec, data("cola"), tmp_path / "kd", teachers=[teacher("cola")], device="cpu")
    weights = [sha256(tmp_path / name / "model" / "model.safetensors") for name in ("finetune", "kd")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("method", ["kd", "reptile"])
def test_a_frozen_teacher_sees_every_example_once(method, place, data, teacher, tmp_path, monkeypatch):
    """Training examples in the first of three epochs, dev examples before it; a trainable one twice in each step."""
    batches, trained = {"train": [], "dev": 0}, teacher("cola")
    of_kd, of_evaluation = kd.logits, evaluation.logits

    def train_logits(model, batch):
        batches["train"] += [len(batch["labels"])] * (model.config.num_hidden_layers == 2)
        return of_kd(model, batch)

    def dev_logits(model, batch):
        batches["dev"] += model.config.num_hidden_layers == 2
        return of_evaluation(model, batch)

    monkeypatch.setattr(kd, "logits", train_logits)
    monkeypatch.setattr(evaluation, "logits", dev_logits)
    spec = spec_of(place, "cola", method, epochs=3, batch_size=10)
    job.run(spec, data("cola"), tmp_path, teachers=[trained], device="cpu")
    assert sum(batches["train"]) == 30 * (1 if method == "kd" else 6)
    assert batches["dev"] == (1 if method == "kd" else 4)
    assert [set(line["teacher"]) >= {"primary_score", "kl", "entropy"} for line in history_of(tmp_path)] == [True] * 4


def test_nothing_but_plain_lines_where_there_is_no_terminal(place, data, tmp_path, caplog, capfd):
    with caplog.at_level(logging.INFO, logger="rkd"):
        job.run(spec_of(place, "cola"), data("cola"), tmp_path, device="cpu")
    lines = [record.getMessage() for record in caplog.records if record.name == "rkd"]
    assert lines[0].startswith("cola/finetune/seed-1: finetune, 0.0M parameters; rows: ")
    assert all(f"{name} {rows}" in lines[0] for name, rows in {"train": 30, "validation": 20, "test": 5}.items())
    assert [line.split(" dev ")[0] for line in lines[1:]] == ["epoch 0 step 0", "epoch 1 step 4", "epoch 2 step 8"]
    assert "task 0." in lines[-1]
    out, err = capfd.readouterr()
    assert "epoch" not in out
    assert "\r" not in err
    assert "it/s" not in err


# Other tasks.


@pytest.mark.parametrize("method", ["finetune", "kd", "reptile"])
def test_regression(method, place, data, teacher, tmp_path):
    guide = None if method == "finetune" else teacher("stsb")
    job.run(spec_of(place, "stsb", method), data("stsb"), tmp_path, teachers=[guide] if guide else [], device="cpu")
    frame = read_predictions(tmp_path / "predictions.parquet")
    assert list(frame.columns) == ["split", "idx", "label", "prediction", "logit_0"]
    np.testing.assert_allclose(frame["prediction"], frame["logit_0"], rtol=0)
    dev = frame[frame["split"] == "validation"]
    assert dev["label"].between(0, 5).all()
    assert (dev["label"] % 1 != 0).any(), "scores, not classes"
    assert frame[frame["split"] == "test"]["label"].isna().all()
    line = history_of(tmp_path)[-1]
    assert set(line["dev"]["validation"]) == {"pearson", "spearmanr"}
    assert line["primary_score"] == pytest.approx(np.mean(list(line["dev"]["validation"].values())))
    if guide:
        assert line["train"]["kd"] > 0
        assert line["teacher"]["kl"] is None
        assert line["teacher"]["entropy"] is None
    assert loading.load_finetuned(tmp_path / "model").config.problem_type == "regression"


def test_mnli_has_two_dev_splits_and_predicts_ax(place, data, tmp_path):
    job.run(spec_of(place, "mnli", epochs=1), data("mnli"), tmp_path, device="cpu")
    frame = read_predictions(tmp_path / "predictions.parquet")
    assert set(frame["split"]) == {
        "validation_matched",
        "validation_mismatched",
        "test_matched",
        "test_mismatched",
        "ax",
    }
    assert [name for name in frame.columns if name.startswith("logit")] == ["logit_0", "logit_1", "logit_2"]
    labelled = frame[frame["label"].notna()]["split"].unique()
    assert set(labelled) == {"validation_matched", "validation_mismatched"}
    line = history_of(tmp_path)[-1]
    assert set(line["dev"]) == {"validation_matched", "validation_mismatched"}
    assert line["primary_score"] == line["dev"]["validation_matched"]["accuracy"]


# Which epoch is kept.


class Counting:
    """A method whose student's one weight is the number of steps taken."""

    teacher = None
    trains_teacher = False
    trains_classifier = True

    def __init__(self, losses=()):
        self.student = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.student.weight)
        self.losses = dict(losses)
        self.steps = 0

    def step(self, batch):
        self.steps += 1
        self.student.weight.data += 1
        return {"loss": 0.5, "task": self.losses.get(self.steps, 0.5)}


def train_counting(data, spec, method=None, primary_scores=()):
    """Train a `Counting` method with the given dev scores; the history and the steps in the weight that is left."""
    method, scores = method or Counting(), iter(primary_scores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            loop,
            "evaluate",
            lambda *_: {"dev": {}, "primary_score": next(scores), "warnings": []},
        )
        parts = set_aside(spec, get("cola"), load_splits(data("cola"), 0))
        done = loop.train(method, get("cola"), parts, spec, Accelerator(cpu=True))
    return done.history, method.student.weight.item()


NAN = math.nan


@pytest.mark.parametrize(
    ("selection", "primary_scores", "epoch"),
    [
        ("best", [0.1, 0.5, 0.9, 0.3], 2),
        ("last", [0.1, 0.5, 0.9, 0.3], 3),
        ("best", [0.9, 0.5, 0.5, 0.3], 1),  # not the untrained model; the first of equals
        ("best", [0.0, 0.0, 0.0, 0.0], 1),
        ("best", [0.0, -0.2, -0.1, -0.3], 2),
        ("best", [NAN, NAN, NAN, NAN], 1),
        ("best", [NAN, NAN, -0.5, NAN], 2),
        ("best", [NAN, 0.3, NAN, 0.2], 1),
        ("last", [NAN, NAN, NAN, NAN], 3),
    ],
)
def test_selection(selection, primary_scores, epoch, place, data):
    spec = spec_of(place, "cola", epochs=3, selection=selection)
    history, steps = train_counting(data, spec, primary_scores=primary_scores)
    assert steps == 4 * epoch
    np.testing.assert_array_equal([line["primary_score"] for line in history], primary_scores)


def test_best_is_what_is_saved_and_predicted(place, data, tmp_path):
    """The score of the predictions is the best of the history, also where it is not the last."""
    for seed in range(10):
        spec = spec_of(place, "stsb", epochs=4, seed=seed, learning_rate=0.01, selection="best")
        job.run(spec, data("stsb"), tmp_path, device="cpu")
        scores = [line["primary_score"] for line in history_of(tmp_path)[1:]]
        found = metrics.from_predictions("stsb", pd.read_parquet(tmp_path / "predictions.parquet"))
        assert found["primary_score"] == max(scores)
        if scores[-1] < max(scores):
            break
    assert scores[-1] < max(scores), "no seed showed the difference"
    job.run(replace(spec, training={**spec.training, "selection": "last"}), data("stsb"), tmp_path, device="cpu")
    found = metrics.from_predictions("stsb", pd.read_parquet(tmp_path / "predictions.parquet"))
    assert found["primary_score"] == scores[-1] == history_of(tmp_path)[-1]["primary_score"]


def test_selection_on_held_out_training_data(place, data, tmp_path):
    """A part of train is set aside and scored; what is kept is the epoch that is best on it."""
    spec = spec_of(place, "cola", epochs=3)
    spec = replace(spec, training={**spec.training, "selection": "held-out", "held_out_fraction": 0.25})
    job.run(spec, data("cola"), tmp_path, device="cpu")
    history = history_of(tmp_path)
    train_rows = len(load_splits(data("cola"), 0)["train"])
    batches = -(-(train_rows - round(0.25 * train_rows)) // spec.training["batch_size"])
    assert [line["step"] for line in history] == [batches * epoch for epoch in range(4)]
    ranks = [-math.inf if line["held_out"] is None else line["held_out"] for line in history[1:]]
    chosen = history[1:][ranks.index(max(ranks))]
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    assert "held-out" not in set(predictions["split"])
    assert metrics.from_predictions("cola", predictions)["primary_score"] == pytest.approx(
        chosen["primary_score"], nan_ok=True
    )


# Losses that are no numbers.


@pytest.mark.parametrize("looks", [1, 4])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(value, looks, place, data, monkeypatch):
    """On a GPU, losses are read once in several steps, at the latest at the end of the epoch."""
    monkeypatch.setattr(loop, "read_interval", lambda device: looks)
    method = Counting({6: value})
    with pytest.raises(
        RkdError, match=rf"cola/finetune/seed-1: task is {value} at step 6 \(epoch 2\); expected a finite"
    ):
        train_counting(data, spec_of(place, "cola"), method, primary_scores=[0.1, 0.2, 0.3])
    assert method.steps == (6 if looks == 1 else 8)


class SameDict(Counting):
    """Returns one dict at all steps."""

    def step(self, batch):
        self.losses.update({**super().step(batch), "number": float(self.steps)})
        return self.losses


def test_losses_may_be_one_dict_that_the_method_changes(place, data, monkeypatch):
    monkeypatch.setattr(loop, "read_interval", lambda device: 4)
    history, steps = train_counting(data, spec_of(place, "cola"), SameDict(), primary_scores=[0.1, 0.2, 0.3])
    per_epoch = int(steps) // 2
    means = [line["train"]["number"] for line in history[1:]]
    assert means == [(per_epoch + 1) / 2, per_epoch + (per_epoch + 1) / 2]


def test_a_run_that_diverges_is_told_and_leaves_no_result(place, data, tmp_path):
    with pytest.raises(RkdError, match=r"cola/finetune/seed-1: loss is (nan|inf) at step [2-8] "):
        job.run(spec_of(place, "cola", learning_rate=1e38), data("cola"), tmp_path, device="cpu")
    assert list(tmp_path.iterdir()) == []


# The teacher's fate.


def pair(place, data, task="rte"):
    """A student, an equal teacher, and the data of the task."""
    student, teacher = (loading.load(ModelSpec(str(place / "layers-1.json")), get(task), 300, seed=1) for _ in range(2))
    splits = load_splits(data(task), 0)
    return student, teacher, TrainingData(splits["train"], {"validation": splits["validation"]}, {})


def evaluated(method, task, splits):
    return loop.evaluate(method, get(task), splits, torch.device("cpu"))


def reptile(student, teacher):
    layer_map = LayerMap.from_strategy("first", 1, 1)
    return ReptileKD(student, teacher, layer_map=layer_map, student_lr=1e-3, teacher_lr=1e-3, total_steps=9)


def worse_teacher(place, data):
    """A pair whose teacher says the opposite of its student, who is right more often than not."""
    student, teacher, splits = pair(place, data)
    for model in (student, teacher):
        torch.nn.init.normal_(model.classifier.weight)
    teacher.classifier.load_state_dict({name: -p for name, p in student.classifier.state_dict().items()})
    first = evaluated(FineTune(student, student_lr=1e-3, total_steps=1), "rte", splits)["primary_score"]
    assert first != 0.5, "no side is worse"
    return (student, teacher, splits) if first > 0.5 else (teacher, student, splits)


def below(record):
    """The warnings about a teacher below its student."""
    return [text for text in record["warnings"] if "has fallen below" in text]


def test_a_moving_teacher_below_its_student_is_warned_of(place, data, caplog):
    student, teacher, splits = worse_teacher(place, data)
    spec = spec_of(place, "rte", "reptile", epochs=1)
    with caplog.at_level(logging.WARNING, logger="rkd"):
        done = loop.train(reptile(student, teacher), get("rte"), splits, spec, Accelerator(cpu=True))
    line = done.history[0]
    assert line["teacher"]["primary_score"] == pytest.approx(1 - line["primary_score"])
    (warning,) = below(line)
    assert warning.startswith(
        f"the teacher's dev score ({100 * line['teacher']['primary_score']:.1f}) has fallen below the student's "
        f"({100 * line['primary_score']:.1f}); a lower teacher_lr"
    )
    assert warning in [record.getMessage() for record in caplog.records]


def test_no_warning_for_a_better_an_equal_or_a_frozen_teacher(place, data):
    student, teacher, splits = worse_teacher(place, data)
    assert below(evaluated(reptile(student, teacher), "rte", splits)) != []
    assert below(evaluated(reptile(teacher, student), "rte", splits)) == []
    frozen = KD(student, teacher, student_lr=1e-3, total_steps=9)
    assert below(evaluated(frozen, "rte", splits)) == []
    student, teacher, splits = pair(place, data)
    assert below(evaluated(reptile(student, teacher), "rte", splits)) == []


def test_a_teacher_whose_score_is_undefined_is_below_its_student(place, data):
    """A regression teacher that has collapsed to a constant has no correlation."""
    student, teacher, splits = pair(place, data, "stsb")
    torch.nn.init.zeros_(teacher.classifier.weight)
    record = evaluated(reptile(student, teacher), "stsb", splits)
    assert math.isnan(record["teacher"]["primary_score"])
    assert not math.isnan(record["primary_score"])
    assert len(below(record)) == 1
    other = evaluated(reptile(teacher, student), "stsb", splits)
    assert below(other) == []


def test_teacher_statistics_are_taken_at_the_methods_temperature(place, data):
    student, teacher, splits = pair(place, data)
    torch.nn.init.normal_(teacher.classifier.weight)
    record = evaluated(KD(student, teacher, temperature=2.0, student_lr=1e-3, total_steps=9), "rte", splits)
    z_s, z_t = (
        evaluation.predict(model, splits.dev["validation"], torch.device("cpu")) for model in (student, teacher)
    )
    expected = evaluation.soft_label_statistics(z_s, z_t, 2.0)
    assert {name: record["teacher"][name] for name in expected} == expected


# How a method is built.


def test_the_settings_reach_the_method(place, data, teacher, monkeypatch):
    built = {}

    class Recorder(Counting):
        needs_teacher = True
        needs_quiz = ReptileKD.needs_quiz

        def __init__(self, student, teacher, **arguments):
            super().__init__()
            built.update(arguments, student=student, teacher=teacher)

    guide = loading.load_finetuned(teacher("cola"))
    monkeypatch.setattr("rkd.methods.build.by_name", lambda name: Recorder)
    spec = spec_of(
        place,
        "cola",
        "reptile",
        epochs=5,
        warmup_ratio=0.26,
        gradient_accumulation=3,
        max_grad_norm=0.7,
        adam_epsilon=1e-6,
        options={"layer_map": [[1]]},
    )
    tokenizer = AutoTokenizer.from_pretrained(data("cola") / "tokenizer")
    student = loading.load_for(spec.model, get("cola"), tokenizer, 1, 48)
    parts = TrainingData(load_splits(data("cola"), 0)["train"], {}, {})
    job.build_run(spec, student, guide, parts, torch.device("cpu"))
    assert loading.depth(built.pop("student")) == 1
    assert loading.depth(built.pop("teacher")) == 2
    assert built == {
        "student_lr": 1e-3,
        "total_steps": 5 * 4,
        "warmup_steps": 5,
        "weight_decay": 0.01,
        "max_grad_norm": 0.7,
        "adam_epsilon": 1e-6,
        "gradient_accumulation": 3,
        "alpha": 0.5,
        "temperature": 5.0,
        "regression_kd": "mse",
        "teacher_lr": 1e-4,
        "layer_map": LayerMap({0: (1,)}, 2),
    }


def test_gradient_accumulation_gives_the_same_run(place, data, tmp_path):
    """Dropout off: micro_batches draw masks of their own."""
    config = json.loads((place / "layers-1.json").read_text())
    config.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    (tmp_path / "quiet.json").write_text(json.dumps(config))
    z = []
    for parts in (1, 3):
        spec = spec_of(place, "cola", gradient_accumulation=parts)
        spec = replace(spec, model=ModelSpec(str(tmp_path / "quiet.json")))
        job.run(spec, data("cola"), tmp_path / str(parts), device="cpu")
        z.append(pd.read_parquet(tmp_path / str(parts) / "logits.parquet")[["logit_0", "logit_1"]].to_numpy())
    np.testing.assert_allclose(z[0], z[1], rtol=0, atol=1e-4)


def test_what_does_not_fit_is_told_before_training(place, data, teacher, tmp_path):
    def run(spec, guide, task="cola"):
        job.run(spec, data(task), tmp_path / "run", teachers=[guide] if guide else [], device="cpu")

    with pytest.raises(RkdError, match="method 'kd' needs the folder of a fine-tuned teacher; found none"):
        run(spec_of(place, "cola", "kd"), None)
    with pytest.raises(RkdError, match="nowhere: found no trained model"):
        run(spec_of(place, "cola", "kd"), Path(tmp_path / "nowhere"))
    with pytest.raises(RkdError, match="student and teacher differ in "):
        run(spec_of(place, "cola", "kd"), teacher("stsb"))
    with pytest.raises(RkdError, match="layer_map: the list has 2 entries"):
        run(spec_of(place, "cola", "reptile", options={"layer_map": [[0], [1]]}), teacher("cola"))
    config = json.loads((place / "layers-1.json").read_text()) | {"max_position_embeddings": 40}
    (tmp_path / "short.json").write_text(json.dumps(config))
    with pytest.raises(RkdError, match="max_length: found 48; expected at most 40"):
        run(replace(spec_of(place, "cola"), model=ModelSpec(str(tmp_path / "short.json"))), None)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_told(place, data, tmp_path):
    with pytest.raises(RkdError, match="device: found 'cuda', but torch sees no GPU here; expected 'cpu' or 'auto'"):
        job.run(spec_of(place, "cola"), data("cola"), tmp_path, device="cuda")


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:1"])
def test_an_unknown_device_is_told(name, place, data, tmp_path):
    with pytest.raises(RkdError, match=f"device: found '{name}'; expected 'auto', 'cpu' or 'cuda'"):
        job.run(spec_of(place, "cola"), data("cola"), tmp_path, device=name)


def test_each_training_has_the_device_that_it_asks_for(monkeypatch):
    """Accelerators share the first one's device, as here a GPU's in a process that goes on with the CPU."""
    tracking.accelerator(None, torch.device("cpu"))
    monkeypatch.setitem(AcceleratorState._shared_state, "device", torch.device("cuda"))
    assert tracking.accelerator(None, torch.device("cpu")).device == torch.device("cpu")


def test_tensorboard_shows_the_numbers_of_the_history(place, data, teacher, tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra tensorboard"
    )
    for _ in range(2):  # the second run replaces what the first one has written
        job.run(
            spec_of(place, "cola", "kd", epochs=2),
            data("cola"),
            tmp_path / "run",
            teachers=[teacher("cola")],
            device="cpu",
            tensorboard=tmp_path / "tracker",
        )
    found = accumulator.EventAccumulator(str(tmp_path / "tracker" / "events"))
    found.Reload()
    history = history_of(tmp_path / "run")
    for tag, values in {
        "primary_score": [line["primary_score"] for line in history],
        "train/loss": [line["train"]["loss"] for line in history if line["train"]],
        "dev/validation/matthews_correlation": [line["dev"]["validation"]["matthews_correlation"] for line in history],
        "teacher/kl": [line["teacher"]["kl"] for line in history],
    }.items():
        assert [event.value for event in found.Scalars(tag)] == pytest.approx(values)
    assert [event.step for event in found.Scalars("primary_score")] == [line["step"] for line in history]
