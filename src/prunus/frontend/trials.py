"""Tells what a module refuses from what interrupts it: an alarm, or a want of memory.

Imports call a module in ways that it may refuse, and go on with what they learn. A signal handler
may raise any exception at such a moment; taken for a refusal, it would make a wrong model.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")

_TRIES = 3
"""Two that fail alike, and one that was interrupted."""

_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE)
"""How torch says so: on the CPU with a plain RuntimeError."""

_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+", re.IGNORECASE)
"""In a message these may differ from call to call, as addresses and torch's symbols do."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that came again when the same was tried again."""

    error: Exception


def attempt(work: Callable[[], Result]) -> Result | Refusal:
    """The result of `work`, or the error with which it fails each time.

    `work` is done again where it fails, as the exception of a signal handler does not come again.
    Such an exception, a timeout and a want of memory go on unchanged: they say nothing of `work`.
    """
    errors: list[Exception] = []
    while len(errors) < _TRIES:
        try:
            result = work()
        except Exception as error:
            if _says_nothing(error):
                raise
            if _is_of_torch(error):
                return Refusal(error)
            errors.append(error)
        else:
            if errors:
                break
            return result
        foreign = [each for each in errors if _kind(each) != _kind(errors[-1])]
        if len(errors) - len(foreign) > 1:
            if foreign:
                raise foreign[0]
            return Refusal(errors[-1])
    raise errors[0]


def _says_nothing(error: Exception) -> bool:
    """Whether an error is one of the moment, although it might come again."""
    if isinstance(error, MemoryError | TimeoutError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


def _is_of_torch(error: BaseException | None) -> bool:
    """Whether torch has a class of its own for an error and all that led to it, so that no signal
    handler raised it. An export that torch refuses need not be done again, which takes seconds.
    """
    while error is not None:
        if not type(error).__module__.startswith("torch."):
            return False
        error = error.__cause__ or error.__context__
    return True


def _kind(error: Exception) -> tuple[type, str]:
    return type(error), _NUMBERS.sub("", str(error))
