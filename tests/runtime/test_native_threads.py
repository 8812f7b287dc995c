"""Threads and locks of the system, and work that an interrupt does not reach."""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NoReturn

import pytest

from prunus import native_threads
from prunus.native_threads import Task, new_lock, new_reentrant_lock, undisturbed

number: ContextVar[int] = ContextVar("number", default=0)


def fail() -> NoReturn:
    raise KeyError("found nothing")


def test_a_task_answers_whoever_waits() -> None:
    task = Task(threading.get_ident)
    assert task.wait() == task.wait() != threading.get_ident()


def test_an_error_of_a_task_is_raised_where_it_is_waited_for() -> None:
    with pytest.raises(KeyError, match="found nothing"):
        undisturbed(fail)


def test_a_task_sees_the_context_of_its_caller() -> None:
    token = number.set(7)
    try:
        assert undisturbed(number.get) == 7
    finally:
        number.reset(token)


def test_undisturbed_work_within_such_work_stays_on_its_thread() -> None:
    outer, inner = undisturbed(lambda: (threading.get_ident(), undisturbed(threading.get_ident)))
    assert outer == inner


def refusing(message: str) -> Callable[..., Any]:
    """What starts no thread, for this reason."""

    def start(*_: object) -> NoReturn:
        raise RuntimeError(message)

    return start


def test_without_another_thread_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_threads, "Task", refusing("can't start new thread"))
    assert undisturbed(threading.get_ident) == threading.get_ident()


def test_an_error_of_a_signal_handler_is_not_taken_for_a_lack_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native_threads, "Task", refusing("the time is over"))
    with pytest.raises(RuntimeError, match="the time is over"):
        undisturbed(threading.get_ident)


def test_locks_are_those_of_the_system_whatever_replaces_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("Lock", "RLock", "Thread", "_start_new_thread", "_allocate_lock"):
        monkeypatch.setattr(threading, name, fail)
    monkeypatch.setattr("_thread.allocate_lock", fail)
    monkeypatch.setattr("_thread.start_new_thread", fail)
    with new_lock(), new_reentrant_lock() as taken:
        assert taken
        assert undisturbed(lambda: 5) == 5
