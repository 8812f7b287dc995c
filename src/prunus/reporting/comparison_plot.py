"""The plot of a comparison: time against a metric, with the front that no model beats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from prunus.bench.shapes import Shape
from prunus.errors import InputError
from prunus.reporting.comparison import Comparison, Entry
from prunus.reporting.style import (
    ACCENT,
    DENSE,
    INK,
    UNITS,
    drawing,
    required,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, HEIGHT = 480, 360

SIDES: tuple[tuple[int, Literal["left", "right"]], ...] = ((6, "left"), (-6, "right"))
PLACES = [(x, y, side) for y in (8, -8, 22, -22, 36, -36, 50, -50) for x, side in SIDES]
"""Where a name may stand from its point, in points of type, and its side next to it."""


def comparison_figure(found: Comparison) -> Figure:
    """A panel for each shape; without a metric, times stand against the linear weights kept.

    Raises:
        InputError: no model could be timed.
        UnsupportedError: matplotlib is not installed.
    """
    if not any(_points(found, shape) for shape in found.shapes):
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
        figure.draw_without_rendering()  # now it is known where the points are
        for panel, shape in zip(panels, found.shapes, strict=True):
            _label(panel, _points(found, shape))
        return figure


def _draw(panel: Axes, found: Comparison, shape: Shape) -> None:
    panel.set_title(f"batch {shape[0]}, length {shape[1]}", color=INK.light, fontsize=12)
    panel.set_xlabel("ms of a call")
    panel.set_ylabel(found.metric_name or "linear weights kept, %")
    panel.grid()
    known = _points(found, shape)
    front = found.pareto[shape]
    line = sorted(known[name] for name in front)
    if len(line) > 1:  # a slower model is as good as the last faster one until its own time
        panel.step(*zip(*line, strict=True), where="post", color=ACCENT.light, linewidth=1.5)
    for name, (time, value) in known.items():
        colour = ACCENT if name in front or found.metric_name is None else DENSE
        panel.plot(time, value, "o", color=colour.light, markersize=8)
    panel.margins(x=0.25, y=0.15)


def _label(panel: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Name the points, each name where it covers no other name and no point, if there is room."""
    from matplotlib.transforms import Bbox

    places = panel.transData.transform(list(points.values()))
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for name, point in points.items():
        text = panel.annotate(name, point, fontsize=10, color=INK.light,
                              xytext=(0, 0), textcoords="offset points", va="center")  # fmt: skip
        for x, y, side in PLACES:
            text.xyann = (x, y)
            text.set_horizontalalignment(side)
            box = text.get_window_extent()
            is_inside = all(map(panel.bbox.containsx, (box.x0, box.x1)))
            if is_inside and not any(map(box.overlaps, taken)):
                break
        taken.append(box)


def _points(found: Comparison, shape: Shape) -> dict[str, tuple[float, float]]:
    """Where each model stands that could be timed."""
    points = {entry.name: _point(found, entry, shape) for entry in found.entries}
    return {name: point for name, point in points.items() if point is not None}


def _point(found: Comparison, entry: Entry, shape: Shape) -> tuple[float, float] | None:
    """Milliseconds, and what they stand against."""
    seconds = entry.at(shape).seconds
    if seconds is None:
        return None
    height = entry.metric if found.metric_name else 100 * (1 - entry.linear_zeros)
    return None if height is None else (1e3 * seconds.median, height)
