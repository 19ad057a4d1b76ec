"""Records of how a table, a figure or the page was made; `rkd.verify` repeats the command."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rkd.utils.files import sha256
from rkd.utils.project import ROOT
from rkd.utils.script import text_argument
from rkd.workflow.code_digest import code_digests


def origin(script: str, inputs: Iterable[str | Path], project_files: Iterable[str] = ()) -> dict[str, Any]:
    """Return the provenance of what the running script writes.

    Args:
        script: the script's own `__file__`.
        inputs: the files that it reads.
        project_files: other files of this project that it reads, such as a matplotlib style, relative to its root.

    Returns:
        A dictionary with three keys. `command` holds the script's path in the project and its arguments; the arguments
        in an `@FILE` replace it, and the text from standard input replaces "-". `inputs` maps files to their SHA-256.
        `code` maps source files to their digests, as in `rkd.workflow.code_digest.code_digests`.

    Example:
        >>> origin("workflow_scripts/make_main_table.py", ["results/metrics/cola/kd/seed-1.json"])["command"][0]
        'workflow_scripts/make_main_table.py'
    """
    name = f"workflow_scripts/{Path(script).name}"
    lists = (Path(word[1:]).read_text().splitlines() if word.startswith("@") else [word] for word in sys.argv[1:])
    read = {str(file): sha256(file) for file in inputs}
    return {
        "command": [name, *(text_argument(word) for words in lists for word in words)],
        "inputs": read | {file: sha256(ROOT / file) for file in project_files},
        "code": code_digests(name),
    }


def with_outputs(made: Mapping[str, Any], files: Iterable[Path]) -> dict[str, Any]:
    """Return the record with `outputs` added, the SHA-256 of each file written beside it, by name."""
    return {**made, "outputs": {file.name: sha256(file) for file in files}}
