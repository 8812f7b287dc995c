"""The plot of a comparison: time against a metric, with the front that no model beats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prunus.bench.shapes import Shape
from prunus.errors import InputError
from prunus.reporting.comparison import Comparison, Entry
from prunus.reporting.output import check_output
from prunus.reporting.style import (
    ACCENT,
    DENSE,
    FORMATS,
    INK,
    UNITS,
    drawing,
    required,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, HEIGHT = 480, 360


def check_plot(path: Path, *, overwrite: bool = False) -> None:
    """Raise `InputError` where a plot cannot be written, `UnsupportedError` without matplotlib."""
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: a plot is written as {' or '.join(FORMATS)}; name one of them")
    check_output(path, overwrite=overwrite)
    required("matplotlib")


def save_plot(found: Comparison, path: Path) -> None:
    """Write the plot as SVG or PNG, by the suffix; what may be there is replaced.

    Raises:
        InputError: no model could be timed, another suffix, or a file that cannot be written.
        UnsupportedError: matplotlib is not installed.
    """
    save_figure(comparison_figure(found), path)


def comparison_figure(found: Comparison) -> Figure:
    """A panel for each shape; without a metric, times stand against the linear weights kept.

    Raises:
        InputError: no model could be timed.
        UnsupportedError: matplotlib is not installed.
    """
    if not any(_point(found, entry, shape) for entry in found.entries for shape in found.shapes):
        raise InputError("no model could be timed, so there is nothing to draw")
    with drawing():
        figure: Figure = required("matplotlib.figure").Figure(
            figsize=(PANEL * len(found.shapes) / UNITS, HEIGHT / UNITS),
            dpi=UNITS,
            layout="constrained",
        )
        panels = figure.subplots(1, len(found.shapes), squeeze=False)[0]
        for panel, shape in zip(panels, found.shapes, strict=True):
            _draw(panel, found, shape)
        return figure


def _draw(panel: Axes, found: Comparison, shape: Shape) -> None:
    panel.set_title(f"batch {shape[0]}, length {shape[1]}", color=INK.light, fontsize=12)
    panel.set_xlabel("ms of a call")
    panel.set_ylabel(found.metric_name or "linear weights kept, %")
    panel.grid()
    points = {entry.name: _point(found, entry, shape) for entry in found.entries}
    known = {name: point for name, point in points.items() if point is not None}
    front = found.pareto[shape]
    line = sorted(known[name] for name in front)
    if len(line) > 1:  # a slower model is as good as the last faster one until its own time
        panel.step(*zip(*line, strict=True), where="post", color=ACCENT.light, linewidth=1.5)
    heights = sorted(known, key=lambda name: known[name][1])
    for name, (time, value) in known.items():
        colour = ACCENT if name in front or found.metric_name is None else DENSE
        panel.plot(time, value, "o", color=colour.light, markersize=8)
        # Neighbours in height take turns above and below their points, so that names stay apart.
        above = heights.index(name) % 2 == 0
        panel.annotate(
            name, (time, value), xytext=(6, 7 if above else -13), textcoords="offset points",
            fontsize=10, color=INK.light,
        )  # fmt: skip
    panel.margins(x=0.25, y=0.15)


def _point(found: Comparison, entry: Entry, shape: Shape) -> tuple[float, float] | None:
    """Milliseconds, and what they stand against."""
    seconds = entry.at(shape).seconds
    if seconds is None:
        return None
    height = entry.metric if found.metric_name else 100 * (1 - entry.linear_zeros)
    return None if height is None else (1e3 * seconds.median, height)
