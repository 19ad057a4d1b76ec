"""A literal Reptile-KD step, without any optimisation.

It is the reference of the tests and the baseline of the benchmarks. Every batch takes a deep copy of the student, a new
AdamW, two student forward passes, and the classifier's own padded forward pass.
"""

import copy
import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = dict[str, Tensor]


def decay_groups(model: nn.Module, weight_decay: float, names: set[str] | None = None) -> list[dict]:
    """Return AdamW groups of the named parameters (default: all), without decay on biases and LayerNorm weights."""
    chosen = [(n, p) for n, p in model.named_parameters() if names is None or n in names]
    exempt = re.compile(r"bias$|layer_?norm", re.IGNORECASE)
    return [
        {"params": [p for n, p in chosen if not exempt.search(n)], "weight_decay": weight_decay},
        {"params": [p for n, p in chosen if exempt.search(n)], "weight_decay": 0.0},
    ]


def teacher_names(name: str, strategy: str, n: int, m: int) -> list[str]:
    """Return the teacher parameters that a student parameter is mapped to, by the four layer maps."""
    match = re.search(r"\.layer\.(\d+)\.", name)
    if not match:
        return [name]
    i, r = int(match[1]), m // n
    layers = {
        "first": [i],
        "last": [m - n + i],
        "skip": [r * i + r - 1],
        "both": [r * i + j for j in range(r)],
    }
    return [name.replace(match[0], f".layer.{j}.") for j in layers[strategy]]


class LiteralReptileKD:
    """The three updates of Reptile-KD on Hugging Face classifiers, for classification and (as MSE) regression."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        strategy: str,
        alpha: float,
        temperature: float,
        student_lr: float,
        teacher_lr: float,
        weight_decay: float,
        max_grad_norm: float,
        total_steps: int,
    ) -> None:
        self.student, self.teacher = student, teacher.eval()
        self.alpha, self.temperature = alpha, temperature
        self.student_lr, self.weight_decay, self.max_grad_norm = student_lr, weight_decay, max_grad_norm
        n, m = student.config.num_hidden_layers, teacher.config.num_hidden_layers
        self.targets = {name: teacher_names(name, strategy, n, m) for name, _ in student.named_parameters()}
        mapped = {name for names in self.targets.values() for name in names}
        self.student_optimizer = torch.optim.AdamW(decay_groups(student, weight_decay), lr=student_lr, eps=1e-8)
        self.teacher_optimizer = torch.optim.AdamW(decay_groups(teacher, weight_decay, mapped), lr=teacher_lr, eps=1e-8)
        self.mapped = mapped
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1.0 - step / total_steps))
            for optimizer in (self.student_optimizer, self.teacher_optimizer)
        ]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Compute L(x, y; θ, θ_T) of the model on the batch, with the current teacher."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        z_s = model(**inputs).logits
        with torch.no_grad():
            z_t = self.teacher(**inputs).logits
        if z_s.shape[1] == 1:
            task, soft = F.mse_loss(z_s.squeeze(1), batch["labels"]), F.mse_loss(z_s, z_t)
        else:
            task = F.cross_entropy(z_s, batch["labels"])
            p_t = torch.softmax(z_t / self.temperature, dim=1)
            log_ratio = torch.log_softmax(z_t / self.temperature, 1) - torch.log_softmax(z_s / self.temperature, 1)
            soft = self.temperature**2 * (p_t * log_ratio).sum() / len(z_s)
        return (1 - self.alpha) * task + self.alpha * soft

    def step(self, batch: Batch) -> None:
        """One batch: inner, meta and student update."""
        # 1. Inner update of a copy.
        ahead = copy.deepcopy(self.student)
        inner = torch.optim.AdamW(decay_groups(ahead, self.weight_decay), lr=self.student_lr, eps=1e-8)
        inner.zero_grad()
        self.loss(ahead, batch).backward()
        nn.utils.clip_grad_norm_(ahead.parameters(), self.max_grad_norm)
        inner.step()

        # 2. Outer update of the teacher.
        theirs = dict(self.teacher.named_parameters())
        for name, parameter in ahead.named_parameters():
            for target in self.targets[name]:
                theirs[target].grad = theirs[target].detach() - parameter.detach()
        nn.utils.clip_grad_norm_([theirs[name] for name in self.mapped], self.max_grad_norm)
        self.teacher_optimizer.step()
        self.teacher_optimizer.zero_grad()

        # 3. Student update with the updated teacher.
        self.student_optimizer.zero_grad()
        self.loss(self.student, batch).backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), self.max_grad_norm)
        self.student_optimizer.step()
        for schedule in self.schedules:
            schedule.step()
