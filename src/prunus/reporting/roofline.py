"""The roofline: what each step with a weight reached of what the processor allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunus.plan.profile import Profile, ProfiledStep
from prunus.reporting.style import ACCENT, DENSE, INK, MUTED, WIDE, drawing, hover, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

HEIGHT = 380

FEW_DECADES = 300
"""A scale that spans less than this has ticks between the powers of ten."""

SLOPES = ("L2", "memory")
"""Where weights are read from."""


def roofline(sparse: Profile, dense: Profile, width: int = WIDE) -> Figure:
    """Operations a second over operations for each byte of weights.

    Roofs are the measured FMA peak and the measured rates at which weights arrive; a dashed ceiling
    is where a kernel's own loads from the L1 cache hold it back.
    """
    limits = sparse.limits
    points = {"dense": weighted_steps(dense), "sparse": weighted_steps(sparse)}
    intensities = [intensity(step) for steps in points.values() for step in steps]
    least, most = min(intensities) / 3, max(intensities) * 3
    with drawing():
        figure, axes = new_figure(width, HEIGHT)
        axes.set_xscale("log")
        axes.set_yscale("log")
        rates = [1e-9 * step.tally.flop_rate for steps in points.values() for step in steps]
        lowest, highest = min(rates) / 2, 2e-9 * limits.fma
        _plain_numbers(axes.xaxis, most / least)
        _plain_numbers(axes.yaxis, highest / lowest)
        for level in SLOPES:
            _slope(axes, limits.loads[level], limits.fma, least, most, level)
        corner = limits.fma / limits.loads["L2"]
        axes.plot((min(corner, most), most), (1e-9 * limits.fma,) * 2, color=INK.light)
        axes.annotate(
            f"FMA peak, {1e-9 * limits.fma:.0f} GFLOP/s",
            (most, 1e-9 * limits.fma),
            (0, 5),
            textcoords="offset points",
            ha="right",
            fontsize=11,
        )
        _ceilings(axes, points["sparse"], least, most, 1e-9 * limits.fma)
        for name, colour in (("dense", DENSE), ("sparse", ACCENT)):
            for step in points[name]:
                (dot,) = axes.plot(
                    [intensity(step)],
                    [1e-9 * step.tally.flop_rate],
                    "o",
                    color=colour.light,
                    alpha=0.8,
                    markersize=7,
                    markeredgewidth=0,
                )
                hover(dot, f"{name}: {describe(step)}")
        _keys(axes)
        axes.set_xlim(least, most)
        axes.set_ylim(lowest, highest)
        axes.set_xlabel("operations a byte of weights")
        axes.set_ylabel("GFLOP/s")
        axes.grid(which="major")
        axes.tick_params(which="both", length=0)
        return figure


def weighted_steps(profile: Profile) -> list[ProfiledStep]:
    """The steps that read weights and were seen to take time."""
    steps = profile.steps
    return [s for s in steps if s.tally.flops and s.tally.weight_bytes and s.tally.seconds]


def intensity(step: ProfiledStep) -> float:
    """Floating-point operations for each byte of weights."""
    return step.tally.flops / step.tally.weight_bytes


def describe(step: ProfiledStep) -> str:
    """A step's numbers in a line."""
    tally = step.tally
    return (
        f"{step.name}, {step.kernel}: {1e-9 * tally.flop_rate:.1f} GFLOP/s, "
        f"{intensity(step):.2g} FLOP a byte, {100 * tally.limit_share:.0f} % of its limit "
        f"({step.bound})"
    )


def _slope(axes: Axes, rate: float, peak: float, least: float, most: float, level: str) -> None:
    """A slanted roof, up to the peak."""
    end = min(peak / rate, most)
    if end <= least:
        return
    ends = (least, end)
    (line,) = axes.plot(ends, [1e-9 * rate * x for x in ends], color=MUTED.light, linewidth=1.2)
    hover(line, f"weights from {level}: {1e-9 * rate:.0f} GB/s")
    axes.annotate(
        f"{level}, {1e-9 * rate:.0f} GB/s",
        (end, 1e-9 * rate * end),
        (-6, -2),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=11,
        color=MUTED.light,
        rotation=0,
    )


def _ceilings(
    axes: Axes, steps: list[ProfiledStep], least: float, most: float, peak: float
) -> None:
    """The rates that the loads of the sparse kernels allow, each once."""
    rates = {
        float(f"{1e-9 * s.tally.flops / s.tally.limit:.3g}") for s in steps if s.bound == "loads"
    }
    for rate in sorted(rates):
        if rate < 0.98 * peak:
            (line,) = axes.plot(
                (least, most), (rate, rate), "--", color=MUTED.light, linewidth=1, dashes=(4, 3)
            )
            hover(line, f"loads from L1 allow {rate:.0f} GFLOP/s")
    if rates:
        axes.annotate(
            "loads from L1",
            (least, max(rates)),
            (6, 4),
            textcoords="offset points",
            fontsize=11,
            color=MUTED.light,
        )


def _plain_numbers(axis: Axis, span: float) -> None:
    """Ticks at 1, 10, 100, and where they would be few at 2 and 5 too, written as they are."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < FEW_DECADES else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def _keys(axes: Axes) -> None:
    for name, colour in (("dense steps", DENSE), ("sparse steps", ACCENT)):
        axes.plot([], [], "o", color=colour.light, markersize=7, markeredgewidth=0, label=name)
    axes.legend(loc="lower right", fontsize=11, handletextpad=0.2)
