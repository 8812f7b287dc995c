"""The answer of a benchmark: rows, what they were measured on, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from prunus.bench.machine import Machine
from prunus.bench.rounds import Summary
from prunus.bench.shapes import Shape
from prunus.records import Cell, Records

if TYPE_CHECKING:
    from prunus.bench.baseline import Baseline, Change

ABSENT = "–"

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Row:
    """One engine at one shape, or the reason why it was left out (no shape: at all of them).

    ``seconds`` summarizes the time of one call; ``ratio`` is its median over that of the best dense
    engine at the same shape; ``difference`` is the largest absolute difference from the outputs of
    ``reference``. ``flops`` are the operations that a call needs: those of the nonzeros for an
    engine that skips zeros, those of all weights for a dense one. ``change`` is what became of its
    time since an earlier run.
    """

    model: str
    engine: str
    dense: bool
    shape: Shape | None
    seconds: Summary | None = None
    ratio: float | None = None
    difference: float | None = None
    flops: float | None = None
    reference: str | None = None
    note: str = ""
    reason: str | None = None
    change: Change | None = None

    def limit(self, peak: float) -> float | None:
        """Seconds below which no call can be: those of its operations at ``peak`` FLOP/s."""
        return None if self.flops is None else self.flops / peak

    def peak_share(self, peak: float) -> float | None:
        """The share of ``peak`` FLOP/s that it reached with the operations that it needs."""
        limit = self.limit(peak)
        return None if limit is None or self.seconds is None else limit / self.seconds.median

    @property
    def speedup(self) -> float | None:
        """How many times as fast as the best dense engine."""
        return None if not self.ratio else 1 / self.ratio

    def to_dict(self, peak: float) -> dict[str, Any]:
        """Plain values, times in milliseconds; what is not a finite number is a string, or None."""
        batch, sequence = self.shape or (None, None)
        return {
            "model": self.model,
            "engine": self.engine,
            "dense": self.dense,
            "batch": batch,
            "sequence": sequence,
            "milliseconds": None if self.seconds is None else _milliseconds(self.seconds),
            "ratio_to_best_dense": _finite(self.ratio),
            "speedup": _finite(self.speedup),
            "flops": _finite(self.flops),
            "share_of_fma_peak": _finite(self.peak_share(peak)),
            "largest_difference": _finite(self.difference),
            "reference": self.reference,
            "note": self.note,
            "left_out": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Report(Records):
    """Rows with what must be known to read them.

    ``simulated`` maps the models whose weights are made up to how; ``density`` maps models to the
    share of their linear weights that is not zero; ``peak`` is the measured FMA peak of ``threads``
    threads in FLOP/s. With ``limit`` the time of each row's operations at that peak is shown;
    ``baseline`` is the earlier run that the rows are compared with.
    """

    machine: Machine
    peak: float
    threads: int
    rounds: int
    versions: Mapping[str, str]
    rows: Sequence[Row]
    simulated: Mapping[str, str] = field(default_factory=dict)
    density: Mapping[str, float] = field(default_factory=dict)
    limit: bool = False
    baseline: Baseline | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order of their rows."""
        return tuple(dict.fromkeys(row.model for row in self.rows))

    @property
    def reference(self) -> str | None:
        """The engine whose outputs the first compared row was compared with."""
        return next((row.reference for row in self.rows if row.reference), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        baseline = {"baseline": self.baseline.to_dict()} if self.baseline else {}
        return {
            "machine": dataclasses.asdict(self.machine),
            "fma_peak_gflops": self.peak / 1e9,
            "threads": self.threads,
            "rounds": self.rounds,
            "versions": dict(self.versions),
            "models": [
                {
                    "name": model,
                    "simulated": self.simulated.get(model),
                    "linear_density": self.density.get(model),
                }
                for model in self.models
            ],
            "reference": self.reference,
            **baseline,
            "rows": [self._row(row) for row in self.rows],
        }

    def records(self) -> list[dict[str, Cell]]:
        """A row for each engine at each shape, as in JSON, with the parts of its time as columns
        of their own, and its change since the baseline as one number.
        """
        rows: list[dict[str, Cell]] = []
        for row in self.rows:
            cells = self._row(row)
            time = cells.pop("milliseconds") or {}
            cells |= {f"{part}_milliseconds": time.get(part) for part in ("median", "p10", "p90")}
            cells["calls"] = time.get("calls")
            if change := cells.get("change"):
                cells["change"] = change["value"]
            rows.append(cells)
        return rows

    def to_markdown(self) -> str:
        """A header of a few lines and the table, its columns aligned."""
        columns = _columns(self)
        cells = [[cell(row) for cell in columns.values()] for row in self.rows]
        texts = {*range(list(columns).index("engine") + 1), len(columns) - 1}
        return "\n".join([*self._header(), "", *aligned(list(columns), cells, texts)]) + "\n"

    def _row(self, row: Row) -> dict[str, Any]:
        """The row's plain values, with those that were asked for."""
        values = row.to_dict(self.peak)
        if self.limit:
            limit = row.limit(self.peak)
            values["limit_milliseconds"] = None if limit is None else 1e3 * limit
        if self.baseline:
            values["change"] = row.change and row.change.to_dict()
        return values

    def _header(self) -> list[str]:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        peak = f"measured FMA peak {self.peak / 1e9:.0f} GFLOP/s with {_threads(self.threads)}"
        return [
            *(f"- Model: {self._model_line(model)}" for model in self.models),
            f"- Processor: {self.machine.describe()}; {peak}",
            f"- Threads: {self.threads} for every engine; {self.rounds} interleaved rounds",
            f"- Versions: {versions}",
            f"- Largest difference: {_difference_line(self.reference)}",
            *(self.baseline.lines() if self.baseline else ()),
        ]

    def _model_line(self, model: str) -> str:
        parts = [f"**{model}**"]
        if model in self.density:
            parts.append(f"{100 * self.density[model]:.1f} % of its linear weights are not zero")
        if model in self.simulated:
            parts.append(f"**simulated**: {self.simulated[model]}")
        return ", ".join(parts)


def with_ratios(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows with their ratio to the fastest dense row of the same shape, where there is one."""
    timed = list(rows)
    best: dict[Shape, float] = {}
    for row in timed:
        if row.dense and row.shape and row.seconds:
            best[row.shape] = min(best.get(row.shape, math.inf), row.seconds.median)
    return tuple(dataclasses.replace(row, ratio=_ratio(row, best)) for row in timed)


def _ratio(row: Row, best: Mapping[Shape, float]) -> float | None:
    if row.shape is None or row.seconds is None or not best.get(row.shape):
        return None
    return row.seconds.median / best[row.shape]


def _columns(report: Report) -> dict[str, Callable[[Row], str]]:
    """What the table shows of a row, by title."""
    peak = report.peak
    columns: dict[str, Callable[[Row], str]] = {
        "model": lambda row: row.model,
        "engine": lambda row: row.engine,
        "batch × tokens": lambda row: f"{row.shape[0]} × {row.shape[1]}" if row.shape else "all",
        "median ms": lambda row: _shown(row.seconds, lambda each: _figure(1e3 * each.median)),
        "p10–p90 ms": lambda row: _shown(row.seconds, _spread),
        "÷ best dense": lambda row: _shown(row.ratio, "{:.2f}".format),
        "speed-up": lambda row: _shown(row.speedup, "{:.2f}×".format),
        "÷ baseline": lambda row: _shown(row.change, str),
        "limit ms": lambda row: _shown(row.limit(peak), lambda limit: _figure(1e3 * limit)),
        "of FMA peak": lambda row: _shown(row.peak_share(peak), _percent),
        "largest difference": _difference,
        "note": lambda row: _note(row, report.reference),
    }
    wanted = {  # the others always are
        "model": len(report.models) > 1,
        "÷ baseline": report.baseline is not None,
        "limit ms": report.limit,
    }
    return {title: cell for title, cell in columns.items() if wanted.get(title, True)}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _shown(value: Value | None, write: Callable[[Value], str]) -> str:
    return ABSENT if value is None else write(value)


def _difference(row: Row) -> str:
    if row.reference is not None and row.reference == row.engine:
        return "reference"
    return ABSENT if row.difference is None else f"{row.difference:.1e}"


def _note(row: Row, reference: str | None) -> str:
    parts = [row.note] if row.note else []
    if row.reference not in (None, reference):
        parts.append(f"difference from {row.reference}")
    if row.reason is not None:
        parts.append(f"left out: {row.reason}")
    # A line break or a bar inside a cell would end it.
    return " ".join("; ".join(parts).split()).replace("|", "\\|")


def _difference_line(reference: str | None) -> str:
    if reference is None:
        return "not taken, as no other engine answered"
    name = "PyTorch eager" if reference == "torch" else reference
    return f"absolute, of any output from {name}'s, where attention_mask is 1"


def aligned(
    titles: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[int]
) -> list[str]:
    """A table as Markdown lines; the columns `texts` are texts, the rest figures."""
    lefts = [column in texts for column in range(len(titles))]
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]

    def line(cells: Sequence[str]) -> str:
        placed = (
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(cells, widths, lefts, strict=True)
        )
        return f"| {' | '.join(placed)} |"

    rules = (
        "-" * width if left else "-" * (width - 1) + ":"
        for width, left in zip(widths, lefts, strict=True)
    )
    return [line(titles), f"| {' | '.join(rules)} |", *(line(row) for row in rows)]


def _milliseconds(summary: Summary) -> dict[str, float]:
    return {
        "median": 1e3 * summary.median,
        "p10": 1e3 * summary.low,
        "p90": 1e3 * summary.high,
        "least": 1e3 * summary.least,
        "calls": summary.calls,
    }


def _spread(summary: Summary) -> str:
    return f"{_figure(1e3 * summary.low)}–{_figure(1e3 * summary.high)}"


def _figure(value: float) -> str:
    """Three significant digits, never an exponent: 1234, 165, 50.3, 8.12, 0.0123."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(0, digits)}f}"


def _finite(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"
