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
    """The templates of rkd/report/templates, which escape every text; an unknown name in one is an error."""
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
    """What a template prints for a value: of text, HTML has no way to hold control characters."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def table_page(grid: Grid, title: str) -> str:
    """A page of its own with one table, readable without the network.

    >>> print(table_page(grid, "Main table").splitlines()[0])
    <!doctype html>
    """
    return environment().get_template("table_page.html.jinja").render(grid=grid, title=title)


def grid_of(printed: Mapping[str, Any]) -> Grid:
    """The `Grid` that a sidecar JSON keeps under "printed"; the inverse of `dataclasses.asdict`."""
    sections = tuple(
        Section(section["title"], tuple(tuple(Cell(*cell) for cell in line) for line in section["lines"]))
        for section in printed["sections"]
    )
    groups = tuple((title, tuple(heads)) for title, heads in printed["groups"])
    notes = tuple(Note(*note) for note in printed["notes"])
    return Grid(groups, sections, printed["caption"], notes, printed["corner"])
