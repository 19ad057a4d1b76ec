"""Readers and a writer of tables in CSV, TSV, JSON Lines and Parquet files. Imports nothing heavy.

* .csv: fields separated by commas. A field in double quotes may contain commas and line breaks; a quote inside it is
  doubled.
* .tsv: fields separated by tabs. Quotes are ordinary characters, as in GLUE's files; only line feeds end rows.
* .jsonl: one JSON object per line.
* .parquet: columns of text, numbers or booleans.

Text is UTF-8, with or without a byte order mark. Row numbers in messages start at 1
and skip the header and empty lines; line numbers are those of an editor.
"""

import csv
import difflib
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from rkd.errors import RkdError
from rkd.labels import listed
from rkd.utils.files import atomic_path, jsonable

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")

# A first line that tells Excel the separator, such as "sep=;"; it may already be split at that separator.
_FOR_EXCEL = re.compile(r"sep=.?", re.IGNORECASE)

_OBJECTS = 'expected one object per line, such as {"text": "…", "label": "…"}'

# Column name → the value of every row, as the file has it.
Columns = dict[str, list[Any]]


def read_columns(
    path: Path, wanted: Sequence[str] | None, optional: Sequence[str] = (), where: str | None = None
) -> Columns:
    """Read columns of a file; its extension gives the format.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file.
        wanted: columns that must be there; None: all columns of the file, in its order.
        optional: columns that may be there; only those found are returned.
        where: the file's name in errors; its path by default.

    Returns:
        Columns of equal length. CSV and TSV give texts; the other formats give texts, numbers, booleans and None; JSON
        Lines also gives lists and dicts. If all columns are read, Parquet gives values of any type.

    Raises:
        RkdError: the file is missing, unreadable or in another format, or a column is missing or occurs twice.

    >>> read_columns(Path("reviews.csv"), ["mood"])
    {'mood': ['good', 'bad']}
    """
    where = where or str(path)
    kind = suffix(path, where)
    if kind == ".parquet":
        return _parquet(path, where, wanted, optional)
    if kind == ".jsonl":
        return _by_key(where, _json_rows(where, text_lines(path, where)), wanted, optional)
    header, rows = _separated(path, where)
    names = chosen_columns(where, header, header if wanted is None else wanted, optional)
    columns: Columns = {name: [] for name in names}
    places = [(columns[name], header.index(name)) for name in names]
    for row in rows:
        for values, place in places:
            values.append(row[place])
    return columns


def check_columns(path: Path, wanted: Sequence[str], optional: Sequence[str] = (), where: str | None = None) -> None:
    """Check the column names of a file, with the errors of `read_columns`, without reading all values.

    Reads the header of a CSV or TSV file or the footer of a Parquet file. In a JSON Lines file it reads rows until
    every wanted column has occurred, usually one row.

    >>> check_columns(Path("reviews.csv"), ["review", "mood"])
    """
    where = where or str(path)
    kind = suffix(path, where)
    if kind == ".parquet":
        with _parquet_file(path, where) as file:
            _parquet_columns(where, file.schema_arrow, wanted, optional)
    elif kind == ".jsonl":
        names: dict[str, None] = {}
        for row in _json_rows(where, text_lines(path, where)):
            names.update(dict.fromkeys(row))
            if names.keys() >= set(wanted):
                return
        if names:  # a file without rows is reported when the values are read
            chosen_columns(where, list(names), wanted)
    else:
        chosen_columns(where, _separated(path, where)[0], wanted, optional)


def is_blank_row(path: Path, number: int) -> bool:
    """Return True if a row of a CSV or TSV file, counted from 1, is blank in every column.

    >>> is_blank_row(Path("reviews.csv"), 2)
    False
    """
    if path.suffix.lower() not in (".csv", ".tsv"):
        return False
    row = next(islice(_separated(path, str(path))[1], number - 1, None), None)
    return row is not None and not any(cell.strip() for cell in row)


def count_rows(path: Path) -> int:
    """Count the rows of a file; raises the errors of `read_columns` except those about columns.

    Values of JSON Lines and Parquet files are not parsed.

    >>> count_rows(Path("reviews.csv"))
    2
    """
    kind = suffix(path, str(path))
    if kind == ".parquet":
        with _parquet_file(path, str(path)) as file:
            return int(file.metadata.num_rows)
    if kind == ".jsonl":
        return sum(bool(line.strip()) for line in text_lines(path))
    return sum(1 for _ in _separated(path, str(path))[1])


def write_columns(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length so that `read_columns` can read them; the extension gives the format.

    CSV and TSV store only text: None becomes an empty cell, a list or dict its JSON, any other value its `str`.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file; an existing file is overwritten.
        columns: texts, numbers, booleans or None by column name.

    Raises:
        RkdError: unsupported format; a tab or line break in a value for a .tsv file, which cannot represent it; or a
            column of several types for a .parquet file.

    >>> write_columns(Path("answers.csv"), {"prediction": ["good", "bad"]})
    """
    kind = suffix(path, str(path))
    if kind == ".parquet":
        import pyarrow
        import pyarrow.parquet

        arrays = {}
        for name, values in columns.items():
            try:
                arrays[name] = pyarrow.array(values)
            except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
                hint = "write .jsonl"
                raise RkdError(
                    f"{path}: found values of several types in column {name!r}; expected one type in a .parquet file: "
                    f"{hint}"
                ) from None
        with atomic_path(path) as temporary:
            pyarrow.parquet.write_table(pyarrow.table(arrays), temporary)
        return
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines(kind, columns, str(path)))


def lines(kind: str, columns: Mapping[str, Sequence[Any]], where: str) -> Iterator[str]:
    r"""Yield the lines of a .csv, .tsv or .jsonl file with columns of equal length, as `write_columns` writes them.

    Args:
        kind: the file extension.
        columns: see `write_columns`.
        where: the file's name in errors.

    >>> list(lines(".csv", {"prediction": ["good", None]}, "answers"))
    ['prediction\n', 'good\n', '""\n']
    """
    for name, values in columns.items():
        if any(isinstance(value, bytes) for value in values):
            hint = "write .parquet, or leave the column out"
            raise RkdError(
                f"{where}: found bytes in column {name!r}; expected text or numbers in a {kind} file: {hint}"
            )
    rows: Iterator[tuple[Any, ...]] = zip(*columns.values(), strict=True)
    if kind == ".jsonl":
        for row in rows:
            line = jsonable(dict(zip(columns, row, strict=True)))
            yield json.dumps(line, ensure_ascii=False, allow_nan=False, default=str) + "\n"
        return
    separator, cell = (",", _csv_cell) if kind == ".csv" else ("\t", _tsv_cell)
    for number, values in enumerate([tuple(columns), *rows]):
        place = f"{where}, row {number}" if number else f"{where}, the header"
        yield separator.join(cell(place, _text(value)) for value in values) + "\n"


def _text(value: Any) -> str:
    if isinstance(value, list | dict):
        return json.dumps(jsonable(value), ensure_ascii=False, default=str)
    return "" if value is None else str(value)


def _csv_cell(_: str, text: str) -> str:
    # Python's csv.writer does not quote a lone carriage return, and readers would end the row there.
    return '"' + text.replace('"', '""') + '"' if not text or re.search(r'[",\r\n]', text) else text


def _tsv_cell(where: str, text: str) -> str:
    if re.search(r"[\t\r\n]", text):
        hint = "write .csv, .jsonl or .parquet"
        raise RkdError(f"{where}: found a tab or a line break in {shown(text)}; expected none in a .tsv file: {hint}")
    return text


def suffix(path: Path, where: str) -> str:
    """Return the lower-case extension of a file name; RkdError unless it is one of `SUFFIXES`."""
    found = path.suffix.lower()
    if found not in SUFFIXES:
        problem = f"unsupported file extension '{path.suffix}'" if found else "the file's name has no extension"
        raise RkdError(f"{where}: {problem}; expected one of {', '.join(SUFFIXES)}")
    return found


def chosen_columns(where: str, names: Sequence[Any], wanted: Sequence[str], optional: Sequence[str] = ()) -> list[str]:
    """Return the wanted and the existing optional columns; RkdError if one is missing or occurs twice."""
    names = list(names)
    if missing := [name for name in dict.fromkeys(wanted) if name not in names]:
        found = listed(_short(repr(one), 80) for one in names) or "none"
        subject = f"column {missing[0]!r} is" if len(missing) == 1 else f"columns {listed(map(repr, missing))} are"
        raise RkdError(f"{where}: {subject} missing; found {found}{_column_hint(where, wanted, names)}")
    for name in (*wanted, *optional):
        if names.count(name) > 1:
            raise RkdError(f"{where}: column '{name}' occurs {names.count(name)} times; expected once")
    return [*wanted, *(name for name in optional if name in names)]


def _column_hint(where: str, wanted: Sequence[str], names: Sequence[Any]) -> str:
    """Return a hint why wanted columns are missing from a header, or an empty string."""
    missing = [name for name in wanted if name not in names]
    alone = str(names[0]) if len(names) == 1 else ""
    kind = Path(where).suffix.lower()
    if kind == ".csv" and any(character in alone for character in "\t;|"):
        return "; fields of a .csv file are separated by commas"
    if kind == ".tsv" and any(f'"{name}"' in names for name in missing):
        return "; quotes in a .tsv file are part of its fields"
    folded = {_fold(name): name for name in reversed(names) if name not in wanted}
    close = [difflib.get_close_matches(_fold(name), folded, n=1) for name in missing]
    near = dict.fromkeys(_short(repr(folded[found[0]]), 80) for found in close if found)
    return f"; did you mean {listed(near)}?" if near else ""


def _fold(name: Any) -> str:
    """Return a name without case and surrounding white space, the differences that are easiest to overlook."""
    return str(name)[:200].strip().casefold()


def shown(value: Any) -> str:
    """Format a value for messages: on one line, at most 80 characters, surrogates escaped."""
    return "nothing" if value is None or value == "" else _short(repr(value), 80)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def text_lines(path: Path, where: str | None = None, *, ends: bool = False) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file, separated by line feeds only, without a byte order mark.

    Args:
        path: the file.
        where: its name in errors; its path by default.
        ends: keep the line ends (`\n`, `\r\n`).

    Raises:
        RkdError: the file is missing or unreadable, or a line is not UTF-8 or contains a NUL byte; the message names
            the line.
    """
    where = where or str(path)
    with opened(path, where) as file:
        for number, line in enumerate(file, 1):
            if b"\0" in line:
                raise RkdError(f"{where}, line {number}: found a NUL byte, as in UTF-16; expected UTF-8 text")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                found = error.object[error.start]
                raise RkdError(f"{where}, line {number}: found byte 0x{found:02x}; expected UTF-8 text") from None
            yield text if ends else text.removesuffix("\n").removesuffix("\r" if text.endswith("\r\n") else "")


@contextmanager
def opened(path: Path, where: str) -> Iterator[BinaryIO]:
    """Open a file for reading; an OSError becomes an RkdError."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise RkdError(f"{where}: file not found") from None
    except (OSError, ValueError) as error:  # ValueError: the path contains a NUL character
        raise RkdError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    with file:
        try:
            yield file
        except OSError as error:
            raise RkdError(f"{where}: cannot be read: {error.strerror or error}") from None


def _separated(path: Path, where: str) -> tuple[list[str], Iterator[list[str]]]:
    """Return the header and the rows of a CSV or TSV file; every row has as many fields as the header."""
    if path.suffix.lower() == ".csv":
        records = _csv_records(where, text_lines(path, where, ends=True))
    else:
        lines = enumerate(text_lines(path, where), 1)
        records = ((number, line.split("\t") if line else []) for number, line in lines)
    _, header = next(records, (1, None))
    if header is None:
        raise RkdError(f"{where}: the file is empty; expected a line with the columns' names")
    if not header:
        raise RkdError(f"{where}: line 1 is empty; expected the columns' names")
    if _FOR_EXCEL.fullmatch("\t".join(header)):
        raise RkdError(f"{where}: line 1 is Excel's {shown(header[0])}; expected the columns' names: remove it")

    def rows() -> Iterator[list[str]]:
        number, empty = 0, 0
        for line, cells in records:
            if not cells:  # an empty line, often the last one
                empty = empty or line
                continue
            if empty and len(header) == 1:  # ambiguous: no row, or a row with an empty value
                raise RkdError(f"{where}, line {empty}: the line is empty; expected a value, or no line")
            number += 1
            if len(cells) != len(header):
                raise RkdError(
                    f"{where}, row {number} (line {line}): found {len(cells)} fields; expected {len(header)}, as the "
                    "header has"
                )
            yield cells

    return header, rows()


def _csv_records(where: str, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the fields of each record; an empty line has no fields."""
    csv.field_size_limit(sys.maxsize)
    # A lone carriage return also ends a row; old spreadsheet programs write it.
    reader = csv.reader((part for line in lines for part in io.StringIO(line, newline="")), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "double a quote inside a quoted field"
            raise RkdError(f"{where}, line {line}: {error}; expected valid CSV ({hint})") from None


def _json_rows(where: str, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    pairs: list[tuple[str, Any]] = []

    def as_object(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # the outermost object comes last
        return dict(found)

    decoder = json.JSONDecoder(object_pairs_hook=as_object)
    for number, line in enumerate((line for line in lines if line.strip()), 1):
        try:
            row = decoder.decode(line)
        except json.JSONDecodeError as error:
            if number == 1 and line.lstrip().startswith("["):
                raise RkdError(f"{where}: found a JSON array over several lines; {_OBJECTS}") from None
            raise RkdError(
                f"{where}, row {number}: not JSON: {error.msg} at character {error.colno}; expected one object per line"
            ) from None
        except RecursionError:
            raise RkdError(f"{where}, row {number}: nested too deeply; expected texts and numbers by column") from None
        except ValueError:  # longer than Python's limit for converting text to int
            raise RkdError(
                f"{where}, row {number}: found a number with thousands of digits; expected a shorter one"
            ) from None
        if not isinstance(row, dict):
            found = "array" if isinstance(row, list) else type(row).__name__
            raise RkdError(f"{where}, row {number}: found a JSON {found}; {_OBJECTS}")
        if len(row) != len(pairs):
            names = [name for name, _ in pairs]
            name = next(name for name in names if names.count(name) > 1)
            found = f"column {_short(repr(name), 80)} occurs {names.count(name)} times"
            raise RkdError(f"{where}, row {number}: {found}; expected once")
        yield row


def _by_key(
    where: str, rows: Iterable[Mapping[str, Any]], wanted: Sequence[str] | None, optional: Sequence[str]
) -> Columns:
    """Return columns from rows that may lack some keys; None wants all."""
    columns: Columns = {name: [] for name in (*(wanted or ()), *optional)}
    names: dict[str, None] = {}
    for number, row in enumerate(rows):
        names.update(dict.fromkeys(row))
        if wanted is None:
            for name in row:
                columns.setdefault(name, [None] * number)
        for name, values in columns.items():
            values.append(row.get(name))
    if not any(columns.values()):
        raise RkdError(f"{where}: found no rows; expected at least one")
    chosen = chosen_columns(where, list(names), list(names) if wanted is None else wanted, optional)
    return {name: columns[name] for name in chosen}


def _parquet(path: Path, where: str, wanted: Sequence[str] | None, optional: Sequence[str]) -> Columns:
    with _parquet_file(path, where) as file:
        if wanted is None:
            names = chosen_columns(where, file.schema_arrow.names, file.schema_arrow.names)
        else:
            names = _parquet_columns(where, file.schema_arrow, wanted, optional)
        table = file.read(columns=names)
        return {name: _values(where, name, table[name]) for name in names}


def _parquet_columns(where: str, schema: Any, wanted: Sequence[str], optional: Sequence[str]) -> list[str]:
    """Return the chosen columns of a pyarrow schema; RkdError if one contains neither text nor numbers."""
    names = chosen_columns(where, schema.names, wanted, optional)
    for name in names:
        if not _plain(schema.field(name).type):
            found = schema.field(name).type
            raise RkdError(f"{where}, column '{name}': found values of type {found}; expected text or numbers")
    return names


@contextmanager
def _parquet_file(path: Path, where: str) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    with opened(path, where) as file:
        try:
            yield pyarrow.parquet.ParquetFile(file)
        except RkdError:
            raise
        # Damaged files raise many kinds of exceptions.
        except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
            reason = _short(" ".join(str(error).split()), 200)
            raise RkdError(f"{where}: cannot be read as Parquet: {reason}") from None


def _plain(kind: Any) -> bool:
    """Return True for the pyarrow types of text, numbers, booleans and all-null columns, and of lists of them."""
    import pyarrow.types as types

    if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    checks = (types.is_string, types.is_large_string, types.is_string_view, types.is_null, types.is_boolean)
    return any(check(kind) for check in (*checks, types.is_integer, types.is_floating, types.is_decimal))


def _values(where: str, name: str, column: Any) -> list[Any]:
    values: list[Any] = []
    try:
        values.extend(value.as_py() for value in column)
    except UnicodeDecodeError as error:
        place, found = f"row {len(values) + 1}, column '{name}'", error.object[error.start]
        raise RkdError(f"{where}, {place}: found byte 0x{found:02x}; expected UTF-8 text") from None
    return values
