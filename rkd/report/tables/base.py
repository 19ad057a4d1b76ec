"""The protocol of all tables, the format of their numbers, and the files they are written to."""

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

MISSING = "–"  # printed in place of a missing number


class Printable(Protocol):
    """Protocol of an object that `write` can write as a table."""

    def frame(self) -> pd.DataFrame:
        """Return all numbers at full precision."""

    def sidecar(self) -> dict[str, object]:
        """Return where each number comes from."""

    def grid(self) -> Grid:
        """Return the printed table."""


def write(
    table: Printable, folder: str | Path, stem: str = "main", origin: Mapping[str, object] | None = None
) -> list[Path]:
    """Write {stem}.csv, .md, .tex, .html and .json into `folder` atomically; return the paths.

    The JSON is the sidecar: where each number comes from, the printed table under "printed", and, if given, `origin`
    from `rkd.report.provenance.origin` with the SHA-256 of the other files.
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
    """Return a cell with mean ± standard deviation in points, or a dash if there is no score."""
    if score is None or np.isnan(score.mean):
        return Cell(MISSING)
    return Cell(f"{score.mean:z.1f}", f"{score.sd:.1f}" if score.n > 1 else "")


def count_range(counts: Sequence[int]) -> str:
    """Return the range of ascending counts, such as "5" or "1–3"; a dash if there are none."""
    if not counts:
        return MISSING
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]}–{counts[-1]}"
