"""Predictions of a model, their scores, and statistics of soft labels."""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from rkd.metrics import scores as metrics
from rkd.models.unpadded import logits, to_device
from rkd.tasks import Task, primary_score
from rkd.training.batches import Split, on_device

BATCH_SIZE = 128


@torch.no_grad()
def predict(model: Any, split: Split, device: torch.device) -> Tensor:
    """Compute the logits of a split in file order: float32 on the CPU, shape (rows, classes).

    The model is in eval mode during prediction; its previous mode is restored.
    """
    training = model.training
    model.eval()
    result: Tensor | None = None
    for rows in split.by_length(BATCH_SIZE):
        part = logits(model, on_device(split.batch(rows), device)).float()
        result = part.new_empty(len(split), part.shape[1]) if result is None else result
        result[to_device(rows, device)] = part
    model.train(training)
    if result is None:
        return torch.empty(0, model.config.num_labels)
    return result.cpu()


def decide(task: Task, z: Tensor) -> np.ndarray:
    """Turn logits (rows, classes) into class ids, scores for regression, or numbers of sets; float64, shape (rows,).

    With several labels per text, a set holds the labels whose probability σ(z) is above one half.
    """
    if task.multi_label:
        chosen = ((z > 0).long() << torch.arange(z.shape[1])).sum(dim=1)
        return chosen.double().numpy()
    chosen = z.squeeze(-1) if task.regression else z.argmax(dim=-1)
    return chosen.double().numpy()


def scores(task: Task, z: dict[str, Tensor], splits: dict[str, Split]) -> dict[str, dict[str, float]]:
    """Compute the metrics of the dev splits from logits by split."""
    return {name: metrics.compute(task, decide(task, z[name]), splits[name].labels.numpy()) for name in task.dev_splits}


def dev_primary_score(task: Task, dev: dict[str, dict[str, float]]) -> float:
    """Return the score by which models of the task are ranked, from `scores`; NaN if undefined."""
    return primary_score(task, dev[task.primary_split])


def predictions_frame(task: Task, z: dict[str, Tensor], splits: dict[str, Split]) -> pd.DataFrame:
    """Collect predictions and logits in one table, for predictions.parquet and logits.parquet.

    Returns:
        Columns split, idx, label (NaN where unknown), prediction (class id or score), logit_0 … logit_{classes−1}.
    """
    frames = []
    for name, part in z.items():
        labels = splits[name].labels.double().numpy()
        if not task.regression:
            labels = np.where(labels < 0, np.nan, labels)
        frame = pd.DataFrame({"split": name, "idx": splits[name].idx.numpy(), "label": labels})
        frame["prediction"] = decide(task, part)
        logit = pd.DataFrame(part.numpy(), columns=[f"logit_{column}" for column in range(part.shape[1])])
        frames.append(pd.concat([frame, logit], axis=1))
    return pd.concat(frames, ignore_index=True)


def near_chance(task: Task, z: Tensor, labels: Tensor) -> str:
    """Return why predictions are no better than chance, within sampling error; empty if they are better.

    A classifier is near chance if its accuracy is not above that of always answering with the most frequent class
    (one-sided test at 5 %), a regression if its correlation is not above 0. With several labels per text a classifier
    is near chance if its logits, less the mean of each label, do not correlate with the labels. Whole sets would not
    tell: if few texts have a label, always answering none of them is hard to beat.

    Args:
        task: the task.
        z: logits, shape (rows, classes).
        labels: of the same rows, shape (rows,).
    """
    if task.multi_label:
        answers = (labels[:, None] >> torch.arange(z.shape[1])) & 1
        ours, theirs = (part - part.mean(dim=0) for part in (z.double(), answers.double()))
        size = float(ours.norm() * theirs.norm())
        together = float((ours * theirs).sum()) / size if size else 0.0
        # The labels of a text depend on each other, so that only texts count.
        return "" if together > 1.645 / math.sqrt(len(z)) else f"correlation of logits and labels {together:.2f}"
    found, truth = decide(task, z), labels.double().numpy()
    if task.regression:
        correlation = 0.0 if found.std() == 0 or truth.std() == 0 else float(np.corrcoef(found, truth)[0, 1])
        return "" if correlation > 1.645 / math.sqrt(len(truth)) else f"correlation {correlation:.2f}"
    accuracy, majority = float((found == truth).mean()), np.unique(truth, return_counts=True)[1].max() / len(truth)
    if accuracy > majority + 1.645 * math.sqrt(majority * (1 - majority) / len(truth)):
        return ""
    return f"accuracy {100 * accuracy:.1f}, always the most frequent class {100 * majority:.1f}"


def soft_label_statistics(
    z_s: Tensor, z_t: Tensor, temperature: float, *, multi_label: bool = False
) -> dict[str, float]:
    """Compute the student's distance from the soft labels, and their entropy.

    Args:
        z_s, z_t: student and teacher logits, shape (rows, classes).
        temperature: T, applied to both.
        multi_label: whether a text may have several labels.

    Returns:
        `kl`, mean KL(softmax(z_T / T) ‖ softmax(z_S / T)), and `entropy`, mean entropy of softmax(z_T / T); both in
        nats, NaN for regression. With several labels per text those of the Bernoulli distributions of σ(z / T),
        averaged over the labels.
    """
    if multi_label:
        s, t = z_s.double() / temperature, z_t.double() / temperature
        cross, entropy = (F.binary_cross_entropy_with_logits(each, t.sigmoid()) for each in (s, t))
        return {"kl": float(cross - entropy), "entropy": float(entropy)}
    if z_t.shape[1] == 1:
        return {"kl": float("nan"), "entropy": float("nan")}
    log_p_t = F.log_softmax(z_t.double() / temperature, dim=-1)
    log_p_s = F.log_softmax(z_s.double() / temperature, dim=-1)
    kl = F.kl_div(log_p_s, log_p_t, reduction="batchmean", log_target=True)
    entropy = -(log_p_t.exp() * log_p_t).sum(dim=-1).mean()
    return {"kl": float(kl), "entropy": float(entropy)}
