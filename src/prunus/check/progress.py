"""How far a check is, in words that are few enough for a log."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Tells in a few words what is being done now."""

STEPS = 20


def silent(_: str) -> None:
    """Progress that nobody watches."""


class Bar:
    """Says how much of something is done, with a bar of twenty steps, when one more is done."""

    def __init__(self, say: Say, what: str) -> None:
        self._say, self._what = say, what
        self._shown = -1

    def show(self, done: int, total: int) -> None:
        """So many of so many are done."""
        steps = STEPS * done // total
        if steps > self._shown:
            self._shown = steps
            bar = "█" * steps + "░" * (STEPS - steps)
            self._say(f"{bar} {self._what}: {done} of {total}")
