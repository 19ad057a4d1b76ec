"""The rules of the workflow as a picture: which stage feeds which, and how much of it has run."""

from collections.abc import Sequence
from typing import NamedTuple

from rkd.workflow.plan import Plan

WIDTH, HEIGHT = 116, 44  # of a box
OUTPUTS = "tables, figures"  # the rules that make one or several of them each
_PLACES = {  # centre of each box
    "prepare_data": (70, 100),
    "finetune_teacher": (215, 40),
    "train_student": (215, 160),
    "compute_metrics": (360, 100),
    OUTPUTS: (505, 100),
    "report": (650, 100),
}
# Both ways that a result takes: scores through the metrics; predictions, histories and records directly.
EDGES = (
    ("prepare_data", "finetune_teacher"),
    ("prepare_data", "train_student"),
    ("finetune_teacher", "train_student"),
    ("finetune_teacher", "compute_metrics"),
    ("train_student", "compute_metrics"),
    ("finetune_teacher", OUTPUTS),
    ("train_student", OUTPUTS),
    ("compute_metrics", OUTPUTS),
    (OUTPUTS, "report"),
)


class Node(NamedTuple):
    """A box: a rule or a group of rules, and what is said below its name."""

    name: str
    x: int
    y: int
    said: str


class Edge(NamedTuple):
    """An arrow from one box's border to another's, as an SVG path."""

    source: str
    target: str
    path: str


def graph(plan: Plan, missing: Sequence[tuple[str, str, int, str, str]]) -> tuple[list[Node], list[Edge]]:
    """Boxes with counts of runs, and arrows.

    Args:
        plan: what was to be run.
        missing: (task, variant, seed, …) of the runs without a result.
    """
    runs, lost = plan.runs(), {run[:3] for run in missing}

    def count(teachers: bool) -> str:
        mine = [run for run in runs if (run.variant == "teacher") == teachers]
        done = sum(run[:3] not in lost for run in mine)
        return f"{done} runs" if done == len(mine) else f"{done} of {len(mine)} runs"

    said = {
        "prepare_data": f"{len(plan.tasks)} task{'s' * (len(plan.tasks) != 1)}",
        "finetune_teacher": count(teachers=True),
        "train_student": count(teachers=False),
        "compute_metrics": "one file per run",
        OUTPUTS: "CSV, TeX, PDF, …",
        "report": "this page",
    }
    nodes = [Node(name, x, y, said[name]) for name, (x, y) in _PLACES.items()]
    return nodes, [Edge(source, target, _path(_PLACES[source], _PLACES[target])) for source, target in EDGES]


def _path(start: tuple[int, int], end: tuple[int, int]) -> str:
    """From the right border of a box to the left border of the next, or straight up or down; past a column, both."""
    down = 1 if end[1] > start[1] else -1
    above = end[1] - down * (HEIGHT // 2 + 2)
    if start[0] == end[0]:
        return f"M{start[0]} {start[1] + down * HEIGHT // 2}V{above}"
    left, right = start[0] + WIDTH // 2, end[0] - WIDTH // 2 - 2
    if right - left > WIDTH:
        return f"M{left} {start[1]}H{end[0]}V{above}"
    middle = (left + right) // 2
    return f"M{left} {start[1]}C{middle} {start[1]} {middle} {end[1]} {right} {end[1]}"
