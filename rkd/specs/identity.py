"""The identity of prepared data and of runs: a short digest of all settings that decide their content.

It names their folders in `results/`. What decides no content is left out: seeds and variants, which the path names,
and places. A local file counts by its content. Code is not included: an edited loss trains again in the same folder.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.specs.base import canonical_json
from rkd.specs.data import DataSpec
from rkd.specs.jobs import ModelSpec, RunSpec

# Ten hexadecimal digits: among 10,000 folders, two are alike by chance once in 20,000 stores.
DIGEST = "[0-9a-f]{10}"
_DIGITS = 10
_NAMED = re.compile(f".+-({DIGEST})")


def data_digest(spec: DataSpec) -> str:
    """Return the digest of a task's prepared data.

    >>> data_digest(spec) == data_digest(replace(spec, path="/elsewhere/glue"))
    True
    """
    settings = spec.as_dict()
    del settings["path"]
    if spec.tokenizer_content is not None:
        del settings["tokenizer"], settings["tokenizer_revision"]
    elif spec.tokenizer.endswith(".json"):  # a vocabulary is built from the data, whatever the model's sizes
        settings["tokenizer"] = None
        return _digest(settings)
    del settings["vocab_size"]  # a pretrained tokenizer has its own
    return _digest(settings)


def run_digest(spec: RunSpec, data: str, teacher: str | None) -> str:
    """Return the digest of a run.

    Args:
        spec: its settings.
        data: the digest of its data.
        teacher: the digest of its teacher's run; None for a method without a teacher.

    >>> run_digest(spec, data, None) == run_digest(replace(spec, seed=2, variant="another-name"), data, None)
    True
    """
    settings = spec.as_dict()
    del settings["seed"], settings["variant"]
    return _digest({**settings, "model": _model(spec.model), "data": data, "teacher": teacher})


def digest_in(path: str | Path) -> str | None:
    """Return the digest in the name of a folder of the store, or None for another path.

    >>> digest_in("results/runs/mrpc/teacher-0123456789/seed-1/model")
    '0123456789'
    """
    found = [match[1] for part in Path(path).parts if (match := _NAMED.fullmatch(part))]
    return found[-1] if found else None


def check_folder(spec: RunSpec, out: Path, data: Path, teacher: Path | None) -> dict[str, str | None]:
    """Refuse to train in a folder of other settings; return the digests of data and teacher, by name.

    Raises:
        RkdError: the digest in the name of `out` is not that of the settings.
    """
    inputs = {"data": digest_in(data), "teacher": None if teacher is None else digest_in(teacher)}
    if (named := digest_in(out)) is not None:
        found = run_digest(spec, inputs["data"] or "", inputs["teacher"])
        if found != named:
            raise RkdError(f"{out}: its settings, data and teacher have the digest {found}; expected {named}")
    return inputs


def _model(spec: ModelSpec) -> dict[str, Any]:
    """Return what decides a model's weights: its content if it is local, else its name and revision."""
    found: dict[str, Any] = {"layers_of": None if spec.layers_of is None else _model(spec.layers_of)}
    if spec.content is not None:
        return {**found, "content": spec.content}
    return {**found, "source": spec.source, "revision": spec.revision}


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:_DIGITS]
