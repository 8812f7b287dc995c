"""The figures of a report: engines, where the time goes, and how it grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from prunus.plan.profile import NUMPY, Profile, ProfiledStep
from prunus.reporting.findings import Findings
from prunus.reporting.heat_maps import density_by_head, density_by_layer, matrix_maps
from prunus.reporting.matrices import kind_of
from prunus.reporting.roofline import roofline
from prunus.reporting.style import (
    ACCENT,
    DENSE,
    INK,
    MUTED,
    WIDE,
    drawing,
    hover,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REST = "waiting, waking up, Python"
OTHER = "other"

SMALL_SHARE = 0.01
"""Kinds of steps that take less of either call are one bar."""

_NARROW_BELOW = 500
_BAR = 18
"""Pixels of a bar with its gap."""

Bars = Mapping[str, tuple[float, float]]
"""Seconds without and with skipping zeros, by label."""


def all_figures(findings: Findings, width: int = WIDE) -> dict[str, Figure]:
    """Every figure by the name of its file.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    figures = {
        "engines": engine_bars(findings, width),
        "time_by_layer": time_bars(by_layer(findings), width),
        "time_by_kind": time_bars(by_kind(findings), width),
        "roofline": roofline(findings.sparse, findings.dense, width),
        "growth_with_tokens": growth_curve(findings, "tokens", width // 2),
        "growth_with_batch": growth_curve(findings, "batch", width // 2),
        "zeros": matrix_maps(findings.matrices, width),
        "density_by_layer": density_by_layer(findings.matrices, width),
    }
    if findings.heads:
        figures["density_by_head"] = density_by_head(findings.heads, width)
    return figures


def engine_bars(findings: Findings, width: int = WIDE) -> Figure:
    """The median time of a call on each engine, with a line from 10th to 90th percentile."""
    rows = findings.timed
    with drawing():
        figure, axes = new_figure(width, 34 * len(rows) + 12)
        longest = max(row.seconds.high for row in rows if row.seconds is not None)
        for place, row in enumerate(rows):
            if row.seconds is None:
                continue
            colour = ACCENT if row.engine == "prunus" else DENSE
            median, ends = 1e3 * row.seconds.median, (1e3 * row.seconds.low, 1e3 * row.seconds.high)
            (bar,) = axes.barh(place, median, 0.62, color=colour.light)
            hover(bar, f"{row.engine}: {median:.3g} ms, p10–p90 {ends[0]:.3g}–{ends[1]:.3g} ms")
            axes.plot(ends, (place, place), color=INK.light, linewidth=1.2)
            axes.text(
                max(median, ends[1]) + 12 * longest,
                place,
                f"{milliseconds(row.seconds.median)} ms",
                va="center",
                fontsize=12.5,
                fontweight="bold" if row.engine == "prunus" else "normal",
            )
        axes.set_yticks(range(len(rows)), [row.engine for row in rows])
        axes.tick_params("y", labelcolor=INK.light, labelsize=12.5, length=0)
        _bare(axes, 1e3 * longest * (1.16 if width > _NARROW_BELOW else 1.4))
        return figure


def by_layer(findings: Findings) -> Bars:
    """Seconds of the steps of each layer, in the order of the program."""
    return _paired(findings, lambda step: step.layer)


def by_kind(findings: Findings) -> Bars:
    """Seconds by what a step is in its layer, the longest first; they add up to the calls."""
    bars = dict(_paired(findings, _kind))
    rest = tuple(
        max(0.0, p.seconds - sum(step.tally.seconds for step in p.steps))
        for p in (findings.dense, findings.sparse)
    )
    small = {
        name: each
        for name, each in bars.items()
        if each[0] < SMALL_SHARE * findings.dense.seconds
        and each[1] < SMALL_SHARE * findings.sparse.seconds
    }
    large = {name: each for name, each in bars.items() if name not in small}
    ordered = dict(sorted(large.items(), key=lambda item: -item[1][0]))
    if small:
        ordered[OTHER] = sum(d for d, _ in small.values()), sum(s for _, s in small.values())
    return {**ordered, REST: (rest[0], rest[1])}


def time_bars(bars: Bars, width: int = WIDE) -> Figure:
    """Two bars for each label: the time without and with skipping zeros."""
    narrow = width < _NARROW_BELOW
    unit = _BAR * (3.1 if narrow else 2.3)
    with drawing():
        figure, axes = new_figure(width, int(unit * len(bars)) + 34)
        longest = 1e3 * max(max(pair) for pair in bars.values())
        height = 0.28 if narrow else 0.36
        for place, (label, pair) in enumerate(bars.items()):
            first = place + (0.08 if narrow else -height / 2)
            for offset, seconds, colour, what in zip(
                (0, height), pair, (DENSE, ACCENT), ("dense", "sparse"), strict=True
            ):
                (bar,) = axes.barh(first + offset, 1e3 * seconds, height * 0.92, color=colour.light)
                hover(bar, f"{label}, {what}: {1e3 * seconds:.3g} ms")
                axes.text(
                    1e3 * seconds + longest / 100,
                    first + offset,
                    milliseconds(seconds),
                    va="center",
                    fontsize=10.5,
                    color=INK.light if what == "sparse" else MUTED.light,
                )
            if narrow:
                axes.text(0, place - 0.2, label, va="center", fontsize=11.5)
        axes.set_yticks([] if narrow else range(len(bars)), [] if narrow else list(bars))
        axes.tick_params("y", labelcolor=INK.light, labelsize=11.5, length=0)
        _legend(figure)
        _bare(axes, longest * (1.18 if narrow else 1.08))
        axes.set_ylim(len(bars) - 0.5, -0.5)
        return figure


def growth_curve(
    findings: Findings, along: Literal["tokens", "batch"], width: int = WIDE // 2
) -> Figure:
    """The time of a call at other lengths, or at other batches, dense above sparse."""
    points = growth_points(findings, along)
    sizes = [size for size, _, _ in points]
    with drawing():
        figure, axes = new_figure(width, 270)
        for times, colour, name in (
            ([1e3 * dense for _, dense, _ in points], DENSE, "dense"),
            ([1e3 * sparse for _, _, sparse in points], ACCENT, "sparse"),
        ):
            axes.plot(sizes, times, color=colour.light)
            for size, time in zip(sizes, times, strict=True):
                (dot,) = axes.plot([size], [time], "o", color=colour.light, markersize=6)
                hover(dot, f"{name}, {along} {size}: {time:.3g} ms")
        axes.set_xlabel("tokens of a text" if along == "tokens" else "texts of a call")
        axes.set_ylabel("ms")
        axes.set_ylim(0)
        axes.set_xlim(0, sizes[-1] * 1.04)
        axes.set_xticks([size for size in sizes if size * 10 >= sizes[-1]])
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        _legend(figure)
        return figure


def growth_points(
    findings: Findings, along: Literal["tokens", "batch"]
) -> list[tuple[int, float, float]]:
    """Size, dense seconds and sparse seconds of the points along one axis."""
    batch, length = findings.shape
    fixed, varied, size = (0, 1, batch) if along == "tokens" else (1, 0, length)
    return [
        (point.shape[varied], point.dense, point.sparse)
        for point in findings.growth
        if point.shape[fixed] == size
    ]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """`layer 3` for `bert.encoder.layer.3`, as long as that tells all names apart."""
    short = {name: " ".join(name.split(".")[-2:]) if "." in name else name for name in names}
    return short if len(set(short.values())) == len(short) else {name: name for name in names}


def milliseconds(seconds: float) -> str:
    """Three significant digits without an exponent: 165, 50.3, 8.12, 0.012."""
    value = 1e3 * seconds
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{min(3, max(0, digits))}f}"


def _kind(step: ProfiledStep) -> str:
    if step.kernel == NUMPY:
        return "steps on NumPy"
    return kind_of(step.name) if step.tally.nonzeros else step.op.replace("_", " ")


def _paired(findings: Findings, group: object) -> Bars:
    dense, sparse = (_sums(p, group) for p in (findings.dense, findings.sparse))
    return {n: (dense.get(n, 0.0), sparse.get(n, 0.0)) for n in dict.fromkeys([*dense, *sparse])}


def _sums(profile: Profile, group: object) -> dict[str, float]:
    sums: dict[str, float] = {}
    for step in profile.steps:
        name = group(step)  # type: ignore[operator]
        sums[name] = sums.get(name, 0.0) + step.tally.seconds
    return sums


def _legend(figure: Figure) -> None:
    """Which colour is which, in front of everything."""
    from matplotlib.patches import Patch

    keys = [
        Patch(color=DENSE.light, label="dense: zeros computed"),
        Patch(color=ACCENT.light, label="sparse: zeros skipped"),
    ]
    figure.legend(
        handles=keys, loc="outside upper left", ncols=2, fontsize=11, handlelength=0.9,
        handleheight=0.9, borderpad=0.2, columnspacing=1.4,
    )  # fmt: skip


def _bare(axes: Axes, right: float) -> None:
    """Bars that say their numbers need no scale."""
    axes.set_xlim(0, right)
    axes.set_xticks([])
    axes.invert_yaxis()
    for side in ("bottom", "left"):
        axes.spines[side].set_visible(False)
