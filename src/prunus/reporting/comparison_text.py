"""A comparison as text: one table for each shape."""

from __future__ import annotations

from collections.abc import Iterator

from prunus.bench.shapes import Shape
from prunus.plan.profile_text import ABSENT, Table
from prunus.reporting.comparison import Comparison, Entry

UNBEATEN = "*"


def comparison_text(found: Comparison) -> str:
    """Everything that people read of it."""
    return "\n\n".join(map(str, comparison_parts(found)))


def comparison_parts(found: Comparison) -> Iterator[str | Table]:
    """Paragraphs and tables, in the order in which they are read."""
    yield f"{found.machine.describe()}, {found.threads} threads"
    made_up = [entry.name for entry in found.entries if entry.simulated]
    if made_up:
        yield f"SIMULATED zeros, not trained models: {', '.join(made_up)}"
    for shape in found.shapes:
        yield from _at(found, shape)


def _at(found: Comparison, shape: Shape) -> Iterator[str | Table]:
    dense = found.dense(shape)
    against = "it could not be timed" if dense is None else f"{1e3 * dense.median:.2f} ms"
    yield (
        f"Batch {shape[0]}, length {shape[1]}; speed-up over the dense plan of "
        f"{found.entries[0].name}, {against}"
        + (f"; {UNBEATEN} no other is as fast and as good" if found.metric_name else "")
    )
    titles = ("model", "ms", "p10–p90", "speed-up", "linear zeros", "all zeros", "MB on disk")
    metric = () if found.metric_name is None else (found.metric_name,)
    yield Table(
        (*titles, *metric), tuple(_row(found, entry, shape) for entry in found.entries), texts=1
    )
    reasons = ((entry.name, entry.at(shape).reason) for entry in found.entries)
    yield from (f"{name} was left out: {reason}" for name, reason in reasons if reason)


def _row(found: Comparison, entry: Entry, shape: Shape) -> tuple[str, ...]:
    seconds, speedup = entry.at(shape).seconds, found.speedup(entry, shape)
    mark = f" {UNBEATEN}" if entry.name in found.pareto[shape] else ""
    metric = () if entry.metric is None else (f"{entry.metric:g}",)
    return (
        entry.name + mark,
        ABSENT if seconds is None else f"{1e3 * seconds.median:.2f}",
        ABSENT if seconds is None else f"{1e3 * seconds.low:.2f}–{1e3 * seconds.high:.2f}",
        ABSENT if speedup is None else f"{speedup:.2f}×",
        f"{100 * entry.linear_zeros:.1f} %",
        f"{100 * entry.model_zeros:.1f} %",
        f"{1e-6 * entry.disk_bytes:.1f}",
        *metric,
    )
