"""Verdicts on differences: better, worse, equivalent within a margin, or open.

Two tests are read off the same interval (`rkd.report.statistics.comparison`). The margin m is the smallest
difference that matters:

    different     the 95 % interval excludes 0                    (two-sided test of D = 0 at 5 %)
    equivalent    the 90 % interval lies within ±m                (two one-sided tests of |D| ≥ m at 5 % each)

Choose the margin before the runs. "No difference found" is not evidence of equality: a difference that passes neither
test is open, whatever its p. A difference can pass both tests, for example with an interval of 0.1 to 0.3 points and
m = 0.5. It is then real but too small to matter. The verdict is equivalent, and the text keeps the direction
(`Verdict.text`: "equivalent, slightly better").

Holm's correction is applied to the tests of difference and to the tests of equivalence as two separate families. Among
all verdicts "better" and "worse" of a family, the probability of any false one is at most 5 %; the same holds for
"equivalent". One call of `verdicts` judges one family. The averages over tasks answer the main question and are few:
pass them as one family, and the single tasks as another.

Variants with identical scores under every seed and every resample have no standard error. These data cannot bound the
difference on other examples, so the verdict is open.

References: Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15; Holm (1979), Scandinavian Journal of
Statistics 6(2). Simulated error rates: docs/statistics.md and tests/unit/report/statistics/test_verdicts.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rkd.report.statistics.comparison import Comparison
from rkd.report.statistics.intervals import LEVEL

MARGIN = 0.005  # half a point

Values = NDArray[np.float64]
Kind = Literal["better", "worse", "equivalent", "open"]


def holm(p: ArrayLike) -> Values:
    """Return Holm's step-down adjusted p-values.

    Rejecting where they are below 0.05 keeps the probability of any false rejection at most 0.05, whatever the
    dependence between the tests. NaN (no test) stays NaN and does not count as a test.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    result = np.full(values.shape, np.nan)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN is sorted last
    factors = np.arange(order.size, 0, -1)
    result[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    return result


@dataclass(frozen=True)
class Verdict:
    """The verdict on one difference.

    Attributes:
        kind: "better" and "worse" mean a difference from 0 that is not shown to be smaller than the margin.
        text: the kind; for a difference that is both real and smaller than the margin, also its direction.
        p_different: two-sided p-value of no difference, corrected for the family.
        p_equivalent: p-value of a difference of the margin or more, corrected for the family.
        margin: equivalence margin, a fraction like the differences.
    """

    kind: Kind
    text: str
    p_different: float
    p_equivalent: float
    margin: float


def verdicts(comparisons: Sequence[Comparison], margin: float = MARGIN, level: float = LEVEL) -> list[Verdict]:
    """Judge a family of comparisons; see the module's docstring.

    Args:
        comparisons: the family to which Holm's correction applies.
        margin: the smallest difference that matters, a fraction (0.005 is half a point).
        level: 1 − the probability of any false verdict of one kind in the family.

    Returns:
        One verdict per comparison, in the same order.

    Raises:
        ValueError: the margin is not above 0.

    >>> one = Comparison("a", "b", "rte", (1, 2, 3), (0.001, 0.002, 0.0015), 1e-7, 0.026, 277)
    >>> [verdicts([one], margin)[0].text for margin in (0.005, 0.001)]
    ['equivalent, slightly better', 'better']
    """
    if not margin > 0:
        raise ValueError(f"margin: {margin}; expected a number above 0")
    different = holm([one.p for one in comparisons])
    equivalent = holm([one.p_equivalent(margin) for one in comparisons])
    alpha = 1 - level
    found = []
    for one, p_different, p_equivalent in zip(comparisons, different, equivalent, strict=True):
        direction: Kind = "better" if one.difference > 0 else "worse"
        differs, small = p_different < alpha, p_equivalent < alpha
        kind: Kind = "equivalent" if small else direction if differs else "open"
        text = f"equivalent, slightly {direction}" if small and differs else kind
        found.append(Verdict(kind, text, float(p_different), float(p_equivalent), margin))
    return found
