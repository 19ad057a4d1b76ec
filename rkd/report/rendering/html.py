"""Tables as HTML, from the same `Grid` that Markdown and LaTeX are made of. Every text is escaped by the templates."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rkd.report import templates
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.utils.escape import visible


@cache
def environment() -> Environment:
    """Return the templates of rkd/report/templates; they escape all text, and unknown names are errors."""
    return Environment(
        loader=PackageLoader(templates.__name__, "."),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _shown(value: Any) -> Any:
    """Format a value for a template; HTML cannot hold control characters."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def table_page(grid: Grid, title: str) -> str:
    """Return a page with one table, readable without a network.

    >>> print(table_page(grid, "Main table").splitlines()[0])
    <!doctype html>
    """
    return environment().get_template("table_page.html.jinja").render(grid=grid, title=title)


def grid_of(printed: Mapping[str, Any]) -> Grid:
    """Read the `Grid` that a sidecar JSON keeps under "printed"; the inverse of `dataclasses.asdict`."""
    sections = tuple(
        Section(section["title"], tuple(tuple(Cell(*cell) for cell in line) for line in section["lines"]))
        for section in printed["sections"]
    )
    groups = tuple((title, tuple(heads)) for title, heads in printed["groups"])
    notes = tuple(Note(*note) for note in printed["notes"])
    return Grid(groups, sections, printed["caption"], notes, printed["corner"])
