"""The controls of ReptileKD: each one's defining property, and that their defaults are the method itself."""

import copy

import pytest
import torch

from rkd.errors import RkdError
from rkd.layer_map import LayerMap
from rkd.methods import KD, ReptileKD
from rkd.methods.base import RngState, first_adamw_step
from rkd.models.unpadded import logits
from tests.reference.methods import KD as KD_SETTINGS
from tests.reference.methods import (
    STUDENT_LR,
    TEACHER_LR,
    TOTAL_STEPS,
    WEIGHT_DECAY,
    Learner,
    Questions,
    assert_same,
    batches,
    forward,
    kd_objective,
    moved,
    pair,
    restores_exactly,
)
from tests.reference.reptile import LiteralReptileKD, decay_groups

DEFAULTS = {
    "outer_target": "look-ahead",
    "outer_direction": "pseudo-gradient",
    "outer_scope": "all",
    "inner_steps": 1,
    "inner_batch": "same",
    "outer_optimizer": "adamw",
}
CONTROLS = [
    {"outer_target": "student"},
    {"outer_target": "initial"},
    {"outer_target": "step"},
    {"outer_direction": "random"},
    {"outer_scope": "encoder"},
    {"inner_steps": 2},
    {"inner_batch": "quiz"},
    {"outer_optimizer": "sgd", "outer_step_size": 0.1},
    {"inner_steps": 2, "inner_batch": "quiz", "outer_optimizer": "sgd", "outer_direction": "random"},
]
STEPS = [
    {"outer_target": "step", "inner_steps": 2},
    {"outer_target": "step", "inner_batch": "quiz"},
    {"outer_target": "step", "outer_optimizer": "sgd", "outer_step_size": 0.5},
]
IDS = [" ".join(map(str, control.values())) for control in CONTROLS]


def reptile(student, teacher, labels=2, kind=ReptileKD, **overrides):
    layer_map = LayerMap.from_strategy("skip", student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    quiz = {"quiz": Questions(labels)} if overrides.get("inner_batch") == "quiz" else {}
    settings = {**KD_SETTINGS, "teacher_lr": TEACHER_LR, "layer_map": layer_map, **quiz, **overrides}
    return kind(student, teacher, **settings)


class LiteralControl(LiteralReptileKD):
    """The literal method with one sentence changed, whichever the arguments say."""

    def __init__(self, student, teacher, labels, control):
        settings = {**KD_SETTINGS, "teacher_lr": TEACHER_LR, "max_grad_norm": 1.0, "strategy": "skip"}
        super().__init__(student, teacher, **settings)
        self.control = {**DEFAULTS, **control}
        self.initial = copy.deepcopy(student)
        self.questions = Questions(labels)
        self.student_learner = Learner(student, STUDENT_LR)
        self.taken = 0

    def loss_of(self, model, batch):
        with torch.no_grad():
            z_t = forward(self.teacher, batch).logits
        return kd_objective(forward(model, batch).logits, z_t, batch["labels"])

    def target(self, batch):
        if self.control["outer_target"] == "student":
            return self.student
        if self.control["outer_target"] == "initial":
            return self.initial
        batch = next(self.questions) if self.control["inner_batch"] == "quiz" else batch
        ahead = copy.deepcopy(self.student)
        adamw = torch.optim.AdamW(decay_groups(ahead, WEIGHT_DECAY), lr=STUDENT_LR, eps=1e-8)
        for _ in range(self.control["inner_steps"]):
            adamw.zero_grad()
            self.loss_of(ahead, batch).backward()
            torch.nn.utils.clip_grad_norm_(ahead.parameters(), 1.0)
            adamw.step()
        return ahead

    def step(self, batch):
        target = self.target(batch)
        ours, theirs = dict(self.student.named_parameters()), dict(self.teacher.named_parameters())
        step_size = self.control.get("outer_step_size", 1e-3) * (1 - self.taken / TOTAL_STEPS)
        pulled = []
        for name, parameter in target.named_parameters():
            if self.control["outer_scope"] == "encoder" and ".layer." not in name:
                continue
            for other in self.targets[name]:
                origin = ours[name] if self.control["outer_target"] == "step" else theirs[other]
                difference = parameter.detach() - origin.detach()
                pulled.append(theirs[other])
                if self.control["outer_optimizer"] == "sgd":
                    theirs[other].data += step_size * difference
                else:
                    theirs[other].grad = -difference
        if self.control["outer_optimizer"] == "adamw":
            torch.nn.utils.clip_grad_norm_(pulled, 1.0)
            for group in self.teacher_optimizer.param_groups:
                group["lr"] = TEACHER_LR * (1 - self.taken / TOTAL_STEPS)
            self.teacher_optimizer.step()
            self.teacher_optimizer.zero_grad()
        self.student_learner.step(self.loss_of(self.student, batch))
        self.taken += 1


@pytest.mark.parametrize("labels", [3, 1])
@pytest.mark.parametrize("control", [*STEPS, {}, *CONTROLS[:3], *CONTROLS[4:8], {"inner_steps": 4}], ids=str)
def test_equals_the_literal_control(control, labels):
    student, teacher = pair(labels)
    literal = LiteralControl(copy.deepcopy(student), copy.deepcopy(teacher), labels, control)
    method = reptile(student, teacher, labels, **control)
    for batch in batches(4, labels):
        literal.step(batch)
        method.step(batch)
    assert_same(student, literal.student, 1e-6)
    assert_same(teacher, literal.teacher, 1e-6)


class PlainReptileKD(ReptileKD):
    """The method without its controls: the three updates in one piece."""

    def step(self, batch):
        micro_batches = self.micro_batches(batch)
        replay = RngState(self.student)
        forwards = []
        gradients = [None] * len(self.student_parameters)
        for micro_batch, weight in micro_batches:
            z_s = logits(self.student, micro_batch)
            loss, _, _ = self.objective(z_s, self.teacher_logits(micro_batch), micro_batch["labels"])
            parts = torch.autograd.grad(weight * loss, self.student_parameters, retain_graph=len(micro_batches) == 1)
            gradients = [g if total is None else total + g for g, total in zip(parts, gradients, strict=True)]
            forwards.append(z_s)
        ahead = [torch.empty_like(p) for p in self.student_parameters]
        first_adamw_step(
            self.student_parameters,
            gradients,
            self.no_decay,
            ahead,
            lr=STUDENT_LR,
            weight_decay=WEIGHT_DECAY,
            max_grad_norm=1.0,
            epsilon=1e-8,
        )
        ahead = dict(zip(self.student_parameters, ahead, strict=True))
        for student_parameter, teacher_parameter in self.pairs:
            teacher_parameter.grad = teacher_parameter.detach() - ahead[student_parameter]
        self.teacher_optimizer.step()
        if len(micro_batches) > 1:
            replay.restore()
            forwards = (logits(self.student, micro_batch) for micro_batch, _ in micro_batches)
        for z_s, (micro_batch, weight) in zip(forwards, micro_batches, strict=True):
            loss, _, _ = self.objective(z_s, self.teacher_logits(micro_batch), micro_batch["labels"])
            (weight * loss).backward()
        self.student_optimizer.step()


@pytest.mark.parametrize("labels", [2, 1])
@pytest.mark.parametrize("parts", [1, 3])
def test_defaults_are_the_plain_method_bit_for_bit(labels, parts, monkeypatch):
    """Float32 with dropout: masks, arithmetic and the random generator's position are all the same.

    Without the shortcut of `rkd.models.vjp`, which rounds otherwise.
    """
    monkeypatch.setattr(ReptileKD, "has_one_direction", lambda self: False)
    settings = {"gradient_accumulation": parts}
    methods, positions = [], []
    for kind, options in ((PlainReptileKD, {}), (ReptileKD, {}), (ReptileKD, DEFAULTS)):
        models = pair(labels, dtype=torch.float32, dropout=0.1)
        method = reptile(*models, labels, kind=kind, **settings, **options)
        torch.manual_seed(0)
        for batch in batches(3, labels, dtype=torch.float32):
            method.step(batch)
        methods.append(method)
        positions.append(torch.get_rng_state())
    for method, position in zip(methods[1:], positions[1:], strict=True):
        assert_same(methods[0].student, method.student, 0.0)
        assert_same(methods[0].teacher, method.teacher, 0.0)
        assert torch.equal(positions[0], position)


@pytest.mark.parametrize("strategy", ["skip", "both"])
def test_the_step_alone_is_the_look_ahead_without_the_way_from_the_teacher(strategy):
    """θ_T − θ'_S and θ_S − θ'_S differ by θ_T − θ_S, on every pair."""
    models = pair()
    layer_map = LayerMap.from_strategy(strategy, 2, 4)
    whole, alone = (
        reptile(*copy.deepcopy(models), layer_map=layer_map, outer_target=target) for target in ("look-ahead", "step")
    )
    ways = [theirs.detach() - ours.detach() for ours, theirs in alone.pairs]
    pulls = [recorded_pulls(method) for method in (whole, alone)]
    batch = next(batches(1))
    for method in (whole, alone):
        method.step(batch)
    for pull, step, way in zip(*pulls, ways, strict=True):
        assert (pull - step - way).abs().max() < 1e-12
        assert step.abs().max() <= 1.01 * STUDENT_LR + WEIGHT_DECAY * STUDENT_LR  # one AdamW step from zero state
    assert len(pulls[0]) == len(ways)


@pytest.mark.parametrize("outer_target", ["student", "initial"])
def test_without_an_inner_update_the_student_draws_the_masks_of_kd(outer_target):
    """With a teacher that does not move, dropout masks included, it is KD."""
    student, teacher = pair(dropout=0.1)
    method = reptile(
        copy.deepcopy(student), copy.deepcopy(teacher), outer_target=outer_target, teacher_lr=0.0, weight_decay=0.0
    )
    plain = KD(student, teacher, **{**KD_SETTINGS, "weight_decay": 0.0})
    for trained in (method, plain):
        torch.manual_seed(0)
        for batch in batches(3):
            trained.step(batch)
    assert_same(method.student, student, 0.0)


def test_pull_to_initial_keeps_its_target():
    student, teacher = pair()
    before = copy.deepcopy(student)
    method = reptile(student, teacher, outer_target="initial", outer_optimizer="sgd", outer_step_size=1.0)
    method.step(next(batches(1)))
    # ε = 1 puts the teacher on its target at once.
    for student_parameter, teacher_parameter in method.pairs:
        index = [p is student_parameter for p in student.parameters()].index(True)
        assert (teacher_parameter - list(before.parameters())[index]).abs().max() < 1e-12
    assert_same(method.initial_student, before, 0.0)
    assert moved(student, before)


def test_random_steps_are_as_long_as_those_of_the_method():
    student, teacher = pair()
    before = copy.deepcopy(teacher)
    torch.manual_seed(3)
    random = reptile(copy.deepcopy(student), copy.deepcopy(teacher), outer_direction="random")
    plain = reptile(student, teacher)
    batch = next(batches(1))
    random.step(batch)
    plain.step(batch)
    same = total = 0
    for a, b, start in zip(random.teacher.parameters(), teacher.parameters(), before.parameters(), strict=True):
        taken, expected = a - start, b - start
        assert (taken.abs() - expected.abs()).abs().max() < 1e-12
        walked = expected != 0
        same += int((taken[walked] * expected[walked] > 0).sum())
        total += int(walked.sum())
    assert total > 1000
    assert abs(same / total - 0.5) < 4 * 0.5 / total**0.5  # four standard deviations of a fair coin


def test_random_signs_come_from_a_generator_of_their_own():
    def train(seed):
        torch.manual_seed(seed)
        method = reptile(*pair(), outer_direction="random")
        torch.manual_seed(seed)
        method.signs.generator.manual_seed(seed)
        position = torch.get_rng_state()
        for batch in batches(2):
            method.step(batch)
        assert torch.equal(torch.get_rng_state(), position)  # without dropout nothing is drawn from torch's
        return method.teacher

    first = train(1)
    assert_same(first, train(1), 0.0)
    assert moved(first, train(2))


def test_encoder_scope_moves_layers_alone():
    student, teacher = pair()
    before = copy.deepcopy(teacher)
    method = reptile(student, teacher, outer_scope="encoder")
    for batch in batches(2):
        method.step(batch)
    layers = {name.split(".")[3] for name in moved(teacher, before) if name.startswith("bert.encoder.layer.")}
    assert layers == {"1", "3"}
    assert all(name.startswith("bert.encoder.layer.") for name in moved(teacher, before))


def test_sgd_steps_by_a_share_of_the_way_and_slows_down():
    student, teacher = pair()
    options = {"outer_optimizer": "sgd", "outer_step_size": 0.5, "total_steps": 2, "student_lr": 0.0}
    method = reptile(student, teacher, weight_decay=0.0, **options)
    distances = [method.distance()]
    for batch in batches(3):
        method.step(batch)
        distances.append(method.distance())
    # The target stays: 1 → ½ → ¾ of that (ε has fallen to ¼) → the schedule is over.
    assert distances == pytest.approx([1.0, 0.5, 0.375, 0.375], rel=1e-9)


def test_more_inner_steps_go_further():
    walked = []
    for steps in (1, 2, 4):
        method = reptile(*pair(), inner_steps=steps)
        before = [p.detach().clone() for p in method.student_parameters]
        micro_batch = next(batches(1))
        method.look_ahead(method.micro_batches(micro_batch), RngState(method.student))
        pairs = zip(method.ahead.values(), before, strict=True)
        walked.append(sum(float((a - b).abs().sum()) for a, b in pairs))
    assert 1.5 * walked[0] < walked[1]
    assert 1.5 * walked[1] < walked[2]


def test_inner_steps_replay_the_dropout_mask_of_the_student():
    """With equal masks, no inner learning rate and no movement of the teacher, all forward passes agree."""
    student, teacher = pair(dropout=0.3)
    method = reptile(student, teacher, teacher_lr=0.0, inner_steps=3)
    method.inner_lr = 0.0
    method.settings["weight_decay"] = 0.0
    seen = []
    objective = method.objective
    method.objective = lambda z_s, z_t, y: (seen.append(z_s.detach().clone()), objective(z_s, z_t, y))[1]
    for batch in batches(2):
        method.step(batch)
    assert len(seen) == 8
    assert all(torch.equal(z, seen[0]) for z in seen[:4])
    assert all(torch.equal(z, seen[4]) for z in seen[4:])


def recorded_pulls(method):
    """A list that every outer update adds its pseudo-gradients to."""
    found = []
    outer_update = method.outer_update

    def recording():
        found.extend(p.grad.clone() for p in method.mapped)
        outer_update()

    method.outer_update = recording
    return found


def test_quiz_batches_move_the_teacher_and_not_the_student():
    student, teacher = pair()
    before = copy.deepcopy(teacher)
    quiz = reptile(copy.deepcopy(student), copy.deepcopy(teacher), inner_batch="quiz", teacher_lr=0.0)
    plain = reptile(student, teacher, teacher_lr=0.0)
    pulls = {quiz: recorded_pulls(quiz), plain: recorded_pulls(plain)}
    for batch in batches(3):
        quiz.step(batch)
        plain.step(batch)
    assert quiz.quiz.position == 3
    assert_same(quiz.student, student, 1e-12)
    assert_same(quiz.teacher, before, 1e-12)
    differ = [not torch.equal(a, b) for a, b in zip(pulls[quiz], pulls[plain], strict=True)]
    assert any(differ)


@pytest.mark.parametrize("control", CONTROLS, ids=IDS)
def test_gradient_accumulation_changes_nothing(control):
    methods = []
    for parts in (1, 3):
        torch.manual_seed(5)  # the random signs
        methods.append(reptile(*pair(), gradient_accumulation=parts, **control))
    for batch in batches(2):
        whole, split = (method.step(batch) for method in methods)
        assert split == pytest.approx(whole, abs=1e-9)
    assert_same(methods[0].student, methods[1].student, 1e-9)
    # AdamW twice over blows up the rounding of a gradient that is zero, a key's bias.
    assert_same(methods[0].teacher, methods[1].teacher, 1e-7)


@pytest.mark.parametrize("control", CONTROLS, ids=IDS)
def test_state_restores_exactly(control):
    seeds = iter((7, 8))  # of the signs: the second method must take over the first one's generator

    def make():
        method = reptile(*pair(), **control)
        if method.signs is not None:
            method.signs.generator.manual_seed(next(seeds))
        return method

    restores_exactly(make, list(batches(4)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"outer_target": "inner"},
            "outer_target: found 'inner'; expected 'look-ahead', 'step', 'student' or 'initial'",
        ),
        ({"outer_direction": "up"}, "outer_direction: found 'up'; expected 'pseudo-gradient' or 'random'"),
        ({"outer_scope": "none"}, "outer_scope: found 'none'; expected 'all' or 'encoder'"),
        ({"inner_batch": "dev"}, "inner_batch: found 'dev'; expected 'same' or 'quiz'"),
        ({"outer_optimizer": "adam"}, "outer_optimizer: found 'adam'; expected 'adamw' or 'sgd'"),
        ({"inner_steps": 0}, "inner_steps: found 0; expected a whole number from 1"),
        (
            {"inner_steps": 2, "outer_target": "student"},
            "inner_steps: found 2; expected its default, as outer_target 'student'",
        ),
        (
            {"inner_batch": "quiz", "outer_target": "initial"},
            "inner_batch: found 'quiz'; expected its default, as outer_target",
        ),
        ({"inner_batch": "quiz", "quiz": None}, "quiz: found none with inner_batch 'quiz'; expected quiz batches"),
        ({"quiz": Questions()}, "quiz: found one with inner_batch 'same'; expected quiz batches"),
        ({"outer_optimizer": "sgd", "outer_step_size": 0.0}, "outer_step_size: found 0.0; expected a number above 0"),
        ({"outer_optimizer": "sgd", "outer_step_size": 1.1}, "outer_step_size: found 1.1; expected a number above 0"),
        (
            {"outer_scope": "encoder", "layer_map": LayerMap.from_strategy([[], []], 2, 4)},
            "outer_scope: found 'encoder' with a layer_map that maps no layer; expected a mapped layer",
        ),
    ],
)
def test_errors(options, message):
    with pytest.raises(RkdError) as error:
        reptile(*pair(), **options)
    assert str(error.value).startswith(message)
