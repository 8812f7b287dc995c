"""Keeps the log of torch and transformers off stderr while prunus tries what may fail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

Result = TypeVar("Result")

_LIBRARIES = ("torch", "transformers")


def quietly(work: Callable[[], Result]) -> Result:
    """The result of `work`, without what torch and transformers log about it in this thread.

    What other threads log comes through, and no logger is changed but for an inert filter.
    """
    for handler in _handlers():
        handler.addFilter(_NOT_EXPORTING)
    before, own = _NOT_EXPORTING.thread, threading.get_ident()
    try:
        _NOT_EXPORTING.thread = own
        return work()
    finally:
        _NOT_EXPORTING.thread = before


def _handlers() -> Iterator[logging.Handler]:
    """The handlers of the libraries. Many loggers of torch have one of their own, and propagate
    nothing: `torch._subclasses.fake_tensor` is one (torch 2.13).
    """
    for name, logger in logging.root.manager.loggerDict.copy().items():
        if name.partition(".")[0] in _LIBRARIES and isinstance(logger, logging.Logger):
            yield from logger.handlers


class _NotExporting(logging.Filter):
    """Drops the records of the thread that exports, if there is one."""

    thread: int | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread is None or record.thread != self.thread


_NOT_EXPORTING = _NotExporting()
