"""A set of half-open intervals of memory, to which one at a time is added and compared."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

Interval = tuple[int, int]
"""The first byte, and the one behind the last."""


class Intervals:
    """A union of intervals, kept as sorted intervals that do not touch.

    Adding and comparing take a binary search each, so a program of thousands of steps whose
    buffers are all in use at once does not take quadratic time.
    """

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []

    def meets(self, intervals: Iterable[Interval]) -> bool:
        """Whether any of these intervals shares a byte with the set."""
        return any(self._meets(begin, end) for begin, end in intervals)

    def add(self, intervals: Iterable[Interval]) -> None:
        """Make these intervals part of the set."""
        for begin, end in intervals:
            if begin < end:
                self._add(begin, end)

    def _meets(self, begin: int, end: int) -> bool:
        # The first interval that ends behind `begin`, and whether it begins before `end`.
        at = bisect_right(self._ends, begin)
        return begin < end and at < len(self._begins) and self._begins[at] < end

    def _add(self, begin: int, end: int) -> None:
        # Those from `low` up to `high` meet or touch the new one, which takes their place.
        low, high = bisect_left(self._ends, begin), bisect_right(self._begins, end)
        if low < high:
            begin, end = min(begin, self._begins[low]), max(end, self._ends[high - 1])
        self._begins[low:high], self._ends[low:high] = [begin], [end]
