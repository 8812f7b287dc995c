"""Forked children and processes of their own, for tests of what outlives or ends what."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")


def in_a_child(work: Callable[[], bytes], *, seconds: int = 60) -> bytes:
    """What `work` returns in a forked process; empty where it raised, or was killed after so
    many seconds.
    """
    reader, child = start_child(work, seconds=seconds)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def start_child(work: Callable[[], bytes], *, seconds: int = 60) -> tuple[int, int]:
    """A pipe to read what `work` returns in a forked process, and that process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds)
            os.write(writer, work())
        finally:
            os._exit(0)
    os.close(writer)
    return reader, child


def run_python(*arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """A new interpreter with every warning on; fails the test if it does not end in time."""
    return subprocess.run(
        [sys.executable, "-X", "dev", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def wait_until(condition: Callable[[], bool]) -> None:
    """Give the system a little time: it lists a thread longer than that runs."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
