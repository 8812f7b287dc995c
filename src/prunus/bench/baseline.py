"""What became of an earlier run's times, with what cannot be told from noise called so."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prunus.bench.engines import DENSE_RIVALS
from prunus.bench.rounds import Summary
from prunus.bench.shapes import Shape
from prunus.bench.table import Report

Key = tuple[str, str, Shape]
"""Model, engine and shape: what makes two rows of two runs the same row."""


@dataclass(frozen=True, slots=True)
class Quotient:
    """A quotient of times, with the least and the largest that the times' spread allows.

    The spread of a time goes from its 10th to its 90th percentile. The bounds put every time of the
    quotient at the end that moves it the furthest, all at once. That is wider than the truth, since
    a median lies closer than its samples: rather a small change is missed than noise called one.
    """

    value: float
    least: float
    largest: float

    @classmethod
    def of(cls, time: Summary) -> Quotient:
        """A time by itself, in seconds."""
        return cls(time.median, time.low, time.high)

    def __truediv__(self, other: Quotient) -> Quotient:
        """Both spreads together."""
        return Quotient(
            self.value / other.value, self.least / other.largest, self.largest / other.least
        )


@dataclass(frozen=True, slots=True)
class Change:
    """A row's time over that of an earlier run: below 1 it is faster now.

    Absolute times drift from hour to hour, so where both runs have the same dense ``rival`` at the
    shape, the ratios to it are compared; where it is None, the medians themselves.
    """

    quotient: Quotient
    rival: str | None

    @property
    def within_noise(self) -> bool:
        """Whether the spread of the times allows that nothing has changed."""
        return self.quotient.least <= 1 <= self.quotient.largest

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **dataclasses.asdict(self.quotient),
            "compared": self.rival or "medians",
            "within_noise": self.within_noise,
        }

    def __str__(self) -> str:
        """In a cell of the table: ``1.02 by openvino, within noise``."""
        noise = ", within noise" if self.within_noise else ""
        return f"{self.quotient.value:.2f} by {self.rival or 'medians'}{noise}"


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier run that a report is compared with, and in what else than its times it differs."""

    name: str
    compared: int
    differs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"differs": list(self.differs)}

    def lines(self) -> Iterator[str]:
        """For the header: how the column is to be read, and a warning of what differs."""
        rows = f"{self.compared} row{'' if self.compared == 1 else 's'} in common"
        yield (
            f"- Baseline: {self.name}, {rows}; below 1 is faster now, by the ratios to the dense "
            "rival that is named or, where the runs share none, by medians; within noise where the "
            "p10–p90 of all these times allow 1"
        )
        if self.differs:
            yield f"- **Warning**: in the baseline, {'; '.join(self.differs)}"


def compare(report: Report, earlier: Report, name: str) -> Report:
    """The report, each row with its change since the earlier one, which is shown by its name."""
    now, then = _times(report), _times(earlier)
    rows = [
        dataclasses.replace(row, change=_change((row.model, row.engine, row.shape), now, then))
        if row.shape
        else row
        for row in report.rows
    ]
    compared = sum(row.change is not None for row in rows)
    differs = tuple(_differences(report, earlier))
    return dataclasses.replace(report, rows=rows, baseline=Baseline(name, compared, differs))


def _times(report: Report) -> dict[Key, Quotient]:
    return {
        (row.model, row.engine, row.shape): Quotient.of(row.seconds)
        for row in report.rows
        # A clock too coarse to see a call at all says nothing of its speed.
        if row.shape and row.seconds and row.seconds.low > 0
    }


def _change(key: Key, now: Mapping[Key, Quotient], then: Mapping[Key, Quotient]) -> Change | None:
    if key not in now or key not in then:
        return None
    model, engine, shape = key
    for rival in DENSE_RIVALS:
        beside = (model, rival, shape)
        if rival != engine and beside in now and beside in then:
            return Change((now[key] / now[beside]) / (then[key] / then[beside]), rival)
    return Change(now[key] / then[key], None)


def _differences(report: Report, earlier: Report) -> Iterator[str]:
    """What a change may come from beside the code, as it was in the earlier run."""
    if earlier.machine != report.machine:
        yield f"the machine was {earlier.machine.describe()}"
    if earlier.threads != report.threads:
        yield f"threads were {earlier.threads} (now {report.threads})"
    for name, version in report.versions.items():
        before = earlier.versions.get(name, version)
        if before != version:
            yield f"{name} was {before} (now {version})"
    for model in report.models:
        if model in earlier.models:
            before, now = _zeros(earlier, model), _zeros(report, model)
            if before != now:
                yield f"{model} was {before} (now {now})"


def _zeros(report: Report, model: str) -> str:
    density = report.density.get(model)
    share = "of unknown density" if density is None else f"{100 * density:.1f} % nonzero"
    return f"{share}, {report.simulated.get(model, 'not simulated')}"
