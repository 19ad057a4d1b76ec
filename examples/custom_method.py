"""A method of your own, registered from outside: distillation whose soft term fades while the student learns."""

from pathlib import Path
from typing import Any

import pandas as pd

import rkd
from rkd.methods import KD, register
from rkd.methods.base import Batch


class FadingKD(KD):
    """KD whose α falls linearly from its first value to `last_alpha` at the last step."""

    def __init__(self, *models: Any, last_alpha: float = 0.0, **settings: Any) -> None:
        super().__init__(*models, **settings)
        self.first_alpha, self.last_alpha = self.alpha, last_alpha
        self.steps, self.total_steps = 0, settings["total_steps"]

    def step(self, batch: Batch) -> dict[str, float]:
        share = self.steps / max(1, self.total_steps - 1)
        self.alpha = (1 - share) * self.first_alpha + share * self.last_alpha
        self.steps += 1
        return {**super().step(batch), "alpha": self.alpha}


register("fading-kd", FadingKD)

MODELS = Path(__file__).resolve().parent.parent / "configs" / "models"
words = {"praise": ("great", "charming", "clever"), "blame": ("dull", "boring", "clumsy")}
rows = [(f"a {word} film, part {n}", label) for label in words for word in words[label] for n in range(20)]

result = rkd.distill(
    pd.DataFrame(rows, columns=["review", "mood"]),
    teacher=f"{MODELS}/bert-4x128.json",
    student=f"{MODELS}/bert-2x128.json",
    text="review",
    label="mood",
    method="fading-kd",
    options={"alpha": 0.9, "last_alpha": 0.1},
    finetune_teacher=True,
    epochs=2,
    learning_rate=1e-3,
    batch_size=16,
    vocab_size=200,
)
for evaluation in result.history:
    print("epoch", evaluation["epoch"], "dev", evaluation["primary_score"], evaluation["train"])
