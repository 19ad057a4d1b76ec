"""Layer maps: the teacher layers of each student layer, and the pairs of parameters that follow."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from rkd.errors import RkdError

STRATEGIES = ("first", "last", "skip", "both")
LAYER = re.compile(r"^(?P<stack>.+\.layer)\.(?P<index>\d+)\.(?P<rest>.+)$")


@dataclass(frozen=True)
class LayerMap:
    """A mapping from each student layer to teacher layers, all counted from 0.

    Attributes:
        targets: teacher layers by student layer, in order. No teacher layer is listed twice.
        teacher_layers: depth of the teacher.

    Example:
        >>> LayerMap.from_strategy("skip", student_layers=6, teacher_layers=12).targets[0]
        (1,)
    """

    targets: Mapping[int, tuple[int, ...]]
    teacher_layers: int

    @property
    def student_layers(self) -> int:
        """Depth of the student."""
        return len(self.targets)

    @classmethod
    def from_strategy(
        cls, strategy: str | Sequence[int | Sequence[int]], student_layers: int, teacher_layers: int
    ) -> "LayerMap":
        """Build a map from a named strategy or an explicit list.

        With N student layers, M teacher layers and r = M / N: `first` i → {i}; `last` i → {M−N+i};
        `skip` i → {r·i + r−1}; `both` i → {r·i, …, r·i + r−1}. A list gives, for each student layer, one teacher
        layer or a list of them; an empty list leaves the student layer unmapped.

        Raises:
            RkdError: unknown strategy, student deeper than the teacher, depth not divisible (`skip`, `both`), or a
                list of the wrong length, with a layer out of range or a teacher layer named twice.
        """
        n, m = student_layers, teacher_layers
        if n < 1 or n > m:
            raise RkdError(
                f"layer_map: a student of {n} layers does not fit a teacher of {m}; expected 1 to {m} layers"
            )
        if not isinstance(strategy, str):
            entries = (tuple(entry) if isinstance(entry, Sequence) else (entry,) for entry in strategy)
            targets = dict(enumerate(entries))
            return cls(_checked(targets, n, m), m)
        if strategy in ("skip", "both") and m % n:
            raise RkdError(
                f"layer_map: {strategy!r} needs the teacher's depth to be a multiple of the student's, found {m} and "
                f"{n} layers; use 'first', 'last' or an explicit list"
            )
        ratio = m // n
        if strategy == "first":
            targets = {i: (i,) for i in range(n)}
        elif strategy == "last":
            targets = {i: (m - n + i,) for i in range(n)}
        elif strategy == "skip":
            targets = {i: (ratio * i + ratio - 1,) for i in range(n)}
        elif strategy == "both":
            targets = {i: tuple(range(ratio * i, ratio * (i + 1))) for i in range(n)}
        else:
            raise RkdError(
                f"layer_map: unknown strategy {strategy!r}; expected one of {', '.join(STRATEGIES)} or a list"
            )
        return cls(targets, m)

    def one_to_one(self, layers: Sequence[int], method: str) -> list[int]:
        """Return the one teacher layer of each of some student layers, for one-to-one methods.

        Args:
            layers: student layers, counted from 0.
            method: name of the calling method, for the error message.

        Raises:
            RkdError: a layer is not mapped to exactly one teacher layer.
        """
        for layer in layers:
            if len(self.targets[layer]) != 1:
                raise RkdError(
                    f"layer_map: student layer {layer} is mapped to {len(self.targets[layer])} teacher layers; "
                    f"{method} expects exactly 1"
                )
        return [self.targets[layer][0] for layer in layers]

    def pairs(self, student: nn.Module, teacher: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Return the mapped pairs (student parameter, teacher parameter), in the student's order.

        Parameters inside layer i pair with those of the same name in each mapped teacher layer. All others
        (embeddings, pooler, classifier) pair with the parameter of the same name, if the teacher has one.

        Raises:
            RkdError: a mapped teacher layer lacks the parameter, two paired parameters differ in shape, or the student
                has more layers than the map.
        """
        theirs = dict(teacher.named_parameters())
        result = []
        for name, parameter in student.named_parameters():
            for other in self._names(name):
                if other not in theirs:
                    if other == name:  # a head or pooler that only the student has
                        continue
                    raise RkdError(f"layer_map: student parameter {name} maps to {other}, which the teacher lacks")
                if parameter.shape != theirs[other].shape:
                    raise RkdError(
                        f"layer_map: student parameter {name} has shape {tuple(parameter.shape)}, but teacher "
                        f"parameter {other} has {tuple(theirs[other].shape)}; this method needs a student as wide as "
                        "its teacher"
                    )
                result.append((parameter, theirs[other]))
        return result

    def _names(self, name: str) -> list[str]:
        """Return the names of the teacher parameters that the student parameter `name` is mapped to."""
        if not (match := LAYER.match(name)):
            return [name]
        if (index := int(match["index"])) not in self.targets:
            raise RkdError(f"layer_map: made for a student of {self.student_layers} layers, but this one has {name}")
        return [f"{match['stack']}.{layer}.{match['rest']}" for layer in self.targets[index]]


def _checked(targets: dict[int, tuple[int, ...]], n: int, m: int) -> dict[int, tuple[int, ...]]:
    if len(targets) != n:
        raise RkdError(f"layer_map: the list has {len(targets)} entries; expected one for each of {n} student layers")
    named = [layer for layers in targets.values() for layer in layers]
    for layer in named:
        if not isinstance(layer, int) or isinstance(layer, bool) or not 0 <= layer < m:
            raise RkdError(f"layer_map: {layer!r} is no teacher layer; expected whole numbers from 0 to {m - 1}")
        if named.count(layer) > 1:
            raise RkdError(f"layer_map: teacher layer {layer} is listed twice; one student layer at most may pull it")
    return targets
