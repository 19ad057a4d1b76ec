"""The base of all methods: the task loss, optimizer and schedule, exact gradient accumulation, saved state."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from rkd.models.outputs import gives_sets

Batch = dict[str, Tensor]


def task_loss(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    *,
    unlabelled: bool = False,
    multi_label: bool = False,
) -> Tensor:
    """Compute the cross-entropy (classification) or the mean squared error (regression), averaged over the batch.

    Args:
        logits: shape (batch, classes), or (batch, 1) for regression.
        labels: class ids, int64, or scores, floating point; shape (batch,).
        class_weights: w, shape (classes,): an example's cross-entropy is multiplied by w of its label. The mean is
            still over the number of examples, so that a batch is the mean of its micro-batches.
        unlabelled: True if labels may be missing, as -1 or NaN. Such examples add 0; the mean is still over all.
        multi_label: True if a text may have several labels. `labels` are then numbers of sets, see `rkd.label_sets`,
            and the loss is the binary cross-entropy of σ(z), averaged over the labels, too.

    Returns:
        A scalar: nats for classification, squared units of the score for regression.
    """
    if multi_label:
        targets = indicators(labels, logits.shape[-1]).to(logits.dtype)
        if not unlabelled:
            return F.binary_cross_entropy_with_logits(logits, targets)
        known = (labels >= 0)[:, None]
        return F.binary_cross_entropy_with_logits(logits.where(known, 0), targets, known.to(logits.dtype))
    if unlabelled:
        return _sum_over_labelled(logits, labels, class_weights) / len(labels)
    if labels.is_floating_point():
        return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
    if class_weights is None:
        return F.cross_entropy(logits, labels)
    return F.cross_entropy(logits, labels, class_weights.to(logits.dtype), reduction="sum") / len(labels)


def indicators(sets: Tensor, labels: int) -> Tensor:
    """Return which labels are in some sets: 0 or 1, int64, shape (sets, labels).

    Args:
        sets: their numbers, int64, shape (sets,); see `rkd.label_sets`.
        labels: the number of labels.

    >>> indicators(torch.tensor([5, 0]), 3).tolist()
    [[1, 0, 1], [0, 0, 0]]
    """
    return (sets[:, None] >> torch.arange(labels, device=sets.device)) & 1


def _sum_over_labelled(logits: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
    if labels.is_floating_point():
        errors = (labels - logits.squeeze(-1)).to(logits.dtype)
        return errors.where(~labels.isnan(), 0).square().sum()
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    return F.cross_entropy(logits, labels, weights, ignore_index=-1, reduction="sum")


def linear_schedule(optimizer: torch.optim.Optimizer, total_steps: int, warmup_steps: int) -> LambdaLR:
    """Return a linear warm-up over `warmup_steps`, followed by a linear decay to 0 at `total_steps`."""

    def linear(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))

    return LambdaLR(optimizer, linear)


class Optimizer:
    """AdamW with gradient clipping by global norm and a linear learning-rate schedule.

    The learning rate warms up from 0 over `warmup_steps`, then decays linearly to 0 at `total_steps`.

    Args:
        model: the module that the parameters belong to; biases and LayerNorm weights get no weight decay.
        parameters: the parameters of `model` to update. All others stay unchanged.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        max_grad_norm: float,
        adam_epsilon: float,
        total_steps: int,
        warmup_steps: int,
    ) -> None:
        self.parameters = list(parameters)
        self.max_grad_norm = max_grad_norm
        exempt = no_decay(model)
        groups = [
            {"params": [p for p in self.parameters if p not in exempt], "weight_decay": weight_decay},
            {"params": [p for p in self.parameters if p in exempt], "weight_decay": 0.0},
        ]
        self.adamw = AdamW([g for g in groups if g["params"]], lr=lr, eps=adam_epsilon, fused=True)
        self.schedule = linear_schedule(self.adamw, total_steps, warmup_steps)

    def step(self) -> None:
        """Clip the gradients, update the parameters, advance the schedule and drop the gradients."""
        nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.adamw.step()
        self.schedule.step()
        self.adamw.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {"adamw": self.adamw.state_dict(), "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adamw.load_state_dict(state["adamw"])
        self.schedule.load_state_dict(state["schedule"])


class Method(ABC):
    """Base class of the training methods; subclasses define `step`.

    Attributes:
        student: the model to train, updated in place. The caller sets its train or eval mode.
        teacher: the model that the student learns from, always in eval mode, or None.

    A subclass declares its requirements as class attributes. They must be literals, because `rkd.methods.facts` reads
    them from the source.

    Attributes:
        options: names of the config's distillation options that the constructor takes as keyword arguments. The
            exception is `quiz_fraction`: this fraction of the training data is held out, and the constructor takes
            its batches as `quiz`.
        read_with: options that are read only if another option has a given value, as (option, other, value).
        needs_teacher: True if the constructor takes a teacher after the student.
        positive: options that must be above 0, although 0 is valid for other methods.
        trains_teacher: True if `step` changes the teacher.
        logits_only: True if nothing but the teacher's logits is read. Unless the method trains it, several teachers
            can then take its place.
        same_width: reason why student and teacher must have the same width, as the end of an error message; empty if
            widths may differ.
        one_to_one: True if `layer_map` must give each student layer exactly one teacher layer.
        unmatched_layers: number of last student layers that are not compared with a teacher layer.
        passes: cost of a step for forecasts, as numbers of passes over one batch: (student forward, student backward,
            teacher forward, teacher backward).

    Args:
        student_lr: peak learning rate of the student's AdamW.
        weight_decay: decoupled weight decay of every optimizer; biases and LayerNorm weights are exempt.
        max_grad_norm: maximum global norm; gradients are clipped to it.
        total_steps: number of calls of `step` until the linear decay of the learning rates reaches 0.
        warmup_steps: number of steps of linear warm-up.
        gradient_accumulation: number of micro-batches per batch, to save memory. The update equals that of the whole
            batch: each micro-batch's mean loss is weighted by its fraction of the examples.
        class_weights: weight of each class in `task_loss`, shape (classes,); None weights all examples equally.
        unlabelled: True if some examples have no label, see `task_loss`.
    """

    options: ClassVar[tuple[str, ...]] = ()
    read_with: ClassVar[tuple[tuple[str, str, Any], ...]] = ()
    needs_teacher: ClassVar[bool] = True
    positive: ClassVar[tuple[str, ...]] = ()
    trains_teacher: ClassVar[bool] = False
    logits_only: ClassVar[bool] = False
    same_width: ClassVar[str] = ""
    one_to_one: ClassVar[bool] = False
    unmatched_layers: ClassVar[int] = 0
    passes: ClassVar[tuple[int, int, int, int] | None] = None

    teacher: nn.Module | None = None

    def __init__(
        self,
        student: nn.Module,
        *,
        student_lr: float,
        total_steps: int,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        warmup_steps: int = 0,
        adam_epsilon: float = 1e-8,
        gradient_accumulation: int = 1,
        class_weights: Tensor | None = None,
        unlabelled: bool = False,
    ) -> None:
        self.student = student
        self.class_weights = class_weights
        self.unlabelled = unlabelled
        self.gradient_accumulation = gradient_accumulation
        self.settings: dict[str, Any] = {
            "weight_decay": weight_decay,
            "max_grad_norm": max_grad_norm,
            "adam_epsilon": adam_epsilon,
            "total_steps": total_steps,
            "warmup_steps": warmup_steps,
        }
        self.student_optimizer = Optimizer(student, student.parameters(), lr=student_lr, **self.settings)

    @classmethod
    def needs_quiz(cls, options: Mapping[str, Any]) -> bool:
        """Return True if a method with these options takes a `quiz`: batches that its student is not trained on."""
        met = (options.get(other) == value for option, other, value in cls.read_with if option == "quiz_fraction")
        return "quiz_fraction" in cls.options and all(met)

    @abstractmethod
    def step(self, batch: Batch) -> Mapping[str, float]:
        """Train on one batch.

        Args:
            batch: `input_ids`, `attention_mask` and optionally `token_type_ids`, shape (batch, length); `labels`, shape
                (batch,); optionally `row`, shape (batch,): a stable example id; leave it out if the text was augmented;
                optionally `lengths`, shape (batch,), see `rkd.models.unpadded.logits`; optionally `soft_labels`, shape
                (batch, classes), see `rkd.methods.kd`; optionally the inputs of a teacher with another tokenizer, see
                `as_teacher_reads`. `row` and `lengths` are on the CPU, the others on the device of the models.

        Returns:
            Terms of the loss by name, at least `loss`; means over the batch before the update.
        """

    @property
    def trains_classifier(self) -> bool:
        """False during steps that prepare the student and leave its classifier untrained."""
        return True

    def task_loss(self, z: Tensor, labels: Tensor) -> Tensor:
        """Compute L_task, see `task_loss`, with the method's class weights."""
        return task_loss(
            z, labels, self.class_weights, unlabelled=self.unlabelled, multi_label=gives_sets(self.student)
        )

    def micro_batches(self, batch: Batch) -> list[tuple[Batch, float]]:
        """Split a batch into (micro-batch, weight) for gradient accumulation; weights are fractions of examples."""
        size = len(batch["labels"])
        parts = min(self.gradient_accumulation, size)
        bounds = [size * i // parts for i in range(parts + 1)]
        return [
            ({name: tensor[start:end] for name, tensor in batch.items()}, (end - start) / size)
            for start, end in pairwise(bounds)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, except the states of the random generators."""
        return {name: part.state_dict() for name, part in self._stateful()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, part in self._stateful():
            part.load_state_dict(state[name])

    def _stateful(self) -> Iterator[tuple[str, Any]]:
        for name, part in vars(self).items():
            frozen = name == "teacher" and not self.trains_teacher
            if hasattr(part, "load_state_dict") and not frozen:
                yield name, part


def as_teacher_reads(batch: Batch) -> Batch:
    """Return the inputs of a batch for the teacher: those named `teacher_…`, if it has a tokenizer of its own.

    >>> sorted(as_teacher_reads({"input_ids": ids, "teacher_input_ids": other, "teacher_attention_mask": mask}))
    ['attention_mask', 'input_ids']
    """
    if "teacher_input_ids" not in batch:
        return batch
    prefix = "teacher_"
    return {name.removeprefix(prefix): tensor for name, tensor in batch.items() if name.startswith(prefix)}


def no_decay(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters exempt from weight decay: every bias and every LayerNorm weight."""
    norms = {p for module in model.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()}
    return norms | {p for name, p in model.named_parameters() if name.endswith("bias")}


class RngState:
    """A saved state of the random generators, to replay the same dropout masks."""

    def __init__(self, model: nn.Module) -> None:
        self.device = next(model.parameters()).device
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None

    def restore(self) -> None:
        """Reset the generators to the saved state."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)


class LossAverager(MutableMapping[str, float]):
    """Weighted sums of named losses over the micro-batches of a batch.

    The losses stay on their device until they are read, so that a step does not wait for a GPU.

    Args:
        parts: losses to begin with.

    >>> losses = LossAverager()
    >>> losses.add(0.5, loss=torch.tensor(1.0))
    >>> losses.add(0.5, loss=torch.tensor(2.0))
    >>> dict(losses)
    {'loss': 1.5}
    """

    def __init__(self, *parts: Mapping[str, float | Tensor]) -> None:
        self._sums: dict[str, float | Tensor] = {}
        for part in parts:
            self._sums.update(part._sums if isinstance(part, LossAverager) else part)

    def add(self, weight: float, **losses: float | Tensor) -> None:
        """Add `weight` times each loss, a scalar, to its sum."""
        for name, loss in losses.items():
            part = weight * (loss.detach().double() if isinstance(loss, Tensor) else loss)
            self._sums[name] = self._sums[name] + part if name in self._sums else part

    def __getitem__(self, name: str) -> float:
        return float(self._sums[name])

    def __setitem__(self, name: str, loss: float | Tensor) -> None:
        self._sums[name] = loss

    def __delitem__(self, name: str) -> None:
        del self._sums[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)

    def __or__(self, other: Mapping[str, float | Tensor]) -> "LossAverager":
        return LossAverager(self, other)

    def __ror__(self, other: Mapping[str, float | Tensor]) -> "LossAverager":
        return LossAverager(other, self)

    def __repr__(self) -> str:
        return repr(dict(self))


@torch.no_grad()
def first_adamw_step(
    parameters: list[nn.Parameter],
    gradients: list[Tensor | None],
    exempt: set[nn.Parameter],
    out: list[Tensor],
    *,
    lr: float,
    weight_decay: float,
    max_grad_norm: float,
    epsilon: float,
) -> None:
    """Compute the result of a first AdamW step, after clipping, without applying it.

    From zero state both bias-corrected moments equal the gradient's own, so the step is
    θ·(1 − lr·wd) − lr·g / (|g| + ε) (Loshchilov and Hutter, 2019, with t = 1): no optimizer state is needed.

    Args:
        parameters: θ.
        gradients: g, one per parameter and of its shape; None leaves the parameter unchanged, as AdamW does.
        exempt: parameters without weight decay.
        out: tensors for the result, one per parameter and of its shape; may be the gradients themselves.
    """
    given = [g for g in gradients if g is not None]
    norm = torch.stack(torch._foreach_norm(given)).norm()
    scale = (max_grad_norm / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
    for parameter, gradient, result in zip(parameters, gradients, out, strict=True):
        if gradient is None:
            result.copy_(parameter)
            continue
        kept = 1.0 if parameter in exempt else 1.0 - lr * weight_decay
        for p, g, r in blocks(parameter, gradient, result):
            size = torch.abs(g).mul_(scale).add_(epsilon)
            torch.div(g, size, out=r).mul_(-lr * scale).add_(p, alpha=kept)


# Elements per chunk; several chunks fit into the cache of a CPU core.
BLOCK = 1 << 17


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield chunks of some tensors of one shape, so that several passes over each chunk stay in the cache.

    On a GPU, or if a tensor is not contiguous, the tensors are yielded whole.
    """
    if tensors[0].device.type != "cpu" or not all(tensor.is_contiguous() for tensor in tensors):
        yield tensors
    else:
        yield from zip(*(tensor.view(-1).split(BLOCK) for tensor in tensors), strict=True)
