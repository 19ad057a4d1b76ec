"""The reader of CSV, TSV, JSON Lines and Parquet: any bytes are data or one error, and what is written is read back.

RKD_SOAK=1 tries a hundred times as many spoilt files.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rkd.data.files import find_labels, read_split
from rkd.data.reading import count_rows, read_columns, write_columns
from rkd.errors import RkdError
from rkd.tasks import define, get
from tests.helpers.seeds import SOAK

ENTRY = {"text": ["text"], "label": "label", "primary_metrics": ["accuracy"], "title": "Fuzzed", "test": None}
CLASSES = get("fuzzed", define({**ENTRY, "labels": ["0", "1"], "metrics": ["accuracy"]}))
SCORES = get("fuzzed-scores", define({**ENTRY, "labels": [], "metrics": ["pearson"]}))


def _parquet(labels: Any, compression: str) -> bytes:
    file = io.BytesIO()
    texts = pa.array(["a", "b", None, "déjà"])
    pq.write_table(pa.table({"text": texts, "label": labels}), file, compression=compression)
    return file.getvalue()


VALID = {
    ".csv": [b'\xef\xbb\xbftext,label,x\r\n"a ""q"", b",1,z\n"two\nlines",0,\nplain,1,y\n'],
    ".tsv": [b'text\tlabel\n"open\t1\nclosed"\t0\nx\t1\n'],
    ".jsonl": [
        b'{"text": "a\\ud83d\\ude00", "label": 1.0}\n\n{"text": "b", "label": true, "x": [1, {"y": null}]}\n',
        b'{"text": "c", "label": "0"}\n{"label": null, "text": "d"}\n',
    ],
    ".parquet": [
        _parquet(pa.array([1, 0, 1, None]), "none"),
        _parquet(pa.array(["1", "0", "1", "0"]).dictionary_encode(), "snappy"),
        _parquet(pa.array([1.0, 0.0, 1.0, float("nan")]), "zstd"),
    ],
}
PIECES = [
    b"", b"\n", b"\r", b"\r\n", b'"', b'""', b",", b"\t", b";", b"\\", b" ", b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf",
    b"\xff\xfe", b"\xe2\x80\xa8", b"{", b"}", b"[", b"]", b":", b"text", b"label", b'"text"', b'"label"', b"NaN",
    b"Infinity", b"null", b"true", b"nan", b"0", b"1", b"1.0", b"-1e9", b"9" * 400, b"9" * 5000, b"[" * 5000,
    b'{"a":' * 3000, b"\\ud83d", b"\\u0000", b"PAR1",
]  # fmt: skip


@st.composite
def spoilt(draw: Callable[..., Any], suffix: str) -> bytes:
    """Bytes of a file: a valid one with some edits, or pieces in any order, perhaps after a good header."""
    edit = st.tuples(st.integers(0, 3), st.integers(0, 5000), st.sampled_from(PIECES), st.integers(0, 255))
    if suffix != ".parquet" and draw(st.booleans()):
        header = draw(st.sampled_from([b"", b"text,label\n", b"text\tlabel\n", b'{"text": "a", "label": 0}\n']))
        return header + b"".join(draw(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3)), max_size=20)))
    content = bytearray(draw(st.sampled_from(VALID[suffix])))
    for kind, place, piece, byte in draw(st.lists(edit, max_size=4)):
        at = place % (len(content) or 1)
        if kind == 0:
            content[at : at + 1] = bytes([byte])
        elif kind == 1:
            content[at:at] = piece
        elif kind == 2:
            del content[at : at + 1 + byte % 8]
        else:
            del content[len(content) - byte % 8 :]
    return bytes(content)


def outcome(call: Callable[[], Any], path: Path) -> Any:
    """What a call returns, or None where it ends in one line that begins with the file."""
    try:
        return call()
    except RkdError as error:
        message = str(error)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500
    return None


def check_any_bytes(folder: Path, suffix: str, content: bytes) -> None:
    path = folder / f"data{suffix}"
    path.write_bytes(content)
    file = {"path": str(path)}
    rows = outcome(lambda: count_rows(path), path)
    classes = outcome(lambda: read_split(CLASSES, "train", file, None), path)
    scores = outcome(lambda: read_split(SCORES, "test", file, [-10, 10]), path)
    labels = outcome(lambda: find_labels(file, "label"), path)
    if classes is not None:
        assert set(classes["label"][:]) <= {0, 1}
    if scores is not None:
        assert all(-10 <= score <= 10 or score != score for score in scores["label"][:])
    if labels is not None:
        assert labels == list(dict.fromkeys(labels))
        assert all(labels)
    for split in (classes, scores):
        assert split is None or split.num_rows == rows
        assert split is None or all(isinstance(text, str) for text in split["text_1"][:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


fuzzed = settings(
    max_examples=20_000 if SOAK else 200,
    derandomize=not SOAK,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@fuzzed
@given(content=spoilt(".csv"))
@example(content=b'"te"xt,label\na,1\n')
@example(content=b"text,label\n" + b"x" * 200_000 + b",1\n")
@example(content="text,label\ndéjà,1\n".encode("latin-1"))
@example(content="text,label\na,1\n".encode("utf-16"))
@example(content=b"text,label\na,\nb,nan\n")
@example(content=b'text,label\n"open,1\nb,0\n')
@example(content=b"text,label\ra,1\rb,0\r")
def test_any_bytes_of_csv_are_data_or_one_error(folder, content):
    check_any_bytes(folder, ".csv", content)


@fuzzed
@given(content=spoilt(".tsv"))
@example(content=b'text\tlabel\n"open\t1\nclosed"\t0\n')
@example(content=b"\xef\xbb\xbf")
def test_any_bytes_of_tsv_are_data_or_one_error(folder, content):
    check_any_bytes(folder, ".tsv", content)


@fuzzed
@given(content=spoilt(".jsonl"))
@example(content=rb'{"text": "a cut emoji \ud83d", "label": 1}')
@example(content=rb'{"text": "a", "label": "\ud83d"}')
@example(content=b'{"text": "a", "label": ' + b"[" * 100_000)
@example(content=b'{"text": "a", "label": ' + b"9" * 400 + b"}")
@example(content=b'{"text": "a", "label": ' + b"9" * 5000 + b"}")
@example(content=b'{"text": "a", "label": ["0"]}')
@example(content=b'{"text": "a", "label": -Infinity}')
def test_any_bytes_of_json_lines_are_data_or_one_error(folder, content):
    check_any_bytes(folder, ".jsonl", content)


@fuzzed
@given(content=spoilt(".parquet"))
@example(content=_parquet(pa.array([2**62, 1, 2, 3], pa.timestamp("ms")), "none"))
@example(content=_parquet(pa.array([b"0", b"1", b"\xff", b"0"]).view(pa.string()), "none"))
@example(content=b"PAR1PAR1")
def test_any_bytes_of_parquet_are_data_or_one_error(folder, content):
    check_any_bytes(folder, ".parquet", content)


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=50, derandomize=True, suppress_health_check=list(HealthCheck))
@given(names=st.lists(CELLS, min_size=2, max_size=3, unique=True), rows=st.lists(st.tuples(CELLS, CELLS), min_size=1))
@example(names=["a", "b"], rows=[("one\rrow", '"')])
def test_what_is_written_is_read_back(folder, names, rows):
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=False))
    for suffix in VALID:
        if suffix == ".tsv" and any(set(cell) & set("\t\n\r") for row in [names, *rows] for cell in row):
            with pytest.raises(RkdError, match="found a tab or a line break"):
                write_columns(folder / "out.tsv", columns)
            continue
        if suffix != ".parquet" and next(iter(columns)).startswith("\ufeff"):
            continue  # at the start of a text file it is the byte order mark
        write_columns(folder / f"out{suffix}", columns)
        assert read_columns(folder / f"out{suffix}", list(columns)) == columns


@settings(max_examples=50, derandomize=True, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), ends=st.sampled_from(["\n", "\r\n"]))
def test_csv_that_pandas_writes_is_read_as_it_was(folder, rows, ends):
    columns = {"text": [text.replace("\r", " ") for text, _ in rows], "label": [f"l{label}" for _, label in rows]}
    columns["label"] = [label.replace("\r", " ") for label in columns["label"]]
    pd.DataFrame(columns).to_csv(folder / "pandas.csv", index=False, lineterminator=ends)
    assert read_columns(folder / "pandas.csv", ["text", "label"]) == columns


def test_columns_of_json_lines_may_be_absent_from_some_rows(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"a": 1}\n{"b": 2, "a": null}\n')
    assert read_columns(path, ["a"], ["b", "c"]) == {"a": [1, None], "b": [None, 2]}


def test_what_the_system_has_against_a_file_is_one_error(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for suffix in VALID:
        for call in (count_rows, lambda path: read_columns(path, ["a"])):
            with pytest.raises(RkdError, match=f"none{suffix}: file not found"):
                call(tmp_path / f"none{suffix}")
    with pytest.raises(RkdError, match=r"folder\.csv: cannot be read: Is a directory"):
        count_rows(tmp_path / "folder.csv")
    with pytest.raises(RkdError, match="cannot be read: embedded null"):
        count_rows(tmp_path / "a\0b.csv")
