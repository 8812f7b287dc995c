"""What every worker did during a call, unit by unit, with the waits between."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prunus.runtime import walker
from prunus.runtime.pool import function_address


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that one worker did.

    Attributes:
        step: The name of the step; of a wait, the step in front of which it waited, "" at the end.
        kind: Work on a unit, a wait at a barrier (at the end only of the worker that calls), or a
            step on the interpreter.
        worker: Its number; 0 is the thread that calls.
        unit: The number of the unit; -1 where there is none.
        begin: Seconds since the call began.
        end: The same.
    """

    step: str
    kind: Literal["work", "wait", "numpy"]
    worker: int
    unit: int
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.begin


class Recorder:
    """Collects the events of one call."""

    def __init__(self) -> None:
        self._ticks: Callable[[], int] = ctypes.CFUNCTYPE(ctypes.c_int64)(function_address("ticks"))
        self._raw: list[tuple[str, Literal["work", "wait", "numpy"], int, int, int, int]] = []
        self._start = (time.perf_counter(), self._ticks())
        self._memory = np.empty((0, 0), np.uint8)

    def now(self) -> int:
        """The workers' clock."""
        return self._ticks()

    def numpy(self, step: str, begin: int) -> None:
        """A step on the interpreter that began then and ends now."""
        self._raw.append((step, "numpy", 0, -1, begin, self._ticks()))

    def attach(self, header: np.ndarray, *, workers: int, steps: int, units: int) -> None:
        """Let the workers note the events of a program with so many units in all."""
        room = units + steps + 1
        own = walker.TRACE.nbytes + room * walker.EVENT.nbytes
        self._memory = np.zeros((workers, own), np.uint8)
        for memory in self._memory:
            _trace(memory)["room"] = room
        header["trace"], header["trace_bytes"] = self._memory.ctypes.data, own

    def detach(self, header: np.ndarray, names: Sequence[str]) -> None:
        """Take over what was noted; `names` are those of the program's steps."""
        header["trace"] = header["trace_bytes"] = 0
        for worker, memory in enumerate(self._memory):
            count, room = _trace(memory).tolist()
            assert count <= room, "there is room for every unit"
            events = memory[walker.TRACE.nbytes :].view(walker.EVENT.dtype)[:count]
            for step, unit, begin, end in events.tolist():
                name = names[step] if step < len(names) else ""
                self._raw.append((name, "wait" if unit < 0 else "work", worker, unit, begin, end))

    def events(self) -> tuple[Event, ...]:
        """All events in the order in which they began. To be called right after the call: the
        clock's rate follows from how long it took.
        """
        (seconds, ticks), now = self._start, (time.perf_counter(), self._ticks())
        rate = (now[0] - seconds) / max(now[1] - ticks, 1)
        found = [
            Event(step, kind, worker, unit, (begin - ticks) * rate, (end - ticks) * rate)
            for step, kind, worker, unit, begin, end in self._raw
        ]
        return tuple(sorted(found, key=lambda event: event.begin))


def _trace(memory: np.ndarray) -> np.ndarray:
    """The record at the head of a worker's events."""
    return memory[: walker.TRACE.nbytes].view(walker.TRACE.dtype).reshape(())
