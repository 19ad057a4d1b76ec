"""The readers of the official GLUE folders and of the hub, and what they say about bad files."""

import math
from pathlib import Path

import numpy as np
import pytest

from rkd.data import load_raw
from rkd.data.files import _stratified
from rkd.data.glue_dir import read_split
from rkd.errors import RkdError
from rkd.tasks import TASKS, get

# First and last row of official files as (texts, label).
ENDS = {
    ("cola", "train"): (
        (["Our friends won't buy this analysis, let alone the next one we propose."], 1),
        (["What all did you get for Christmas?"], 1),
    ),
    ("cola", "test"): ((["Bill whistled past the house."], -1), (["A picture of himself frightened John."], -1)),
    ("stsb", "train"): (
        (["A plane is taking off.", "An air plane is taking off."], 5.0),
        (
            [
                "Putin spokesman: Doping charges appear unfounded",
                "The Latest on Severe Weather: 1 Dead in Texas After Tornado",
            ],
            0.0,
        ),
    ),
    ("wnli", "validation"): (
        (["The drain is clogged with hair. It has to be cleaned.", "The hair has to be cleaned."], 0),
        (
            [
                "George got free tickets to the play, but he gave them to Eric, because he was not particularly eager "
                "to see it.",
                "Eric was not particularly eager to see it.",
            ],
            0,
        ),
    ),
    ("mnli", "validation_matched"): (
        (["The new rights are nice enough", "Everyone really likes the newest benefits "], 1),
        (["i'll listen  and agree with what i think sounds right", "I wont even bother listening."], 2),
    ),
    ("mnli", "ax"): (
        (["The cat sat on the mat.", "The cat did not sit on the mat."], -1),
        (
            [
                "The new general artificial intelligence I'm developing should come with an off switch.",
                "A general artificial intelligence should always come with an off switch.",
            ],
            -1,
        ),
    ),
}
REAL = [(name, split) for name, task in TASKS.items() for split in task.splits]


@pytest.mark.parametrize(("name", "split"), REAL, ids=map("-".join, REAL))
def test_official_row_counts(glue_dir: Path, name: str, split: str) -> None:
    file, rows = get(name).splits[split]
    if not (glue_dir / file).is_file():
        pytest.skip(f"{glue_dir} has no {file}")
    data = load_raw(name, "glue_dir", glue_dir, splits=[split])[split]
    assert data.num_rows == rows
    assert data["idx"][:] == list(range(rows))
    assert data.column_names == [*get(name).text_fields, "label", "idx"]


@pytest.mark.parametrize(("name", "split"), ENDS, ids=map("-".join, ENDS))
def test_first_and_last_official_rows(glue_dir: Path, name: str, split: str) -> None:
    task = get(name)
    data = read_split(task, split, glue_dir)
    found = [([row[field] for field in task.text_fields], row["label"]) for row in (data[0], data[-1])]
    assert found == list(ENDS[name, split])


def test_mrpc_byte_order_mark_and_stray_quotes(glue_dir: Path) -> None:
    row = read_split(get("mrpc"), "validation", glue_dir)[0]
    assert row["sentence2"] == '" The foodservice pie business does not fit our long-term growth strategy .'
    assert row["label"] == 1


def test_unlabelled_scores_are_nan(glue_dir: Path) -> None:
    test = read_split(get("stsb"), "test", glue_dir)
    assert all(math.isnan(score) for score in test["label"])


def put(folder: Path, file: str, content: str | bytes) -> Path:
    """A small file of our own in a GLUE folder."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(folder: Path, name: str, split: str = "train") -> list[dict]:
    return read_split(get(name), split, folder, official_counts=False).to_list()


def test_wrong_row_count_names_file_found_and_expected(tmp_path: Path) -> None:
    path = put(tmp_path, "RTE/train.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n")
    with pytest.raises(RkdError) as error:
        load_raw("rte", "glue_dir", tmp_path, splits=["train"])
    assert str(error.value) == f"{path}: found 1 rows; expected 2490 (the official RTE train split)"


def test_quotes_mean_nothing(tmp_path: Path) -> None:
    put(tmp_path, "SST-2/train.tsv", 'sentence\tlabel\n"open quote\t1\nclosed" one\t0\n')
    assert [(row["sentence"], row["label"]) for row in rows(tmp_path, "sst2")] == [
        ('"open quote', 1),
        ('closed" one', 0),
    ]


def test_windows_line_ends(tmp_path: Path) -> None:
    put(tmp_path, "SST-2/train.tsv", "sentence\tlabel\r\ngood \t1\r\nbad\t0\r\n")
    assert [(row["sentence"], row["label"]) for row in rows(tmp_path, "sst2")] == [("good ", 1), ("bad", 0)]


@pytest.mark.parametrize("character", ["\r", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1e"])
def test_only_line_feeds_end_a_row(tmp_path: Path, character: str) -> None:
    put(tmp_path, "SST-2/train.tsv", f"sentence\tlabel\none{character}row\t1\n")
    assert [row["sentence"] for row in rows(tmp_path, "sst2")] == [f"one{character}row"]


def test_a_last_line_without_line_feed_counts(tmp_path: Path) -> None:
    put(tmp_path, "CoLA/train.tsv", "x\t1\t\tGood.\nx\t0\t*\tBad.")
    assert [(row["sentence"], row["label"]) for row in rows(tmp_path, "cola")] == [("Good.", 1), ("Bad.", 0)]


@pytest.mark.parametrize("split", ["train", "validation_matched"])
def test_mnli_columns_are_found_by_name(tmp_path: Path, split: str) -> None:
    left = ["index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"]
    left += ["sentence1_parse", "sentence2_parse"]
    votes = ["label1"] if split == "train" else [f"label{vote}" for vote in range(1, 6)]
    header = [*left, "sentence1", "sentence2", *votes, "gold_label"]
    assert len(header) == (12 if split == "train" else 16)
    row = [*left, "premise", "hypothesis", *["entailment"] * len(votes), "contradiction"]
    put(tmp_path, get("mnli").splits[split].file, "\t".join(header) + "\n" + "\t".join(row) + "\n")
    assert rows(tmp_path, "mnli", split) == [{"premise": "premise", "hypothesis": "hypothesis", "label": 2, "idx": 0}]


@pytest.mark.parametrize("ending", ["\n", "\r"])
def test_broken_qqp_rows_are_left_out_and_the_others_keep_their_numbers(tmp_path: Path, ending: str) -> None:
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    put(tmp_path, "QQP/train.tsv", f"{header}7\t1\t2\tbro{ending}ken\tb\t0\n8\t1\t2\ta?\tb?\t1\n")
    assert rows(tmp_path, "qqp") == [{"question1": "a?", "question2": "b?", "label": 1, "idx": 2}]


BAD_FILES = {
    "empty": (b"", "the file is empty"),
    "width": (b"sentence\tlabel\na\t1\nb\tc\t0\n", "line 3: found 3 columns; expected 2"),
    "blank line": (b"sentence\tlabel\n\na\t1\n", "line 2: found 1 columns; expected 2"),
    "label": (b"sentence\tlabel\na\t1\nb\tgood\n", "line 3: unknown label 'good'; expected one of 0, 1"),
    "no label": (b"sentence\tlabel\na\t\n", "line 2: unknown label ''; expected one of 0, 1"),
    "header": (b"text\tlabel\na\t1\n", "column 'sentence' is missing; found 'text', 'label'"),
    "utf-8": (b"sentence\tlabel\na\t1\nb\xe9\t0\n", "line 3: found byte 0xe9; expected UTF-8 text"),
    "nul": (
        b"sentence\tlabel\na\t1\nb\0\t0\n",
        "line 3: found a NUL byte, as in UTF-16; expected UTF-8 text",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files(tmp_path: Path, kind: str) -> None:
    content, message = BAD_FILES[kind]
    path = put(tmp_path, "SST-2/train.tsv", content)
    with pytest.raises(RkdError) as error:
        rows(tmp_path, "sst2")
    assert str(error.value).startswith(str(path))
    assert str(error.value).endswith(message)


@pytest.mark.parametrize("score", ["5.001", "-0.1", "nan", "inf", "", "good"])
def test_bad_scores(tmp_path: Path, score: str) -> None:
    put(tmp_path, "STS-B/train.tsv", f"sentence1\tsentence2\tscore\na\tb\t5.000\na\tb\t{score}\n")
    with pytest.raises(RkdError, match=rf"train.tsv, line 3: found score '{score}'; expected a number from 0 to 5"):
        rows(tmp_path, "stsb")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RkdError, match=r"SST-2/train.tsv: file not found"):
        rows(tmp_path, "sst2")


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "SST-2/train.tsv").mkdir(parents=True)
    with pytest.raises(RkdError, match=r"SST-2/train.tsv: cannot be read: Is a directory"):
        rows(tmp_path, "sst2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "web"}, "source: found 'web'; expected one of hub, glue_dir, synthetic"),
        ({"source": "glue_dir"}, "path: found none; the source 'glue_dir' needs one"),
        ({"source": "hub", "path": "glue"}, "path: found 'glue'; the source 'glue_dir' needs one"),
        ({"source": "synthetic", "revision": "abc"}, "revision: found 'abc', but only the source 'hub' has revisions"),
        ({"source": "synthetic", "splits": ["dev"]}, "task 'rte' has no split 'dev'; it has train, validation, test"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict, message: str) -> None:
    with pytest.raises(RkdError, match=message):
        load_raw("rte", **arguments)


def test_dev_rows_have_the_labels_in_the_shares_of_all_rows():
    order = np.random.default_rng(0).permutation(100).tolist()
    labels = [0] * 70 + [1] * 26 + [2] * 4
    chosen = _stratified(order, labels, 10)
    assert sorted(labels[row] for row in chosen) == [0] * 7 + [1] * 3
    assert [row for row in order if row in set(chosen)] == chosen
    assert len(_stratified(order, labels, 25)) == 25
