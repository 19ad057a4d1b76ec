"""A printed table, independent of the format, and its Markdown and LaTeX forms."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from rkd.utils.escape import latex, markdown


class Cell(NamedTuple):
    """The content of one cell: text, optionally ± a deviation, and optionally a mark that a note explains."""

    text: str
    deviation: str = ""
    mark: str = ""
    span: int = 1  # number of columns that the cell covers


class Note(NamedTuple):
    """A remark below the table; with a mark, a footnote to the cells with that mark."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Section:
    """A group of lines, set apart from other groups. A line is the row's label followed by its cells."""

    title: str
    lines: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Grid:
    """A table to print, with columns in titled groups and lines in titled sections. All text is plain, without markup.

    >>> line = (Cell("KD"), Cell("84.1", deviation="0.3"), Cell("78.9", mark="†"))
    >>> notes = (Note("one seed", "†"),)
    >>> grid = Grid((("MRPC", ("F1", "Acc")),), (Section("Measured", (line,)),), "Dev scores.", notes)
    >>> print(grid.markdown())
    Dev scores.
    <BLANKLINE>
    |     |    MRPC F1 | MRPC Acc |
    |:----|-----------:|---------:|
    | KD  | 84.1 ± 0.3 |   78.9 † |
    <BLANKLINE>
    - † one seed
    <BLANKLINE>
    """

    groups: tuple[tuple[str, tuple[str, ...]], ...]  # (title, column headers); the title may be empty
    sections: tuple[Section, ...]
    caption: str
    notes: tuple[Note, ...] = ()
    corner: str = ""  # header of the first column on the page; Markdown and LaTeX leave it empty

    def markdown(self) -> str:
        """Return caption, table and notes as GitHub Markdown, aligned so that the source is readable too."""
        lines = [["", *(markdown(f"{title} {head}".strip()) for title, heads in self.groups for head in heads)]]
        for section in self.sections:
            if len(self.sections) > 1:
                lines.append([f"**{markdown(section.title)}**"] + [""] * (len(lines[0]) - 1))
            lines += [[text for cell in line for text in _markdown_cells(cell)] for line in section.lines]
        first, *widths = (max(3, *map(len, cells)) for cells in zip(*lines, strict=True))
        head, *body = (
            f"| {line[0]:<{first}} | "
            + " | ".join(f"{cell:>{width}}" for cell, width in zip(line[1:], widths, strict=True))
            + " |"
            for line in lines
        )
        rule = f"|:{'-' * (first + 1)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths)
        notes = [f"- {_markdown_mark(note.mark)} {markdown(note.text)}".replace("-  ", "- ") for note in self.notes]
        return "\n".join([markdown(self.caption), "", head, rule, *body, "", *notes, ""])

    def latex(self, label: str) -> str:
        r"""Return a `table*` with booktabs rules and a \midrule between sections; a comment lists its packages."""
        titles, rules, start = "", [], 2
        for title, group in self.groups:
            end = start + len(group) - 1
            if title:
                titles += rf"& \multicolumn{{{len(group)}}}{{c}}{{{latex(title)}}} "
                rules.append(rf"\cmidrule(lr){{{start}-{end}}}")
            else:
                titles += "& " * len(group)
            start = end + 1
        heads = [latex(head) for _, group in self.groups for head in group]
        bodies = ["\n".join(_latex_line(line) for line in section.lines) for section in self.sections]
        notes = "\n\n".join(f"{_latex_mark(note.mark)} {latex(note.text)}".strip() for note in self.notes)
        lines = "\n".join(
            [
                r"% needs \usepackage{booktabs} and \usepackage{adjustbox}",
                r"\begin{table*}[t]",
                r"\centering",
                r"\small",
                rf"\caption{{{latex(self.caption)}}}",
                rf"\label{{{label}}}",
                r"\begin{adjustbox}{max width=\textwidth}",
                rf"\begin{{tabular}}{{l{'c' * len(heads)}}}",
                r"\toprule",
                *([titles + r"\\", " ".join(rules)] if rules else []),
                "".join(f"& {head} " for head in heads) + r"\\",
                r"\midrule",
                "\n\\midrule\n".join(bodies),
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{adjustbox}",
                *([rf"\par\medskip{{\footnotesize\raggedright {notes}\par}}"] if notes else []),
                r"\end{table*}",
                "",
            ]
        )
        return lines.replace("\n", f"{_NEEDS_FONT}\n", 1) if _BEYOND_LATIN.search(lines) else lines


# Matches everything but Latin letters and general punctuation, which pdfLaTeX supports.
_BEYOND_LATIN = re.compile("[^\0-\u024f\u2010-\u2026]")
_NEEDS_FONT = ", LuaLaTeX or XeLaTeX, and a font with letters other than Latin ones"
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _markdown_mark(mark: str) -> str:
    return mark.translate(_SUPERSCRIPT)


def _markdown_cells(cell: Cell) -> list[str]:
    """Return the Markdown cells of one cell; further columns that it spans repeat only its mark."""
    mark = _markdown_mark(cell.mark)
    deviation = f" ± {cell.deviation}" if cell.deviation else ""
    text = f"{markdown(cell.text)}{deviation}"
    gap = " " if mark and not mark.translate(_SUPERSCRIPT).isdigit() else ""
    return [f"{text}{gap}{mark}", *[mark] * (cell.span - 1)]


def _latex_mark(mark: str) -> str:
    return f"$^{{{latex(mark).strip('$')}}}$" if mark else ""


def _latex_line(line: tuple[Cell, ...]) -> str:
    return " & ".join(_latex_cell(cell) for cell in line) + r" \\"


def _latex_cell(cell: Cell) -> str:
    number = re.fullmatch(r"-\d+(\.\d+)?", cell.text)
    deviation = rf" {{\scriptsize $\pm$ {cell.deviation}}}" if cell.deviation else ""
    text = (f"${cell.text}$" if number else latex(cell.text)) + deviation + _latex_mark(cell.mark)
    return rf"\multicolumn{{{cell.span}}}{{c}}{{{text}}}" if cell.span > 1 else text
