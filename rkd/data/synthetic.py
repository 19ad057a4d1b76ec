"""Synthetic GLUE: sentences of our grammar as files in the official TSV layout, to run the whole chain offline.

They go through the same reader as the official files. The sentences are made up and their scores mean nothing beyond this
program: tables made from them say so. A few per cent of the labels are wrong on purpose, so that no model reaches 100.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from rkd import tasks
from rkd.data import grammar
from rkd.data.grammar import Example
from rkd.errors import RkdError

ROWS = (2000, 400, 400)
LABEL_NOISE = 0.03
SCORE_NOISE = 0.25  # standard deviation of STS-B scores, in points of 0–5


def write(folder: Path, task: str, rows: tuple[int, int, int] = ROWS, seed: int = 0) -> None:
    """Write the files of `task` into `folder` as the official release lays them out (AX with MNLI, and alone).

    `rows` are the (train, dev, test) rows of each file; the same seed gives the same bytes. No text of one split occurs
    in another. Raises `RkdError` when the grammar has not that many different sentences.

    >>> write(Path("synthetic"), "cola", rows=(100, 20, 20))
    """
    entry = tasks.get(task)
    if min(rows) < 1:
        raise RkdError(f"rows: found {rows}, expected three numbers of at least 1 (train, dev, test)")
    rng = random.Random(f"{task}-{seed}")
    stream = _distinct(task, grammar.GENERATORS[task], rng)
    for split in entry.splits:
        kind = "train" if split == "train" else "dev" if split in entry.dev_splits else "test"
        count = rows[("train", "dev", "test").index(kind)]
        examples = [next(stream) for _ in range(count)]
        path = folder / entry.splits[split].file
        path.parent.mkdir(parents=True, exist_ok=True)
        labelled = kind != "test"
        lines = [_line(entry, split, idx, example, labelled) for idx, example in enumerate(examples)]
        text = "".join(f"{line}\n" for line in [*_header(entry, split), *lines])
        mark = "\ufeff" if task == "mrpc" and labelled else ""
        path.write_bytes((mark + text).encode())


def _distinct(
    task: str, generate: Callable[[random.Random], Example], rng: random.Random
) -> Iterator[Example]:
    """Examples whose texts, as a whole and each way round, have not come before (nor twice the same text); some get a wrong label."""
    seen: set[frozenset[str]] = set()
    classes = tasks.get(task).num_labels
    misses = 0
    while True:
        texts, label = generate(rng)
        key = frozenset(texts)
        if key in seen or len(key) < len(texts):
            misses += 1
            if misses > 1000:
                raise RkdError(
                    f"synthetic {task}: the grammar has no more than about {len(seen)} different examples"
                )
            continue
        misses = 0
        seen.add(key)
        if isinstance(label, float):
            label = min(5.0, max(0.0, rng.gauss(label, SCORE_NOISE)))
        elif rng.random() < LABEL_NOISE:
            label = (label + rng.randrange(1, classes)) % classes
        yield tuple(text[0].upper() + text[1:] for text in texts), label


def _header(task: tasks.Task, split: str) -> list[str]:
    columns = _columns(task, split)
    return [] if task.name == "cola" and split not in task.test_splits else ["\t".join(columns)]


def _columns(task: tasks.Task, split: str) -> list[str]:
    labelled = split not in task.test_splits
    if task.name == "cola":
        return ["source", "is_acceptable", "original_mark", "sentence"] if labelled else ["index", "sentence"]
    if task.name == "sst2":
        return ["sentence", "label"] if labelled else ["index", "sentence"]
    if task.name == "mrpc":
        return ["Quality" if labelled else "index", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    if task.name == "qqp":
        return (
            ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
            if labelled
            else ["id", "question1", "question2"]
        )
    if task.name == "stsb":
        left = [
            "index",
            "genre",
            "filename",
            "year",
            "old_index",
            "source1",
            "source2",
            "sentence1",
            "sentence2",
        ]
        return left + ["score"] * labelled
    if task.name == "mnli" and split != "ax":
        left = ["index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"]
        left += ["sentence1_parse", "sentence2_parse", "sentence1", "sentence2"]
        votes = {"train": 1}.get(split, 5)
        return left + [f"label{vote}" for vote in range(1, votes + 1)] * labelled + ["gold_label"] * labelled
    return ["index", *task.text_columns] + ["label"] * labelled


def _line(task: tasks.Task, split: str, idx: int, example: Example, labelled: bool) -> str:
    texts, label = example
    cells = dict(zip(task.text_columns, texts, strict=True)) | {"index": str(idx), "id": str(idx)}
    if labelled:
        cells[task.label_column or ""] = f"{label:.3f}" if task.regression else task.file_labels[int(label)]
        cells["label1"] = cells[task.label_column or ""]
    return "\t".join(cells.get(column, "") for column in _columns(task, split))
