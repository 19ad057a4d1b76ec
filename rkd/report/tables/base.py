"""The base of all tables: their interface, the format of their numbers, and their files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from rkd.report.names import table_title
from rkd.report.provenance import with_outputs
from rkd.report.rendering.grid import Cell, Grid
from rkd.report.rendering.html import table_page
from rkd.report.statistics.intervals import Interval
from rkd.utils.files import atomic_path, atomic_write_text, write_json

MISSING = "–"  # printed for a missing number


class Printable(Protocol):
    """Anything that can be written as a table."""

    def frame(self) -> pd.DataFrame:
        """All numbers at full precision."""

    def sidecar(self) -> dict[str, object]:
        """Return the sources of each number."""

    def grid(self) -> Grid:
        """Return the printed table."""


def write(
    table: Printable, folder: str | Path, stem: str = "main", origin: Mapping[str, object] | None = None
) -> list[Path]:
    """Write {stem}.csv, .md, .tex, .html and .json into `folder`, each replaced as a whole; returns the paths.

    The JSON is the sidecar: where each number comes from, under "printed" the table as it is printed, and `origin`,
    what `rkd.report.provenance.origin` tells, with the SHA-256 of the other files.
    """
    ends = ("csv", "md", "tex", "html", "json")
    csv, markdown, latex, html, sidecar = paths = [Path(folder) / f"{stem}.{end}" for end in ends]
    grid = table.grid()
    with atomic_path(csv) as temporary:
        table.frame().to_csv(temporary, index=False, lineterminator="\n")
    atomic_write_text(markdown, grid.markdown())
    atomic_write_text(latex, grid.latex(label=f"tab:{stem}"))
    atomic_write_text(html, table_page(grid, table_title(stem)))
    made = {"origin": with_outputs(origin, (csv, markdown, latex, html))} if origin else {}
    write_json(sidecar, {**table.sidecar(), "printed": asdict(grid), **made})
    return paths


def score_cell(score: Interval | None) -> Cell:
    """Mean ± standard deviation in points, a dash where there is none."""
    if score is None or np.isnan(score.mean):
        return Cell(MISSING)
    return Cell(f"{score.mean:z.1f}", f"{score.sd:.1f}" if score.n > 1 else "")


def count_range(counts: Sequence[int]) -> str:
    """Format the smallest and the largest of ascending counts: "5", "1–3"."""
    if not counts:
        return MISSING
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]}–{counts[-1]}"
