"""The figure of `cost_growth.py`: four panels, each with what was measured as dots and its law as a
line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cost_growth import Growth

MEASURED, LAW, SQUARE, MUTED = "#1f4e9c", "#c2410c", "#f3b58a", "#5f6b7a"


def draw(growth: Growth, folder: Path) -> list[Path]:
    """Write `cost-growth.svg` and `cost-growth.png` into the folder."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    style: dict[Any, Any] = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e3e7ec",
        "axes.axisbelow": True,
        "legend.frameon": False,
        "svg.hashsalt": "prunus",
    }
    with pyplot.rc_context(style):
        page, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained", facecolor="white")
        panels = (draw_density, draw_lengths, draw_batches, draw_threads)
        for panel, axis in zip(panels, axes.flat, strict=True):
            panel(axis, growth)
            axis.set_ylabel("milliseconds a call")
            axis.set_xlim(left=0)
            axis.set_ylim(bottom=0)
            axis.legend()
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"cost-growth.{kind}" for kind in ("svg", "png")]
        for path in paths:
            # A date would make every run's file another.
            metadata = {"Date": None} if path.suffix == ".svg" else {}
            page.savefig(path, dpi=150, metadata=metadata)
        pyplot.close(page)
    return paths


def draw_density(axis: Any, growth: Growth) -> None:
    """Against nonzeros: the straight line, and the dense kernel beside it."""
    ends = np.array([0.0, max(growth.density)])
    line = _ms(growth.by_density.seconds, ends)
    axis.plot(100 * ends, line, "--", color=LAW, label="nonzeros × tokens")
    _dots(axis, {100 * share: s for share, s in growth.density.items()}, "sparse kernels")
    if growth.dense:
        seconds = 1e3 * min(growth.dense.values())
        label = f"dense kernel, {seconds:.3g} ms"
        axis.axhline(seconds, color=MUTED, linestyle=":", label=label)
    axis.set_xlabel("linear weights that are not zero, %")
    axis.set_title(f"Nonzeros (1 × {growth.length} tokens)")


def draw_lengths(axis: Any, growth: Growth) -> None:
    """Against the length: nonzeros × tokens as a line, attention's square on top, and the step."""
    law = growth.by_tokens
    lengths = np.linspace(0, max(growth.lengths), 200)
    linear = _ms(law.seconds, lengths)
    whole = linear + 1e3 * law.per_square * lengths**2
    axis.plot(lengths, linear, "--", color=LAW, label="nonzeros × tokens")
    label = f"attention's square, {1e9 * law.per_square:.3g} ns × tokens²"
    axis.fill_between(lengths, linear, whole, color=SQUARE, alpha=0.6, linewidth=0, label=label)
    axis.plot(lengths, whole, color=LAW, linewidth=1)
    _dots(axis, growth.lengths, "measured")
    axis.set_xlabel("tokens")
    axis.set_title(f"Length (one text, {growth.recipe} zeros)")
    _draw_step(axis.inset_axes((0.64, 0.09, 0.35, 0.18)), growth)


def _draw_step(axis: Any, growth: Growth) -> None:
    """Every length of one step of a tile, with the tenth that it may cost over the last."""
    last = growth.step[max(growth.step)]
    axis.axhspan(0, 1.1e3 * last, color="#e8f1ea", linewidth=0)
    axis.plot(list(growth.step), [1e3 * s for s in growth.step.values()], ".", color=MEASURED)
    axis.set_ylim(0, 1.5e3 * max(growth.step.values()))
    axis.set_title(f"each length, at most {max(growth.step)} + 10 %", fontsize=8, color=MUTED)
    axis.tick_params(labelsize=8)


def draw_batches(axis: Any, growth: Growth) -> None:
    """Against the batch: a straight line, as every text has the same square."""
    batches = np.array([0.0, max(growth.batches)])
    law = _ms(growth.by_tokens.seconds, batches * growth.length, batches * growth.length**2)
    axis.plot(batches, law, "--", color=LAW, label="the same law")
    _dots(axis, growth.batches, "measured")
    axis.set_xlabel(f"texts of {growth.length} tokens")
    axis.set_title(f"Batch ({growth.recipe} zeros)")


def draw_threads(axis: Any, growth: Growth) -> None:
    """Against the threads: what each would take if none was lost."""
    threads = np.linspace(1, max(growth.threads), 100)
    label = "one thread's time, shared evenly"
    axis.plot(threads, 1e3 * growth.threads[1] / threads, "--", color=LAW, label=label)
    _dots(axis, growth.threads, "measured")
    axis.set_xlabel("threads")
    axis.set_xticks(list(growth.threads))
    axis.set_title(f"Threads (1 × {growth.length} tokens, {growth.recipe} zeros)")


def _dots(axis: Any, times: Any, label: str) -> None:
    milliseconds = [1e3 * seconds for seconds in times.values()]
    axis.plot(list(times), milliseconds, "o", color=MEASURED, label=label)


def _ms(seconds: Any, *arguments: Any) -> Any:
    return 1e3 * seconds(*arguments)
