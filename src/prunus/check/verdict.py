"""The verdict of a check, and the report that people read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from prunus.check.parity import Comparison, ParityReport
from prunus.check.quality import DataReport

SHOWN = 10
"""Calls that differ are listed up to this number; `to_dict` has all."""

Cells = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything that was checked of one model.

    Attributes:
        model: Its name.
        reference: The name of what it was compared with.
        simulated: What zeros were simulated in both, or None.
        parity: The answers on random inputs.
        data: The metrics on the user's data, where there was any.
    """

    model: str
    reference: str
    simulated: str | None
    parity: ParityReport
    data: DataReport | None = None

    @property
    def same(self) -> bool:
        """Whether no answer is beyond its bar and no metric dropped."""
        return self.parity.same and (self.data is None or self.data.same)

    @property
    def verdict(self) -> str:
        """One line: whether the model does what the reference does, and if not, why."""
        reasons = []
        if not self.parity.same:
            calls = len(self.parity.comparisons)
            reasons.append(f"{len(self.parity.failures)} of {calls} calls are beyond the bar")
        if self.data is not None:
            allowed = self.data.tolerance
            reasons += [
                f"{metric.name} dropped by {metric.drop:.4g} (tolerated: {allowed:g})"
                for metric in self.data.dropped
            ]
        if reasons:
            return f"DIFFERENT: {'; '.join(reasons)}"
        other = "" if self.reference == self.model else f" with {self.reference}"
        return f"SAME: {self.model} answers as transformers does{other}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "same": self.same,
            "verdict": self.verdict,
            "model": self.model,
            "reference": self.reference,
            "simulated": self.simulated,
            "parity": self.parity.to_dict(),
            "data": None if self.data is None else self.data.to_dict(),
        }

    def __str__(self) -> str:
        parts = ["\n".join(_parity_lines(self.parity))]
        if self.simulated is not None:
            parts.insert(0, f"SIMULATED zeros: {self.simulated}")
        if self.data is not None:
            parts.append("\n".join(_data_lines(self.data)))
        return "\n\n".join([*parts, self.verdict])


def _parity_lines(report: ParityReport) -> Iterator[str]:
    """A line for each length, with the call that came nearest to its bar."""
    rows: list[Cells] = [("size", "calls", "nearest to its bar", "output", "difference", "bar", "")]
    for size, group in groupby(report.comparisons, key=lambda each: each.case.size):
        calls = tuple(group)
        rows.append((size, str(len(calls)), *_cells(ParityReport(calls).worst)))
    yield from _aligned(rows)
    failures = report.failures
    if failures:
        yield ""
        yield f"calls beyond the bar: {len(failures)}"
        yield from _aligned([_cells(each) for each in failures[:SHOWN]])
        if len(failures) > SHOWN:
            yield f"and {len(failures) - SHOWN} more (--json has all)"


def _cells(comparison: Comparison) -> Cells:
    return (
        str(comparison.case),
        comparison.output,
        f"{comparison.difference:.1e}",
        f"{comparison.bar:.1e}",
        "same" if comparison.same else "DIFFERENT",
    )


def _data_lines(report: DataReport) -> Iterator[str]:
    yield f"{report.task}, {report.rows} rows of {report.path}"
    rows: list[Cells] = [("metric", "prunus", "transformers", "drop", "")]
    for metric in report.metrics:
        verdict = "DIFFERENT" if metric in report.dropped else "same"
        numbers = (f"{each:.4f}" for each in (metric.prunus, metric.transformers, metric.drop))
        rows.append((metric.name, *numbers, verdict))
    yield from _aligned(rows)
    yield f"answers that differ: {report.differing} of {report.answers}"
    if report.cut:
        yield f"texts cut to what the model takes: {report.cut}"


def _aligned(rows: list[Cells]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
