"""Published GLUE dev scores of BERT-base teachers and their 6-layer students, each with its source.

`literature.csv` contains more numbers than any table shows. Its columns are method, split, student_layers, params_m,
task, metric, value (points) and source. `ENTRIES` selects one dev row per method and adds a note.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

from rkd.tasks import Task

PAIR_MEAN = "mean of the task's metrics"
UNSTATED = "metric not stated"
FILES = ("rkd/report/tables/literature.csv",)

_METRICS = {
    "mcc": ("validation", "matthews_correlation"),
    "acc": ("validation", "accuracy"),
    "f1": ("validation", "f1"),
    "pearson": ("validation", "pearson"),
    "spearman": ("validation", "spearmanr"),
    "acc_m": ("validation_matched", "accuracy"),
    "acc_mm": ("validation_mismatched", "accuracy"),
    "mean_f1_acc": ("", PAIR_MEAN),
    "mean_pearson_spearman": ("", PAIR_MEAN),
    "acc_mean_m_mm": ("", PAIR_MEAN),
    "unspecified": ("", UNSTATED),
    "acc_unspecified": ("", UNSTATED),
    "corr_unspecified": ("", UNSTATED),
}


@dataclass(frozen=True)
class Entry:
    """A method from the literature: its key in the CSV, printed name, number of runs, and a note."""

    method: str  # in the CSV
    source: str  # prefix of its source in the CSV, because several sources list the same method
    label: str
    runs: str
    note: str


_THESEUS = "BERT-of-Theseus paper (arXiv 2002.02925) Table 2"
_THESEUS_NOTE = "BERT-of-Theseus paper (arXiv 2002.02925), Table 2; median of 5 runs; student: first 6 layers of BERT"
ENTRIES = (
    Entry(
        "BERT-base-cased FT (HF run_glue)",
        "huggingface/transformers examples/pytorch/text-classification",
        "BERT-base-cased, fine-tuned (12 layers)",
        "–",
        "README of transformers' run_glue.py; a typical teacher, not the teacher of any student below "
        "(ReptileDistil's teacher scores are not published)",
    ),
    Entry(
        "DistilBERT-base-uncased (HF)",
        "huggingface/transformers examples/research_projects/distillation",
        "DistilBERT",
        "–",
        "README of the authors' code, corrected runs of 2020-01-20; other papers list other numbers",
    ),
    Entry("Vanilla KD", _THESEUS, "Vanilla KD", "5", _THESEUS_NOTE),
    Entry("BERT-PKD (reproduced by Theseus authors)", _THESEUS, "PKD", "5", _THESEUS_NOTE),
    Entry("BERT-of-Theseus", _THESEUS, "BERT-of-Theseus", "5", _THESEUS_NOTE),
    Entry(
        "TinyBERT6 (w/o aug)",
        "MoEBERT paper",
        "TinyBERT6, no data augmentation",
        "–",
        "as listed in the MoEBERT paper, Table 1; TinyBERT's best-known row trains on augmented data",
    ),
    Entry(
        "MetaDistil (user reproduction)",
        "JetRunner/MetaDistil issue #5",
        "MetaDistil (reproduction)",
        "–",
        "a user's reproduction with the authors' code (JetRunner/MetaDistil, issue 5), not the paper's",
    ),
    Entry(
        "LGTM",
        "README of twinkle0331/LGTM",
        "LGTM",
        "–",
        "README of the authors' code, not verified; that code also trains on batches of dev, and F1 and accuracy of "
        "QQP may be swapped there",
    ),
    Entry(
        "CoFi 60 % sparse",
        "CoFiPruning README",
        "CoFi, 60 % sparse (12 pruned layers)",
        "–",
        "README of the authors' code, not verified: it does not state the split; pruning, 2.1 times faster",
    ),
    Entry(
        "ReptileDistil",
        "maxinge8698/ReptileDistil README.md",
        "ReptileDistil",
        "1",
        "README of the authors' code; seed 42, best epoch on dev",
    ),
)


class Number(NamedTuple):
    """A dev score from the literature. If the source gives one score for a task with several, `split` is ""."""

    split: str
    metric: str  # a metric's name, `PAIR_MEAN` or `UNSTATED`
    value: float  # points, not a fraction
    source: str


@cache
def _facts() -> tuple[dict[str, str], ...]:
    with resources.files(__package__).joinpath("literature.csv").open(encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def scores(entry: Entry, task: Task) -> list[Number]:
    """Return the dev numbers of one method on one task; an empty list if there are none, as for custom tasks.

    >>> from rkd.tasks import get
    >>> scores(ENTRIES[-1], get("cola"))[0].value
    54.8
    """
    return [
        Number(*_METRICS[fact["metric"]], float(fact["value"]), fact["source"])
        for fact in _facts()
        if not task.own
        and (fact["method"], fact["split"], fact["task"]) == (entry.method, "dev", task.title)
        and fact["source"].startswith(entry.source)
    ]
