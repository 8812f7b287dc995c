"""Interleaving and statistics, on a clock that only moves when an engine works."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.bench.rounds import LEAST_CALLS, WARM_CALLS, interleave, summarize, turn_of


class Clock:
    """Time that passes by being told to; each call of an engine is written down."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def engine(self, name: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.calls.append(name)
            self.now += seconds

        return call


def test_turns_interleave_and_the_order_turns_around() -> None:
    clock = Clock()
    turns = [turn_of(clock.engine(name, 1 / 64), clock) for name in "abc"]
    samples = interleave(turns, rounds=3, seconds=1 / 32, least_calls=1)
    warm = "".join(name * WARM_CALLS for name in "abc")
    rounds = "aaabbbccc" + "cccbbbaaa" + "aaabbbccc"
    assert "".join(clock.calls) == warm + rounds
    # Of the three calls of a turn the first is not counted.
    assert samples == [[1 / 64] * 6] * 3


@pytest.mark.parametrize(("have_run", "warm"), [(False, "aabb"), (True, "ab")])
def test_long_calls_are_all_counted(have_run: bool, warm: str) -> None:
    clock = Clock()
    turns = [turn_of(clock.engine(name, 0.25), clock) for name in "ab"]
    samples = interleave(turns, rounds=2, seconds=0.5, least_calls=1, have_run=have_run)
    assert "".join(clock.calls) == warm + "aabb" + "bbaa"
    assert samples == [[0.25] * 4] * 2


def test_the_number_of_calls_follows_the_speed() -> None:
    clock = Clock()
    fast, slow = clock.engine("fast", 0.125), clock.engine("slow", 2.0)
    samples = interleave([turn_of(fast, clock), turn_of(slow, clock)], rounds=2, seconds=1.0)
    assert samples == [[0.125] * 16, [2.0] * 2 * LEAST_CALLS]


def test_an_instant_call_is_not_made_for_ever() -> None:
    clock = Clock()
    samples = interleave([turn_of(clock.engine("x", 0.0), clock)], rounds=1, most_calls=7)
    assert len(samples[0]) == 7


def test_the_first_call_of_a_turn_is_not_counted() -> None:
    clock = Clock()
    costs = iter([1 / 64] * WARM_CALLS + [9.0, 1 / 64, 1 / 64] * 2)

    def call() -> None:
        clock.now += next(costs)

    samples = interleave([turn_of(call, clock)], rounds=2, seconds=1 / 32, least_calls=1)
    assert samples == [[1 / 64] * 4]


def test_a_turn_that_drops_out_loses_its_samples_and_is_not_asked_again() -> None:
    clock = Clock()
    asked = []

    def failing(calls: int) -> list[float]:
        asked.append(calls)
        return [] if len(asked) > 2 else [0.5] * calls

    steady = turn_of(clock.engine("steady", 0.5), clock)
    samples = interleave([failing, steady, lambda calls: []], rounds=4, seconds=0.5, least_calls=1)
    assert samples == [[], [0.5] * 4, []]
    assert len(asked) == 3


def test_nothing_to_time_is_nothing() -> None:
    assert interleave([]) == []


@pytest.mark.parametrize(
    ("rounds", "least", "most"), [(0, 1, 1), (1, 0, 1), (1, 3, 2)], ids=["rounds", "least", "most"]
)
def test_counts_that_make_no_sense_are_refused(rounds: int, least: int, most: int) -> None:
    with pytest.raises(ValueError, match="expected at least one round"):
        interleave([], rounds=rounds, least_calls=least, most_calls=most)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40))
def test_a_summary_agrees_with_numpy(samples: list[float]) -> None:
    summary = summarize(samples)
    low, median, high = np.percentile(samples, [10, 50, 90])
    assert [summary.low, summary.median, summary.high] == pytest.approx([low, median, high])
    assert (summary.least, summary.calls) == (min(samples), len(samples))


def test_no_samples_have_no_summary() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarize([])
