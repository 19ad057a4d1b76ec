"""MetaDistil's gradient of the teacher by finite differences and by a graph of second order; its quiz."""

import copy

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from rkd.errors import RkdError
from rkd.methods import MetaDistil
from rkd.methods.functional import logits_at
from rkd.training.holdout import QuizBatches, hold_out
from tests.reference.metadistil import SecondOrderMetaDistil
from tests.reference.methods import KD as KD_SETTINGS
from tests.reference.methods import (
    STUDENT_LR,
    TEACHER_LR,
    TOTAL_STEPS,
    Learner,
    Questions,
    assert_same,
    batches,
    forward,
    kd_objective,
    pair,
    restores_exactly,
    task_loss,
)

PILOT_LR = 0.05


def metadistil(student, teacher, labels=2, kind=MetaDistil, **overrides):
    settings = {"teacher_lr": TEACHER_LR, "pilot_lr": PILOT_LR, "quiz": Questions(labels), **overrides}
    return kind(student, teacher, **{**KD_SETTINGS, **settings})


def teacher_gradient(method, batch, monkeypatch):
    """The gradient that the teacher's optimizer is given for one batch, by parameter name."""
    found = {}

    def record():
        found.update({name: p.grad.clone() for name, p in method.teacher.named_parameters()})
        method.teacher.zero_grad()

    monkeypatch.setattr(method.teacher_optimizer, "step", record)
    method.step(batch)
    return found


def unrolled_quiz_loss(student, teacher, batch, quiz, retain=True):
    """The quiz loss of a pilot whose weights are written into a copy of the student, parameter by parameter."""
    with sdpa_kernel(SDPBackend.MATH):
        loss = kd_objective(forward(student, batch).logits, forward(teacher, batch).logits, batch["labels"])
    names, parameters = zip(*student.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, create_graph=retain)
    pilot = copy.deepcopy(student)
    for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
        owner, _, leaf = name.rpartition(".")
        module = pilot.get_submodule(owner)
        delattr(module, leaf)
        setattr(module, leaf, parameter - PILOT_LR * gradient)  # a plain tensor with its graph
    return task_loss(forward(pilot, quiz).logits, quiz["labels"])


@pytest.mark.parametrize("labels", [3, 1])
def test_the_teachers_gradient_equals_finite_differences(labels, monkeypatch):
    student, teacher = pair(labels, 1, 1)
    batch, quiz = next(batches(1, labels)), next(Questions(labels))
    before = copy.deepcopy(student)
    found = teacher_gradient(metadistil(student, teacher, labels), batch, monkeypatch)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in teacher.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        losses = []
        for sign in (1, -1):
            moved = copy.deepcopy(teacher)
            with torch.no_grad():
                moved.get_parameter(name).add_(direction, alpha=sign * 1e-4)
            losses.append(float(unrolled_quiz_loss(before, moved, batch, quiz, retain=False).detach()))
        expected = (losses[0] - losses[1]) / 2e-4
        assert float((found[name] * direction).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-9), name
    assert max(float(gradient.abs().max()) for gradient in found.values()) > 1e-5


@pytest.mark.parametrize("options", [{}, {"alpha": 0.0}, {"alpha": 1.0}, {"regression_kd": "none"}], ids=str)
@pytest.mark.parametrize("labels", [3, 1])
def test_the_gradient_by_first_derivatives_is_that_of_second_order(labels, options):
    """With dropout: the pass in forward mode repeats the pilot's mask, and the generator ends where it did."""
    found = []
    for kind in (MetaDistil, SecondOrderMetaDistil):
        method = metadistil(*pair(labels, dropout=0.2), labels, kind, **options)
        torch.manual_seed(0)
        loss, gradients = method.teacher_gradient(next(batches(1, labels)))
        found.append((loss, gradients, torch.get_rng_state()))
    (loss, ours, position), (expected_loss, theirs, expected_position) = found
    assert loss == expected_loss
    assert torch.equal(position, expected_position)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        assert a is None or (a - b).abs().max() <= 1e-13 * max(1.0, float(b.abs().max()))


def test_the_gradient_by_first_derivatives_in_fewer_bits():
    """Float32 to rounding; under bf16 both lose digits, and point the same way."""

    def gradient(kind, bits):
        method = metadistil(*pair(dtype=torch.float32), kind=kind)
        with torch.autocast("cpu", torch.bfloat16, enabled=bits == 16):
            _, found = method.teacher_gradient(next(batches(1)))
        return torch.cat([g.flatten() for g in found])

    exact = gradient(SecondOrderMetaDistil, 32)
    assert (gradient(MetaDistil, 32) - exact).norm() < 1e-5 * exact.norm()
    for kind in (MetaDistil, SecondOrderMetaDistil):
        assert torch.cosine_similarity(gradient(kind, 16), exact, dim=0) > 0.95


def test_gradient_accumulation_changes_nothing():
    methods = [metadistil(*pair(), gradient_accumulation=parts) for parts in (1, 4)]
    for batch in batches(3):
        whole, split = (method.step(batch) for method in methods)
        assert split == pytest.approx(whole, abs=1e-9)
    assert_same(methods[0].student, methods[1].student, 1e-9)
    assert_same(methods[0].teacher, methods[1].teacher, 1e-7)


@pytest.mark.parametrize("labels", [3, 1])
def test_equals_the_literal_unrolled_method(labels):
    student, teacher = pair(labels)
    literal_student, literal_teacher = copy.deepcopy(student), copy.deepcopy(teacher)
    student_learner = Learner(literal_student, STUDENT_LR)
    teacher_learner = Learner(literal_teacher, TEACHER_LR)
    method, questions = metadistil(student, teacher, labels), Questions(labels)
    for batch in batches(4, labels):
        quiz_loss = unrolled_quiz_loss(literal_student, literal_teacher, batch, next(questions))
        teacher_learner.step(quiz_loss)
        z_t = forward(literal_teacher, batch).logits.detach()
        loss = kd_objective(forward(literal_student, batch).logits, z_t, batch["labels"])
        student_learner.step(loss)
        found = method.step(batch)
        assert found["quiz"] == pytest.approx(float(quiz_loss.detach()), rel=1e-7)
        assert found["loss"] == pytest.approx(float(loss.detach()), rel=1e-7)
    assert_same(student, literal_student, 1e-7)
    assert_same(teacher, literal_teacher, 1e-7)


def test_the_teacher_learns_to_make_the_pilot_better_at_a_quiz():
    student, teacher = pair()
    batch, quiz = next(batches(1)), next(Questions())

    class Same(Questions):
        def __next__(self):
            return quiz

    # The student does not move, so only a better teacher makes a better pilot.
    method = metadistil(student, teacher, quiz=Same(), student_lr=0.0, weight_decay=0.0, pilot_lr=1.0, teacher_lr=1e-3)
    losses = [method.step(batch)["quiz"] for _ in range(5)]
    assert losses[-1] < losses[0]


def test_the_student_learns_nothing_from_the_quiz():
    student, teacher = pair()
    other = copy.deepcopy(student)
    batch = next(batches(1))
    metadistil(student, copy.deepcopy(teacher), teacher_lr=0.0).step(batch)
    questions = Questions()
    next(questions)
    metadistil(other, teacher, teacher_lr=0.0, quiz=questions).step(batch)
    assert_same(student, other, 0.0)
    assert all(p.grad is None for model in (student, teacher) for p in model.parameters())


def test_logits_at_other_parameters():
    student, _ = pair()
    student.eval()
    other = pair(student_layers=2, teacher_layers=2)[1]
    batch = next(batches(1))
    before = copy.deepcopy(student)
    z = logits_at(student, dict(other.named_parameters()), batch)
    assert (z - forward(other, batch).logits).abs().max() < 1e-12
    assert_same(student, before, 0.0)


def test_state_restores_exactly():
    restores_exactly(lambda: metadistil(*pair()), list(batches(4)))


def test_pilot_lr_out_of_range():
    with pytest.raises(RkdError, match=r"pilot_lr: found 0\.0; expected a number above 0"):
        metadistil(*pair(), pilot_lr=0.0, total_steps=TOTAL_STEPS)


# --- the quiz ---------------------------------------------------------------------------------------------


def split(rows):
    """A split whose row i is the token i, i + 1 times, with label i."""
    from datasets import Dataset

    from rkd.training.batches import Split

    columns = {"input_ids": [[i] * (i + 1) for i in range(rows)], "label": list(range(rows)), "idx": list(range(rows))}
    return Split(Dataset.from_dict(columns), pad_token_id=0)


def test_hold_out_parts_the_rows():
    whole = split(20)
    rest, quiz = hold_out(whole, 0.25, at_least=4, seed=1)
    assert (len(rest), len(quiz)) == (15, 5)
    assert sorted([*rest.labels.tolist(), *quiz.labels.tolist()]) == list(range(20))
    assert rest.labels.tolist() == sorted(rest.labels.tolist())
    assert hold_out(whole, 0.25, at_least=4, seed=1)[1].labels.tolist() == quiz.labels.tolist()
    assert hold_out(whole, 0.25, at_least=4, seed=2)[1].labels.tolist() != quiz.labels.tolist()


def test_a_part_is_a_split():
    rest, _ = hold_out(split(20), 0.25, at_least=4, seed=1)
    batch = rest.batch(torch.tensor([2, 0]))
    labels = [int(rest.labels[2]), int(rest.labels[0])]
    assert batch["labels"].tolist() == labels
    assert batch["attention_mask"].sum(dim=1).tolist() == [label + 1 for label in labels]
    assert batch["input_ids"].max(dim=1).values.tolist() == labels
    assert sorted(row for rows in rest.shuffled(4, 1, 1) for row in rows.tolist()) == list(range(15))


@pytest.mark.parametrize(("share", "rows"), [(0.1, 2), (0.0, 0), (1.0, 20)])
def test_quiz_too_small_or_too_large(share, rows):
    message = f"quiz_fraction: {share} of 20 training rows are {rows} rows; expected at least 4 to hold out"
    with pytest.raises(RkdError, match=message):
        hold_out(split(20), share, at_least=4, seed=1)


def test_quiz_batches_are_full_and_every_pass_is_shuffled_anew():
    quiz = QuizBatches(split(10), batch_size=4, seed=1)
    drawn = [next(quiz)["labels"].tolist() for _ in range(6)]
    passes = [drawn[i] + drawn[i + 1] for i in (0, 2, 4)]
    assert all(len(set(rows)) == 8 for rows in passes)
    assert passes[0] != passes[1] != passes[2]


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_quiz_batches_go_on_where_they_were(position):
    quiz, other = (QuizBatches(split(10), batch_size=4, seed=1) for _ in range(2))
    for _ in range(position):
        next(quiz)
    other.load_state_dict(quiz.state_dict())
    for _ in range(4):
        assert next(quiz)["labels"].tolist() == next(other)["labels"].tolist()


def test_quiz_without_a_whole_batch():
    with pytest.raises(RkdError, match="quiz: found 3 rows; expected at least one batch of 4"):
        QuizBatches(split(3), batch_size=4, seed=1)
