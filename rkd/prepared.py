"""The manifest of a prepared task: what the data are, and whether its files are as they were written. No torch."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.utils.files import digests

PARTS = ("dataset", "tokenizer")
# Where data come from decides nothing: the same texts from another place are the same data.
_DECIDING = ("task", "splits", "max_length", "synthetic", "tokenizer", "custom_task")
_PLACES = {"tokenizer": ("reference", "revision"), "custom_task": ("files",)}


def content_digest(manifest: Mapping[str, Any]) -> str:
    """The `sha256` that a manifest has of itself, over all in it that decides a result.

    That is the content of the splits (texts and labels), the tokenizer, the length that texts are cut at, and what the
    task is. Not among it is where all that was read from, nor `files`, which another version of the libraries may write
    in another way.

    >>> content_digest(manifest) == manifest["sha256"]
    True
    """
    content = {key: manifest[key] for key in _DECIDING if key in manifest}
    for key, places in _PLACES.items():
        if isinstance(content.get(key), Mapping):
            content[key] = {name: value for name, value in content[key].items() if name not in places}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def file_digests(folder: str | Path) -> dict[str, str]:
    """SHA-256 of a prepared task's Arrow and tokenizer files, by their path in its folder.

    >>> list(file_digests("results/data/cola"))[-1]
    'tokenizer/tokenizer_config.json'
    """
    return digests(folder, *PARTS)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared task, after a look at whether it and all files that it lists are as they were written.

    Args:
        folder: a prepared task, for example results/data/mrpc.

    Raises:
        RkdError: the manifest or a file is missing or has another content; the message names it.
    """
    file = folder / "manifest.json"
    if not file.is_file():
        raise _changed(folder, f"{file}: missing")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _changed(folder, f"{file}: cannot be read as JSON ({' '.join(str(error).split())})") from None
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict):
        raise _changed(folder, f"{file}: lists no SHA-256 of its files")
    if (found := content_digest(manifest)) != manifest.get("sha256"):
        raise _changed(folder, f"{file}: what it says has the sha256 {found}; it records {manifest.get('sha256')}")
    there = file_digests(folder)
    for name, expected in listed.items():
        if name not in there:
            raise _changed(folder, f"{folder / name}: missing")
        if there[name] != expected:
            raise _changed(folder, f"{folder / name}: sha256 is {there[name]}; its manifest records {expected}")
    return manifest


def _changed(folder: Path, what: str) -> RkdError:
    return RkdError(
        f"{what}; expected a prepared task as it was written; `snakemake --force {folder}/manifest.json` makes it again"
    )
