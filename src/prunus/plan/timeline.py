"""Where the time of one traced call went, so that all of it is accounted for.

A call of t seconds on n workers is n·t seconds of workers. Each is at work on a step, waits at the
barrier in front of one, is between two events (it claims units and notes events), or is outside:
asleep, waking up, or, for the one that calls, in Python. Divided by n these are parts of the call.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunus.runtime.program import NativeStep, Step
from prunus.runtime.trace import Event, Recorder


@dataclass(frozen=True, slots=True)
class Call:
    """One traced call.

    Attributes:
        events: What the workers did, in the order in which it began.
        seconds: The call's wall time. The events begin with it.
    """

    events: tuple[Event, ...]
    seconds: float


def trace_calls(run: Callable[[Recorder | None], object], repeat: int) -> list[Call]:
    """So many traced calls of `run`, and one without a recorder before them, to warm up."""
    run(None)
    calls = []
    for _ in range(repeat):
        recorder, begin = Recorder(), time.perf_counter()
        run(recorder)
        seconds = time.perf_counter() - begin
        events = recorder.events()
        # The workers' clock and this one agree to a microsecond or so, but no call ends before what
        # is done in it.
        last = max((event.end for event in events if event.worker == 0), default=0.0)
        calls.append(Call(events, max(seconds, last)))
    return calls


@dataclass(frozen=True, slots=True, eq=False)
class Spent:
    """Parts of a call's wall time, in seconds: all of them together are the whole.

    Attributes:
        work: On each step; the whole time of a step on the interpreter, during which workers idle.
            This and the next two are float64 [steps + 1], the last for the end, where all meet.
        waiting: At the barrier in front of each step.
        gaps: Between events, in front of each step.
        outside: Before the workers start, between wake-ups, and after they have ended.
    """

    work: np.ndarray
    waiting: np.ndarray
    gaps: np.ndarray
    outside: float


def spent(call: Call, steps: Sequence[Step], workers: int) -> Spent:
    """Where the time of a call went; `steps` are those of the program that was traced."""
    work, waiting, gaps = np.zeros((3, len(steps) + 1))
    ends = _ends(call.events)
    left: dict[tuple[int, int], float] = {}  # when each worker's last event ended, by wake-up
    for position, wakeup, event in placed(call.events, steps):
        if event.kind == "numpy":
            work[position] += event.seconds * workers
            continue
        who = (wakeup, event.worker)
        gaps[position] += event.begin - left.get(who, event.begin)
        left[who] = event.end
        part = work if event.kind == "work" else waiting
        part[position] += event.seconds
    # Only the worker that calls notes the meeting at the end.
    waiting[len(steps)] += sum(ends[wakeup] - last for (wakeup, _), last in left.items())
    for part in (work, waiting, gaps):
        part /= workers
    outside = call.seconds - float(work.sum() + waiting.sum() + gaps.sum())
    return Spent(work, waiting, gaps, outside)


def placed(events: Sequence[Event], steps: Sequence[Step]) -> Iterator[tuple[int, int, Event]]:
    """Each event with the position of its step, or the number of steps for the wait at the end, and
    with the number of the wake-up that it belongs to.

    A value is computed by one step and perhaps brought out of its tiles by another of the same
    name. What is done a second time in a wake-up is the latter's.
    """
    positions = _positions(steps)
    ends = _ends(events)
    seen = set[tuple[int, str, int]]()
    for event in events:
        wakeup = min(bisect_left(ends, event.begin), len(ends) - 1)
        key = (wakeup, event.step, event.unit)
        named = positions[event.kind == "numpy", event.step]
        yield named[-1 if key in seen else 0], wakeup, event
        if event.kind == "work":
            seen |= {key, (wakeup, event.step, -1)}


def _positions(steps: Sequence[Step]) -> Mapping[tuple[bool, str], list[int]]:
    """The positions of the steps of a name, by whether they are on NumPy."""
    positions = defaultdict[tuple[bool, str], list[int]](list)
    for position, step in enumerate(steps):
        if isinstance(step, NativeStep):
            positions[False, step.name].append(position)
        else:
            positions[True, step.node.name].append(position)
    positions[False, ""].append(len(steps))
    return positions


def _ends(events: Sequence[Event]) -> list[float]:
    """When each wake-up of the workers ends for the worker that calls."""
    return [event.end for event in events if event.worker == 0 and not event.step]
