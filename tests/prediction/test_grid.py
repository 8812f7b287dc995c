"""Grids of recipes and what is asked of them, from lists and from text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from prunus.errors import InputError
from prunus.prediction.grid import (
    check_pattern,
    grid_of,
    parse_patterns,
    parse_sparsities,
    parse_speedup,
    parse_target,
    pattern_of,
)


def test_every_pattern_meets_every_share() -> None:
    recipes, skipped = grid_of((0.9, 0.5, 0.9), ("1x1", "16x1", "1x1", "2:4"))
    assert [str(recipe) for recipe in recipes] == ["0.5", "0.9", "0.5@16x1", "0.9@16x1", "0.5@2:4"]
    assert skipped == ("2:4 means 50 % zeros; 0.9 is left out for it",)
    assert [pattern_of(recipe) for recipe in recipes] == ["1x1", "1x1", "16x1", "16x1", "2:4"]


def test_n_of_m_may_be_written_roughly_and_comes_once() -> None:
    recipes, skipped = grid_of((0.667, 0.67, 0.9, 0.95), ("1:3",))
    assert [str(recipe) for recipe in recipes] == ["0.667@1:3"]
    assert skipped == ("1:3 means 66.7 % zeros; 0.9, 0.95 are left out for it",)


@pytest.mark.parametrize(
    ("sparsities", "patterns", "said"),
    [
        ((), ("1x1",), "no share of zeros"),
        ((0.5,), (), "no pattern"),
        ((0.9,), ("2:4",), "the grid is empty: 2:4 means 50 % zeros; 0.9 is left out"),
        ((0.0, 0.5), ("1x1",), "0.0 is not a share of zeros"),
        ((1,), ("1x1",), "1 is not a share of zeros"),
        ((float("nan"),), ("1x1",), "nan is not a share of zeros"),
        ((True,), ("1x1",), "True is not a share"),
        ((0.5,), ("x1",), "'x1' is not understood; write 1x1"),
        ((0.5,), ("0x4",), "'0x4' is not understood"),
        ((0.5,), ("4:2",), "1 <= N < M"),
        ((0.5,), ("4:4",), "1 <= N < M"),
        ((0.5,), ("99999x99999",), "at most 1048576 elements"),
    ],
)
def test_bad_grids(sparsities: tuple[float, ...], patterns: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError) as error:
        grid_of(sparsities, patterns)
    assert said in str(error.value)


def test_lists_are_read_and_merged() -> None:
    assert parse_sparsities("0.5, 0.70,.9,0.7") == (0.5, 0.7, 0.9)
    assert parse_patterns("1x1, 04X1,1 x 4,4×4,2:4,4x1") == ("1x1", "4x1", "1x4", "4x4", "2:4")
    assert check_pattern(" 16x1 ") == "16x1"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10ms", 0.01),
        ("0.01s", 0.01),
        ("500us", 5e-4),
        ("500 µs", 5e-4),
        (".5 MS", 5e-4),
        ("1e1ms", 0.01),
    ],
)
def test_targets(text: str, seconds: float) -> None:
    assert parse_target(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "times"), [("3x", 3.0), ("3", 3.0), ("2.5×", 2.5), ("1.1 X", 1.1)]
)
def test_speedups(text: str, times: float) -> None:
    assert parse_speedup(text) == times


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *(
            (parse_target, text)
            for text in ("", "10", "ms", "0ms", "-1ms", "nan s", "1e999s", "1m")
        ),
        *((parse_speedup, text) for text in ("", "x", "1x", "0.5x", "-3", "inf", "three")),
        *((parse_sparsities, text) for text in ("", "0.5,", "0", "1", "nan", "-0.1", "50%")),
        *((parse_patterns, text) for text in ("", "1x1,,2:4", "block", "0:4", "1x", "²x1")),
    ],
)
def test_what_is_not_understood_is_said(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(InputError) as error:
        parse(text)
    assert ";" in str(error.value)  # what to write instead
