"""Texts of which each may have several labels: their task, tables and distillations."""

import random

import pandas as pd

import rkd
from rkd.tasks import define, get
from tests.helpers.distillation import TINY

LABELS = ["anger", "good", "sadness"]
ENTRY = {"text": ["text"], "label": "tags", "labels": LABELS, "test": None, "title": "t", "multi_label": True}
ENTRY |= {"label_separator": ";", "metrics": ["micro_f1", "macro_f1", "accuracy"], "primary_metrics": ["micro_f1"]}
TASK = get("feelings", define(ENTRY))


def feelings(rows=120, seed=0, lists=False) -> pd.DataFrame:
    rng = random.Random(seed)
    texts, tags = [], []
    for _ in range(rows):
        chosen = [name for name in LABELS if rng.random() < 0.4]
        texts.append(" ".join(f"{'much' if name in chosen else 'no'} {name}" for name in LABELS))
        tags.append(chosen if lists else "; ".join(chosen))
    return pd.DataFrame({"text": texts, "tags": tags})


def distil(data, **fields):
    settings = {**TINY, "label": "tags", "multi_label": True, "epochs": 4, "labels": LABELS, "dev": feelings(60, 7)}
    return rkd.distill(data, **{**settings, **fields})


def columns(rows=120, seed=0) -> pd.DataFrame:
    """Return the rows of `feelings` with a column for each label."""
    frame = feelings(rows, seed, lists=True)
    for name in LABELS:
        frame[name] = [int(name in tags) for tags in frame["tags"]]
    return frame.drop(columns="tags")
