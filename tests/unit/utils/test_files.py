"""Atomic writes, JSON without NaN, and digests."""

import hashlib
import json
import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkd.utils.files import atomic_path, atomic_write_text, jsonable, sha256, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Atomic writes.


def test_a_file_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with atomic_path(path) as temporary:
        temporary.write_text("a,b")
        assert not path.exists()
        assert temporary.parent == path.parent, "another file system could not rename it in one go"
    assert path.read_text() == "a,b"
    assert names(path.parent) == ["table.csv"]


def test_a_folder_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old.bin").touch()
    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "new.bin").touch()
        assert names(path) == ["old.bin"]
    assert names(path) == ["new.bin"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("old_is_folder", [False, True])
def test_failure_leaves_the_old_content_and_nothing_else(tmp_path, folder, old_is_folder):
    path = tmp_path / "result"
    if old_is_folder:
        path.mkdir()
        (path / "old").touch()
    else:
        path.write_text("old")

    def fail():
        with atomic_path(path) as temporary:
            if folder:
                temporary.mkdir()
                (temporary / "half").touch()
            else:
                temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == ["result"]
    assert names(path) == ["old"] if old_is_folder else path.read_text() == "old"


def test_a_block_that_writes_nothing_is_an_error_and_loses_nothing(tmp_path):
    (tmp_path / "result").mkdir()
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "result"):
        pass
    assert names(tmp_path) == ["result"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_may_replace_a_folder_and_a_folder_a_file(tmp_path, folder):
    path = tmp_path / "result"
    if folder:
        path.write_text("old")
    else:
        path.mkdir()
        (path / "old").touch()
    with atomic_path(path) as temporary:
        if folder:
            temporary.mkdir()
        else:
            temporary.write_text("new")
    assert path.is_dir() == folder
    assert names(tmp_path) == ["result"]


def test_a_link_is_replaced_and_its_target_kept(tmp_path):
    target, path = tmp_path / "target", tmp_path / "result"
    target.mkdir()
    (target / "kept").touch()
    path.symlink_to(target)
    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert (names(target), names(path), path.is_symlink()) == (["kept"], ["new"], False)


def test_what_a_killed_process_left_is_not_mixed_in(tmp_path):
    stale = tmp_path / f".model.{os.getpid()}.tmp"
    stale.mkdir()
    (stale / "half").touch()
    with atomic_path(tmp_path / "model") as temporary:
        temporary.mkdir()
    assert names(tmp_path / "model") == []


def test_text_is_utf_8(tmp_path):
    atomic_write_text(tmp_path / "text", "α → β")
    assert (tmp_path / "text").read_bytes() == "α → β".encode()


# JSON.


def test_undefined_numbers_become_null(tmp_path):
    value = {"a": [1.5, math.nan, (math.inf, -math.inf)], "b": {"c": np.float64("nan"), "d": "NaN"}, 3: True}
    write_json(tmp_path / "x.json", value)
    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert found == {"a": [1.5, None, [None, None]], "b": {"c": None, "d": "NaN"}, "3": True}


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_anything_becomes_strict_json(value):
    text = json.dumps(jsonable(value), allow_nan=False)
    assert jsonable(json.loads(text)) == json.loads(text)


# Digests.


def test_sha256(tmp_path):
    content = os.urandom((1 << 20) + 17)  # longer than a block
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
