"""The graph of the workflow's rules on the page, with the number of finished runs."""

from collections.abc import Sequence
from typing import NamedTuple

from rkd.workflow.plan import Plan

WIDTH, HEIGHT = 116, 44  # of a box
OUTPUTS = "tables, figures"  # one box for all rules that make tables or figures
_PLACES = {  # centre of each box
    "prepare_data": (70, 100),
    "finetune_teacher": (215, 40),
    "train_student": (215, 160),
    "compute_metrics": (360, 100),
    OUTPUTS: (505, 100),
    "report": (650, 100),
}
# Results reach the tables and figures as metrics, and directly as predictions, histories and records.
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
    """A box: a rule or a group of rules, with a line of text below its name."""

    name: str
    x: int
    y: int
    text: str


class Edge(NamedTuple):
    """An arrow between the borders of two boxes, as an SVG path."""

    source: str
    target: str
    path: str


def graph(plan: Plan, missing: Sequence[tuple[str, str, int, str, str]]) -> tuple[list[Node], list[Edge]]:
    """Return the boxes, with counts of runs, and the arrows.

    Args:
        plan: the planned runs.
        missing: (task, variant, seed, …) of each run without a result.
    """
    runs, unfinished = plan.runs(), {run[:3] for run in missing}

    def count(teachers: bool) -> str:
        planned = [run for run in runs if (run.variant == "teacher") == teachers]
        done = sum(run[:3] not in unfinished for run in planned)
        return f"{done} runs" if done == len(planned) else f"{done} of {len(planned)} runs"

    texts = {
        "prepare_data": f"{len(plan.tasks)} task{'s' * (len(plan.tasks) != 1)}",
        "finetune_teacher": count(teachers=True),
        "train_student": count(teachers=False),
        "compute_metrics": "one file per run",
        OUTPUTS: "CSV, TeX, PDF, …",
        "report": "this page",
    }
    nodes = [Node(name, x, y, texts[name]) for name, (x, y) in _PLACES.items()]
    return nodes, [Edge(source, target, _path(_PLACES[source], _PLACES[target])) for source, target in EDGES]


def _path(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Return the SVG path from one box to another: vertical within a column, curved to the next, angled beyond it."""
    down = 1 if end[1] > start[1] else -1
    above = end[1] - down * (HEIGHT // 2 + 2)
    if start[0] == end[0]:
        return f"M{start[0]} {start[1] + down * HEIGHT // 2}V{above}"
    left, right = start[0] + WIDTH // 2, end[0] - WIDTH // 2 - 2
    if right - left > WIDTH:
        return f"M{left} {start[1]}H{end[0]}V{above}"
    middle = (left + right) // 2
    return f"M{left} {start[1]}C{middle} {start[1]} {middle} {end[1]} {right} {end[1]}"
