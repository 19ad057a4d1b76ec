"""Inputs of users that were once read wrongly, slowly or with a traceback, each with what is right."""

import json
import logging
import math
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from transformers import BertConfig, BertForSequenceClassification

import rkd
from rkd.cli import main
from rkd.config.custom_tasks import checked_task
from rkd.config.load import check, load
from rkd.data.files import find_labels, read_split, read_splits
from rkd.data.glue_dir import read_split as read_glue
from rkd.data.prepare import prepare
from rkd.data.reading import count_rows, read_columns, write_columns
from rkd.data.tokenizer import build_tokenizer
from rkd.distillation.tables import table_file
from rkd.errors import RkdError
from rkd.inference import Classifier
from rkd.tasks import Task, define, get
from rkd.workflow.forecast import Job, estimate, planned_jobs
from rkd.workflow.plan import Plan
from tests.helpers import ROOT

FORMATS = ("csv", "tsv", "jsonl", "parquet")
MODEL = str(ROOT / "configs/models/bert-2x128.json")
MODELS = {"teacher": MODEL, "finetune_teacher": True, "student": MODEL, "text": "text", "label": "mood"}
DIALOGUE = [
    ('"I hoped for a better lamp.', "bad"),
    ("The tea was cold.", "bad"),
    ('Still, the garden was lovely."', "good"),
    ("The chair was warm.", "good"),
    ('"We shall come back.', "good"),
    ("The bus was late.", "bad"),
    ('It was a quiet day."', "good"),
]
TSV = "text\tmood\n" + "".join(f"{text}\t{mood}\n" for text, mood in DIALOGUE)


def task(*labels: str, text: tuple[str, ...] = ("text",), label: str = "mood", test: bool = False) -> Task:
    """A task of one's own with these labels, or with scores."""
    metrics = ["accuracy"] if labels else ["pearson"]
    names = {"labels": list(labels), "metrics": metrics, "primary_metrics": metrics, "title": "Moods"}
    return get("moods", define({**names, "text": list(text), "label": label, "test": test or None}))


def write(path: Path, texts: list[Any], moods: list[Any]) -> dict[str, str]:
    """A file with two columns; None is an empty cell, or null."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts, "mood": moods}), path)
    elif path.suffix == ".jsonl":
        rows = ({"text": text, "mood": mood} for text, mood in zip(texts, moods, strict=True))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        separator = {".csv": ",", ".tsv": "\t"}[path.suffix]
        rows = zip(["text", *texts], ["mood", *moods], strict=True)
        path.write_text("".join(f"{text}{separator}{'' if mood is None else mood}\n" for text, mood in rows))
    return {"path": str(path)}


def error_of(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(RkdError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- missing labels and blanks --------------------------------------------------------------------------------

MOODS = [None, "bad", "good", "bad", "good", "bad ", "good", None, "bad", "good"]
TEXTS = [f"the tea was number {number}" for number in range(10)]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_a_row_without_a_label_is_one_error_in_every_format_and_split(tmp_path, suffix, nothing):
    file = write(tmp_path / f"data.{suffix}", TEXTS, [nothing if mood is None else mood for mood in MOODS])
    place = f"{file['path']}, row 1, column 'mood': found nothing (2 rows have none); expected"
    for split in ("train", "validation"):
        assert error_of(read_split, task("bad", "good"), split, file, None) == f"{place} one of the labels bad, good"
    assert error_of(find_labels, file, "mood") == f"{place} a label"
    known = read_split(task("bad", "good"), "test", file, None)["label"][:]
    assert known == [-1, 0, 1, 0, 1, 0, 1, -1, 0, 1]


def test_a_dataframe_s_missing_labels_are_those_of_parquet(tmp_path):
    for nothing in (None, float("nan"), pd.NA, ""):
        frame = pd.DataFrame({"text": TEXTS, "mood": [nothing if mood is None else mood for mood in MOODS]})
        message = error_of(rkd.distill, frame, **MODELS, out=tmp_path)
        assert message == "data (DataFrame), row 1, column 'mood': found nothing (2 rows have none); expected a label"


@pytest.mark.parametrize("suffix", FORMATS)
def test_blanks_around_a_label_do_not_count_and_the_labels_found_are_told(tmp_path, suffix, caplog):
    caplog.set_level(logging.INFO)
    file = write(tmp_path / f"data.{suffix}", TEXTS, ["good " if mood is None else mood for mood in MOODS])
    assert find_labels(file, "mood") == ["bad", "good"]
    assert f"{file['path']}: labels found, with row counts: 'bad' 4, 'good' 6" in caplog.text
    assert read_split(task("bad", "good"), "train", file, None)["label"][:3] == [1, 0, 1]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("cell", ["nan", "NaN", "None", "null", "N/A"])
def test_a_label_that_reads_like_a_missing_value_is_one_only_where_it_is_named(tmp_path, suffix, cell):
    file = write(tmp_path / f"data.{suffix}", ["a", "b", "c"], ["good", cell, "bad"])
    message = error_of(find_labels, file, "mood")
    assert message.startswith(f"{file['path']}, row 2, column 'mood': found '{cell}', which reads like a missing value")
    assert "expected one of the labels bad, good" in error_of(read_split, task("bad", "good"), "test", file, None)
    assert read_split(task("bad", "good", cell), "train", file, None)["label"][:] == [1, 2, 0]


# --- quotes in TSV --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> str:
    """The folder of a tiny model with the labels bad and good."""
    folder = str(tmp_path_factory.mktemp("model"))
    tokenizer = build_tokenizer((text for text, _ in DIALOGUE), 200)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        pad_token_id=tokenizer.pad_token_id,
        id2label={0: "bad", 1: "good"},
        label2id={"bad": 0, "good": 1},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_quotes_in_a_tsv_file_are_text_so_that_every_line_is_a_row(tmp_path, classifier):
    path = tmp_path / "dialogue.tsv"
    path.write_text(TSV)
    assert count_rows(path) == 7
    found = read_split(task("bad", "good"), "train", {"path": str(path)}, None)
    assert list(zip(found["text_1"], (("bad", "good")[code] for code in found["label"]), strict=True)) == DIALOGUE
    model = Classifier(classifier, ["text"], "mood", device="cpu")
    answers = model.predict(path)
    assert len(answers) == 7
    right = [answer == mood for answer, (_, mood) in zip(answers["prediction"], DIALOGUE, strict=True)]
    assert model.evaluate(path) == {"accuracy": pytest.approx(sum(right) / 7), "rows": 7}


def test_predict_reads_no_labels(tmp_path, classifier):
    path = tmp_path / "new.csv"
    path.write_text("text,mood\na lamp,unknown\na tea,\n")
    assert len(Classifier(classifier, ["text"], "mood", device="cpu").predict(path)) == 2


def test_a_quote_left_open_in_csv_is_told_with_its_row(tmp_path, caplog):
    path = tmp_path / "dialogue.csv"
    path.write_text(TSV.replace("\t", ",").replace("Still, ", "Still "))
    assert count_rows(path) == 3
    read_split(task("bad", "good"), "train", {"path": str(path)}, None)
    assert (
        "column 'text': 2 texts contain lines that look like labelled rows, the first in row 1; is a quote"
        in caplog.text
    )
    caplog.clear()
    path.write_text('text,mood\n"one line,\nanother, with bad news",bad\n')
    read_split(task("bad", "good"), "train", {"path": str(path)}, None)
    assert not caplog.text


def test_a_tsv_file_that_was_quoted_for_csv_is_told_with_its_row(tmp_path, caplog):
    path = tmp_path / "quoted.tsv"
    pd.DataFrame({"text": ["plain", 'he said "no"'], "mood": ["bad", "good"]}).to_csv(path, sep="\t", index=False)
    assert read_split(task("bad", "good"), "train", {"path": str(path)}, None)["text_1"][1] == '"he said ""no"""'
    assert "column 'text': 1 texts are quoted as in CSV, the first in row 2" in caplog.text


@pytest.mark.parametrize(
    ("name", "file", "labels"),
    [
        ("sst2", "SST-2/dev.tsv", ("0", "1")),
        ("mrpc", "MRPC/dev.tsv", ("0", "1")),
        ("mrpc", "MRPC/train.tsv", ("0", "1")),
        ("qnli", "QNLI/dev.tsv", ("entailment", "not_entailment")),
        ("rte", "RTE/train.tsv", ("entailment", "not_entailment")),
        ("wnli", "WNLI/train.tsv", ("0", "1")),
        ("mnli", "MNLI/dev_matched.tsv", ("entailment", "neutral", "contradiction")),
        ("stsb", "STS-B/dev.tsv", ()),
    ],
)
def test_glue_s_own_tsv_files_are_tasks_of_one_s_own_as_they_are(glue_dir, name, file, labels):
    """Read by the columns' names alone; the reader of GLUE's folders knows each file."""
    path, glue = glue_dir / file, get(name)
    if not path.is_file():
        pytest.skip(f"{glue_dir} has no {file}")
    split = next(split for split, (official, _) in glue.splits.items() if official == file)
    own = task(*labels, text=glue.text_columns, label=glue.label_column or "")
    found = read_split(own, "train", {"path": str(path)}, None if labels else [0, 5])
    expected = read_glue(glue, split, glue_dir)
    for ours, theirs in zip(own.text_fields, glue.text_fields, strict=True):
        assert found[ours][:] == expected[theirs][:]
    assert found["label"][:] == expected["label"][:]


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_is_what_is_read_back(tmp_path, suffix):
    quoted = ['"open', 'a ""b"" c"', "comma, here", " blanks ", ""]
    columns = {"answer": quoted, "p, of 'x'": [0.1, 1 / 3, 1e-30, 0.0, 1.0]}
    write_columns(tmp_path / f"out.{suffix}", columns)
    found = read_columns(tmp_path / f"out.{suffix}", list(columns))
    assert found["answer"] == quoted
    assert [float(value) for value in found["p, of 'x'"]] == columns["p, of 'x'"]


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\rb"])
def test_a_tsv_file_is_not_written_with_what_it_cannot_hold(tmp_path, text):
    path = tmp_path / "out.tsv"
    path.write_text("what stood here")
    message = error_of(write_columns, path, {"answer": ["fine", text]})
    assert message.startswith(f"{path}, row 2: found a tab or a line break in {text!r}; expected none")
    assert path.read_text() == "what stood here"
    for suffix in ("csv", "jsonl", "parquet"):
        write_columns(tmp_path / f"out.{suffix}", {"answer": [text]})
        assert read_columns(tmp_path / f"out.{suffix}", ["answer"]) == {"answer": [text]}


# --- numbers as labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("0.0", "1.0"), ("0", "1"), ("0", "1.0"), ("false", "True")])
@pytest.mark.parametrize("suffix", FORMATS)
def test_names_and_data_follow_one_rule(tmp_path, suffix, names):
    forms = [[0, 1], [0.0, 1.0], ["0", "1"], ["0.0 ", "1.0"]]
    if "True" in names:
        forms = [[False, True], ["false", "true"], ["False", "TRUE"]]
    for values in forms:
        file = write(tmp_path / f"data.{suffix}", ["a", "b"], values)
        assert read_split(task(*names), "train", file, None)["label"][:] == [0, 1]
        assert find_labels(file, "mood") == (["false", "true"] if "True" in names else ["0", "1"])


def test_a_model_s_labels_are_read_by_the_same_rule(tmp_path, classifier):
    folder = tmp_path / "model"
    model = BertForSequenceClassification.from_pretrained(classifier)
    model.config.id2label = {0: "0.0", 1: "1.0"}
    model.config.label2id = {"0.0": 0, "1.0": 1}
    model.save_pretrained(folder)
    for file in Path(classifier).glob("*token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "a lamp", "mood": 1.0}\n{"text": "a tea", "mood": 0}\n')
    assert Classifier(str(folder), ["text"], "mood", device="cpu").evaluate(data)["rows"] == 2


def test_names_that_are_one_label_by_the_rule_are_one_error(tmp_path):
    assert "found '1' and '1.0', which are one label" in error_of(
        rkd.distill, pd.DataFrame({"text": ["a"], "mood": [1]}), **MODELS, labels=["1", "1.0"], out=tmp_path / "out",
    )  # fmt: skip
    entry = {"train": "x.csv", "text": ["text"], "label": "mood"}
    message = error_of(checked_task, "moods", {**entry, "labels": ["bad", "bad "]}, files=False)
    assert message.endswith("labels[1]: found 'bad ', which is one label with 'bad'; expected every label only once")
    assert "expected a name that is not blank" in error_of(
        checked_task, "moods", {**entry, "labels": ["bad", " "]}, files=False
    )


# --- time -----------------------------------------------------------------------------------------------------


def test_many_labels_take_no_longer_to_prepare(tmp_path, caplog):
    def seconds(count: int) -> float:
        labels = [f"label {number}" for number in range(count)]
        path = tmp_path / f"{count}.csv"
        rows = (f"text number {number},{labels[number % (count - 1)]}\n" for number in range(4000))
        path.write_text("text,mood\n" + "".join(rows))
        names = {"labels": labels, "metrics": ["accuracy"], "primary_metrics": ["accuracy"], "title": "Many"}
        own = define({**names, "text": ["text"], "label": "mood", "test": None})
        own |= {"files": {"train": {"path": str(path)}}, "scores": None, "dev_fraction": 0.1, "dev_seed": 0}
        started = time.process_time()
        prepare(f"many-{count}", tmp_path / str(count), source="files", tokenizer=MODEL, custom_task=own)
        return time.process_time() - started

    few, many = seconds(3), seconds(300)
    assert "train: 1 of 300 labels never occur: 'label 299'" in caplog.text
    assert many < 3 * few  # a loop over the labels took a hundred times as long


# --- one error each -------------------------------------------------------------------------------------------

DEEP = '{"text": "a", "mood": ' + "[" * 100_000 + "]" * 100_000 + "}\n"
BAD: dict[str, tuple[str, str | bytes, str]] = {
    "a field longer than Python's limit, in a ragged row": (
        "d.csv", f"text,mood\n{'x' * 200_000}\n", ", row 1 (line 2): found 1 fields; expected 2, as the header has"),
    "Latin-1": ("d.csv", "text,mood\nfine,bad\ndéjà,bad\n".encode("latin-1"),
        ", line 3: found byte 0xe9; expected UTF-8 text"),
    "UTF-16": ("d.csv", "text,mood\na,bad\n".encode("utf-16"), ", line 1: found a NUL byte, as in UTF-16; expected "
        "UTF-8 text"),
    "a NUL byte": ("d.csv", "text,mood\na\0b,bad\n", ", line 2: found a NUL byte, as in UTF-16; expected UTF-8 text"),
    "a quote in the header": ("d.csv", '"te"xt,mood\na,bad\n', ", line 1: ',' expected after '\"'; expected valid "
        "CSV (double a quote inside a quoted field)"),
    "a quote that is never closed": ("d.csv", 'text,mood\na,bad\n"b,bad\nc,bad\n', ", line 3: unexpected end of data; "
        "expected valid CSV (double a quote inside a quoted field)"),
    "semicolons": ("d.csv", "text;mood\na;bad\n", ": columns 'text', 'mood' are missing; found 'text;mood'; "
        "fields of a .csv file are separated by commas"),
    "a quoted header of TSV": ("d.tsv", '"text"\t"mood"\n"a"\t"bad"\n', ": columns 'text', 'mood' are missing; found "
        "'\"text\"', '\"mood\"'; quotes in a .tsv file are part of its fields"),
    "a tab in a text of TSV": ("d.tsv", "text\tmood\na\tb\tbad\n", ", row 1 (line 2): found 3 fields; expected 2, as "
        "the header has"),
    "an empty first line": ("d.csv", "\ntext,mood\na,bad\n", ": line 1 is empty; expected the columns' names"),
    "a column twice": ("d.tsv", "text\tmood\tmood\na\tbad\tbad\n", ": column 'mood' occurs 2 times; expected once"),
    "a key twice": ("d.jsonl", '{"text": "a", "text": "b", "mood": "bad"}\n', ", row 1: column 'text' occurs 2 times; "
        "expected once"),
    "half a character": ("d.jsonl", r'{"text": "cut \ud83d", "mood": "bad"}' + "\n", ", row 1, column 'text': found "
        r"the lone surrogate '\ud83d', half of a character; expected text"),
    "a NUL character": ("d.jsonl", r'{"text": "a\u0000", "mood": "bad"}' + "\n", r", row 1, column 'text': found a NUL "
        r"character in 'a\x00'; expected text"),
    "deep nesting": ("d.jsonl", DEEP, ", row 1: nested too deeply; expected texts and numbers by column"),
    "a number that Python does not read": ("d.jsonl", '\n{"text": "a", "mood": ' + "9" * 5000 + "}\n", ", row 1: found "
        "a number with thousands of digits; expected a shorter one"),
    "a list as label": ("d.jsonl", '{"text": "a", "mood": ["bad"]}\n', ", row 1, column 'mood': found ['bad']; "
        "expected one of the labels bad, good"),
    "an infinite label": ("d.jsonl", '{"text": "a", "mood": Infinity}\n', ", row 1, column 'mood': found inf; expected "
        "one of the labels bad, good"),
    "half a JSON row": ("d.jsonl", '{"text": "a", "mood": "bad"}\n\n{"text": \n', ", row 2: not JSON: Expecting value "
        "at character 10; expected one object per line"),
    "no rows": ("d.jsonl", "\n", ": found no rows; expected at least one"),
    "a header alone": ("d.tsv", "text\tmood\n", ": found no rows; expected at least one"),
    "another kind of file": ("d.txt", "text\n", ": unsupported file extension '.txt'; expected one of .csv, .tsv, "
        ".jsonl, .parquet"),
    "a name without ending": ("data", "text\n", ": the file's name has no extension; expected one of .csv, .tsv, "
        ".jsonl, .parquet"),
    "no Parquet": ("d.parquet", "PAR1", ": cannot be read as Parquet: "),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_error_that_names_the_place(tmp_path, case):
    name, content, message = BAD[case]
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = error_of(read_split, task("bad", "good"), "train", {"path": str(path)}, None)
    assert found.startswith(f"{path}{message}")


@pytest.mark.parametrize(
    ("moods", "message"),
    [
        (pa.array([2**62], pa.timestamp("ms")), "column 'mood': found values of type timestamp[ms]; expected text or"),
        (pa.array([datetime(2020, 1, 1)]), "column 'mood': found values of type timestamp[us]; expected text or"),
        (pa.array([b"bad"]), "column 'mood': found values of type binary; expected text or numbers"),
        (pa.array([["bad"]]), "row 1, column 'mood': found ['bad']; expected one of the labels bad, good"),
        (
            pa.array([[{"a": 1}]]),
            "column 'mood': found values of type list<element: struct<a: int64>>; expected text or",
        ),
        (pa.array([float("nan")]), "row 1, column 'mood': found nothing; expected one of the labels"),
        (pa.array([None]), "row 1, column 'mood': found nothing; expected one of the labels"),
        (pa.array([b"\xff"]).view(pa.string()), "row 1, column 'mood': found byte 0xff; expected UTF-8 text"),
    ],
)
def test_columns_of_parquet_that_hold_no_labels(tmp_path, moods, message):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"text": ["a"], "mood": moods}), path)
    found = error_of(read_split, task("bad", "good"), "train", {"path": str(path)}, None)
    assert found.startswith(f"{path}, {message}")


@pytest.mark.parametrize(
    "moods",
    [
        pa.array([1, 0]).dictionary_encode(),
        pa.array([Decimal("1.00"), Decimal("0.00")]),
        pa.array(["1", "0.0"]).dictionary_encode(),
        pa.array(["1", " 0"], pa.large_string()),
        pa.array([1, 0], pa.uint64()),
        pa.array([1, 0], pa.float32()),
    ],
)
def test_columns_of_parquet_that_hold_labels(tmp_path, moods):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "mood": moods}), path)
    assert read_split(task("0", "1"), "train", {"path": str(path)}, None)["label"][:] == [1, 0]


@pytest.mark.parametrize(
    ("mood", "found"),
    [
        ("9" * 400, "99999999"),
        ("1e39", "1e+39"),  # more than a float32 holds
        ("true", "True"),
        ('"1_0"', "'1_0'"),
        ('"nan"', "'nan'"),
        ("NaN", "nothing"),
        ("-Infinity", "-inf"),
        ("[1]", "[1]"),
    ],
)
def test_what_is_no_score(tmp_path, mood, found):
    path = tmp_path / "data.jsonl"
    path.write_text(f'{{"text": "a", "mood": {mood}}}\n')
    message = error_of(read_split, task(), "train", {"path": str(path)}, "any")
    assert message.startswith(f"{path}, row 1, column 'mood': found {found}")
    assert message.endswith("; expected a number")
    assert len(message) < 300 + len(str(path))


@pytest.mark.parametrize(
    ("text", "mood", "message"),
    [
        (["a", "\ud83d"], ["x", "y"], "row 2, column 'text': found the lone surrogate '\\ud83d', half of a character"),
        (["a", "b"], ["x", 1], "column 'mood': found values of the types int, str; expected one type"),
        (["a", "b"], [10**30, 1], ": cannot be written as Parquet: "),
        (["a", "b"], [1j, 2j], ": cannot be written as Parquet: "),
        (["a", "b"], [[1], [2]], "row 1, column 'mood': found [1]; expected one of the labels x, y"),
        (["a", None], ["x", "y"], "row 2, column 'text': found nothing; expected text"),
        (["a", 7], ["x", "y"], "column 'text': found values of the types int, str; expected one type"),
    ],
)
def test_dataframes_that_hold_no_texts_or_labels(tmp_path, text, mood, message):
    frame = pd.DataFrame({"text": pd.Series(text, dtype=object), "mood": pd.Series(mood, dtype=object)})

    def read() -> None:
        file = table_file("train", frame, tmp_path, ["text", "mood"])
        read_splits(task("x", "y"), {"files": {"train": file, "validation": file}, "scores": None})

    assert f"data (DataFrame){'' if message[0] == ':' else ', '}{message}" in error_of(read)


def test_one_column_and_an_empty_line_are_a_row_or_none(tmp_path):
    for suffix in ("csv", "tsv"):
        path = tmp_path / f"data.{suffix}"
        path.write_text("text\na\n\nb\n")
        assert error_of(count_rows, path) == f"{path}, line 3: the line is empty; expected a value, or no line"
        path.write_text("text\na\nb\n\n\n")
        assert read_columns(path, ["text"]) == {"text": ["a", "b"]}


# --- rkd plan -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("gone.csv", None, "there is nothing at this path"),
        ("latin.csv", b"text,mood\na,bad\n\xe9,good\n", "latin.csv, line 3: found byte 0xe9; expected UTF-8 text"),
    ],
)
def test_rkd_plan_ends_in_one_line_where_it_cannot_count_rows(tmp_path, monkeypatch, capsys, name, content, problem):
    monkeypatch.chdir(ROOT)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    entry = {"train": str(tmp_path / name), "text": ["text"], "label": "mood", "labels": ["bad", "good"]}
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"tasks": ["moods"], "custom_tasks": {"moods": entry}}))
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--configfile", str(overlay)])
    told = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert told[0].startswith("error: ")
    assert problem in told[-1]
    assert len(told) == 1 + told[0].endswith("The config has 1 problem:")


@pytest.mark.parametrize("content", ["", "\n \n", "# tasks: [mrpc]\n", "---\n", "null\n"])
@pytest.mark.parametrize("command", [["plan", "--configfile"], ["fetch"]])
def test_a_config_file_without_keys_is_named(content, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(content)
    with pytest.raises(SystemExit) as ended:
        main([*command, str(overlay)])
    assert ended.value.code == 2
    told = f"error: {overlay}: found an empty file, or comments alone; expected keys and values (KEY: VALUE)\n"
    assert capsys.readouterr().err == told


def test_the_reason_why_snakemake_ends_is_told(tmp_path, monkeypatch):
    """It begins as a line that Snakemake prints whenever there is an overlay."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").touch()
    Path("overlay.yaml").write_text("a: 1\n")
    Path("Snakefile").write_text('configfile: "config.yaml"\n')
    reason = "Config file must be given as JSON or YAML with keys at top level"
    with pytest.raises(RkdError, match=f"^snakemake: WorkflowError .*: {reason}"):
        planned_jobs(["--configfile", "overlay.yaml"])
    Path("config.yaml").write_text("a: 2\n")
    with pytest.raises(RkdError, match=r"^snakemake: .*(?<!extended by additional config)$"):
        planned_jobs(["--configfile", "overlay.yaml", "no_such_target"])


def test_rows_are_counted_as_they_are_read(tmp_path):
    huge = tmp_path / "huge.csv"
    huge.write_text(f'text,mood\n"{"x" * 200_000}\ny",bad\n\nb,good\n')
    for path in (huge, *(tmp_path / f"data.{suffix}" for suffix in FORMATS)):
        if path != huge:
            write(path, ["a", "b"], ["bad", "good"])
        assert count_rows(path) == len(read_columns(path, ["text"])["text"]) == 2


def test_rkd_plan_counts_the_rows_that_are_trained_on(tmp_path, monkeypatch):
    """100 rows and an empty line, of which a tenth is the dev split; every file is read once, however many jobs."""
    monkeypatch.chdir(ROOT)
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "a", "mood": "bad"}\n' * 60 + "\n" + '{"text": "b", "mood": "good"}\n' * 40)
    entry = {"train": str(path), "text": ["text"], "label": "mood", "labels": ["bad", "good"]}
    content = {
        **yaml.safe_load((ROOT / "config.yaml").read_text()),
        "tasks": ["moods"],
        "custom_tasks": {"moods": entry},
    }
    plan = Plan(load(content))
    jobs = [Job("train_student", {"task": "moods", "variant": "kd", "seed": seed}) for seed in "12"]
    counted = []
    monkeypatch.setattr("rkd.workflow.forecast.count_rows", lambda file: counted.append(file) or count_rows(file))
    training = plan.student("moods", "kd", 1).training
    expected = training["epochs"] * math.ceil(90 / training["batch_size"])
    assert [one.steps for one in estimate(plan, jobs, tmp_path, 1e9)] == [expected, expected]
    assert counted == [path]


def test_the_ending_of_a_file_may_be_in_capitals(tmp_path):
    path = tmp_path / "DATA.CSV"
    path.write_text("text,mood\na,bad\n")
    assert read_columns(path, ["mood"]) == {"mood": ["bad"]}
    entry = {"train": str(path), "text": ["text"], "label": "mood", "labels": ["bad", "good"]}
    content = {**yaml.safe_load((ROOT / "config.yaml").read_text()), "custom_tasks": {"moods": entry}}
    assert not [problem for problem in check(content) if problem.path.startswith("custom_tasks")]
