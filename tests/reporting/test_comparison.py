"""The front against its definition, and times on a simulated clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import InputError
from prunus.reporting.comparison import check_metric, compare, pareto_front, time_models

VALUES = st.sampled_from([1.0, 2.0, 3.0, 4.0])


@given(points=st.lists(st.tuples(VALUES, VALUES), max_size=8), higher=st.booleans())
def test_the_front_is_what_no_other_beats(points: list[tuple[float, float]], higher: bool) -> None:
    sign = 1 if higher else -1

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        as_good = one[0] <= other[0] and sign * one[1] >= sign * other[1]
        return as_good and one != other

    expected = {n for n, point in enumerate(points) if not any(beats(o, point) for o in points)}
    assert pareto_front(points, higher_is_better=higher) == expected


class Clocked:
    """A model whose calls move the clock, and which takes no text beyond a length."""

    input_names = ("input_ids",)
    vocabulary = 50

    def __init__(self, clock: list[float], seconds: float, longest: int = 512) -> None:
        self.clock, self.seconds, self.longest = clock, seconds, longest

    def __call__(self, input_ids: np.ndarray) -> None:
        if input_ids.shape[1] > self.longest:
            raise InputError(f"at most {self.longest} tokens")
        self.clock[0] += self.seconds * input_ids.size


def test_times_are_those_of_the_clock_and_what_fails_says_why() -> None:
    clock = [0.0]
    models: list[Any] = [Clocked(clock, 1e-3), Clocked(clock, 3e-3, longest=8)]
    first, second = time_models(
        models, [(1, 8), (2, 16)], seconds=0.01, rounds=2, progress=lambda _: None,
        clock=lambda: clock[0],
    )  # fmt: skip
    medians = [timing.seconds and timing.seconds.median for timing in (*first, *second)]
    assert medians == pytest.approx([8e-3, 32e-3, 24e-3, None])
    assert second[1].reason == "at most 8 tokens"


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ({"a": 1.0}, "not given for 'b'"),
        ({"a": 1.0, "b": 2.0, "c": 3.0}, "none of the models"),
        ({"a": 1.0, "b": float("nan")}, "expected a finite number"),
    ],
)
def test_a_metric_is_one_number_for_each(metric: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_metric({"a": None, "b": None}, metric, "F1")


def test_one_model_is_no_comparison() -> None:
    with pytest.raises(InputError, match="at least two models, and there is none"):
        compare({})
