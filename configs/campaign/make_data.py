"""Write the data of the campaign: small training sets, and test sets that no choice depends on, as JSON Lines.

    python configs/campaign/make_data.py GLUE_DIR INTENTS_DIR [OUT_DIR]

GLUE_DIR has the official TSV files, INTENTS_DIR the CSV files banking77/{train,test}.csv (columns text, category) and
clinc150/{train,dev,test}.csv (text, intent). The parts are drawn at random with a fixed seed: they are always the
same. A task's dev part scores every epoch. Models are compared on its test part: the official test set of the intent
tasks, the official dev set of STS-B, whose test labels are not public, and other training rows of QQP.
"""

import csv
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

Rows = list[dict[str, str]]


def read_csv(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_tsv(path: Path) -> Rows:
    """Read a file of GLUE, in which a quotation mark is a character like any other."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        header, *lines = (line.rstrip("\r\n").split("\t") for line in file)
    return [dict(zip(header, line, strict=True)) for line in lines]


def split_by_class(rows: Rows, label: str, *counts: int) -> list[Rows]:
    """Draw a number of rows of each class for each part; no row is in two parts."""
    classes = defaultdict(list)
    for number, row in enumerate(rows):
        classes[row[label]].append(number)
    rng = random.Random(0)
    parts: list[list[int]] = [[] for _ in counts]
    for numbers in classes.values():
        rng.shuffle(numbers)
        for part, count in zip(parts, counts, strict=True):
            part.extend(numbers[:count])
            del numbers[:count]
    return [[rows[number] for number in sorted(part)] for part in parts]


def split(rows: Rows, *counts: int) -> list[Rows]:
    """Draw a number of rows for each part; no row is in two parts."""
    numbers = random.Random(0).sample(range(len(rows)), sum(counts))
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    return [[rows[n] for n in sorted(numbers[end - count : end])] for end, count in zip(ends, counts, strict=True)]


def write(folder: Path, name: str, parts: Iterable[tuple[str, Rows]], columns: tuple[str, ...]) -> None:
    for part, rows in parts:
        lines = [json.dumps({column: row[column] for column in columns}, ensure_ascii=False) for row in rows]
        (folder / f"{name}-{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{folder / name}-{part}.jsonl: {len(rows)} rows")


def main() -> None:
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    glue, intents = map(Path, sys.argv[1:3])
    out = Path(sys.argv[3] if len(sys.argv) == 4 else "data/campaign")
    out.mkdir(parents=True, exist_ok=True)

    train, dev = split_by_class(read_csv(intents / "banking77/train.csv"), "category", 20, 5)
    parts = (("train", train), ("dev", dev), ("test", read_csv(intents / "banking77/test.csv")))
    write(out, "banking77", parts, ("text", "category"))

    (train,) = split_by_class(read_csv(intents / "clinc150/train.csv"), "intent", 10)
    (dev,) = split_by_class(read_csv(intents / "clinc150/dev.csv"), "intent", 5)
    parts = (("train", train), ("dev", dev), ("test", read_csv(intents / "clinc150/test.csv")))
    write(out, "clinc150", parts, ("text", "intent"))

    train, dev = split(read_tsv(glue / "STS-B/train.tsv"), 1000, 500)
    parts = (("train", train), ("dev", dev), ("test", read_tsv(glue / "STS-B/dev.tsv")))
    write(out, "stsb", parts, ("sentence1", "sentence2", "score"))

    (file,) = glue.glob("QQP/train*.tsv")
    train, dev, test = split(read_tsv(file), 1000, 500, 5000)
    write(out, "qqp", (("train", train), ("dev", dev), ("test", test)), ("question1", "question2", "is_duplicate"))


if __name__ == "__main__":
    main()
