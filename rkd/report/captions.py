"""Sentences shared by the captions and notes of tables and figures."""

from collections.abc import Iterable

from rkd.report.names import model_name
from rkd.specs.report import ReportSpec
from rkd.tasks import get

_SELECTION = {
    "best": "best epoch on dev",
    "held-out": "best epoch on held-out training data",
    "held-out-loss": "epoch of the lowest loss on held-out training data",
    "last": "last epoch",
}


def split_text(tasks: Iterable[str]) -> str:
    """Return the split on which models are compared: "dev", "test", or "dev or test" where tasks differ."""
    return " or ".join(sorted({"test" if get(task).compared_on_test else "dev" for task in tasks}))


def data_text(spec: ReportSpec, what: str = "GLUE {split} scores (×100)") -> str:
    """Return the sentence on the data; it states clearly which data are synthetic or custom.

    Args:
        spec: the tasks.
        what: the start of the sentence, in which {split} is replaced by `split_text`. If tasks are compared on
            different splits, the sentence names that of each.
    """
    split = split_text(spec.tasks)
    what = what.replace("{split}", split)
    names = {task: get(task).title for task in spec.tasks}
    if " or " in split:
        names = {task: f"{name} ({split_text([task])})" for task, name in names.items()}
    glue = ", ".join(name for task, name in names.items() if not get(task).own)
    own = ", ".join(name for task, name in names.items() if get(task).own)
    if not (own or spec.synthetic):
        return f"{what} on {glue}."
    bare = what.replace("GLUE ", "")
    bare = f"{bare[0].upper()}{bare[1:]}"
    own = f"{own} (custom data, not GLUE)" if own else ""
    if not glue:
        return f"{bare} on {own}."
    own = f" and on {own}" if own else ""
    if not spec.synthetic:
        return f"{bare} on GLUE's {glue}{own}."
    return (
        f"{bare} on SYNTHETIC stand-ins for {glue}: generated text, not GLUE{own and ','}{own}. "
        f"{'These' if not own else 'The synthetic'} "
        "numbers say nothing about GLUE and are not comparable with published ones, which are left out."
    )


def model_text(spec: ReportSpec) -> str:
    """Return the sentence on teacher and student models."""
    return f"Teacher: {model_name(spec.teacher_model)}; student: {model_name(spec.student_model)}."


def selection_text(spec: ReportSpec) -> str:
    """Return the sentence on which epoch's model is scored."""
    teacher, student = map(_rules_text, (spec.selection.teacher, spec.selection.student))
    chosen = f"{student} for teacher and students" if teacher == student else f"{student} (teacher: {teacher})"
    on_dev = "best" in spec.selection.student.split("/") and not all(get(task).compared_on_test for task in spec.tasks)
    optimistic = "; choosing on dev makes dev scores optimistic" if on_dev else ""
    return f"Model scored: {chosen}{optimistic}."


def _rules_text(rules: str) -> str:
    """Return selection rules in words; several, which rows differ in, are joined by a slash in the spec."""
    return " or, by row, ".join(_SELECTION.get(rule, f"epoch by the rule '{rule}'") for rule in rules.split("/"))


def seed_count(counts: Iterable[int]) -> str:
    """Return the range of the numbers of seeds, in words.

    >>> seed_count([5, 5]), seed_count([3, 1])
    ('5', '1 to 3')
    """
    least, most = min(counts := list(counts)), max(counts)
    return f"{least}" if least == most else f"{least} to {most}"
