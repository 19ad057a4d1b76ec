"""Whatever has become of a run's files, their readers return what their users rely on or raise one `RkdError`."""

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import rkd
from rkd.config import arguments
from rkd.errors import RkdError
from rkd.export.card import model_card
from rkd.report.figures.tradeoffs import read_seconds
from rkd.report.inputs import read_histories, read_metrics
from rkd.report.statistics.predictions import Predictions
from rkd.report.tables.profiling import METHOD_NUMBERS, MODEL_NUMBERS, CostTable, EfficiencyTable, read_measurements
from rkd.report.tables.provenance import provenance
from rkd.runs.manifest import read_manifest
from rkd.runs.predictions import read_predictions
from rkd.runs.record import read_record
from rkd.runs.result import read_result
from rkd.utils.json_values import parse_json
from rkd.workflow import forecast
from tests.helpers import ROOT
from tests.helpers.distillation import TINY, reviews
from tests.helpers.report_inputs import METHODS, METRICS, MODELS
from tests.helpers.seeds import SOAK

EXAMPLES = 1500 if SOAK else 60
fuzz = settings(max_examples=EXAMPLES, derandomize=True, suppress_health_check=list(HealthCheck))

# What a value may have become: of another type, too large, not of this world.
OTHER = st.sampled_from(
    [None, True, False, 0, -1, 1.5, 10**30, 10**400, "", "x", "../x", "\0", "{}", [], [1], ["x"], {}, {"x": 1}, [[]]]
)
TEXTS = ["", "{", "[]", "null", "NaN", '{"a": NaN}', "1e999", '"\\ud800"', "[" * 100_000, "{}\n{}", '{"spec": {}}']


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*above, key)
        yield from places(item, (*above, key))


def changed(value: Any, path: tuple[Any, ...], other: Any, drop: bool) -> Any:
    value = copy.deepcopy(value)
    place = value
    for key in path[:-1]:
        place = place[key]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = other
    return value


@st.composite
def damaged(draw: Callable[..., Any], good: Any) -> bytes:
    """The JSON text of `good` with one value changed or gone, or with bytes changed or gone."""
    if draw(st.booleans()):
        path = draw(st.sampled_from(list(places(good))))
        return json.dumps(changed(good, path, draw(OTHER), draw(st.booleans()))).encode()
    text = bytearray(json.dumps(good).encode())
    at = draw(st.integers(0, len(text) - 1))
    if draw(st.booleans()):
        return bytes(text[:at])
    text[at] = draw(st.integers(0, 255))
    return bytes(text)


def only_rkd_errors(read: Callable[[], Any], file: Path) -> None:
    """Read what may be damaged; an error has one line and names the file, or one beside it that contradicts it."""
    told = None
    try:
        read()
    except RkdError as error:
        told = str(error)
    names = [file.parent.name, file.name, *os.listdir(file.parent)]
    assert told is None or (any(name in told for name in names) and "\n" not in told), told


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A finished distillation, in the place of one of the workflow's students, too.

    Its record lists no outputs, as those of earlier versions: with them, no reader would see a damaged file.
    """
    folder = tmp_path_factory.mktemp("fuzz")
    rkd.distill(reviews(40), dev=reviews(20, 1), out=folder / "out", **TINY)
    file = folder / "out/student/run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "outputs": None}))
    place = folder / "results/students/mrpc/kd/seed-1"
    place.parent.mkdir(parents=True)
    place.symlink_to(folder / "out/student")
    return folder / "out"


@pytest.fixture(scope="module")
def record(out):
    """run.json without the many digests, of which one of each kind is enough."""
    content = json.loads((out / "student/run.json").read_text())
    for key in ("code", "teacher"):
        content[key] = dict(list(content[key].items())[:1])
    return content


def read_all_of(out: Path) -> Iterator[Callable[[], Any]]:
    """All that reads a run's record."""
    folder, place = out / "student", out.parent / "results/students/mrpc/kd/seed-1/run.json"
    yield lambda: model_card(read_result(folder), "name")
    yield lambda: arguments.check_classifier(folder, labelled=True)
    yield lambda: read_seconds([place])
    yield lambda: provenance([place], 1).grid().markdown()
    yield lambda: provenance([place], 1).sidecar()
    yield lambda: forecast._measured(out.parent / "results")


@given(data=st.data())
@fuzz
def test_records(data, out, record):
    file = out / "student/run.json"
    before = file.read_bytes()
    try:
        file.write_bytes(data.draw(damaged(record)))
        for read in read_all_of(out):
            only_rkd_errors(read, file)
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize("text", TEXTS)
def test_records_that_are_none(text, out):
    file = out / "student/run.json"
    before = file.read_bytes()
    try:
        file.write_text(text)
        for read in list(read_all_of(out))[:4]:
            with pytest.raises(RkdError, match=r"run\.json: "):
                read()
        assert forecast._measured(out.parent / "results") == {}
    finally:
        file.write_bytes(before)


@given(data=st.data())
@fuzz
def test_histories(data, out):
    file = out / "student/history.jsonl"
    place = out.parent / "results/students/mrpc/kd/seed-1/history.jsonl"
    before = file.read_bytes()
    lines = before.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at] = data.draw(damaged(json.loads(lines[at])))
    try:
        file.write_bytes(b"\n".join(lines))
        only_rkd_errors(lambda: model_card(read_result(out / "student"), "name"), file)
        only_rkd_errors(lambda: read_histories([place]), file)
        only_rkd_errors(lambda: forecast._measured(out.parent / "results"), file)
    finally:
        file.write_bytes(before)


@given(data=st.data())
@fuzz
def test_manifests(data, out):
    file = out / "data/manifest.json"
    before = file.read_bytes()
    try:
        file.write_bytes(data.draw(damaged(json.loads(before))))
        only_rkd_errors(lambda: model_card(read_result(out / "student"), "name"), file)
        only_rkd_errors(lambda: read_manifest(file), file)
    finally:
        file.write_bytes(before)


@given(data=st.data())
@fuzz
def test_predictions(data, out):
    file = out / "student/predictions.parquet"
    place = str(out.parent / "results/students/mrpc/kd/seed-1/predictions.parquet")
    before = file.read_bytes()
    content = bytearray(before)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        file.write_bytes(content[: data.draw(st.sampled_from([None, len(content) // 2, len(content) - 9]))])
        only_rkd_errors(lambda: read_result(out / "student"), file)
        only_rkd_errors(lambda: read_predictions(file, ["split", "idx"]), file)
        only_rkd_errors(lambda: Predictions.read([place]), file)
    finally:
        file.write_bytes(before)


@given(content=damaged({**METRICS, "predictions_sha256": "0"}))
@fuzz
@example(content=b'{"task": "mrpc", "variant": "kd", "seed": 1e999}')
def test_metrics(content, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "metrics.json"
    file.write_bytes(content)
    only_rkd_errors(lambda: read_metrics([file]), file)


@pytest.mark.parametrize(
    ("good", "numbers", "table"),
    [
        (MODELS, MODEL_NUMBERS, lambda found: EfficiencyTable(tuple(found))),
        (METHODS, METHOD_NUMBERS, lambda found: CostTable(found[0], {})),
    ],
    ids=["models", "methods"],
)
@given(data=st.data())
@fuzz
def test_measurements(good, numbers, table, data, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "measured.json"
    file.write_bytes(data.draw(damaged(good)))

    def read():
        made = table(read_measurements([file], numbers))
        return made.grid().markdown(), made.sidecar()

    only_rkd_errors(read, file)


def test_published_records_are_read():
    files = sorted(ROOT.glob("results/published/**/run.json"))
    assert len(files) > 40
    for file in files:
        assert read_record(file, "spec", "data/sha256", "packages/torch", "seconds")["spec"]["task"]


def test_a_missing_key_is_named(tmp_path):
    (tmp_path / "run.json").write_text('{"packages": {"numpy": "2"}}')
    with pytest.raises(RkdError, match=r"run\.json: the key 'packages/torch' is missing; expected the record of a run"):
        read_record(tmp_path / "run.json", "packages/torch")


def test_json_that_could_not_be_written_again_is_refused():
    for text, problem in (
        ("NaN", "found NaN; expected a finite number"),
        ("-Infinity", "found -Infinity"),
        ("1e999", "found the number 1e999"),
        ("9" * 400, "found the number 9999999999999999999…"),
        ('"\\ud800"', "half of a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
    ):
        with pytest.raises(RkdError, match=f"^here: not JSON.*{problem}"):
            parse_json(text, "here")
    assert parse_json('["\\ud83d\\ude00", 1e300, -0.0]', "here") == ["😀", 1e300, -0.0]
