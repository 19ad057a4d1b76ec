"""TinyBERT's task distillation (Jiao et al., Findings of EMNLP 2020), without data augmentation."""

from typing import Any

import torch
from torch import Tensor, nn

from rkd.errors import RkdError
from rkd.layer_map import LayerMap
from rkd.losses import attention_score_loss, hidden_state_loss, soft_binary_cross_entropy, soft_cross_entropy
from rkd.methods.base import Batch, LossAverager, Optimizer
from rkd.methods.kd import KD
from rkd.models.hidden_states import States, all_states, config_of
from rkd.models.outputs import gives_sets
from rkd.models.unpadded import logits


class TinyBERT(KD):
    """TinyBERT's two stages, one after the other. The labels are never read.

    1. Intermediate layers: minimise
       w_E · MSE(E_S·W, E_T) + Σ_i [ w_H · MSE(H_S^i·W, H_T^map(i)) + w_A · MSE(A_S^i, A_T^map(i)) ],
       E the embeddings, H the hidden states and A the attention scores before the softmax (equations 7, 8 and 9).
    2. Predictions: minimise the soft cross-entropy −Σ softmax(z_T) · log softmax(z_S), temperature 1 (equation 10).

    Each stage has its own AdamW, warm-up and linear decay, as in the authors' code. The paper's uniform map is `skip`.
    If widths differ, W is learned with the student: one matrix for all layers, as in the authors' code. Terms are
    summed over layers, each a mean over the hidden size or over heads. All weights are 1 in the paper; other values
    test which part of the teacher's layers is worth learning.

    Deliberate differences from the authors' code: padded tokens are left out of every term (in theirs, scores of padded
    keys count as equal, padded queries and states count in full); on regression tasks, stage 2 minimises the squared
    difference from the teacher's scores (theirs uses the labels); both stages share one budget of steps and one
    learning rate (theirs takes 20 epochs at 5e-5, then 3 at 3e-5).

    Args:
        layer_map: one teacher layer for each student layer.
        intermediate_fraction: fraction of the steps in stage 1, in [0, 1). The default is ours; the paper's epochs give
            20 / 23.
        hidden_weight, attention_weight, embedding_weight: w_H, w_A and w_E, at least 0. With
            attention_weight 0, the numbers of heads may differ.
        **settings: see `Method`.

    Raises:
        RkdError: different numbers of attention heads, a student layer without exactly one teacher layer, a number out
            of range, or a stage 1 in which all weights are 0.

    Example:
        >>> layer_map = LayerMap.from_strategy("skip", student_layers=6, teacher_layers=12)
        >>> method = TinyBERT(student, teacher, layer_map=layer_map, student_lr=5e-5, total_steps=1000)
        >>> method.step(batch)
        {'loss': 4.1, 'embedding': 0.2, 'hidden': 1.9, 'attention': 2.0}
    """

    logits_only = False
    options = ("layer_map", "intermediate_fraction", "hidden_weight", "attention_weight", "embedding_weight")
    one_to_one = True

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        layer_map: LayerMap,
        student_lr: float,
        total_steps: int,
        warmup_steps: int = 0,
        intermediate_fraction: float = 0.5,
        hidden_weight: float = 1.0,
        attention_weight: float = 1.0,
        embedding_weight: float = 1.0,
        **settings: Any,
    ) -> None:
        if not 0 <= intermediate_fraction < 1:
            raise RkdError(f"intermediate_fraction: found {intermediate_fraction}; expected a number from 0 to below 1")
        weights = {"hidden": hidden_weight, "attention": attention_weight, "embedding": embedding_weight}
        for part, weight in weights.items():
            if not 0 <= weight < torch.inf:
                raise RkdError(f"{part}_weight: found {weight}; expected a number from 0")
        if intermediate_fraction and not any(weights.values()):
            raise RkdError(
                "hidden_weight, attention_weight and embedding_weight: found 0 for all; expected one above 0, or "
                "intermediate_fraction 0, as stage 1 would learn nothing"
            )
        heads = [config_of(model).num_attention_heads for model in (student, teacher)]
        if attention_weight and heads[0] != heads[1]:
            raise RkdError(
                f"tinybert: student and teacher have {heads[0]} and {heads[1]} attention heads; expected the same, as "
                "their attention scores are compared head by head"
            )
        first = min(round(intermediate_fraction * total_steps), total_steps - 1)
        stages = [(steps, warmup_steps * steps // total_steps) for steps in (first, total_steps - first)]
        super().__init__(
            student,
            teacher,
            alpha=1.0,
            temperature=1.0,
            student_lr=student_lr,
            total_steps=stages[1][0],
            warmup_steps=stages[1][1],
            **settings,
        )
        self.intermediate_steps, self.weights = first, weights
        self.teacher_layers = layer_map.one_to_one(range(layer_map.student_layers), "tinybert")
        self.projection = _projection(student, teacher)
        learners = nn.ModuleList([student, self.projection])
        stage = {**self.settings, "total_steps": stages[0][0], "warmup_steps": stages[0][1]}
        self.intermediate_optimizer = Optimizer(learners, learners.parameters(), lr=student_lr, **stage)

    @property
    def trains_classifier(self) -> bool:
        """False during stage 1."""
        taken = self.intermediate_optimizer.schedule.last_epoch  # number of steps taken
        return bool(taken >= self.intermediate_steps)

    def step(self, batch: Batch) -> LossAverager:
        return self.match_predictions(batch) if self.trains_classifier else self.match_layers(batch)

    def match_layers(self, batch: Batch) -> LossAverager:
        """Take one step of stage 1."""
        losses = LossAverager()
        for micro_batch, weight in self.micro_batches(batch):
            ours, theirs = all_states(self.student, micro_batch), self.teacher_states(micro_batch)
            mask = micro_batch["attention_mask"].to(ours.hidden[0].dtype)
            embedding = hidden_state_loss(self.projection(ours.hidden[0]), theirs.hidden[0], mask)
            hidden = attention = torch.zeros_like(embedding)
            for i, layer in enumerate(self.teacher_layers):
                projected = self.projection(ours.hidden[i + 1])
                hidden = hidden + hidden_state_loss(projected, theirs.hidden[layer + 1], mask)
                if self.weights["attention"]:
                    attention = attention + attention_score_loss(ours.scores[i], theirs.scores[layer], mask)
            parts = {"embedding": embedding, "hidden": hidden, "attention": attention}
            loss = sum((self.weights[name] * part for name, part in parts.items()), torch.zeros_like(embedding))
            (weight * loss).backward()
            losses.add(weight, loss=loss, **parts)
        self.intermediate_optimizer.step()
        return losses

    def match_predictions(self, batch: Batch) -> LossAverager:
        """Take one step of stage 2."""
        losses = LossAverager()
        for micro_batch, weight in self.micro_batches(batch):
            loss = self.soft_loss(logits(self.student, micro_batch), self.teacher_logits(micro_batch))
            (weight * loss).backward()
            losses.add(weight, loss=loss, kd=loss)
        self.student_optimizer.step()
        return losses

    def soft_loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the soft cross-entropy, or the squared difference of the scores for tasks with one output."""
        if gives_sets(self.student):
            return soft_binary_cross_entropy(student_logits, teacher_logits)
        if student_logits.shape[-1] > 1:
            return soft_cross_entropy(student_logits, teacher_logits)
        return super().soft_loss(student_logits, teacher_logits)

    @torch.no_grad()
    def teacher_states(self, batch: Batch) -> States:
        """Compute hidden states and attention scores of the teacher, without autograd."""
        return all_states(self.teacher, batch)


def _projection(student: nn.Module, teacher: nn.Module) -> nn.Module:
    """Create W, a learned matrix from the student's to the teacher's width; the identity if they are equal."""
    ours, theirs = (config_of(model).hidden_size for model in (student, teacher))
    if ours == theirs:
        return nn.Identity()
    parameter = next(student.parameters())
    return nn.Linear(ours, theirs, bias=False, device=parameter.device, dtype=parameter.dtype)
