"""One import at a time: torch.export and transformers change state of the whole process.

torch.export patches `torch.nn.Module` while it traces, and the module is in eval mode meanwhile;
transformers replaces the initialisation of weights while it loads. Two threads at once would undo
each other's changes in the wrong order.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

_lock = threading.RLock()
"""Held by the thread that imports; again by the same one, as a module may import in its forward."""


def exclusively(work: Callable[[], Result]) -> Result:
    """The result of `work`, which no two threads do at once."""
    with _lock:
        return work()


def restoring(work: Callable[[], Result], restore: Callable[[], object]) -> Result:
    """The result of `work`, after which `restore` has run to its end.

    A signal's exception may come while `restore` runs; then it runs again, so it must be
    idempotent.
    """
    try:
        try:
            return work()
        finally:
            restore()
    except BaseException:
        restore()
        raise


def _before_fork() -> None:
    _lock.acquire()


def _after_fork() -> None:
    global _lock
    try:
        _lock.release()
    except RuntimeError:  # a signal's exception has ended the wait before the fork
        _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    # A fork waits until no other thread imports: its child would keep what that one has changed.
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
