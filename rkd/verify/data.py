"""Prepared data against their manifest.json."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rkd.runs.paths import is_distillation
from rkd.runs.prepared import PARTS, content_digest
from rkd.specs.identity import DIGEST
from rkd.verify.finding import MISMATCH, UNCHECKED, Findings, finding, object_in, same_files, visible_files

_MANIFEST = ("task", "source", "path", "revision", "hub_name", "seed", "synthetic", "splits", "tokenizer")


def check_data(path: Path, root: Path) -> Findings:
    """Yield findings on a prepared task: its manifest and its files."""
    manifest = object_in(path)
    if manifest is None:
        yield finding(MISMATCH, path, "is no JSON object")
        return
    if lacking := [key for key in (*_MANIFEST, "max_length", "sha256") if key not in manifest]:
        yield finding(MISMATCH, path, f"lacks {', '.join(lacking)}")
        return
    named = re.sub(f"-{DIGEST}$", "", path.parent.name)
    if manifest["task"] != named and not is_distillation(path.parents[1]):
        yield finding(MISMATCH, path, f"its task is {manifest['task']}, its folder {path.parent.name}")
    yield from _consistent_source(path, manifest)
    files = manifest.get("files")
    expected = _older_digest(manifest) if files is None else content_digest(manifest)
    if expected != manifest["sha256"]:
        yield finding(MISMATCH, path, f"sha256: found {manifest['sha256']}; what it says gives {expected}")
    if files is None:
        yield finding(UNCHECKED, path, "lists no SHA-256 of its files")
        yield from _tokenizer(path.parent / "tokenizer" / "tokenizer.json", manifest["tokenizer"])
    else:
        yield from same_files(path.parent, files, MISMATCH, path.name)
    for file in visible_files(path.parent):
        name = file.relative_to(path.parent).as_posix()
        known = name.split("/")[0] in PARTS if files is None else name in files
        if not known and file != path:
            yield finding(MISMATCH, file, f"{path.name} does not list it")


def _consistent_source(path: Path, manifest: Mapping[str, Any]) -> Findings:
    """Yield findings on a manifest's source of data, by the name of the source."""
    source, synthetic = manifest["source"], manifest["synthetic"]
    hub, made = source == "hub", source == "synthetic"
    if synthetic is not made:
        yield finding(MISMATCH, path, f"synthetic: found {json.dumps(synthetic)} beside source {source}")
    for key, due in {"revision": hub, "hub_name": hub, "seed": made}.items():
        if (manifest[key] is not None) is not due:
            yield finding(MISMATCH, path, f"{key}: found {json.dumps(manifest[key])} beside source {source}")
    if ("custom_task" in manifest) != (source == "files"):
        there = "found" if "custom_task" in manifest else "none"
        yield finding(MISMATCH, path, f"custom_task: {there} beside source {source}")


def _older_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest in the form before it listed its files."""
    decisive = {key: manifest[key] for key in ("task", "splits", "max_length", "custom_task") if key in manifest}
    return _sha256_of(decisive | {"tokenizer": manifest["tokenizer"]["sha256"]})


def _tokenizer(file: Path, described: Mapping[str, Any]) -> Findings:
    """Yield findings on a tokenizer whose vocabulary is not the one that the manifest describes."""
    if not file.is_file():
        yield finding(UNCHECKED, file, "is not there")
        return
    from tokenizers import Tokenizer

    try:
        vocabulary = Tokenizer.from_file(str(file)).get_vocab()
    except Exception as error:  # the library's errors are of this class itself
        yield finding(MISMATCH, file, f"is no tokenizer: {error}")
        return
    for key, found in {"vocab_size": len(vocabulary), "sha256": _sha256_of(vocabulary)}.items():
        if described.get(key) != found:
            yield finding(MISMATCH, file, f"{key} of its vocabulary is {found}; the manifest has {described.get(key)}")


def _sha256_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
