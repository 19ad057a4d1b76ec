"""What a job needs to know, as frozen dataclasses with one canonical JSON text each.

Apart from the plan, which builds them, so that a change of the plan or of the config checker is no change of the code
that trains.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from rkd.errors import RkdError

TRAINING_KEYS = (
    "learning_rate",
    "epochs",
    "batch_size",
    "gradient_accumulation",
    "weight_decay",
    "warmup_ratio",
    "max_grad_norm",
    "adam_epsilon",
    "precision",
    "group_by_length",
    "selection",
    "held_out_fraction",
)


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces. Snakemake compares it to decide on a re-run."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """A block whose errors say that a text is not the JSON of a spec."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RkdError(f"{what}: found something that rkd does not write: {error!r}") from None


class Spec:
    """A frozen dataclass with a canonical JSON form."""

    def json(self) -> str:
        """Canonical JSON of all fields, but for those that only tasks of one's own have."""
        fields = asdict(self)  # type: ignore[call-overload]
        return canonical_json({key: value for key, value in fields.items() if (key, value) != ("custom_task", None)})


@dataclass(frozen=True)
class DataSpec(Spec):
    """How one task's data are read and tokenised; the arguments of `prepare_data`.

    Attributes:
        tokenizer_content: the digest of a local tokenizer's files; None for one on the hub and for a vocabulary that is
            built from the data.
        custom_task: of a task of one's own: its definition (see `tasks.define`), `files` (format and SHA-256 by split;
            the place decides nothing), `scores`, `dev_fraction` and `dev_seed`.
    """

    task: str
    source: str
    path: str | None
    revision: str | None
    tokenizer: str
    tokenizer_revision: str | None
    vocab_size: int
    max_length: int
    synthetic_rows: list[int] | None
    custom_task: dict[str, Any] | None = None
    tokenizer_content: str | None = None


@dataclass(frozen=True)
class ModelSpec(Spec):
    """Where a model's first weights come from.

    Attributes:
        source: the model reference, see `rkd.models.source`.
        revision: the commit of a model on the hub.
        sha256: what the weights must have, see `rkd.models.files.weights_sha256`.
        layers_of: the teacher's source, for `teacher-layers:`.
        content: the digest of a local model, see `rkd.models.source.ModelSource.content`; None of the others.
    """

    source: str
    revision: str | None = None
    sha256: str | None = None
    layers_of: "ModelSpec | None" = None
    content: str | None = None

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Read what `json` wrote; RkdError if it is something else."""
        with _told("model spec"):
            return cls._from(json.loads(text))

    @classmethod
    def _from(cls, fields: Mapping[str, Any]) -> "ModelSpec":
        above = fields.get("layers_of")
        return cls(**{**fields, "layers_of": None if above is None else cls(**above)})


@dataclass(frozen=True)
class RunSpec(Spec):
    """All that decides a training run, apart from its code and data.

    Attributes:
        variant: "teacher", or a name from `variants` in the config.
        training: the keys of TRAINING_KEYS, but for what the selection does not read.
        options: what the method itself reads, for example alpha and layer_map.
        custom_task: the definition of a task of one's own, see `tasks.define`.
    """

    task: str
    variant: str
    method: str
    seed: int
    model: ModelSpec
    training: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    custom_task: dict[str, Any] | None = None

    @classmethod
    def from_json(cls, text: str) -> "RunSpec":
        """Read what `json` wrote; RkdError if it is something else."""
        with _told("run spec"):
            fields = json.loads(text)
            return cls(**{**fields, "model": ModelSpec._from(fields["model"])})
