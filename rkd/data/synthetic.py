"""Synthetic GLUE: generated sentences in the official TSV layout, to run the whole pipeline offline.

The same reader reads these files and the official ones. Scores on them have no meaning outside this program, and the
tables say that the data are synthetic. A few per cent of the labels are wrong on purpose, so no model can score 100.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from rkd import tasks
from rkd.data import grammar
from rkd.data.glue_dir import COLA_COLUMNS
from rkd.data.grammar import Example
from rkd.errors import RkdError

ROWS = (2000, 400, 400)
LABEL_NOISE = 0.03
SCORE_NOISE = 0.25  # standard deviation of STS-B scores, in points of 0–5


def write(folder: Path, task: str, rows: Sequence[int] = ROWS, seed: int = 0) -> None:
    """Write the files of `task` into `folder` in the layout of the official release.

    AX is written both with MNLI and as a task of its own. `rows` are the (train, dev, test) rows of each file. The same
    seed gives the same bytes. No text pair occurs in two splits. Raises `RkdError` when the grammar has fewer distinct
    examples than requested.

    >>> write(Path("synthetic"), "cola", rows=(100, 20, 20))
    """
    if len(rows) != 3 or min(rows) < 1:
        raise RkdError(f"rows: found {list(rows)}; expected three numbers of at least 1 (train, dev, test)")
    entry = tasks.get(task)
    train, dev, test = rows
    examples = _distinct(entry, random.Random(f"{task}-{seed}"))
    for split, (file, _) in entry.splits.items():
        count = train if split == "train" else dev if split in entry.dev_splits else test
        columns = _columns(entry, split)
        lines = [_line(entry, columns, idx, example) for idx, example in enumerate(islice(examples, count))]
        if columns != COLA_COLUMNS:  # the only files without a header
            lines.insert(0, "\t".join(columns))
        mark = "\ufeff" if "Quality" in columns else ""
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((mark + "".join(f"{line}\n" for line in lines)).encode())


def _distinct(task: tasks.Task, rng: random.Random) -> Iterator[Example]:
    """Yield distinct examples, in either order of the texts and without repeated texts; some labels are wrong."""
    generate = grammar.GENERATORS[task.name]
    seen: set[frozenset[str]] = set()
    wanted, misses = None, 0
    while misses < 1000:
        texts, label = generate(rng)
        if wanted not in (None, label):
            continue
        key = frozenset(texts)
        if key in seen or len(key) < len(texts):
            # Retry with the same label; otherwise classes with fewer sentences would become rare.
            wanted, misses = label, misses + 1
            continue
        wanted, misses = None, 0
        seen.add(key)
        if task.regression:
            label = min(5.0, max(0.0, rng.gauss(label, SCORE_NOISE)))
        elif rng.random() < LABEL_NOISE:
            label = (int(label) + rng.randrange(1, task.num_labels)) % task.num_labels
        yield tuple(text[0].upper() + text[1:] for text in texts), label
    raise RkdError(
        f"synthetic {task.name}: the grammar has only about {len(seen)} different examples; ask for fewer rows"
    )


def _columns(task: tasks.Task, split: str) -> list[str]:
    """Return the official columns of a split's file."""
    labelled = split not in task.test_splits
    if task.name == "cola" and labelled:
        return COLA_COLUMNS
    if task.name == "mrpc":
        return ["Quality" if labelled else "index", "#1 ID", "#2 ID", *task.text_columns]
    if task.name == "qqp":
        return ["id", "qid1", "qid2", *task.text_columns, "is_duplicate"] if labelled else ["id", *task.text_columns]
    columns = list(task.text_columns)
    if task.name == "stsb":
        columns = ["genre", "filename", "year", "old_index", "source1", "source2", *columns]
    if task.name == "mnli" and split != "ax":
        parses = [f"sentence{n}_{kind}" for kind in ("binary_parse", "parse") for n in (1, 2)]
        votes = 0 if not labelled else 1 if split == "train" else 5
        columns = ["promptID", "pairID", "genre", *parses, *columns, *(f"label{n + 1}" for n in range(votes))]
    if not (task.name == "sst2" and labelled):
        columns.insert(0, "index")
    return [*columns, task.label_column or ""] if labelled else columns


def _line(task: tasks.Task, columns: list[str], idx: int, example: Example) -> str:
    """Format one row; columns that we do not generate (genres, parses, …) stay empty."""
    texts, label = example
    cells = dict(zip(task.text_columns, texts, strict=True)) | {"index": str(idx), "id": str(idx)}
    if task.label_column in columns:
        cells[task.label_column] = f"{label:.3f}" if task.regression else task.file_labels[int(label)]
    return "\t".join(cells.get(column, "") for column in columns)
