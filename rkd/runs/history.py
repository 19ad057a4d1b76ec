"""history.jsonl, the evaluations of a run."""

from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.specs.renamed import current
from rkd.utils.json_values import TEXTS, checked, object_schema, parse_json, read_text

_SCORE = {"type": ["number", "null"]}
_EVALUATION = object_schema(
    ["epoch", "step", "primary_score"],
    epoch={"type": "number", "minimum": 0},
    step={"type": "integer", "minimum": 0},
    seconds={"type": "number"},
    primary_score=_SCORE,
    held_out=_SCORE,
    held_out_loss=_SCORE,
    train={"type": "object", "additionalProperties": _SCORE},
    dev={"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _SCORE}},
    teacher={"type": "object", "required": ["primary_score"], "additionalProperties": _SCORE},
    warnings=TEXTS,
)


def read_history(file: str | Path) -> list[dict[str, Any]]:
    """Read the evaluations in a history.jsonl, at least one.

    Raises:
        RkdError: the file is missing or empty, or a line of it is no evaluation; the message names the line.
    """
    lines = read_text(file).removesuffix("\n").split("\n")
    if lines == [""]:
        raise RkdError(f"{file}: no evaluations; expected one JSON object per line")
    named = ((f"{file}, line {number}", line) for number, line in enumerate(lines, 1))
    return [checked(_EVALUATION, current(parse_json(line, where)), where) for where, line in named]
