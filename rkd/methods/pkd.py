"""Patient knowledge distillation (Sun et al., EMNLP 2019): the student also imitates the teacher's layers."""

from typing import Any

import torch
from torch import Tensor, nn

from rkd.errors import RkdError
from rkd.layer_map import LayerMap
from rkd.losses import patience_loss
from rkd.methods.base import Batch, LossAverager
from rkd.methods.kd import KD
from rkd.models.hidden_states import cls_states, config_of, encoder_layers


class PKD(KD):
    """Patient KD: minimise L_KD + β · L_PT (Sun et al., 2019, equation 8).

    L_KD is the objective of `KD`, and

        L_PT = mean over student layers i = 1 … N−1 of MSE(h_i / ‖h_i‖₂, h_{map(i)} / ‖h_{map(i)}‖₂),

    h the [CLS] state after a layer. The last student layer is left out, because its [CLS] state feeds the logits. The
    paper's PKD-Skip is the map `skip`, its PKD-Last the map `last`.

    The squared error is averaged over batch, layers and hidden size, as in the authors' code (the paper sums over the
    hidden size). β refers to this convention.

    Args:
        layer_map: one teacher layer for each student layer except the last, which is ignored.
        beta: β ≥ 0. 500 is the authors' example command; the paper searched 10, 100, 500 and 1000.
        **settings: see `KD` and `Method`.

    Raises:
        RkdError: fewer than two student layers, a student layer without exactly one teacher layer, or different widths.

    Example:
        >>> layer_map = LayerMap.from_strategy("skip", student_layers=6, teacher_layers=12)
        >>> method = PKD(student, teacher, layer_map=layer_map, student_lr=5e-5, total_steps=1000)
        >>> method.step(batch)
        {'loss': 1.6, 'task': 0.7, 'kd': 1.7, 'patience': 0.0008}
    """

    logits_only = False
    options = ("alpha", "temperature", "regression_kd", "layer_map", "beta")
    same_width = "compares their hidden states"
    one_to_one = True
    unmatched_layers = 1

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        layer_map: LayerMap,
        beta: float = 500.0,
        **settings: Any,
    ) -> None:
        super().__init__(student, teacher, **settings)
        if not beta >= 0:
            raise RkdError(f"beta: found {beta}; expected a number from 0")
        widths = [config_of(model).hidden_size for model in (student, teacher)]
        if widths[0] != widths[1]:
            raise RkdError(
                f"pkd: hidden states of student and teacher are {widths[0]} and {widths[1]} wide; expected the same"
            )
        if len(encoder_layers(student)) < 2:
            raise RkdError("pkd: the student has 1 layer; expected at least 2, as its last layer is left out")
        self.beta = beta
        self.student_layers = list(range(layer_map.student_layers - 1))
        self.teacher_layers = layer_map.one_to_one(self.student_layers, "pkd")

    @torch.no_grad()
    def teacher_states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute z_T, and the [CLS] states of the mapped layers in the student's order."""
        ascending = sorted(self.teacher_layers)
        z_t, states = cls_states(self.teacher, batch, ascending)
        return z_t, states[[ascending.index(layer) for layer in self.teacher_layers]]

    def step(self, batch: Batch) -> LossAverager:
        losses = LossAverager()
        for micro_batch, weight in self.micro_batches(batch):
            z_s, student_states = cls_states(self.student, micro_batch, self.student_layers)
            z_t, teacher_states = self.teacher_states(micro_batch)
            kd_objective, task, soft = self.objective(z_s, z_t, micro_batch["labels"])
            patience = patience_loss(student_states, teacher_states)
            loss = kd_objective + self.beta * patience
            (weight * loss).backward()
            losses.add(weight, loss=loss, task=task, kd=soft, patience=patience)
        self.student_optimizer.step()
        return losses
