"""The plot of `prunus whatif`: speed-up over zeros, a line for each pattern."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prunus.prediction.result import WhatIf
from prunus.reporting.style import (
    INK,
    MUTED,
    UNITS,
    drawing,
    required,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL = 460
HEIGHT = 360
LINES = ("#96235f", "#2f6f8f", "#7a8a2a", "#c2772b", "#5b4b9a", "#3d8a6a", "#a04040", "#555b66")
"""Colours that stay apart from each other, also for most who see fewer of them."""

MARKERS = "osD^vPX*"


def save_plot(found: WhatIf, path: Path) -> None:
    """Write the plot as SVG or PNG, by the suffix.

    Raises:
        InputError: another suffix, or a file that cannot be written.
        UnsupportedError: matplotlib is not installed.
    """
    save_figure(whatif_figure(found), path)


def whatif_figure(found: WhatIf) -> Figure:
    """A panel for each shape; what was built and run is a ring around where it was predicted.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    with drawing():
        figure: Figure = required("matplotlib.figure").Figure(
            figsize=(PANEL * len(found.shapes) / UNITS, HEIGHT / UNITS),
            dpi=UNITS,
            layout="constrained",
        )
        panels = figure.subplots(1, len(found.shapes), squeeze=False)[0]
        patterns = list(dict.fromkeys(each.pattern for each in found.grid))
        for panel, shape in zip(panels, found.shapes, strict=True):
            panel.set_title(f"batch {shape[0]}, length {shape[1]}", color=INK.light, fontsize=12)
            panel.axhline(1, color=MUTED.light, linewidth=1, linestyle=":")
            for number, pattern in enumerate(patterns):
                line = [each for each in found.at(shape) if each.pattern == pattern]
                panel.plot(
                    [100 * each.recipe.sparsity for each in line],
                    [each.speedup for each in line],
                    color=LINES[number % len(LINES)],
                    marker=MARKERS[number % len(MARKERS)],
                    markersize=5,
                    label=pattern,
                )
            built = [each for each in found.built if each.combination.shape == shape]
            panel.plot(
                [100 * each.combination.recipe.sparsity for each in built],
                [each.speedup for each in built],
                linestyle="none", marker="o", markersize=11, markerfacecolor="none",
                markeredgecolor=INK.light, label="built and run" if built else None,
            )  # fmt: skip
            panel.set_xlabel("zeros of the linear weights, %")
            panel.grid(axis="y")
            panel.set_ylim(bottom=0)
        panels[0].set_ylabel("times as fast as dense")
        panels[0].legend(loc="upper left", fontsize=10)
        return figure
