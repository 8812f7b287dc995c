"""Threads and locks of the system, and work that an interrupt cannot cut in two.

gevent and eventlet replace Python's threads and locks by cooperative ones, which all run on one
thread of the system. A worker of prunus blocks in native code and would stop that thread for ever.
So everything that prunus waits with comes from here.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextvars import copy_context
from importlib.machinery import BuiltinImporter
from importlib.util import module_from_spec
from typing import Any, Generic, Protocol, TypeVar

Result = TypeVar("Result")


class Mutex(Protocol):
    """A lock of the system."""

    def acquire(self) -> bool:
        """Wait until it is free, and take it."""

    def release(self) -> None:
        """Give it back."""

    def __enter__(self) -> bool: ...

    def __exit__(self, *exception: object) -> None: ...


def _own_thread_module() -> Any:
    """A `_thread` of our own: the one in `sys.modules` may be patched, before or after this."""
    spec = BuiltinImporter.find_spec("_thread")
    assert spec is not None, "_thread is built into every Python"
    module = module_from_spec(spec)
    BuiltinImporter.exec_module(module)
    return module


_thread = _own_thread_module()
_here = _thread._local()


def new_lock() -> Mutex:
    """A lock. `with` never loses it to a signal, since it is written in C."""
    lock: Mutex = _thread.allocate_lock()
    return lock


def new_reentrant_lock() -> Mutex:
    """A lock that the thread that has it may take again."""
    lock: Mutex = _thread.RLock()
    return lock


class Task(Generic[Result]):
    """A function that runs on a thread of its own, which does not keep the process from ending.

    Signal handlers run on the main thread alone, so none of their exceptions arrives there.

    Raises:
        RuntimeError: the system starts no more threads.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._context = copy_context()
        self._result: list[Result] = []
        self._error: BaseException | None = None
        self._running = new_lock()
        self._running.acquire()
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        _here.is_task = True
        try:
            self._result.append(self._context.run(self._function))
        except BaseException as error:
            # Whatever its frames hold ends on this thread.
            traceback.clear_frames(error.__traceback__)
            self._error = error
        finally:
            del self._function
            self._running.release()

    def wait(self) -> Result:
        """What the function returns, or its exception. An interrupt ends the wait, not the task."""
        with self._running:
            pass
        if self._error is not None:
            raise self._error
        return self._result[0]


def undisturbed(function: Callable[[], Result]) -> Result:
    """What `function` returns, called where no interrupt arrives.

    An interrupt of the caller (Ctrl-C, an exception of a signal handler) is raised at once, while
    the function goes on by itself: it must hold a lock over what it changes, and what it has
    changed must be of use to the next who comes. Where the system starts no more threads, the
    caller's own thread calls it.
    """
    if getattr(_here, "is_task", False):
        return function()
    try:
        task = Task(function)
    except RuntimeError as error:
        if "new thread" not in str(error):  # it comes from a signal handler
            raise
        return function()
    return task.wait()
