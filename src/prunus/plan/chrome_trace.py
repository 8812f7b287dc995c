"""A traced call in the Trace Event Format that Chrome and Perfetto open: a lane for each worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prunus.plan.profile import Profile, ProfiledStep
from prunus.plan.timeline import placed
from prunus.runtime.program import Program

FIRST = 1
"""The number of the process, and of its first worker: 0 is taken for the system's idle process."""


def chrome_trace(profile: Profile, program: Program) -> dict[str, Any]:
    """The profile's typical call as JSON data; `program` is the one that was profiled.

    Times are in microseconds. Gaps between events are what is left empty; the slice of the call
    itself lies around those of the thread that calls.
    """
    return {
        "traceEvents": [*_lanes(profile), *_slices(profile, program)],
        "displayTimeUnit": "ms",
        "otherData": {
            "model": profile.model,
            "simulated": profile.simulated,
            "target": profile.target,
            "sizes": dict(profile.sizes),
        },
    }


def _lanes(profile: Profile) -> Iterator[dict[str, Any]]:
    """The names of the process and of its workers."""
    yield _metadata("process_name", 0, f"prunus: {profile.model}")
    for worker in range(profile.limits.threads):
        name = f"worker {worker}" + " (the calling thread)" * (worker == 0)
        yield _metadata("thread_name", worker, name)


def _metadata(kind: str, worker: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": FIRST, "tid": FIRST + worker, "args": {"name": name}}


def _slices(profile: Profile, program: Program) -> Iterator[dict[str, Any]]:
    """The call, and within it what each worker did."""
    yield _slice("call", "call", 0, 0.0, profile.typical.seconds, {})
    for position, _, event in placed(profile.typical.events, program.steps):
        at_end = position == len(profile.steps)
        name = "the end" if at_end else profile.steps[position].name
        arguments: dict[str, Any] = {}
        if event.kind == "wait":
            name = f"wait for {name}"
        else:
            arguments = _arguments(profile.steps[position])
        if event.kind == "work":
            arguments["unit"] = event.unit
        yield _slice(name, event.kind, event.worker, event.begin, event.seconds, arguments)


def _arguments(step: ProfiledStep) -> dict[str, Any]:
    """What is shown of a selected slice; the rate is that of all workers together."""
    return {
        "kernel": step.kernel,
        "op": step.op,
        "nonzeros": step.tally.nonzeros,
        "GFLOP/s": 1e-9 * step.tally.flop_rate,
    }


def _slice(
    name: str, category: str, worker: int, begin: float, seconds: float, arguments: dict[str, Any]
) -> dict[str, Any]:
    return {
        "ph": "X", "name": name, "cat": category, "pid": FIRST, "tid": FIRST + worker,
        "ts": round(1e6 * begin, 3), "dur": round(1e6 * seconds, 3), "args": arguments,
    }  # fmt: skip
