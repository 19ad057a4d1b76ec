"""The spec of tables and figures. Apart from other specs, so that a change of the report trains nothing anew."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Self

from rkd.errors import RkdError
from rkd.specs.base import Spec
from rkd.specs.jobs import TEACHER
from rkd.tasks import get, register

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Variant:
    """A variant of the config: its name in paths, its method and its name in print."""

    name: str
    method: str
    label: str


@dataclass(frozen=True)
class Selection:
    """The rules that chose the epoch of teachers and students; several rules are joined by "/"."""

    teacher: str
    student: str


@dataclass(frozen=True)
class Axis:
    """One axis of ablation: its values in order, each with the variant that was trained with it.

    Attributes:
        values: pairs of a value and a variant's name; a value of a grid is a list of two.
        tasks: the tasks that the axis is run on.
        parameters: the names of a grid's two parameters; empty for other axes.
        base: the variant that the axis changes.

    Example:
        >>> Axis("alpha", ((0.1, "kd.alpha-0.1"), (0.5, "kd")), ("mrpc",)).numeric
        True
    """

    name: str
    values: tuple[tuple[Any, str], ...]
    tasks: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    base: str = ""

    @classmethod
    def ordered(
        cls,
        name: str,
        values: Iterable[tuple[Any, str]],
        tasks: Iterable[str],
        parameters: Iterable[str] = (),
        base: str = "",
    ) -> Self:
        """Build an axis whose values keep their order, or are sorted if all are numbers."""
        axis = cls(name, tuple(values), tuple(tasks), tuple(parameters), base)
        return replace(axis, values=tuple(sorted(axis.values, key=itemgetter(0)))) if axis.numeric else axis

    @property
    def numeric(self) -> bool:
        """True when all values are numbers, which have a place on a scale."""
        return all(is_number(value) for value, _ in self.values)

    @property
    def logarithmic(self) -> bool:
        """True when the numbers spread over a factor of 10 or more: equal ratios then are equal distances."""
        numbers = [value for value, _ in self.values] if self.numeric else []
        return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= 10

    @property
    def variants(self) -> list[str]:
        """The variants of the axis, each once."""
        return list(dict.fromkeys(variant for _, variant in self.values))


@dataclass(frozen=True)
class ReportSpec(Spec):
    """The content of a table or figure and of its caption.

    Attributes:
        variants: the variants to show, in the order of the config.
        synthetic: True when the project's own grammar made the data of GLUE's tasks; a custom task's data are real.
        axis: the axis of ablation to show, of a table or figure of one.
        custom_tasks: definitions of custom tasks by name, see `rkd.tasks.define`.
    """

    title: ClassVar[str] = "report spec"

    tasks: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    synthetic: bool
    teacher_model: str
    student_model: str
    selection: Selection
    axis: Axis | None = None
    custom_tasks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        for key, values in {"tasks": self.tasks, "variants": names, "seeds": self.seeds}.items():
            if not values or len({*values}) < len(values):
                raise RkdError(f"{self.title}: {key}: found {list(values)}; expected at least one, each once")
        if TEACHER in names:
            raise RkdError(f"{self.title}: variants: found the name '{TEACHER}'; expected names of students")
        if self.axis is not None:
            _check_within(f"{self.title}: axis: variants", self.axis.variants, self.labels())
            _check_within(f"{self.title}: axis: tasks", self.axis.tasks, self.tasks)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse what `json` wrote, and make its custom tasks known to `rkd.tasks.get`.

        Raises:
            RkdError: the text is no JSON of a report spec, or names an unknown task.
        """
        spec: Self = super().from_json(text)
        for task in spec.tasks:
            register(get(task, spec.custom_tasks.get(task)))
        return spec

    @property
    def ablation(self) -> Axis:
        """The axis of ablation; RkdError if the spec has none."""
        if self.axis is None:
            raise RkdError(f"{self.title}: the key 'axis' is missing; expected the axis of ablation to show")
        return self.axis

    def labels(self) -> dict[str, str]:
        """Names in print by variant name, the teacher first."""
        return {TEACHER: "Teacher"} | {variant.name: variant.label for variant in self.variants}

    def is_synthetic(self, task: str) -> bool:
        """Return True if the project's own grammar made the task's data."""
        return self.synthetic and not get(task).own

    @property
    def heading(self) -> str:
        """Return a figure's heading: it names the panels with synthetic data."""
        made_up = [get(task).title for task in self.tasks if self.is_synthetic(task)]
        if not made_up:
            return ""
        whose = "" if len(made_up) == len(self.tasks) else f"{', '.join(made_up)}: "
        return f"{whose}{'s' if whose else 'S'}ynthetic data, not GLUE."

    def admit(self, runs: "pd.DataFrame") -> None:
        """Refuse runs that the report is not about: a stale file must not slip into a mean.

        Args:
            runs: a row per number, with the columns task, variant, seed, file and perhaps synthetic.

        Raises:
            RkdError: a run is of another task, variant or seed, or of other data.
        """
        allowed = {"task": self.tasks, "variant": tuple(self.labels()), "seed": self.seeds}
        for column, values in allowed.items():
            alien = runs[~runs[column].isin(values)]
            if not alien.empty:
                first = alien.iloc[0]
                expected = ", ".join(map(str, values))
                raise RkdError(f"{first['file']}: {column} is {first[column]}; this report is about {expected}")
        if "synthetic" in runs:
            alien = runs[runs["synthetic"].astype(bool) != runs["task"].map(self.is_synthetic).astype(bool)]
            if not alien.empty:
                found = alien.iloc[0]
                expected = str(self.is_synthetic(found["task"]))
                raise RkdError(f"{found['file']}: synthetic is {found['synthetic']}; this report is about {expected}")


def is_number(value: Any) -> bool:
    """Return True for whole numbers and floats, which a scale can show; False for truth values."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_within(where: str, found: Collection[str], known: Collection[str]) -> None:
    if alien := [name for name in found if name not in known]:
        raise RkdError(f"{where}: found {alien[0]!r}; expected some of {', '.join(known)}")
