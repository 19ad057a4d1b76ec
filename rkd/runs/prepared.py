"""A prepared task whose files are as they were written, by its manifest. Trainings import this and nothing beside."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.utils.files import digests

# The tokenizer that the teacher reads, and that of students with a vocabulary of their own.
TOKENIZER, STUDENT_TOKENIZER = "tokenizer", "student-tokenizer"
# What the names of the columns with the tokens of the latter begin with.
STUDENT = "student_"
PARTS = ("dataset", TOKENIZER, STUDENT_TOKENIZER)
# Where data come from decides nothing: the same texts from another place are the same data.
_DECIDING = (
    "task",
    "splits",
    "max_length",
    "synthetic",
    "tokenizer",
    "student_tokenizer",
    "custom_task",
    "soft_labels",
)
_PLACES = {
    "tokenizer": ("reference", "revision"),
    "student_tokenizer": ("reference", "revision"),
    "custom_task": ("files", "soft_labels"),
}


def content_digest(manifest: Mapping[str, Any]) -> str:
    """Compute the `sha256` of a manifest, over everything in it that decides a result.

    That is the content of the splits (texts and labels), the tokenizer, the length at which texts are cut, and the
    task. Left out are the places that all this was read from, and `files`, whose bytes depend on library versions.

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


def read_unchanged(folder: Path) -> dict[str, Any]:
    """Read the manifest of a prepared task and compare all files with the digests in it.

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
