"""MetaDistil (Zhou et al., ACL 2022): the teacher learns from how well its student does on a quiz."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rkd.errors import RkdError
from rkd.methods.base import Batch, Optimizer
from rkd.methods.finetune import task_loss
from rkd.methods.functional import logits_at
from rkd.methods.kd import KD
from rkd.models.unpadded import logits


class MetaDistil(KD):
    """Three updates per batch, with L the objective of `KD` (Zhou et al., 2022, algorithm 1):

    1. Pilot: θ'_S(θ_T) = θ_S − λ · ∇_{θ_S} L(x, y; θ_S, θ_T), an SGD step that stays differentiable in θ_T.
    2. Teacher: θ_T ← AdamW(θ_T, ∇_{θ_T} L_task(x_q, y_q; θ'_S(θ_T))) on a quiz batch, which differentiates through
       the pilot's gradient: a second-order derivative.
    3. Student: θ_S ← AdamW(θ_S, ∇ L(x, y; θ_S, θ_T)) with the updated teacher. The pilot is thrown away.

    The pilot's gradient is not clipped. Its forward pass runs with unfused attention, as fused kernels have no second
    derivative. The student's forward passes draw dropout masks of their own each; the teacher has none. The pilot's
    whole batch is in memory at once, whatever `gradient_accumulation` says.

    As λ scales the teacher's gradient, λ = 5e-5 leaves entries that are not large against AdamW's ε: the teacher then
    moves less than `teacher_lr` says. That is so in the authors' code too.

    Different from the authors' code, on purpose: no PKD term in L; one quiz batch per step (there, by default, the
    whole held-out set); the quiz comes from the training data (there, from the dev set "for simplicity").

    Args:
        quiz: endless iterator over batches that the student does not train on, such as
            `rkd.training.holdout.QuizBatches`.
            With `state_dict` and `load_state_dict`, its position is saved in the method's state.
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
    passes = (3, 5, 3, 2)  # approximate, as the second derivatives are no whole passes

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

    def step(self, batch: Batch) -> dict[str, float]:
        # 1. Pilot update: where would the student go, as a function of the teacher?
        pilot = self.pilot(batch)

        # 2. Teacher update: what would have made the pilot better at the quiz?
        questions = next(self.quiz)
        quiz_loss = task_loss(logits_at(self.student, pilot, questions), questions["labels"])
        gradients = torch.autograd.grad(quiz_loss, self.teacher_parameters, allow_unused=True)
        for parameter, gradient in zip(self.teacher_parameters, gradients, strict=True):
            parameter.grad = gradient
        self.teacher_optimizer.step()

        # 3. Student update: the step of KD with the updated teacher's logits.
        return {"quiz": float(quiz_loss.detach()), **super().step(batch)}

    def pilot(self, batch: Batch) -> dict[str, Tensor]:
        """θ'_S by parameter name, with a graph that leads back to the teacher's parameters."""
        with sdpa_kernel(SDPBackend.MATH):
            z_s = logits(self.student, batch)
        loss, _, _ = self.objective(z_s, logits(self.teacher, batch), batch["labels"])
        parameters = self.student_parameters
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True, allow_unused=True)
        return {
            name: p if g is None else p - self.pilot_lr * g
            for (name, p), g in zip(parameters.items(), gradients, strict=True)
        }
