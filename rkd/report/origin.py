"""How a table was made, recorded beside it: command, code and content of the inputs, for `rkd.verify` to repeat."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rkd.code_inputs import code_digests
from rkd.runtime import sha256


def origin(script: str, inputs: Iterable[str]) -> dict[str, Any]:
    """The origin of what the running script writes.

    Args:
        script: the script's own `__file__`.
        inputs: the files that it reads.

    Returns:
        `command`, the script's path in the project and its arguments (those of an `@FILE` in its place); `inputs`,
        SHA-256 by file; `code`, a digest by source file as in `rkd.code_inputs.code_digests`.

    Example:
        >>> origin("workflow_scripts/make_table.py", ["results/metrics/cola/kd/seed-1.json"])["command"][0]
        'workflow_scripts/make_table.py'
    """
    name = f"workflow_scripts/{Path(script).name}"
    lists = (Path(word[1:]).read_text().splitlines() if word.startswith("@") else [word] for word in sys.argv[1:])
    return {
        "command": [name, *(word for words in lists for word in words)],
        "inputs": {file: sha256(file) for file in inputs},
        "code": code_digests(name),
    }
