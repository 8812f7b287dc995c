"""The way into LLVM: one thread at a time, on a thread that no interrupt reaches.

llvmlite takes a lock in Python code around every call of LLVM. An exception that arrives between
leaves that lock taken for ever, or a library linked that nobody has a handle to.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from typing import TypeVar

from prunus.errors import PrunusError
from prunus.native_threads import new_reentrant_lock, undisturbed

Result = TypeVar("Result")

_lock = new_reentrant_lock()
"""Held by the thread that is inside LLVM."""

_ending = False


def in_llvm(work: Callable[[], Result]) -> Result:
    """What `work` returns, which alone is inside LLVM meanwhile.

    Raises:
        PrunusError: this process is ending.
    """

    def alone() -> Result:
        with _lock:
            check_not_ending()
            return work()

    return undisturbed(alone)


def check_not_ending() -> None:
    """Refuse to go on where this process is ending.

    Raises:
        PrunusError: it is.
    """
    if _ending:
        raise PrunusError("no more code is compiled, as this process is ending")


def _end() -> None:
    """Wait for the thread that is inside LLVM, and let none in any more: it would crash where the
    ending process has torn down what LLVM needs (20 of 30 processes did).
    """
    global _ending
    with _lock:
        _ending = True


def _renew() -> None:
    global _lock
    _lock = new_reentrant_lock()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    # A fork waits until no thread is inside LLVM. What one holds there (llvmlite has a lock of its
    # own) would never be released in the child.
    os.register_at_fork(
        before=lambda: _lock.acquire(),
        after_in_parent=lambda: _lock.release(),
        after_in_child=_renew,
    )
