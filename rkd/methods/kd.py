"""Knowledge distillation from a frozen teacher (Hinton et al., 2015), and the objective that other methods share."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from rkd.errors import RkdError
from rkd.losses import kd_loss, multi_label_kd_loss, regression_kd_loss
from rkd.methods.base import Batch, LossAverager, Method, as_teacher_reads
from rkd.models.outputs import gives_sets
from rkd.models.unpadded import logits, to_device


class KD(Method):
    """Minimise L = (1 − α) · L_task(z_S, y) + α · T² · KL(softmax(z_T / T) ‖ softmax(z_S / T)).

    Args:
        student, teacher: sequence classifiers with the same labels; the teacher is put into eval mode and stays there.
            Without one (None), each batch brings z_T as `soft_labels`: log-probabilities, or scores, shape (batch,
            classes). An example whose row is NaN has none and adds 0 to the soft term.
        alpha: α in [0, 1], weight of the soft term. 0 equals fine-tuning bit for bit, because the soft term is left
        out. temperature: T > 0.
        regression_kd: the soft term of tasks with one output: "mse", the squared difference of the scores, or "none".
            The latter reproduces the original code of Reptile-KD, in which the term vanishes.
        **settings: see `Method`.

    Example:
        >>> method = KD(student, teacher, alpha=0.5, temperature=5.0, student_lr=5e-5, total_steps=1000)
        >>> method.step(batch)
        {'loss': 1.2, 'task': 0.7, 'kd': 1.7}
    """

    options: ClassVar[tuple[str, ...]] = ("alpha", "temperature", "regression_kd")
    logits_only = True
    passes = (1, 1, 1, 0)  # from the second epoch on, the teacher's logits are cached

    teacher: nn.Module

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        *,
        alpha: float = 0.5,
        temperature: float = 5.0,
        regression_kd: str = "mse",
        **settings: Any,
    ) -> None:
        super().__init__(student, **settings)
        if not 0 <= alpha <= 1:
            raise RkdError(f"alpha: found {alpha}; expected a number from 0 to 1")
        if not temperature > 0:
            raise RkdError(f"temperature: found {temperature}; expected a number above 0")
        if regression_kd not in ("mse", "none"):
            raise RkdError(f"regression_kd: found {regression_kd!r}; expected 'mse' or 'none'")
        self.some_without = teacher is None  # some examples may have no soft labels
        if teacher is not None:
            self.teacher = teacher.eval()
        self.alpha = alpha
        self.temperature = temperature
        self.regression_kd = regression_kd
        self.known_logits = LogitCache()

    @torch.no_grad()
    def teacher_logits(self, batch: Batch) -> Tensor:
        """Return z_T, shape (batch, classes), without autograd; cached if the teacher is frozen and `row` is given."""
        if "soft_labels" in batch:
            return batch["soft_labels"]
        if self.trains_teacher or "row" not in batch:
            return self.ask_teacher(batch)
        device = next(self.student.parameters()).device
        return self.known_logits.of(batch["row"], device, lambda: self.ask_teacher(batch))

    def ask_teacher(self, batch: Batch) -> Tensor:
        """Compute z_T, shape (batch, classes), from the batch as the teacher's tokenizer wrote it."""
        return logits(self.teacher, as_teacher_reads(batch))

    def soft_loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the distillation loss: `kd_loss`, `multi_label_kd_loss`, or `regression_kd_loss` for one output."""
        if self.some_without:  # an example without soft labels adds 0
            known = ~teacher_logits.isnan().any(dim=-1, keepdim=True)
            student_logits, teacher_logits = student_logits.where(known, 0), teacher_logits.where(known, 0)
        if gives_sets(self.student):
            return multi_label_kd_loss(student_logits, teacher_logits, self.temperature)
        if student_logits.shape[-1] > 1:
            return kd_loss(student_logits, teacher_logits, self.temperature)
        if self.regression_kd == "mse":
            return regression_kd_loss(student_logits, teacher_logits)
        return student_logits.new_zeros(())

    def objective(self, z_s: Tensor, z_t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the scalars L, L_task and the soft term."""
        task, soft = self.task_loss(z_s, labels), self.soft_loss(z_s, z_t)
        if self.alpha == 0:
            return task, task, soft
        return (1 - self.alpha) * task + self.alpha * soft, task, soft

    def step(self, batch: Batch) -> LossAverager:
        losses = LossAverager()
        for micro_batch, weight in self.micro_batches(batch):
            z_s, z_t = logits(self.student, micro_batch), self.teacher_logits(micro_batch)
            loss, task, soft = self.objective(z_s, z_t, micro_batch["labels"])
            (weight * loss).backward()
            losses.add(weight, loss=loss, task=task, kd=soft)
        self.student_optimizer.step()
        return losses


class LogitCache:
    """Logits by training example, each computed once.

    They are saved in checkpoints, because recomputing them in other batches would change their rounding.
    """

    def __init__(self) -> None:
        self.logits = torch.empty(0, 1)  # (rows, classes), NaN in rows that are not cached yet
        self.cached = np.zeros(0, bool)  # by row; on the CPU, so that reading it does not wait for a GPU

    def of(self, rows: Tensor, device: torch.device, compute: Callable[[], Tensor]) -> Tensor:
        """Return the logits of a batch, shape (batch, classes); compute them if a row is new.

        Args:
            rows: the examples' row numbers, int64, shape (batch,); on the CPU, to read them without waiting.
            device: where the logits are computed, kept and returned.
            compute: returns the logits of the whole batch, shape (batch, classes).

        >>> known, cpu = LogitCache(), torch.device("cpu")
        >>> z = known.of(torch.tensor([2, 0]), cpu, lambda: torch.tensor([[1.0, 5.0], [3.0, 4.0]]))
        >>> known.of(torch.tensor([0, 2]), cpu, compute=lambda: None)  # both are cached
        tensor([[3., 4.],
                [1., 5.]])
        """
        numbers, index = rows.cpu().numpy(), to_device(rows, device)
        size = int(numbers.max()) + 1
        if size <= len(self.cached) and self.cached[numbers].all():
            self.logits = self.logits.to(device)  # a checkpoint has them on the CPU
            return self.logits[index]
        z = compute()
        if size > len(self.cached):
            before, self.logits = self.logits, z.new_full((size, z.shape[-1]), torch.nan)
            self.logits[: len(before)] = before.to(device)
            self.cached = np.pad(self.cached, (0, size - len(self.cached)))
        self.logits = self.logits.to(device)
        self.logits[index], self.cached[numbers] = z, True
        return z

    def state_dict(self) -> dict[str, Tensor]:
        return {"logits": self.logits}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.logits = state["logits"]
        self.cached = (~self.logits.isnan().any(dim=-1)).cpu().numpy()
