"""The identity of prepared data and of runs: a short digest of all settings that decide their content.

It names their folders in `results/`. What decides no content is left out: seeds and variants, which the path names,
and places. A local file counts by its content. Code is not included: an edited loss trains again in the same folder.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.specs.base import canonical_json
from rkd.specs.data import DataSpec
from rkd.specs.jobs import ModelSpec, RunSpec

# Ten hexadecimal digits: among 10,000 folders, two are alike by chance once in 20,000 stores.
DIGEST = "[0-9a-f]{10}"
_DIGITS = 10
LEFT = "teacher"  # the folder of a run with the teacher that it left behind
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


def teacher_digest(teachers: Sequence[str | Path], entropy_of: str | Path | None = None) -> str | None:
    """Return the digest of what a run learns from, or None for nothing.

    That of a single fine-tuned teacher is the one in its path.

    Args:
        teachers: the folders of the models, RUN/model, or RUN/teacher of a run that left one behind.
        entropy_of: the folder of the teacher whose soft labels have the entropy to match.

    >>> teacher_digest(["results/runs/mrpc/teacher-0123456789/seed-1/model"])
    '0123456789'
    """
    if not teachers:
        return None
    digests = [digest_in(place) for place in teachers]
    if len(teachers) == 1 and entropy_of is None:
        return digests[0]
    if None in digests:
        return None
    # All seeds of an ensemble count; the seed of a run beside which its own teacher lies does not.
    seeds = [Path(place).parent.name for place in teachers] if len(teachers) > 1 else None
    matched = None if entropy_of is None else digest_in(entropy_of)
    return _digest({"teachers": digests, "seeds": seeds, "entropy_of": matched})


def check_folder(
    spec: RunSpec, out: Path, data: Path, teachers: Sequence[Path], entropy_of: Path | None = None
) -> dict[str, Any]:
    """Refuse to train in a folder of other settings.

    Returns:
        The digests of data and teacher. Unless the teacher is the fine-tuned one of the same task and seed, also
        `learns_from`: the folders of `teachers` and `entropy_of` in the store, from `in_store`.

    Raises:
        RkdError: the digest in the name of `out` is not that of the settings.
    """
    inputs: dict[str, Any] = {"data": digest_in(data), "teacher": teacher_digest(teachers, entropy_of)}
    if len(teachers) > 1 or entropy_of is not None or any(place.name == LEFT for place in teachers):
        inputs["learns_from"] = {
            "teachers": [in_store(place) for place in teachers],
            "entropy_of": None if entropy_of is None else in_store(entropy_of),
        }
    if (named := digest_in(out)) is not None:
        found = run_digest(spec, inputs["data"] or "", inputs["teacher"])
        if found != named:
            raise RkdError(f"{out}: its settings, data and teacher have the digest {found}; expected {named}")
    return inputs


def in_store(model: str | Path) -> str:
    """Return the place of a run's model beside the other runs of its task.

    >>> in_store("results/runs/mrpc/reptile-0123456789/seed-1/teacher")
    'reptile-0123456789/seed-1/teacher'
    """
    return "/".join(Path(model).parts[-3:])


def _model(spec: ModelSpec) -> dict[str, Any]:
    """Return what decides a model's weights: its content if it is local, else its name and revision."""
    found: dict[str, Any] = {"layers_of": None if spec.layers_of is None else _model(spec.layers_of)}
    if spec.content is not None:
        return {**found, "content": spec.content}
    return {**found, "source": spec.source, "revision": spec.revision}


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:_DIGITS]
