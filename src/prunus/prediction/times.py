"""Measured seconds, each remembered for this processor, and measured twice where the machine was
busy with other things.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from prunus import cache
from prunus.kernels.compiler import code_version
from prunus.kernels.processor import processor_name
from prunus.plan import Options

KIND = "layer-times"

DISTURBED = 1.2
"""Over its fastest reading of the day, at least, the gauge reads then; on a quiet machine it stays
below. Older readings do not count: a processor that was cool then may be slower for good."""

MOST_TRIES = 3
"""To find a quiet moment for what is measured as a whole."""

Result = TypeVar("Result")

Gauge = Callable[[], float]
"""Seconds of a fixed piece of work."""

Progress = Callable[[int, int, str], None]
"""Told how many measurements are done, of how many, and in a few words what is being done."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something to measure.

    Attributes:
        name: What it is remembered under: all that its time depends on.
        label: What a person reads of it meanwhile.
        measure: Gives seconds.
    """

    name: str
    label: str
    measure: Callable[[], float]


class Times:
    """Seconds by name, kept in the cache for this processor, number of threads and version of the
    kernels.
    """

    def __init__(self, options: Options, *, anew: bool = False) -> None:
        target = options.target
        machine = f"{processor_name()} {target.triple} {target.cpu} {target.features}"
        self._key = f"{machine} {options.threads} {options.tune} {code_version()}"
        self._seconds = {} if anew else self._stored()
        self._gauge = f"gauge {date.today().isoformat()}"

    def __getitem__(self, name: str) -> float:
        return self._seconds[name]

    def __contains__(self, name: str) -> bool:
        return name in self._seconds

    def take(self, jobs: Iterable[Job], gauge: Callable[[], Gauge], progress: Progress) -> int:
        """Measure what is not remembered; returns how many were disturbed twice.

        What is measured while the gauge is slow is measured again after all others. What is slow
        then too is scaled by the gauge, serves this process alone, and is measured anew by the
        next. All else is written at once, so that an interrupted run loses none.

        Args:
            jobs: What must be known; the same one may come several times.
            gauge: Makes the gauge, where anything is to be measured.
            progress: Told before each measurement.
        """
        unknown = list({job.name: job for job in jobs if job.name not in self}.values())
        if not unknown:
            return 0
        read = gauge()
        readings: dict[Job, float] = {}
        self._round(unknown, read, readings, progress, "timing")
        disturbed = self._disturbed(unknown, readings)
        self._round(disturbed, read, readings, progress, "timing again, as it was disturbed:")
        disturbed = self._disturbed(disturbed, readings)
        for job in disturbed:
            self._seconds[job.name] *= self._seconds[self._gauge] / readings[job]
        return len(disturbed)

    def undisturbed(self, measure: Callable[[], tuple[Result, float]]) -> tuple[Result, bool]:
        """Measure until the gauge is quiet meanwhile, a few times at most.

        Args:
            measure: Gives a result, and what the gauge read beside it.

        Returns:
            The result beside which the gauge was fastest, and whether even that was disturbed.
        """
        best, least = measure()
        for _ in range(1, MOST_TRIES):
            self._learn(least)
            if not self._is_slow(least):
                break
            result, reading = measure()
            if reading < least:
                best, least = result, reading
        self._learn(least)
        return best, self._is_slow(least)

    def _round(
        self,
        jobs: Sequence[Job],
        read: Gauge,
        readings: dict[Job, float],
        progress: Progress,
        doing: str,
    ) -> None:
        """Measure each once, and note what the gauge read beside it."""
        before = read()
        for number, job in enumerate(jobs):
            progress(number, len(jobs), f"{doing} {job.label}")
            self._seconds[job.name] = job.measure()
            after = read()
            readings[job] = (before + after) / 2
            before = after
            self._learn(readings[job])
            if not self._is_slow(readings[job]):
                self._write(job.name)

    def _disturbed(self, jobs: Sequence[Job], readings: Mapping[Job, float]) -> list[Job]:
        """Those that are slow now that it is known how fast the gauge can be. Some were written
        before that was known: they are taken back.
        """
        slow = [job for job in jobs if self._is_slow(readings[job])]
        stored = self._stored()
        kept = {name: stored[name] for name in stored.keys() - {job.name for job in slow}}
        if kept != stored:
            self._replace(kept)
        return slow

    def _learn(self, reading: float) -> None:
        self._seconds[self._gauge] = min(reading, self._seconds.get(self._gauge, math.inf))

    def _is_slow(self, reading: float) -> bool:
        """Whether the machine was busy with other things, as far as is known by now."""
        return reading > DISTURBED * self._seconds[self._gauge]

    def _write(self, name: str) -> None:
        """Write it beside what another process measured meanwhile."""
        own = {each: self._seconds[each] for each in (name, self._gauge)}
        self._replace({**self._stored(), **own})

    def _replace(self, seconds: Mapping[str, float]) -> None:
        cache.write(KIND, self._key, json.dumps(seconds).encode())

    def _stored(self) -> dict[str, float]:
        stored = cache.read(KIND, self._key)
        return {} if stored is None else _checked(stored)


def _checked(stored: bytes) -> dict[str, float]:
    """What a cache entry says, or nothing where it is not of the expected form."""
    try:
        seconds = {str(name): float(each) for name, each in json.loads(stored).items()}
    except (ValueError, AttributeError, TypeError):
        return {}
    return {name: each for name, each in seconds.items() if 0 < each < math.inf}
