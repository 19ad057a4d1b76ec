"""Teacher and student with a tokenizer each: every batch has both readings of the same examples."""

import copy

import pytest
import torch

import rkd
from rkd.config.load import check, load
from rkd.errors import RkdError
from rkd.inference import Classifier
from rkd.methods import KD
from rkd.methods.base import as_teacher_reads
from rkd.methods.build import build
from rkd.models.loading import load_finetuned
from rkd.models.unpadded import logits
from rkd.runs.manifest import read_manifest
from rkd.runs.record import read_record
from rkd.training.batches import load_prepared
from rkd.training.holdout import Subset
from rkd.verify import verify
from rkd.workflow.plan import Plan
from tests.helpers import ROOT
from tests.helpers.architectures import save
from tests.helpers.configs import merged
from tests.helpers.distillation import reviews
from tests.helpers.models import bert, random_batch

STUDENT = str(ROOT / "configs/models/bert-2x128.json")
SETTINGS = {"student_lr": 1e-2, "total_steps": 10}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A RoBERTa, whose tokens are bytes."""
    return save(tmp_path_factory.mktemp("models") / "roberta", "roberta")


def distil(teacher, out, **fields):
    settings = {"text": "text", "label": "mood", "method": "kd", "labels": ["bad", "good"], "dev": reviews(40, seed=3)}
    settings |= {"student": STUDENT, "student_tokenizer": "own", "max_length": 30, "epochs": 1, "vocab_size": 200}
    return rkd.distill(reviews(), teacher=teacher, out=out, threads=1, **{**settings, **fields})


@pytest.fixture(scope="module")
def distilled(teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("distilled") / "out"
    return distil(teacher, out), out


def test_a_batch_has_the_readings_of_both(distilled):
    _, out = distilled
    _, tokenizer, splits = load_prepared(out / "data", own_tokens=True)
    _, theirs, plain = load_prepared(out / "data")
    rows = torch.tensor([3, 0, 7])
    texts = [reviews()["text"][int(row)] for row in rows]
    batch = splits["train"].batch(rows)
    for reader, found in ((tokenizer, batch), (theirs, as_teacher_reads(batch))):
        expected = reader(texts, padding=True, truncation=True, max_length=30, return_tensors="pt")
        assert torch.equal(found["input_ids"], expected["input_ids"])
        assert torch.equal(found["attention_mask"], expected["attention_mask"])
    assert torch.equal(plain["train"].batch(rows)["input_ids"], batch["teacher_input_ids"])
    part = Subset(splits["train"], torch.tensor([7, 3]))
    again = part.for_teacher.batch(torch.tensor([1]))["input_ids"]
    assert torch.equal(again, plain["train"].batch(torch.tensor([3]))["input_ids"])


def test_the_student_is_told_what_the_teacher_says_of_its_own_reading(distilled):
    _, out = distilled
    batch = load_prepared(out / "data", own_tokens=True)[2]["train"].batch(torch.arange(8))
    teacher, student = load_finetuned(out / "teacher/model"), load_finetuned(out / "student/model")
    method = KD(student, teacher, **SETTINGS)
    expected = logits(teacher.eval(), as_teacher_reads(batch))
    assert torch.equal(method.teacher_logits(batch), expected)
    whole, parts = (
        KD(copy.deepcopy(student), teacher, gradient_accumulation=count, **SETTINGS).step(batch)["kd"]
        for count in (1, 3)
    )
    assert whole == pytest.approx(parts, rel=1e-4)


def test_one_reading_is_for_both_where_they_share_a_vocabulary():
    batch = random_batch(0)
    assert as_teacher_reads(batch) is batch


def test_the_student_keeps_its_tokenizer_and_the_records_agree(distilled):
    result, out = distilled
    assert len(result.tokenizer) != len(load_prepared(out / "data")[1])
    assert read_record(out / "student/run.json", "spec")["spec"]["options"]["student_tokenizer"] == "own"
    manifest = read_manifest(out / "data/manifest.json")
    assert manifest["student_tokenizer"]["vocab_size"] == len(result.tokenizer)
    assert verify([out]).findings == ()
    reviews(40, seed=3).to_csv(out.parent / "dev.csv", index=False)
    again = Classifier(out / "student").predict(out.parent / "dev.csv")["prediction"].tolist()
    found = result.predictions.query("split == 'validation'").sort_values("idx")["prediction"].tolist()
    assert again == found


def test_int8_is_scored_on_the_tokens_of_the_student(distilled, tmp_path):
    pytest.importorskip("onnxruntime")
    from rkd.export import export

    folder = export(distilled[1] / "student", tmp_path / "export", quantize=True)
    assert "rows with the same prediction" in (folder / "README.md").read_text().lower()


@pytest.mark.parametrize("method", ["online", "lgtm", "metadistil"])
def test_every_method_that_compares_logits_alone_takes_two(method, teacher, tmp_path):
    options = {} if method == "online" else {"quiz_fraction": 0.4}
    distil(teacher, tmp_path / "out", method=method, options=options)
    assert verify([tmp_path / "out"]).findings == ()


def test_a_fine_tuned_teacher_learns_from_its_own_tokens(teacher, tmp_path):
    out = tmp_path / "out"
    distil(teacher, out, finetune_teacher=True, selection="held-out")
    record = read_record(out / "teacher/run.json", "spec")
    assert "student_tokenizer" not in record["spec"]["options"]
    assert (out / "teacher/model/vocab.json").exists() or (out / "teacher/model/tokenizer.json").exists()
    assert verify([out]).findings == ()


WRONG = {
    "weights": (
        {"method": "reptile"},
        "student_tokenizer: found own; expected teacher with method reptile, which compares",
    ),
    "states": ({"method": "pkd"}, "expected teacher with method pkd"),
    "layers": ({"student": "teacher-layers:0"}, "student: found 'teacher-layers:0'; expected a model with a tokenizer"),
    "a word": ({"student_tokenizer": "both"}, "student_tokenizer: found 'both'; expected teacher or own"),
    "no teacher": ({"method": "finetune", "teacher": None}, "without a teacher's model there is no other tokenizer"),
}


@pytest.mark.parametrize(("fields", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_have_two_says_why(fields, message, teacher, tmp_path):
    with pytest.raises(RkdError, match=message):
        distil(fields.pop("teacher", teacher), tmp_path / "out", **fields)


def test_a_method_that_compares_weights_is_refused_where_it_is_built():
    with pytest.raises(RkdError, match="found a student with a tokenizer of its own; expected that of the teacher"):
        build("reptile", bert(2, seed=0), bert(4, seed=0), options={"student_tokenizer": "own"}, **SETTINGS)


@pytest.fixture
def config(teacher):
    content = merged()
    content["variants"] = {name: {"method": name} for name in ("finetune", "kd")}
    changes = {"teacher_model": str(teacher), "student_tokenizer": "own", "max_length": 30, "tasks": ["cola"]}
    return content | changes | {"ablations": {}}


def test_a_plan_prepares_both_readings_and_only_students_know(config):
    plan = Plan(load(config))
    assert plan.data("cola").student_tokenizer["reference"] == "configs/models/bert-2x128.json"
    assert plan.student("cola", "finetune", 1).options == {"student_tokenizer": "own"}
    assert plan.teacher("cola", 1).options == {}
    shared = Plan(load(merged()))
    assert "student_tokenizer" not in shared.data("cola").json() + shared.student("cola", "kd", 1).json()


@pytest.mark.parametrize(
    ("changes", "path", "expected"),
    [
        (
            {"variants": {"reptile": {"method": "pkd"}}},
            "student_tokenizer",
            "teacher: reptile compares more than logits",
        ),
        ({"student_model": "teacher-layers:0"}, "student_model", "a model with a tokenizer of its own"),
        (
            {"variants": {"other": {"method": "kd", "student_model": "configs/models/bert-4x128.json"}}},
            "variants.other.student_model",
            "no other student",
        ),
        ({"student_tokenizer": "mine"}, "student_tokenizer", "one of teacher, own"),
    ],
)
def test_a_config_that_cannot_have_two_says_why(config, changes, path, expected):
    assert any(problem.path == path and expected in problem.expected for problem in check({**config, **changes}))
