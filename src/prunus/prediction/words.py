"""Times, shares and sizes as people read them in predictions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

ABSENT = "–"


def milliseconds(seconds: float) -> str:
    """Milliseconds in three significant digits, without an exponent: 1234, 50.3, 0.0123."""
    value = 1e3 * seconds
    digits = 2 - math.floor(math.log10(value)) if 0 < value < math.inf else 0
    return f"{value:.{max(0, digits)}f}"


def percent(share: float) -> str:
    """A share in percent, with one decimal where it is not whole: 90 %, 78.3 %."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def times(ratio: float) -> str:
    """How many times as fast: 2.13x."""
    return f"{ratio:.2f}×"


def sizes(shape: tuple[int, int]) -> str:
    """Batch and length: 8x128."""
    return f"{shape[0]}x{shape[1]}"


def count(number: int, name: str) -> str:
    """So many of something: 1 layer, 12 layers."""
    return f"{number:,} {name}{'s' * (number != 1)}"


def names_text(names: Iterable[str]) -> str:
    """Names that differ by numbers alone, as one: `encoder.layer.*.output.dense`."""
    alike = dict.fromkeys(
        re.sub(r"(?<=\.)\d+(?=\.)", "*", f".{name}").removeprefix(".").removesuffix(".weight")
        for name in names
    )
    return ", ".join(alike)
