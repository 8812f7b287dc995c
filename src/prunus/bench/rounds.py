"""Timing several engines against one another: interleaved in rounds, so that drift hits all alike.

The same engine was seen to drift by 30 % on one machine within an hour, so two times taken one
after the other say little about each other. Here every engine has a turn of a few calls in every
round, and the order turns around from round to round.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Clock = Callable[[], float]
Turn = Callable[[int], Sequence[float]]
"""Makes so many calls back to back and gives the seconds of each; none when it dropped out."""

WARM_CALLS = 3
LEAST_CALLS = 3
MOST_CALLS = 1000

LONG_CALL = 0.05
"""Seconds from which on it matters little what another engine left in the caches: a call reads more
from memory itself."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Seconds of many calls in four numbers: median, 10th and 90th percentile, and the least."""

    median: float
    low: float
    high: float
    least: float
    calls: int


def summarize(samples: Sequence[float]) -> Summary:
    """Reduce the seconds of at least one call. Raises ValueError when there is none."""
    if not samples:
        raise ValueError("no samples were taken, expected at least one call to summarize")
    ordered = sorted(samples)
    return Summary(
        median=statistics.median(ordered),
        low=_percentile(ordered, 0.1),
        high=_percentile(ordered, 0.9),
        least=ordered[0],
        calls=len(ordered),
    )


def turn_of(call: Callable[[], object], clock: Clock = time.perf_counter) -> Turn:
    """Make a turn of a plain function: it is called, and each call is timed on its own."""

    def turn(calls: int) -> list[float]:
        seconds = []
        for _ in range(calls):
            start = clock()
            call()
            seconds.append(clock() - start)
        return seconds

    return turn


def calls_within(seconds: float, call: float, least: int, most: int) -> int:
    """How many calls of so many seconds each fill a time, within bounds."""
    wanted = most if call <= 0 else math.ceil(seconds / call)
    return max(least, min(most, wanted))


def interleave(
    turns: Sequence[Turn],
    *,
    rounds: int = 5,
    seconds: float = 0.5,
    least_calls: int = LEAST_CALLS,
    most_calls: int = MOST_CALLS,
    have_run: bool = False,
) -> list[list[float]]:
    """Time all turns side by side; the answer holds the seconds of every counted call of each.

    Each is warmed up first, which also tells how many calls fill ``seconds``, between
    ``least_calls`` and ``most_calls``; long calls that ``have_run`` before need little of that. In
    each round, the first of short calls is not counted. A turn that answers with nothing has
    dropped out: it is not asked again and its list is empty.
    """
    if rounds < 1 or least_calls < 1 or most_calls < least_calls:
        raise ValueError(
            f"rounds={rounds}, least_calls={least_calls}, most_calls={most_calls}; expected at "
            "least one round and 1 <= least_calls <= most_calls"
        )
    first = 1 if have_run else 2  # what binds, or is compiled only then, says nothing
    plans = [_plan(turn, first, seconds, least_calls, most_calls) for turn in turns]
    samples: list[list[float]] = [[] for _ in turns]
    order = list(range(len(turns)))
    for _ in range(rounds):
        for index in order:
            plan = plans[index]
            if plan is None:
                continue
            taken = turns[index](plan.uncounted + plan.calls)[plan.uncounted :]
            samples[index].extend(taken)
            if not taken:
                plans[index] = None
                samples[index].clear()
        order.reverse()
    return samples


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a turn does: calls that are counted, after some that are not."""

    calls: int
    uncounted: int


def _plan(turn: Turn, first: int, seconds: float, least: int, most: int) -> _Plan | None:
    """Warm a turn up, and see how many calls fill the seconds; None when it dropped out."""
    warm = list(turn(first))
    if not warm:
        return None
    if min(warm) < LONG_CALL:
        warm += turn(WARM_CALLS - first)
    estimate = min(warm)
    # The first call of a turn finds the caches full of another engine's weights.
    return _Plan(calls_within(seconds, estimate, least, most), uncounted=int(estimate < LONG_CALL))


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the two nearest ranks (NumPy's default rule)."""
    rank = share * (len(ordered) - 1)
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)
