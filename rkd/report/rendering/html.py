"""Tables as HTML, from the same `Grid` as Markdown and LaTeX. The templates escape all text."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rkd.report import templates
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.utils.escape import visible


@cache
def environment() -> Environment:
    """Return the environment of rkd/report/templates: it escapes all text and refuses undefined names."""
    return Environment(
        loader=PackageLoader(templates.__name__, "."),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _finalize(value: Any) -> Any:
    """Make control characters in plain text visible, because HTML cannot represent them."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def table_page(grid: Grid, title: str) -> str:
    """Return a self-contained page with one table.

    >>> print(table_page(grid, "Main table").splitlines()[0])
    <!doctype html>
    """
    return environment().get_template("table_page.html.jinja").render(grid=grid, title=title)


def grid_of(printed: Mapping[str, Any]) -> Grid:
    """Return the `Grid` stored under "printed" in a sidecar; the inverse of `dataclasses.asdict`."""
    sections = tuple(
        Section(section["title"], tuple(tuple(Cell(*cell) for cell in line) for line in section["lines"]))
        for section in printed["sections"]
    )
    groups = tuple((title, tuple(heads)) for title, heads in printed["groups"])
    notes = tuple(Note(*note) for note in printed["notes"])
    return Grid(groups, sections, printed["caption"], notes, printed["corner"])
