"""MetaDistil (Zhou et al., ACL 2022): the teacher learns from its student's loss on a quiz batch."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rkd.errors import RkdError
from rkd.methods.base import Batch, LossAverager, Optimizer, RngState
from rkd.methods.functional import add_gradients, logits_and_slope, logits_at
from rkd.methods.kd import KD
from rkd.models.unpadded import logits

MicroBatches = list[tuple[Batch, float]]


class MetaDistil(KD):
    """MetaDistil: three updates per batch (Zhou et al., 2022, algorithm 1). L is the objective of `KD`.

    1. Pilot: θ'_S(θ_T) = θ_S − λ · ∇_{θ_S} L(x, y; θ_S, θ_T), an SGD step.
    2. Teacher: θ_T ← AdamW(θ_T, ∇_{θ_T} L_task(x_q, y_q; θ'_S(θ_T))) on a quiz batch, differentiated through
       the pilot's gradient.
    3. Student: θ_S ← AdamW(θ_S, ∇ L(x, y; θ_S, θ_T)) with the updated teacher. The pilot is discarded.

    The derivative of update 2 is of second order, but needs no graph of a gradient. Let v = ∇L_task(x_q, y_q; θ'_S) and
    let J be the Jacobian of z_S with respect to θ_S. Then, exactly,

        ∇_{θ_T} L_task(θ'_S) = −λ · ∇_{θ_T} ⟨J·v, ∂L/∂z_S(z_S, z_T)⟩   with z_S, J and v held fixed:

    This holds because θ_T enters the pilot's gradient only through z_T, and z_T and θ_S interact only in the loss. J·v
    takes one forward-mode pass.

    The pilot's gradient is not clipped. The passes for z_S and J·v share one dropout mask and use unfused attention.
    The student's passes on the quiz batch and in update 3 draw their own masks. The teacher has no dropout.

    λ scales the teacher's gradient. With λ = 5e-5 its entries are not large compared with AdamW's ε, so the teacher
    moves less than `teacher_lr` suggests. The authors' code does the same.

    Deliberate differences from the authors' code: no PKD term in L; one quiz batch per step (theirs, by default, the
    whole held-out set); the quiz comes from the training data (theirs from the dev set "for simplicity"); no graph of
    the pilot's gradient (theirs uses `create_graph=True`).

    Args:
        quiz: endless iterator over batches that the student is not trained on, such as
            `rkd.training.holdout.QuizBatches`. If it has `state_dict` and `load_state_dict`, its position is part of
            the method's state.
        teacher_lr: μ, peak learning rate of the teacher's AdamW; 1e-5 in the authors' code.
        pilot_lr: λ > 0; 5e-5, the student's learning rate, in the authors' code.
        **settings: see `KD` and `Method`; α 0.5 and T 5 are the defaults of the authors' code as well.

    Example:
        >>> method = MetaDistil(student, teacher, quiz=quiz, student_lr=5e-5, total_steps=1000)
        >>> method.step(batch)
        {'quiz': 0.6, 'loss': 1.2, 'task': 0.7, 'kd': 1.7}
    """

    options = ("alpha", "temperature", "regression_kd", "teacher_lr", "pilot_lr", "quiz_fraction")
    trains_teacher = True
    passes = (3, 5, 3, 2)  # approximate: second derivatives do not count in whole passes

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        quiz: Iterator[Batch],
        teacher_lr: float = 1e-5,
        pilot_lr: float = 5e-5,
        **settings: Any,
    ) -> None:
        super().__init__(student, teacher, **settings)
        if not pilot_lr > 0:
            raise RkdError(f"pilot_lr: found {pilot_lr}; expected a number above 0")
        self.quiz = quiz
        self.pilot_lr = pilot_lr
        self.student_parameters = {name: p for name, p in student.named_parameters() if p.requires_grad}
        self.teacher_parameters = [p for p in teacher.parameters() if p.requires_grad]
        self.teacher_optimizer = Optimizer(teacher, self.teacher_parameters, lr=teacher_lr, **self.settings)

    def step(self, batch: Batch) -> LossAverager:
        # 1. and 2. Pilot and teacher update: the gradient of the pilot's quiz loss.
        quiz_losses, gradients = self.teacher_gradient(batch)
        for parameter, gradient in zip(self.teacher_parameters, gradients, strict=True):
            parameter.grad = gradient
        self.teacher_optimizer.step()

        # 3. Student update: the step of KD with the updated teacher's logits.
        return quiz_losses | super().step(batch)

    def teacher_gradient(self, batch: Batch) -> tuple[LossAverager, list[Tensor | None]]:
        """Return the pilot's loss on the next quiz batch, and its gradient with respect to the teacher's parameters."""
        micro_batches, replay = self.micro_batches(batch), RngState(self.student)
        # With several micro-batches, keeping every graph would undo what gradient accumulation saves.
        keep_graph = len(micro_batches) == 1
        with torch.set_grad_enabled(keep_graph):
            answers = [self.ask_teacher(micro_batch) for micro_batch, _ in micro_batches]
        quiz_losses, v = self.quiz_gradient(self.pilot(micro_batches, answers))
        after = RngState(self.student)
        replay.restore()
        gradients: list[Tensor | None] = [None] * len(self.teacher_parameters)
        for (micro_batch, weight), answer in zip(micro_batches, answers, strict=True):
            z_s, along_v = logits_and_slope(self.student, v, micro_batch)
            z_t = answer if keep_graph else self.ask_teacher(micro_batch)
            loss, _, _ = self.objective(z_s.requires_grad_(), z_t, micro_batch["labels"])
            (by_z_s,) = torch.autograd.grad(loss, z_s, create_graph=True)
            product = -self.pilot_lr * weight * (along_v * by_z_s).sum()
            gradients = add_gradients(gradients, product, self.teacher_parameters)
        after.restore()
        return quiz_losses, gradients

    def pilot(self, micro_batches: MicroBatches, answers: list[Tensor]) -> dict[str, Tensor]:
        """Return θ'_S by parameter name, as leaves of a new graph.

        Args:
            answers: z_T of each micro-batch.
        """
        parameters = list(self.student_parameters.values())
        gradients: list[Tensor | None] = [None] * len(parameters)
        for (micro_batch, weight), z_t in zip(micro_batches, answers, strict=True):
            with sdpa_kernel(SDPBackend.MATH):
                z_s = logits(self.student, micro_batch)
            loss, _, _ = self.objective(z_s, z_t.detach(), micro_batch["labels"])
            gradients = add_gradients(gradients, weight * loss, parameters)
        with torch.no_grad():
            moved = [p if g is None else p - self.pilot_lr * g for p, g in zip(parameters, gradients, strict=True)]
        return {name: p.detach().requires_grad_() for name, p in zip(self.student_parameters, moved, strict=True)}

    def quiz_gradient(self, pilot: dict[str, Tensor]) -> tuple[LossAverager, dict[str, Tensor]]:
        """Return L_task of the pilot on the next quiz batch and v, its gradient by parameter name."""
        losses, parameters = LossAverager(), list(pilot.values())
        gradients: list[Tensor | None] = [None] * len(parameters)
        for questions, weight in self.micro_batches(next(self.quiz)):
            loss = self.task_loss(logits_at(self.student, pilot, questions), questions["labels"])
            gradients = add_gradients(gradients, weight * loss, parameters)
            losses.add(weight, quiz=loss)
        return losses, {name: g for name, g in zip(pilot, gradients, strict=True) if g is not None}
