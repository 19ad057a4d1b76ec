"""`rkd verify` finds every single change of a finished folder of results, and no damage makes it crash."""

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rkd.models import source as model_source
from rkd.verify import made, verify
from rkd.verify.finding import visible_files
from tests.helpers import results_tree
from tests.helpers.results_tree import DATA, KD, KD_METRICS, METRICS, TEACHER
from tests.helpers.seeds import SOAK


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results that nobody has touched."""
    folder = tmp_path_factory.mktemp("whole")
    results_tree.build(folder)
    return folder / "results"


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> results_tree.InProcess:
    return results_tree.InProcess(tmp_path_factory.mktemp("made"))


@pytest.fixture
def results(whole: Path, tmp_path: Path, in_process: results_tree.InProcess, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to change, in the working directory."""
    shutil.copytree(whole, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(made, "_run", in_process)
    return Path("results")


def changes(value: Any, key: tuple[Any, ...] = ()) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Every change of one place in a JSON value: its name, and a function that makes it in a copy."""

    def at(content: Any, place: tuple[Any, ...]) -> Any:
        for part in place:
            content = content[part]
        return content

    def replaced(place: tuple[Any, ...], new: Any) -> Callable[[Any], None]:
        return lambda content: at(content, place[:-1]).__setitem__(place[-1], new)

    name = ".".join(map(str, key))
    if key:
        yield f"{name} deleted", lambda content: at(content, key[:-1]).__delitem__(key[-1])
    if isinstance(value, dict):
        yield f"{name} with one more key", replaced((*key, "another"), 1)
    elif isinstance(value, list):
        yield f"{name} with one more item", lambda content: at(content, key).append(1)
    elif isinstance(value, bool):
        yield f"{name} negated", replaced(key, not value)
    elif isinstance(value, str):
        yield f"{name} with another end", replaced(key, f"{value}x")
        yield f"{name} emptied", replaced(key, "" if value else "x")
    elif value is None:
        yield f"{name} set", replaced(key, 1)
    else:
        yield f"{name} greater", replaced(key, value + 1)
        yield f"{name} nullified", replaced(key, None)
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in parts:
        yield from changes(inner, (*key, part))


# Each record, and the part that is verified when it is changed: less than all results, so that no other part helps but
# the tables, figures and the page that were made from it.
RECORDS = {
    f"{TEACHER}/run.json": TEACHER,
    f"{KD}/run.json": KD,
    KD_METRICS: KD_METRICS,
    f"{DATA}/manifest.json": DATA,
    "demo/tables/main.json": "demo/tables/main.json",
    "demo/tables/provenance.json": "demo/tables/provenance.json",
    "demo/figures/learning_curves.json": "demo/figures/learning_curves.json",
    "demo/report/index.json": "demo/report",
}


@pytest.mark.parametrize("record", RECORDS)
def test_every_key_of_a_record_that_is_deleted_or_changed_is_found(results: Path, record: str) -> None:
    path, part = results / record, results / RECORDS[record]
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    unseen = []
    for name, change in changes(content):
        changed = copy.deepcopy(content)
        change(changed)
        path.write_text(json.dumps(changed, indent=2), encoding="utf-8")
        if not verify([part]).findings:
            unseen.append(name)
    path.write_text(text, encoding="utf-8")
    assert verify([part]).findings == ()
    assert unseen == []


def flipped(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_every_file_that_is_deleted_or_has_another_bit_is_found(results: Path) -> None:
    unseen = []
    for file in list(visible_files(results)):
        content = file.read_bytes()
        file.unlink()
        if not verify([results]).findings:
            unseen.append(f"{file} deleted")
        file.write_bytes(content)
        for position in sorted({0, len(content) // 3, len(content) // 2, len(content) - 2}):
            flipped(file, position)
            if not verify([file]).findings:
                unseen.append(f"{file} with another bit at {position}")
            file.write_bytes(content)
    assert verify([results]).findings == ()
    assert unseen == []


def test_every_file_too_many_is_found(results: Path) -> None:
    unseen = []
    # An experiment's own folder may hold more, such as logs.
    folders = [folder for folder in results.rglob("*") if folder.is_dir() and folder.name != "demo"]
    for file in (folder / name for folder in folders for name in ("other.json", "other.txt", "model.bin", "run")):
        if file.is_dir():
            continue
        file.write_text("{}")
        if not verify([results]).findings:
            unseen.append(str(file))
        file.unlink()
    assert verify([results]).findings == ()
    assert unseen == []


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def mismatches(*paths: Path) -> str:
    return "\n".join(map(str, verify(list(paths)).mismatches))


def test_what_a_deleted_run_json_described_is_of_no_run(results: Path) -> None:
    (results / KD / "run.json").unlink()
    told = "run.json: is not there, but files that it should describe are"
    assert told in mismatches(results / KD)
    assert told in mismatches(results / KD / "predictions.parquet")


def test_outputs_that_are_emptied_or_lack_an_entry(results: Path) -> None:
    edited(results / KD / "run.json", lambda run: run["outputs"].pop("history.jsonl"))
    told = mismatches(results / KD)
    assert "run.json: outputs lack history.jsonl" in told
    assert "history.jsonl: run.json does not list it" in told
    edited(results / KD / "run.json", lambda run: run["outputs"].clear())
    assert "model/model.safetensors: run.json does not list it" in mismatches(results / KD)
    edited(results / KD / "run.json", lambda run: run.pop("outputs"))
    assert "run.json: lacks outputs" in mismatches(results / KD)


def test_files_too_many_beside_a_model(results: Path) -> None:
    (results / KD / "model/adapter.bin").write_bytes(b"1")
    assert mismatches(results / KD) == f"results/{KD}/model/adapter.bin: run.json does not list it"


def copied(results: Path, place: str, **spec: Any) -> Path:
    """A copy of a run under another name, whose record agrees with its folder."""
    folder = results / place
    shutil.copytree(results / KD, folder)
    edited(folder / "run.json", lambda run: run["spec"].update(spec))
    return folder


@pytest.mark.parametrize(
    ("place", "spec", "same"),
    [
        ("students/cola/kd/seed-2", {"seed": 2}, ["history.jsonl", "predictions.parquet", "model/model.safetensors"]),
        ("students/sst2/kd/seed-1", {"task": "sst2"}, ["history.jsonl", "predictions.parquet", "model/"]),
        ("students/cola/pkd/seed-1", {"variant": "pkd", "method": "pkd"}, ["history.jsonl"]),
    ],
)
def test_a_run_that_is_the_copy_of_another(results: Path, place: str, spec: dict[str, Any], same: list[str]) -> None:
    assert "as in a copy" not in str(verify([results]))
    folder = copied(results, place, **spec)
    told = [line for line in mismatches(folder).splitlines() if "as in a copy" in line]
    assert len(told) == len(same)
    for line, name in zip(told, same, strict=True):
        assert line.startswith(f"{folder}/run.json: its {name}")
        assert line.endswith(f" is that of {KD}, as in a copy")
    assert f"{KD}/run.json: its history.jsonl is that of {place}, as in a copy" in mismatches(results / KD)


def test_a_copy_whose_files_are_not_kept_is_known_by_its_record(results: Path) -> None:
    folder = copied(results, "students/cola/kd/seed-2", seed=2)
    for place in (folder, results / KD):
        shutil.rmtree(place / "model")
        (place / "predictions.parquet").unlink()
    assert mismatches(folder).count("as in a copy") == 3


def test_a_copy_whose_record_lists_no_outputs_is_known_by_its_files(results: Path) -> None:
    folder = copied(results, "students/cola/kd/seed-2", seed=2)
    edited(folder / "run.json", lambda run: run.pop("outputs"))
    assert mismatches(folder).count("as in a copy") == 3


def test_variants_of_one_seed_may_end_in_the_same_weights_and_predictions(results: Path) -> None:
    """As where an option makes no difference; the seconds in their histories differ."""
    folder = copied(results, "students/cola/pkd/seed-1", variant="pkd", method="pkd")
    history = folder / "history.jsonl"
    history.write_text(history.read_text() + "\n")
    edited(folder / "run.json", lambda run: run["outputs"].update({history.name: made.digest(history.absolute())}))
    assert "as in a copy" not in mismatches(folder)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("synthetic", False, "synthetic: found false; its run has true"),
        ("method", "reptile", 'method: found "reptile"; its run has "kd"'),
        ("custom_task", {"title": "Mine"}, "its run has"),
    ],
)
def test_what_a_metrics_file_says_of_its_run_is_compared_with_the_run(
    results: Path, key: str, value: Any, told: str
) -> None:
    for folder in ("demo/tables", "demo/report"):  # no table helps
        shutil.rmtree(results / folder)
    edited(results / KD_METRICS, lambda metrics: metrics.update({key: value}))
    assert told in mismatches(results / "demo/metrics")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda manifest: manifest.update(max_length=64), "sha256: found"),
        (lambda manifest: manifest.update(synthetic=False), "synthetic: found false beside source synthetic"),
        (lambda manifest: manifest.update(hub_name="glue"), 'hub_name: found "glue" beside source synthetic'),
        (lambda manifest: manifest["tokenizer"].update(vocab_size=4), "sha256: found"),
        (lambda manifest: manifest.update(path="x"), "manifest.json: sha256 is"),  # the page tells
    ],
)
def test_the_flags_of_a_manifest(results: Path, change: Callable[[dict[str, Any]], object], told: str) -> None:
    edited(results / f"{DATA}/manifest.json", change)
    assert told in mismatches(results / "data")


def test_other_files_of_prepared_data(results: Path) -> None:
    flipped(results / f"{DATA}/dataset/data.arrow", 7)
    edited(results / f"{DATA}/tokenizer/tokenizer.json", lambda tokenizer: tokenizer.update(normalizer=None, x=1))
    told = mismatches(results / "data")
    for name in ("dataset/data.arrow", "tokenizer/tokenizer.json"):
        assert f"results/{DATA}/{name}: sha256 is " in told
        assert f"changed since: results/{DATA}/{name}: sha256 is " in str(verify([results / KD]))


def test_prepared_data_whose_manifest_lists_no_files_have_at_least_its_vocabulary(results: Path) -> None:
    """As those of published results, which are older."""
    manifest = results / f"{DATA}/manifest.json"
    edited(manifest, lambda content: content.pop("files"))
    edited(manifest, lambda content: content.update(sha256=older_digest(content)))
    assert "manifest.json: lists no SHA-256 of its files" in str(verify([manifest]))
    file = results / f"{DATA}/tokenizer/tokenizer.json"
    assert "tokenizer.json" not in mismatches(results / "data")
    edited(file, lambda tokenizer: tokenizer["model"]["vocab"].update(c=3))
    assert "tokenizer.json: vocab_size of its vocabulary is 4; the manifest has 3" in mismatches(results / "data")
    file.write_text("{")
    assert "tokenizer.json: is no tokenizer" in mismatches(results / "data")


def older_digest(manifest: dict[str, Any]) -> str:
    parts = {key: manifest[key] for key in ("task", "splits", "max_length")}
    return results_tree.digest_of({**parts, "tokenizer": manifest["tokenizer"]["sha256"]})


def test_another_model_at_the_place_that_a_run_started_from(results: Path) -> None:
    model = Path("small.json")
    shutil.copy(results_tree.ROOT / "configs/models/bert-2x128.json", model)
    started = {"source": str(model), "content": model_source.parse(str(model)).content()}
    edited(results / KD / "run.json", lambda run: run["spec"]["model"].update(started))
    shutil.rmtree(results / "demo/tables")
    shutil.rmtree(results / "demo/report")
    assert verify([results / KD]).findings == ()
    edited(model, lambda config: config.update(num_hidden_layers=1))
    assert "run.json: model small.json: its digest is " in str(verify([results / KD]))
    model.unlink()
    assert "run.json: its model: " in str(verify([results / KD]))


def test_deleted_metrics(results: Path) -> None:
    (results / KD_METRICS).unlink()
    assert f"{KD_METRICS}: is not there" in mismatches(results)
    assert "run.json: has no metrics file in any experiment" in str(verify([results / KD]))


def test_a_sidecar_without_inputs(results: Path) -> None:
    shutil.rmtree(results / "demo/report")
    edited(results / "demo/tables/main.json", lambda sidecar: sidecar["origin"]["inputs"].clear())
    assert f"main.json: origin.inputs.results/{METRICS['teacher']}: found nothing" in mismatches(results)
    edited(results / "demo/tables/main.json", lambda sidecar: sidecar["origin"].pop("inputs"))
    assert "main.json: is no record" in mismatches(results)


def test_the_page_is_compared_with_what_its_command_makes(results: Path) -> None:
    page = results / "demo/report/index.html"
    page.write_text(page.read_text(encoding="utf-8").replace("Synthetic data, not GLUE", "GLUE", 1), encoding="utf-8")
    told = mismatches(results / "demo/report")
    assert "index.html: sha256 is" in told
    assert "index.html: line " in told
    assert "GLUE" in told
    assert len(max(told.splitlines(), key=len)) < 400, "no data URI is told in full"


def test_a_page_made_of_other_sources(results: Path) -> None:
    with (results / KD / "history.jsonl").open("a") as history:
        history.write('{"epoch": 2, "step": 9, "primary_score": 1.0}\n')
    told = mismatches(results / "demo/report")
    assert "history.jsonl: sha256 is" in told
    assert "index.json, made from it, recorded" in told


def test_a_figure_that_was_drawn_anew_with_its_record_is_told_by_the_page(results: Path) -> None:
    figure = results / "demo/figures/learning_curves.png"
    flipped(figure, 100)
    record = results / "demo/figures/learning_curves.json"
    edited(record, lambda content: content["origin"]["outputs"].update({figure.name: made.digest(figure.absolute())}))
    told = str(verify([results / "demo/figures"]))
    assert "is drawn in another way here, of the same sources" in told
    assert "index.json, made from it, recorded" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: spec.update(student_model="other"), "says student other; its runs have "),
        (lambda spec: spec.update(teacher_model="other"), "says teacher other"),
        (lambda spec: spec["selection"].update(student="last"), f"says selection last of students; {KD} has"),
        (lambda spec: spec["selection"].update(teacher="last"), f"says selection last of teachers; {TEACHER} has"),
        (
            lambda spec: spec["variants"][0].update(method="pkd"),
            f"says method pkd of kd; {KD} has kd",
        ),
    ],
)
def test_a_table_that_tells_settings_which_never_ran(
    results: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    """As by `report_only: true` with another config: all of the table agrees with itself."""
    shutil.rmtree(results / "demo/report")
    spec = results_tree.plan().report().as_dict()
    change(spec)
    metrics = [f"results/{path}" for path in METRICS.values()]
    results_tree.script(
        "make_main_table.py", "--spec", json.dumps(spec), "--out-dir", "results/demo/tables", "--metrics", *metrics
    )
    assert f"main.json: {told}" in mismatches(results / "demo/tables")


def test_a_page_that_tells_settings_which_never_ran(results: Path) -> None:
    config = json.loads(results_tree.plan().page())
    told = {**config, "student": {**config["student"], "epochs": 9}}
    arguments = ("--results", "results", "--citation", "CITATION.cff", "--tables", "main", "--figures")
    shutil.copy(results_tree.ROOT / "CITATION.cff", ".")
    page = ("--out", "results/demo/report/index.html")
    results_tree.script("make_report.py", "--config", json.dumps(told), *arguments, *page)
    assert f"index.json: says training.epochs 9; {KD} has " in mismatches(results / "demo/report")


# --- damage -------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(
    max_examples=3000 if SOAK else 120,
    derandomize=not SOAK,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(record=st.sampled_from(list(RECORDS)), seed=st.integers(0, 2**32), value=VALUES, byte=st.booleans())
def test_no_damage_makes_verification_crash(results: Path, record: str, seed: int, value: Any, byte: bool) -> None:
    """A record with another value of any kind at any place, or with other bytes."""
    path, rng = results / record, random.Random(seed)
    whole = path.read_bytes()
    try:
        if byte:
            content = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                content[rng.randrange(len(content))] = rng.randrange(256)
            path.write_bytes(content[: rng.randint(0, len(content))] if rng.random() < 0.3 else content)
        else:
            parts = json.loads(whole)
            place, key = rng.choice(list(places(parts)))
            place[key] = value
            path.write_text(json.dumps(parts), encoding="utf-8")
        checked = verify([results / RECORDS[record]])
        str(checked).encode()
        assert checked.findings or json.loads(path.read_bytes()) == json.loads(whole)
    finally:
        path.write_bytes(whole)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a JSON value: a dict or list, and the key or index in it."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        yield value, key
        yield from places(inner)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"spec": ' + b"[" * 100_000,
        b'{"spec": {"task": "cola", "variant": {}, "seed": [], "training": 1}, "outputs": {"../../x": 1}}',
        b'{"spec": {"task": "\\ud800\\n", "custom_task": {"text": 5}}}',
        b'{"origin": {"command": [], "inputs": {}, "code": {}}, "printed": 1}',
        b'{"origin": {"command": ["workflow_scripts/make_main_table.py", "--out-dir", "x", "--spec", "{"], '
        b'"inputs": {}, "code": {}}}',
    ],
)
@pytest.mark.parametrize("record", RECORDS)
def test_damaged_records_are_mismatches(results: Path, record: str, content: bytes) -> None:
    (results / record).write_bytes(content)
    checked = verify([results])
    assert [each for each in checked.mismatches if each.file == f"results/{record}"]
    assert "\n" not in "".join(each.text for each in checked.findings)


def test_names_that_no_file_can_have(results: Path) -> None:
    for name in ("x" * 300, "\0", "a\nb"):
        edited(
            results / "demo/tables/main.json",
            lambda table, name=name: table["origin"]["inputs"].update({f"results/{KD}/{name}": "x"}),
        )
        assert mismatches(results / KD), "a witness"
        assert mismatches(results / "demo/tables")
        edited(results / KD / "run.json", lambda run, name=name: run["outputs"].update({name: "x"}))
        assert mismatches(results / KD)


def test_a_folder_in_place_of_a_record(results: Path) -> None:
    (results / KD / "run.json").unlink()
    (results / KD / "run.json").mkdir()
    assert "run.json: is no run record" in mismatches(results / KD)


def test_verification_writes_nowhere(results: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    verify([results])
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_published_results_are_older_but_do_not_contradict_themselves(
    in_process: results_tree.InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "_run", in_process)
    published = results_tree.ROOT / "results/published"
    assert [str(each) for each in verify([published]).mismatches] == []
