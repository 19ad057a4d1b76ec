"""MetaDistil's teacher gradient as in the paper, by a second-order graph of the pilot's gradient."""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from rkd.methods.base import LossAverager, task_loss
from rkd.methods.functional import logits_at
from rkd.methods.metadistil import MetaDistil
from rkd.models.unpadded import logits


class SecondOrderMetaDistil(MetaDistil):
    """`MetaDistil` with `create_graph=True` and without gradient accumulation."""

    def teacher_gradient(self, batch: dict[str, Tensor]) -> tuple[LossAverager, list[Tensor | None]]:
        with sdpa_kernel(SDPBackend.MATH):  # fused kernels have no second derivative
            z_s = logits(self.student, batch)
        loss, _, _ = self.objective(z_s, logits(self.teacher, batch), batch["labels"])
        ours = self.student_parameters
        gradients = torch.autograd.grad(loss, list(ours.values()), create_graph=True, allow_unused=True)
        pilot = {
            name: p if g is None else p - self.pilot_lr * g
            for (name, p), g in zip(ours.items(), gradients, strict=True)
        }
        questions = next(self.quiz)
        quiz_loss = task_loss(logits_at(self.student, pilot, questions), questions["labels"])
        found = torch.autograd.grad(quiz_loss, self.teacher_parameters, allow_unused=True)
        return LossAverager({"quiz": quiz_loss.detach()}), list(found)
