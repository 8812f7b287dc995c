"""The front against its definition, and times on a simulated clock."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.bench import summarize
from prunus.bench.machine import this_machine
from prunus.errors import InputError
from prunus.reporting.comparison import (
    Comparison,
    Entry,
    Timing,
    check_metric,
    compare,
    pareto_front,
    time_models,
)
from prunus.reporting.comparison_plot import comparison_figure

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


def found(points: dict[str, tuple[float, float] | None]) -> Comparison:
    """Models that take so many milliseconds and have so good a metric."""
    entries = [
        Entry(name, None, 0.5, 0.4, 1000, 900, None if point is None else point[1],
              (Timing((1, 8), None, "too long") if point is None else
               Timing((1, 8), summarize([1e-3 * point[0]]), None),))
        for name, point in points.items()
    ]  # fmt: skip
    return Comparison(tuple(entries), (), ((1, 8),), 1, this_machine(), "F1")


NUMBERS = st.floats(1, 2)


@settings(max_examples=20)
@given(points=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_names_in_a_plot_stay_apart(points: list[tuple[float, float]]) -> None:
    names = {f"bert-base-{number}": point for number, point in enumerate(points)}
    figure = comparison_figure(found(dict(names)))
    (panel,) = figure.axes
    boxes = [text.get_window_extent() for text in panel.texts]
    assert {text.get_text() for text in panel.texts} == set(names)
    overlaps = [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
    assert overlaps == []
    assert all(figure.bbox.containsx(box.x0) for box in boxes)


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model could be timed"):
        found({"a": None, "b": None}).plot(tmp_path / "plot.svg")
    known = found({"a": (1, 1), "b": None})
    with pytest.raises(InputError, match=r"\.svg or \.png"):
        known.plot(tmp_path / "plot.pdf")
    known.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="is there already"):
        known.plot(tmp_path / "plot.png")
    known.plot(tmp_path / "plot.png", overwrite=True)
