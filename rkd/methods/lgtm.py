"""LGTM (Ren et al., ACL 2023): the teacher favours what helps its student on held-out examples."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rkd.errors import RkdError
from rkd.methods.base import Batch, LossAverager, RngState
from rkd.methods.functional import add_gradients, logits_at
from rkd.methods.online import OnlineKD
from rkd.models.hidden_states import config_of
from rkd.models.unpadded import logits

# ε · ‖v‖: length of the finite-difference step, as in the authors' code.
REACH = 0.01


class LGTM(OnlineKD):
    """LGTM: three updates per batch. L is the objective of `KD`, L_T that of `OnlineKD`.

    1. Pilot: θ'_S ← AdamW(θ_S, ∇_{θ_S} L(x, y; θ_S, θ_T)) from a copy of the student's live optimizer state, then
       v = ∇ L_task(x_q, y_q; θ'_S) on a held-out batch.
    2. Teacher: θ_T ← AdamW(θ_T, ∇_{θ_T} L_T(θ_S) − w · g), w the `influence_weight`, with the influence
       g = [∇_{θ_T} L_T(θ_S + εv) − ∇_{θ_T} L_T(θ_S − εv)] / 2ε and ε = 0.01 / ‖v‖, all on (x, y).
    3. Student: θ_S ← AdamW(θ_S, ∇_{θ_S} L(x, y; θ_S, θ_T)) with the updated teacher. The pilot is discarded.

    This tests whether the student's held-out loss is a useful training signal for the teacher. w = 0 is ProKT,
    `OnlineKD` bit for bit. In the authors' code w is the teacher's current learning rate, at most 3e-5. The influence
    is then negligible beside ∇L_T. `step` returns w·‖g‖ / ‖∇L_T‖ as `influence`.

    Only the KL term of L_T depends on the student, and θ_T enters it only through z_T. The finite difference is
    therefore taken on the loss: one backward pass of the teacher instead of two, without loss of digits.

    Deliberate differences from the authors' code: held-out batches come from the training data (theirs come from dev,
    which also selects the epoch); the pilot's gradient is clipped like that of the student's real step; the teacher
    has no dropout. As in their code, the student has no dropout at θ_S ± εv. Updates 1 and 3 share one dropout mask.

    Args:
        quiz: endless iterator over held-out batches; see `rkd.training.holdout.QuizBatches`.
        teacher_lr: peak learning rate of the teacher's AdamW; 3e-5 in the authors' code.
        follow_weight: λ of L_T, above 0 and at most 1; 0.4 in the authors' code.
        influence_weight: w, "lr" for the teacher's current learning rate, or a number from 0.
        **settings: see `KD` and `Method`; α = 1 and T = 1 in the authors' code.

    Raises:
        RkdError: a weight out of range, or an L_T that does not depend on the student.

    Example:
        >>> method = LGTM(student, teacher, quiz=quiz, student_lr=5e-5, teacher_lr=3e-5, total_steps=1000)
        >>> method.step(batch)
        {'teacher': 0.1, 'quiz': 0.6, 'influence': 0.0002, 'loss': 1.2, 'task': 0.7, 'kd': 1.7}
    """

    options = (
        "alpha",
        "temperature",
        "regression_kd",
        "teacher_lr",
        "follow_weight",
        "influence_weight",
        "quiz_fraction",
    )
    positive = ("follow_weight",)
    passes = (5, 3, 4, 2)

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        quiz: Iterator[Batch],
        follow_weight: float = 0.4,
        influence_weight: float | str = "lr",
        **settings: Any,
    ) -> None:
        super().__init__(student, teacher, follow_weight=follow_weight, **settings)
        if follow_weight == 0:
            raise RkdError(
                "follow_weight: found 0; expected a number above 0: the influence in lgtm is that of the student on "
                "this part of the teacher's loss (0.4 in the paper's code)"
            )
        if influence_weight != "lr" and (isinstance(influence_weight, str) or not 0 <= influence_weight < torch.inf):
            raise RkdError(f"influence_weight: found {influence_weight!r}; expected 'lr' or a number from 0")
        if self.regression_kd == "none" and config_of(student).num_labels == 1:
            raise RkdError(
                "regression_kd: found 'none'; expected 'mse': without it the teacher's loss in lgtm does not depend on "
                "the student"
            )
        self.quiz = quiz
        self.influence_weight = influence_weight
        self.teacher_parameters = [p for p in teacher.parameters() if p.requires_grad]

    def teacher_update(self, batch: Batch) -> LossAverager:
        """Take updates 1 and 2."""
        if self.influence_weight == 0:
            return super().teacher_update(batch)
        micro_batches = self.micro_batches(batch)
        replay = RngState(self.student)

        # 1. Pilot update, and the pilot's gradient v on a held-out batch.
        pilot, student_logits = self.pilot(micro_batches)
        quiz_losses, v = self.quiz_gradient(pilot)
        epsilon = REACH / _norm(list(v.values())).clamp(min=torch.finfo(torch.float32).tiny)
        shifted = [self.shifted_logits(pilot, v, shift, micro_batches) for shift in (epsilon, -epsilon)]

        # 2. Teacher update: ∇L_T − w · g.
        losses = LossAverager()
        gradient: list[Tensor | None] = [None] * len(self.teacher_parameters)
        influence = gradient
        for (micro_batch, weight), z_s, plus, minus in zip(micro_batches, student_logits, *shifted, strict=True):
            z_t = self.ask_teacher(micro_batch)
            loss = self.teacher_objective(z_t, z_s, micro_batch["labels"])
            change = self.follow_weight * (self.follow_loss(z_t, plus) - self.follow_loss(z_t, minus)) / (2 * epsilon)
            losses.add(weight, teacher=loss)
            gradient = add_gradients(gradient, weight * loss, self.teacher_parameters, retain_graph=True)
            influence = add_gradients(influence, weight * change, self.teacher_parameters)
        w = self.current_influence_weight()
        for parameter, theirs, g in zip(self.teacher_parameters, gradient, influence, strict=True):
            parameter.grad = theirs if theirs is None or g is None else theirs - w * g
        self.teacher_optimizer.step()
        replay.restore()
        size = _norm(gradient)
        ratio = (w * _norm(influence) / size).where(size != 0, 0)
        return losses | quiz_losses | {"influence": ratio}

    def pilot(self, micro_batches: list[tuple[Batch, float]]) -> tuple[nn.Module, list[Tensor]]:
        """Return θ'_S as a copy of the student, and z_S of each micro-batch."""
        # Copied together, so that the optimizer refers to the copy's parameters.
        pilot, adamw = copy.deepcopy((self.student, self.student_optimizer.adamw))
        student_logits = []
        for micro_batch, weight in micro_batches:
            z_s = logits(pilot, micro_batch)
            loss, _, _ = self.objective(z_s, self.teacher_logits(micro_batch), micro_batch["labels"])
            (weight * loss).backward()
            student_logits.append(z_s.detach())
        nn.utils.clip_grad_norm_(pilot.parameters(), self.settings["max_grad_norm"])
        adamw.step()
        adamw.zero_grad()
        return pilot, student_logits

    def quiz_gradient(self, pilot: nn.Module) -> tuple[LossAverager, dict[str, Tensor]]:
        """Return L_task of the pilot on the next held-out batch and v, its gradient by parameter name."""
        losses = LossAverager()
        for questions, weight in self.micro_batches(next(self.quiz)):
            loss = self.task_loss(logits(pilot, questions), questions["labels"])
            (weight * loss).backward()
            losses.add(weight, quiz=loss)
        return losses, {name: p.grad for name, p in pilot.named_parameters() if p.grad is not None}

    @torch.no_grad()
    def shifted_logits(
        self, pilot: nn.Module, v: dict[str, Tensor], shift: Tensor, micro_batches: list[tuple[Batch, float]]
    ) -> list[Tensor]:
        """Compute the student's logits of each micro-batch at θ_S + shift · v, without dropout.

        Args:
            pilot: a copy of the student that may be put into eval mode.
        """
        ours = dict(self.student.named_parameters())
        moved = {name: p if name not in v else p + shift * v[name] for name, p in ours.items()}
        # In bfloat16 the small shift would be lost to rounding.
        with torch.autocast(shift.device.type, enabled=False):
            return [logits_at(pilot.eval(), moved, micro_batch) for micro_batch, _ in micro_batches]

    def current_influence_weight(self) -> float:
        """Return the value of w at this step."""
        if isinstance(self.influence_weight, str):
            return float(self.teacher_optimizer.adamw.param_groups[0]["lr"])
        return self.influence_weight


def _norm(tensors: list[Any]) -> Tensor:
    """Return the Euclidean norm of the concatenated tensors; None counts as empty."""
    return torch.stack(torch._foreach_norm([tensor for tensor in tensors if tensor is not None])).norm()
