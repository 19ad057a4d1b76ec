"""Commands in the records of earlier versions, as the scripts of today take them."""

import json
from pathlib import PurePosixPath

from rkd.specs.base import canonical_json
from rkd.specs.report import Axis

_SCRIPTS = {"make_table.py": "make_main_table.py", "plot_cost.py": "plot_score_vs_cost.py"}


def current_command(command: list[str]) -> list[str]:
    """Convert a recorded command to today's; one that is current, or damaged, stays as it is.

    >>> current_command(["workflow_scripts/make_table.py", "--out-dir", "results/tables"])
    ['workflow_scripts/make_main_table.py', '--out-dir', 'results/tables']
    """
    script = PurePosixPath(command[0])
    words = [str(script.with_name(_SCRIPTS.get(script.name, script.name))), *command[1:]]
    if not {"--spec", "--ablations", "--axis"} <= {*words[:-1]}:
        return words
    options = {name: words[words.index(name) + 1] for name in ("--spec", "--ablations", "--axis")}
    try:
        spec = json.loads(options["--spec"])
        cells = [cell for cell in json.loads(options["--ablations"]) if cell["axis"] == options["--axis"]]
        values = [(cell["value"], cell["variant"]) for cell in cells]
        axis = Axis.ordered(options["--axis"], values, cells[0].get("tasks", spec["tasks"]))
        changed = canonical_json({**spec, "axis": {"name": axis.name, "values": axis.values, "tasks": axis.tasks}})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return words
    for name in ("--ablations", "--axis"):
        place = words.index(name)
        del words[place : place + 2]
    words[words.index("--spec") + 1] = changed
    return words
