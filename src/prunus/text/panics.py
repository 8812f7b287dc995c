"""Calls into the library `tokenizers`, whose failures are plain exceptions or panics of Rust."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prunus.errors import PrunusError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_PANIC = "PanicException"
"""A subclass of BaseException that pyo3 makes for each extension and does not export."""

_PLAIN = (Exception, TypeError, ValueError, UnicodeEncodeError, OverflowError)
"""What the library raises by itself, exactly: its own errors are plain `Exception`s."""


def guarded(
    explain: Callable[[str], PrunusError],
    call: Callable[Parameters, Result],
    *args: Parameters.args,
    **kwargs: Parameters.kwargs,
) -> Result:
    """The result of a function of `tokenizers`.

    Nothing else is caught: an interrupt, or what a signal handler raises, goes on unchanged.

    Args:
        explain: Makes the error for a failure, from the library's own words.
        call: The function, a direct one of the library.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Raises:
        PrunusError: the one that `explain` makes, if the library failed or panicked.
    """
    try:
        return call(*args, **kwargs)
    except BaseException as error:
        if not _is_of_library(error):
            raise
        raise explain(" ".join(str(error).split())[:200]) from error


def _is_of_library(error: BaseException) -> bool:
    """Whether native code raised it, rather than Python code such as a signal handler, which would
    be a further frame of the traceback.
    """
    traceback = error.__traceback__
    direct = traceback is not None and traceback.tb_next is None
    return direct and (type(error) in _PLAIN or type(error).__name__ == _PANIC)
