"""A grid of recipes: every pattern with every share of zeros, from lists or from text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from prunus.errors import InputError
from prunus.prediction.words import percent
from prunus.sparsity import SparsityRecipe

Parsed = TypeVar("Parsed")

PATTERNS = (
    "write 1x1 for single weights, 16x1 for blocks of rows x columns, or 2:4 for N kept of every M"
)

_BLOCK = re.compile(r"0*([1-9][0-9]{0,8})\s*[x×]\s*0*([1-9][0-9]{0,8})", re.IGNORECASE | re.ASCII)
_N_OF_M = re.compile(r"0*([1-9][0-9]{0,8})\s*:\s*0*([1-9][0-9]{0,8})", re.ASCII)
_TIME = re.compile(r"(\d*\.?\d+(?:e[+-]?\d+)?)\s*(s|ms|us|µs|μs)", re.IGNORECASE | re.ASCII)
_TIMES = re.compile(r"(\d*\.?\d+)\s*[x×]?", re.IGNORECASE | re.ASCII)

_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6}


def grid_of(
    sparsities: Sequence[float], patterns: Sequence[str]
) -> tuple[tuple[SparsityRecipe, ...], tuple[str, ...]]:
    """The recipes of a grid, each once, and what is left out of it, in sentences.

    N of M have one share of zeros, so a pattern such as 2:4 is left out at every other.

    Raises:
        InputError: no share of zeros, no pattern, one that is none, or nothing that is left.
    """
    if not sparsities or not patterns:
        missing = "share of zeros" if not sparsities else "pattern"
        raise InputError(f"the grid is empty: it has no {missing}; name at least one")
    for sparsity in sparsities:
        _check_sparsity(sparsity)
    shares = sorted({float(each) for each in sparsities})
    found: dict[SparsityRecipe, None] = {}
    skipped: list[str] = []
    for pattern in dict.fromkeys(map(check_pattern, patterns)):
        recipes, reason = _recipes(pattern, shares)
        found.update(dict.fromkeys(recipes))
        skipped.extend([reason] if reason else [])
    if not found:
        raise InputError(f"the grid is empty: {'; '.join(skipped)}")
    return tuple(found), tuple(skipped)


def pattern_of(recipe: SparsityRecipe) -> str:
    """How a recipe's pattern is written: `1x1`, `16x1`, `2:4`."""
    if recipe.n_of_m is not None:
        return "{}:{}".format(*recipe.n_of_m)
    return "{}x{}".format(*(recipe.block or (1, 1)))


def check_pattern(pattern: str) -> str:
    """The pattern as `pattern_of` writes it.

    Raises:
        InputError: neither a block nor N:M, or one that is impossible.
    """
    text = pattern.strip()
    if block := _BLOCK.fullmatch(text):
        return pattern_of(SparsityRecipe(0.0, (int(block[1]), int(block[2]))))
    if n_of_m := _N_OF_M.fullmatch(text):
        kept, group = int(n_of_m[1]), int(n_of_m[2])
        return pattern_of(SparsityRecipe(max(1 - kept / group, 0.0), None, (kept, group)))
    raise InputError(f"pattern {pattern!r} is not understood; {PATTERNS}")


def parse_sparsities(text: str) -> tuple[float, ...]:
    """Read `0.5,0.9`, each once.

    Raises:
        InputError: an empty part, or what is no number above 0 and below 1.
    """
    return _each(text, "a share of zeros such as 0.9", _sparsity)


def parse_patterns(text: str) -> tuple[str, ...]:
    """Read `1x1,16x1,2:4`, each once.

    Raises:
        InputError: an empty part or an impossible pattern.
    """
    return _each(text, "a pattern such as 16x1", check_pattern)


def is_time(text: str) -> bool:
    """Whether a text begins as a time does, so that it is meant to be one."""
    return bool(re.match(r"\s*[-+]?[.\d]", text))


def parse_target(text: str) -> float:
    """Read `10ms`, `0.01s` or `500us` as seconds.

    Raises:
        InputError: no number with a unit, or no time at all.
    """
    found = _TIME.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2].lower()] if found else math.nan
    if not 0 < seconds < math.inf:
        raise InputError(
            f"{text!r} is not a time that a call could take; write a number above 0 with its unit, "
            "as in 10ms, 0.01s or 500us"
        )
    return seconds


def parse_speedup(text: str) -> float:
    """Read `3x` or `3` as 3.0.

    Raises:
        InputError: no number, or none above 1.
    """
    found = _TIMES.fullmatch(text.strip())
    times = float(found[1]) if found else math.nan
    if not 1 < times < math.inf:
        raise InputError(
            f"{text!r} is not a speed-up; write how many times as fast as the dense model a call "
            "has to be, more than 1, as in 3x"
        )
    return times


def _recipes(pattern: str, shares: Sequence[float]) -> tuple[list[SparsityRecipe], str | None]:
    """The recipes of a pattern, and why some shares have none."""
    if ":" not in pattern:
        block = None if pattern == "1x1" else SparsityRecipe.parse(f"0@{pattern}").block
        return [SparsityRecipe(share, block) for share in shares], None
    kept, group = map(int, pattern.split(":"))
    own = 1 - kept / group
    made: list[SparsityRecipe] = []
    others: list[str] = []
    for share in shares:
        try:
            made.append(SparsityRecipe(share, None, (kept, group)))
        except InputError:
            others.append(f"{share:g}")
    if not others:
        return made, None
    left_out = f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} left out for it"
    return made[:1], f"{pattern} means {percent(own)} zeros; {left_out}"


def _sparsity(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 1:
        raise InputError(_no_sparsity(text))
    return number


def _check_sparsity(sparsity: object) -> None:
    if not (isinstance(sparsity, int | float) and 0 < sparsity < 1):
        raise InputError(_no_sparsity(repr(sparsity)))


def _no_sparsity(found: str) -> str:
    return f"{found} is not a share of zeros; give numbers above 0 and below 1, such as 0.9"


def _each(text: str, expected: str, parse: Callable[[str], Parsed]) -> tuple[Parsed, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise InputError(
            f"{text!r} has an empty part; write {expected}, several with commas between"
        )
    return tuple(dict.fromkeys(map(parse, parts)))
