"""Small distillations of the library: their tables, settings and calls."""

import random

import pandas as pd

import rkd
from tests.helpers import ROOT

MODELS = ROOT / "configs" / "models"
TINY = {
    "teacher": str(MODELS / "bert-4x128.json"),
    "student": str(MODELS / "bert-2x128.json"),
    "text": "text",
    "label": "mood",
    "method": "kd",
    "finetune_teacher": {"learning_rate": 5e-4},
    "epochs": 1,
    "learning_rate": 1e-3,
    "batch_size": 16,
    "vocab_size": 200,
    "device": "cpu",
    "threads": 1,
}
TEXTS = ["a good film", "bad", "the film is so bad and so is the text", "it was good", "so good", "is it bad"] * 4
FRAME = pd.DataFrame({"text": TEXTS, "label": ["bad" if "bad" in text else "good" for text in TEXTS]})
QUICK = {"label": "label", "epochs": 1, "batch_size": 8, "max_length": 16, "device": "cpu", "threads": 1}


def reviews(rows=96, seed=0) -> pd.DataFrame:
    rng = random.Random(seed)
    moods = [rng.choice(["bad", "good"]) for _ in range(rows)]
    return pd.DataFrame({"text": [f"a {mood} film, part {n % 7}" for n, mood in enumerate(moods)], "mood": moods})


def distil(teacher, student=None, **fields):
    return rkd.distill(
        FRAME, teacher=teacher, student=student or teacher, **{"text": "text", "method": "kd", **QUICK, **fields}
    )
