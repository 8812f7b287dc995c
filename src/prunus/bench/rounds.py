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


def interleave(
    turns: Sequence[Turn],
    *,
    rounds: int = 5,
    seconds: float = 0.5,
    least_calls: int = LEAST_CALLS,
    most_calls: int = MOST_CALLS,
) -> list[list[float]]:
    """Time all turns side by side; the answer holds the seconds of every counted call of each.

    Each is warmed up first, which also tells how many calls fill ``seconds``, between
    ``least_calls`` and ``most_calls``. A turn that answers with nothing has dropped out: it is not
    asked again and its list is empty.
    """
    if rounds < 1 or least_calls < 1 or most_calls < least_calls:
        raise ValueError(
            f"rounds={rounds}, least_calls={least_calls}, most_calls={most_calls}; expected at "
            "least one round and 1 <= least_calls <= most_calls"
        )
    calls = [_calls_for(turn, seconds, least_calls, most_calls) for turn in turns]
    samples: list[list[float]] = [[] for _ in turns]
    order = list(range(len(turns)))
    for _ in range(rounds):
        for index in order:
            _take_turn(turns, calls, samples, index)
        order.reverse()
    return samples


def _calls_for(turn: Turn, seconds: float, least: int, most: int) -> int:
    """How many calls of a warmed-up turn fill the seconds; 0 when it dropped out."""
    warm = turn(WARM_CALLS)
    if not warm:
        return 0
    estimate = min(warm)
    wanted = most if estimate <= 0 else math.ceil(seconds / estimate)
    return max(least, min(most, wanted))


def _take_turn(
    turns: Sequence[Turn], calls: list[int], samples: list[list[float]], index: int
) -> None:
    if not calls[index]:
        return
    # The first call finds the caches full of another engine's weights, so it is not counted.
    taken = turns[index](calls[index] + 1)[1:]
    if taken:
        samples[index].extend(taken)
    else:
        calls[index] = 0
        samples[index].clear()


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the two nearest ranks (NumPy's default rule)."""
    rank = share * (len(ordered) - 1)
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)
