"""Exceptions that arrive at any point of a piece of work, as those of signal handlers do."""

import faulthandler
import itertools
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn


class Stop(BaseException):
    """Raised by a signal handler that nobody but a test installs."""


KINDS: tuple[type[BaseException], ...] = (KeyboardInterrupt, MemoryError, RuntimeError, Stop)


def _is_point(frame: FrameType, event: str, inside: str) -> bool:
    return event in ("call", "c_return") and inside in frame.f_code.co_filename


def count_points(work: Callable[[], object], inside: str = "") -> int:
    """At how many points `stop_at` may stop the work, within files whose path has this part."""
    points = itertools.count()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if _is_point(frame, event, inside):
            next(points)

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return next(points)


def stop_at(
    point: int, kind: type[BaseException], work: Callable[[], object], inside: str = ""
) -> bool:
    """Do the work, but raise an exception at one point; whether it came so far.

    Points are where a function of Python begins and where one of C has returned. CPython looks for
    signals there, and at jumps back, but not between two steps of `with lock`.
    """
    points = itertools.count()
    raised = False

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal raised
        if _is_point(frame, event, inside) and next(points) == point:
            raised = True
            raise kind

    sys.setprofile(profile)
    try:
        work()
    except BaseException as error:
        if not raised:
            raise
        assert isinstance(error, kind) or error.__context__ is not None, repr(error)
    finally:
        sys.setprofile(None)
    return raised


def stop_after(seconds: float, work: Callable[[], object]) -> bool:
    """Do the work with a timer signal on its way whose handler raises; whether it came in time."""

    def handler(number: int, frame: FrameType | None) -> NoReturn:
        raise Stop

    before = signal.signal(signal.SIGALRM, handler)
    faulthandler.dump_traceback_later(60, exit=True)  # the alarm is taken
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        work()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return False
    except Stop:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()
