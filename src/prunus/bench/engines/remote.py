"""An engine in a process of its own, so that thread pools do not disturb one another.

OpenMP threads spin for a while after their work, TBB keeps arenas, and both would take the cores of
whoever is timed next in the same process. The parent still drives: it says when a turn begins, so
engines stay interleaved; the child takes the time around each call, so no message is part of it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prunus.bench.engines.contract import Arrays, Engine, EngineError, Job, Loader

SECONDS_TO_END = 5.0


class RemoteEngine:
    """Forwards to an engine that lives in a spawned process from ``load`` to ``close``.

    A script that uses it needs the guard ``if __name__ == "__main__":``, as with all of
    multiprocessing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._note = ""
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._files: TemporaryDirectory[str] | None = None

    @property
    def name(self) -> str:
        """The name of the engine in the other process."""
        return self._engine.name

    @property
    def dense(self) -> bool:
        """Whether that engine ignores the zeros."""
        return self._engine.dense

    @property
    def note(self) -> str:
        """The note of that engine as of the last answer."""
        return self._note

    def versions(self) -> dict[str, str]:
        """Asked here: that imports nothing."""
        return self._engine.versions()

    def available(self) -> str | None:
        """Asked here: that imports nothing."""
        return self._engine.available()

    def load(self, job: Job) -> None:
        """Start the process, and have the engine load there. Raises `EngineError`."""
        self._files = TemporaryDirectory(prefix=f"prunus-{self.name}-")
        folder = Path(self._files.name)
        if job.loader is not None:
            job = replace(job, loader=portable(job.loader, folder))
        self._start(folder / "log.txt", job.threads)
        self._send("load", self._engine, job)

    def wait(self) -> None:
        """Until the engine has loaded. Raises `EngineError`."""
        self._receive()

    def prepare(self) -> None:
        """Prepare the engine there. Raises `EngineError`."""
        self._ask("prepare")

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs, through the pipe. Raises `EngineError`."""
        outputs: Arrays = self._ask("run", inputs)
        return outputs

    def time(self, calls: int) -> list[float]:
        """Seconds of each call as the other process measured them. Raises `EngineError`."""
        seconds: list[float] = self._ask("time", calls)
        return seconds

    def close(self) -> None:
        """End the process; a closed pipe tells it to go, and it is ended if it does not."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._process is not None:
            self._process.join(SECONDS_TO_END)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
            self._process = None
        if self._files is not None:
            self._files.cleanup()
            self._files = None

    def _start(self, log: Path, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, str(log)), daemon=True)
        with environment(thread_variables(threads)):
            self._process.start()
        theirs.close()

    def _ask(self, method: str, *arguments: object) -> Any:
        """Send a request and wait for its answer, or for the end of the process."""
        self._send(method, *arguments)
        return self._receive()

    def _send(self, method: str, *arguments: object) -> None:
        try:
            self._running()[0].send_bytes(pickle.dumps((method, arguments)))
        except OSError as error:
            raise EngineError(self._last_words()) from error

    def _receive(self) -> Any:
        pipe, process = self._running()
        try:
            wait([pipe, process.sentinel])
            succeeded, value, self._note = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise EngineError(self._last_words()) from error
        if not succeeded:
            raise EngineError(value)
        return value

    def _running(self) -> tuple[Connection, SpawnProcess]:
        if self._pipe is None or self._process is None:
            raise EngineError(f"{self.name} is not running; load it first")
        return self._pipe, self._process

    def _last_words(self) -> str:
        """Why the process ended: its exit status and the last line that it printed."""
        status: int | None = None
        if self._process is not None:
            self._process.join(SECONDS_TO_END)
            status = self._process.exitcode
        ended = f"the process of {self.name} ended with status {status}"
        log = Path(self._files.name, "log.txt") if self._files is not None else None
        if log is None or not log.exists():
            return f'{ended} before it began; a script needs the guard if __name__ == "__main__":'
        lines = text_lines(log.read_text("utf-8", "replace"))
        return f"{ended}: {lines[-1] if lines else 'it said nothing'}"


@dataclass(frozen=True, slots=True)
class PickledModule:
    """A loader that reads a module which the parent wrote, of classes that can be imported."""

    path: Path

    def __call__(self) -> Any:
        """Read the module. The file is one that `portable` wrote a moment ago."""
        with self.path.open("rb") as file:
            return pickle.load(file)


def portable(loader: Loader, folder: Path) -> Loader:
    """The loader itself where another process can find it by name, else its module in a file.

    Raises `EngineError` when neither can be sent.
    """
    try:
        pickle.dumps(loader)
        if not _only_here(loader):
            return loader
    except (pickle.PicklingError, AttributeError, TypeError):
        pass
    path = folder / "module.pickle"
    try:
        with path.open("wb") as file:
            pickle.dump(loader(), file, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise EngineError(
            f"the module cannot be sent to another process ({error}); "
            "define its class and its loader in a file that can be imported"
        ) from error
    return PickledModule(path)


def text_lines(text: str) -> list[str]:
    """The lines of a text that are not blank, without the space around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def thread_variables(threads: int) -> dict[str, str]:
    """Environment of a rival: so many threads for OpenMP and MKL, read when the library loads."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def serve(pipe: Connection, log: str) -> None:
    """The other process: answer requests until the pipe closes, printing into a file alone. The
    first brings the engine along.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Exporters and compilers print; the parent's standard output may be JSON for a machine.
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    os.dup2(target, 1)
    os.dup2(target, 2)
    engine: Any = None
    while True:
        try:
            request = pipe.recv_bytes()
        except (EOFError, OSError):
            break
        try:
            method, arguments = pickle.loads(request)
            if engine is None:
                engine, *arguments = arguments
            value = getattr(engine, method)(*arguments)
            answer = (True, value, engine.note)
        except Exception as error:  # the parent prints it as the reason in the engine's row
            answer = (False, _reason(error), getattr(engine, "note", ""))
        pipe.send_bytes(pickle.dumps(answer))
    if engine is not None:
        engine.close()


def _only_here(loader: Loader) -> bool:
    """Whether the loader was written at a prompt or in a notebook: no other process finds it."""
    main = sys.modules["__main__"]
    return getattr(loader, "__module__", None) == "__main__" and not hasattr(main, "__file__")


def _reason(error: Exception) -> str:
    """The error in one line."""
    lines = text_lines(str(error))
    message = lines[0] if lines else ""
    if isinstance(error, EngineError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
