"""The house style of all figures (rkd.mplstyle), and helpers that draw panels and notes and save figures.

Colours are the colour-blind-safe palette of Okabe and Ito. Line styles and markers differ too, for black-and-white
prints. The same data give identical files, byte for byte.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from rkd.report.provenance import with_outputs
from rkd.report.statistics.intervals import Interval
from rkd.tasks import Task
from rkd.utils.files import atomic_path, write_json

HOUSE_STYLE = "rkd.report.figures.rkd"  # rkd.mplstyle of this package
STYLE_FILE = "rkd/report/figures/rkd.mplstyle"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "p", "h")
TEACHER_LINE: dict[str, Any] = {"color": "#333333", "linewidth": 0.8, "linestyle": (0, (7, 4))}
TEACHER_LABEL = "Teacher before distillation"
WIDTH = 6.75  # inches: the text width of a two-column paper


def variant_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return line properties by variant, given the variants in the order of the config.

    They are the same in every figure of a config. The cycles have 6, 4 and 7 members, so 84 variants are
    distinguishable. Later lines are thinner, down to a limit, so that overlapping lines stay visible.
    """
    looks = zip(names, cycle(COLOURS), cycle(DASHES), cycle(MARKERS), strict=False)
    return {
        name: {
            "color": colour,
            "linestyle": dash,
            "marker": marker,
            "linewidth": max(1.1, 2.0 - 0.25 * place),
            "markersize": max(4.0, 5.5 - 0.5 * place),
        }
        for place, (name, colour, dash, marker) in enumerate(looks)
    }


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; width and height are in inches. No display is needed."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, xlabel: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels, up to three in a row; `xlabel` is written below each column."""
    columns = {1: 1, 2: 2, 4: 2}.get(count, 3)
    rows = math.ceil(count / columns)
    figure = new_figure(WIDTH, 2.2 * rows + 0.2)
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place, axes in enumerate(places[:count]):
        if place + columns >= count:
            axes.set_xlabel(xlabel)
    for axes in places[count:]:
        axes.remove()
    return figure, places[:count]


def name_panel(axes: Axes, task: Task) -> None:
    """Set the task's title above its panel, in up to three lines."""
    axes.set_title(textwrap.fill(task.title, 30, max_lines=3, placeholder=" …"))


def step_axis(axes: Axes, intervals: int = 5) -> None:
    """Set short integer ticks on the axis of training steps, with at most this number of intervals."""
    axes.xaxis.set_major_locator(MaxNLocator(intervals, integer=True))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step / 1000:g}k" if step >= 10_000 else f"{step:g}")
    axes.margins(x=0.03)


def fitting(texts: Sequence[str], longest: int = 22) -> list[str]:
    """Shorten texts for an axis: replace the middle of long ones by "…", unless two would become equal.

    >>> fitting(["kd", "a-model-with-quite-a-long-name.json"], longest=20)
    ['kd', 'a-model-w…-name.json']
    """
    half = (longest - 1) // 2
    short = [text if len(text) <= longest else f"{text[:half]}…{text[half + 1 - longest :]}" for text in texts]
    return short if len(set(short)) == len(set(texts)) else list(texts)


def bars(axes: Axes, x: Sequence[float], scores: Sequence[Interval], **look: Any) -> None:
    """Draw means with a thick bar (± one standard deviation) and a thin bar (95 % interval), both over seeds."""
    means = [one.mean for one in scores]
    deviation = [0.0 if math.isnan(one.sd) else one.sd for one in scores]
    half = [0.0 if math.isnan(one.high) else one.high - one.mean for one in scores]
    axes.errorbar(x, means, yerr=half, capsize=2.5, elinewidth=0.9, **look)
    axes.errorbar(x, means, yerr=deviation, ls="none", elinewidth=4, alpha=0.35, color=look["color"], zorder=1)


def frame_scores(
    axes: Axes, x: Sequence[float], scores: Sequence[Interval], colours: Sequence[str], levels: Sequence[float] = ()
) -> bool:
    """Set the limits of the score axis to show means, levels and intervals; return whether an interval is clipped.

    The axis extends at most three standard deviations from a mean. The interval of two seeds extends nine standard
    deviations to each side and would make all means look equal. An interval that is longer than the frame ends in an
    arrow there.

    Args:
        x, scores, colours: the intervals that `bars` has drawn.
        levels: further scores to show.
    """
    spans = [(one.low, one.high, 3 * one.sd, one.mean) for one in scores]
    lows = [mean if math.isnan(low) else max(low, mean - reach) for low, _, reach, mean in spans]
    highs = [mean if math.isnan(high) else min(high, mean + reach) for _, high, reach, mean in spans]
    bottom, top = min([*lows, *levels]), max([*highs, *levels])
    margin = 0.08 * (top - bottom) or 1.0
    bottom, top = bottom - margin, top + margin
    axes.set_ylim(bottom, top)
    at_edge = blended_transform_factory(axes.transData, axes.transAxes)
    look: dict[str, Any] = {"ls": "none", "ms": 5, "transform": at_edge, "clip_on": False, "zorder": 4}
    below = [
        (place, 0.0, "v", colour) for place, one, colour in zip(x, scores, colours, strict=True) if one.low < bottom
    ]
    above = [(place, 1.0, "^", colour) for place, one, colour in zip(x, scores, colours, strict=True) if one.high > top]
    for place, edge, arrow, colour in (*below, *above):
        axes.plot([place], [edge], marker=arrow, color=colour, **look)
    return bool(below or above)


def bars_text(scores: Sequence[Interval], clipped: bool) -> str:
    """Return the note that explains the bars, and says if the frame clips some of them."""
    if all(one.n < 2 for one in scores):
        return "One seed, no interval."
    beyond = " Arrows: the interval extends beyond the frame." if clipped else ""
    return f"Over seeds: thick bars ± one standard deviation, thin bars 95 % intervals (Student's t).{beyond}"


def legend(figure: Figure, places: Sequence[Axes], handlelength: float = 3.2) -> None:
    """Add one legend above all panels, in as many columns as fit; `handlelength` is in units of the font size."""
    pairs = [pair for axes in places for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in pairs}
    if TEACHER_LABEL in handles:
        handles[TEACHER_LABEL] = handles.pop(TEACHER_LABEL)
    widths = [0.27 + 0.11 * handlelength + 0.058 * len(label) for label in handles]  # inches: gaps, line, letters
    width, height = figure.get_size_inches()
    columns = len(widths) if sum(widths) < width else max(1, int(width / max(widths)))
    figure.set_size_inches(width, height + 0.17 * math.ceil(len(handles) / columns))
    lines, labels = list(handles.values()), list(handles)
    figure.legend(lines, labels, loc="outside upper left", ncols=columns, handlelength=handlelength, columnspacing=1.5)


def note(figure: Figure, text: str, heading: str) -> None:
    """Add a note in grey below the panels, under a bold heading; enlarge the figure to fit both."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(text, width=int(width * 16.5))
    height += 0.15 * (len(lines) + bool(heading))
    figure.set_size_inches(width, height)
    line_height = 0.15 / height
    figure.text(0.01, 0.01, "\n".join(lines), color="#555555", va="bottom")
    if heading:
        figure.text(0.01, 0.015 + line_height * len(lines), heading, weight="bold", va="bottom")
    below = 0.015 + line_height * (len(lines) + bool(heading))
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, below, 1, 1 - below), h_pad=0.05, w_pad=0.06))


def _fix_layout(figure: Figure) -> None:
    """Place the axes once, at rounded positions.

    The solver of the layout gives last bits that differ from process to process. Without this, the files would too.
    """
    figure.draw_without_rendering()
    places = [axes.get_position(original=True).bounds for axes in figure.axes]
    figure.set_layout_engine("none")
    for axes, bounds in zip(figure.axes, places, strict=True):
        left, bottom, width, height = (round(each, 5) for each in bounds)
        axes.set_position((left, bottom, width, height), which="original")


def save(figure: Figure, stem: str | Path, origin: Mapping[str, object] | None = None) -> list[Path]:
    """Write {stem}.pdf and {stem}.png (200 dpi) atomically; return the paths.

    The files contain neither a date nor a version, so the same figure gives identical files. If `origin` is given (from
    `rkd.report.provenance.origin`), {stem}.json is written beside them with that record and their SHA-256.
    """
    paths = [Path(f"{stem}.pdf"), Path(f"{stem}.png")]
    metadata: list[dict[str, Any]] = [
        {"CreationDate": None, "Creator": None, "Producer": None},
        {"Software": None},
    ]
    with style.context(HOUSE_STYLE):
        _fix_layout(figure)
        for path, hidden in zip(paths, metadata, strict=True):
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format=path.suffix[1:], metadata=hidden)
    if origin is not None:
        write_json(f"{stem}.json", {"origin": with_outputs(origin, paths)})
    return paths
