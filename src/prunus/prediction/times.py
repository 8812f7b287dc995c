"""Measured seconds, each remembered for this processor, and measured twice where the machine was
busy with other things.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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

OF_A_DAY = ("gauge ", "scaled ")
"""How names begin of what is true of one day: how fast the gauge was, and what was scaled by it."""

PATIENCE, LEAST_PATIENCE = 0.25, 1.5
"""Time for measuring again: the share of what measuring took, and seconds at least."""

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
        takes: Seconds that measuring it takes, about.
    """

    name: str
    label: str
    measure: Callable[[], float]
    takes: float = 0.5


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds, and what the gauge read beside them."""

    seconds: float
    gauge: float


class Times:
    """Seconds by name, kept in the cache for this processor, number of threads and version of the
    kernels.
    """

    def __init__(
        self, options: Options, *, anew: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        target, today = options.target, date.today().isoformat()
        machine = f"{processor_name()} {target.triple} {target.cpu} {target.features}"
        self._key = f"{machine} {options.threads} {options.tune} {code_version()}"
        self._gauge, self._scaled = (f"{each}{today} " for each in OF_A_DAY)
        self._clock = clock
        self._seconds = {} if anew else self._stored()

    def __getitem__(self, name: str) -> float:
        scaled = self._scaled + name
        return self._seconds[name if name in self._seconds else scaled]

    def __contains__(self, name: str) -> bool:
        return name in self._seconds or self._scaled + name in self._seconds

    def take(self, jobs: Iterable[Job], gauge: Callable[[], Gauge], progress: Progress) -> int:
        """Measure what is not remembered; returns how many were disturbed and are scaled.

        What is measured while the gauge is slow is measured again after all others, as long as
        there is time. What is slow then too is scaled by the gauge; for the rest of the day that is
        used, and measured again by the next who ask, a little each time. All else is written at
        once, so that an interrupted run loses none.

        Args:
            jobs: What must be known; the same one may come several times.
            gauge: Makes the gauge, where anything is to be measured.
            progress: Told before each measurement.
        """
        unsure = [
            job for job in {job.name: job for job in jobs}.values() if job.name not in self._seconds
        ]
        if not unsure:
            return 0
        read, begin = gauge(), self._clock()
        latest: dict[Job, Measured] = {}
        self._measure([job for job in unsure if job.name not in self], latest, read, progress)
        now = self._clock()
        # Only now is known how fast the gauge can be.
        again = [job for job in unsure if job not in latest or self._is_slow(latest[job].gauge)]
        end = now + max(LEAST_PATIENCE, PATIENCE * (now - begin))
        self._measure(again, latest, read, progress, end)
        return sum(job.name not in self._seconds for job in unsure)

    def undisturbed(self, measure: Callable[[], tuple[Result, float]]) -> tuple[Result, float]:
        """Measure until the gauge is quiet meanwhile, a few times at most.

        Args:
            measure: Gives a result, and what the gauge read beside it.

        Returns:
            The result beside which the gauge was fastest, and how many times as long as on a quiet
            machine the gauge took even then: 1 where that is within the noise.
        """
        best, least = measure()
        self._learn(least)
        for _ in range(1, MOST_TRIES):
            if not self._is_slow(least):
                break
            result, reading = measure()
            self._learn(reading)
            if reading < least:
                best, least = result, reading
        fastest = self._seconds[self._gauge]
        return best, least / fastest if self._is_slow(least) else 1.0

    def _measure(
        self,
        jobs: Sequence[Job],
        latest: dict[Job, Measured],
        read: Gauge,
        progress: Progress,
        end: float = math.inf,
    ) -> None:
        """Measure each once while there is time. What was measured before an error is kept."""
        before = read()
        doing = "timing" if end == math.inf else "timing again, as it was disturbed:"
        try:
            for number, job in enumerate(jobs):
                if self._clock() + job.takes > end:
                    continue
                progress(number, len(jobs), f"{doing} {job.label}")
                seconds = job.measure()
                after = read()
                self._learn((before + after) / 2)
                latest[job] = Measured(seconds, (before + after) / 2)
                before = after
                if not self._is_slow(latest[job].gauge):
                    self._seconds[job.name] = seconds
                    self._write({each: self._seconds[each] for each in (job.name, self._gauge)})
        finally:
            self._scale(latest)

    def _scale(self, latest: Mapping[Job, Measured]) -> None:
        """Scale what is slow, now that it is known how fast the gauge can be. Some was written
        before that was known: it is taken back.
        """
        slow = {job.name: each for job, each in latest.items() if self._is_slow(each.gauge)}
        for name, each in slow.items():
            self._seconds.pop(name, None)
            fastest = self._seconds[self._gauge]
            self._seconds[self._scaled + name] = each.seconds * fastest / each.gauge
        if slow:
            scaled = {name: self._seconds[name] for name in map(self._scaled.__add__, slow)}
            self._write(scaled, without=slow)

    def _learn(self, reading: float) -> None:
        self._seconds[self._gauge] = min(reading, self._seconds.get(self._gauge, math.inf))

    def _is_slow(self, reading: float) -> bool:
        """Whether the machine was busy with other things, as far as is known by now."""
        return reading > DISTURBED * self._seconds[self._gauge]

    def _write(self, seconds: Mapping[str, float], without: Collection[str] = ()) -> None:
        """Write them beside what another process measured meanwhile."""
        merged = {**self._stored(), **seconds}
        kept = {name: each for name, each in merged.items() if name not in without}
        cache.write(KIND, self._key, json.dumps(kept).encode())

    def _stored(self) -> dict[str, float]:
        """What is remembered, but for what was so on another day alone."""
        stored = cache.read(KIND, self._key)
        known = {} if stored is None else _checked(stored)
        return {
            name: each
            for name, each in known.items()
            if not name.startswith(OF_A_DAY) or name.startswith((self._gauge, self._scaled))
        }


def _checked(stored: bytes) -> dict[str, float]:
    """What a cache entry says, or nothing where it is not of the expected form."""
    try:
        seconds = {str(name): float(each) for name, each in json.loads(stored).items()}
    except (ValueError, AttributeError, TypeError):
        return {}
    return {name: each for name, each in seconds.items() if 0 < each < math.inf}
