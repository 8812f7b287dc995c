"""A script in an interpreter that the user names: asked in lines of JSON, never awaited for ever.

What is at the other end may be anything, so all that can go wrong there becomes an `EngineError`.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prunus.bench.engines.contract import EngineError
from prunus.bench.engines.remote import SECONDS_TO_END, text_lines

LONGEST_ANSWER = 1 << 20
"""Bytes: the seconds of a thousand calls take 25,000."""


class Script:
    """A process that answers requests, with a temporary ``folder`` to exchange files in.

    ``patience`` is how many seconds an answer may take. A process that exceeds them, or says
    anything but answers, is ended.
    """

    def __init__(
        self, python: str, script: Path, variables: Mapping[str, str], patience: float
    ) -> None:
        self._python, self._patience = python, patience
        self._files = TemporaryDirectory(prefix="prunus-script-")
        self.folder = Path(self._files.name)
        self._log = self.folder / "log.txt"
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [python, str(script)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    bufsize=0,
                    env={**os.environ, **variables},
                )
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            self._files.cleanup()
            said = getattr(error, "strerror", None) or error
            raise EngineError(f"{python} cannot be run: {said}") from error

    def ask(self, do: str, **arguments: object) -> Any:
        """The answer to a request. Raises `EngineError`."""
        line = self._exchange(json.dumps({"do": do, **arguments}).encode() + b"\n")
        try:
            reply = json.loads(line)
            failed = "error" in reply
            value = reply["error" if failed else "answer"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._process.kill()
            raise EngineError(
                f"{self._python} said {line[:60]!r} where an answer was expected"
            ) from error
        if failed:
            raise EngineError(next(iter(text_lines(str(value))), "it failed without a word"))
        return value

    def close(self) -> None:
        """End the process: its closed input tells it to go, and it is ended if it does not."""
        with self._process:  # closes the pipes
            self._status()
        self._files.cleanup()

    def _exchange(self, request: bytes) -> bytes:
        """Send a line and receive one."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None and answers is not None
        end = time.monotonic() + self._patience
        taken = b""
        try:
            requests.write(request)
            while not taken.endswith(b"\n") and len(taken) < LONGEST_ANSWER:
                if not wait([answers.fileno()], max(0.0, end - time.monotonic())):
                    self._process.kill()
                    raise EngineError(
                        f"{self._python} did not answer within {self._patience:g} seconds"
                    )
                part = answers.read(1 << 16)
                if not part:
                    raise EngineError(self._last_words())
                taken += part
        except OSError as error:  # nobody reads the request
            raise EngineError(self._last_words()) from error
        return taken

    def _last_words(self) -> str:
        """How the process ended, and the last line that it printed."""
        lines = text_lines(self._log.read_text("utf-8", "replace"))
        said = lines[-1] if lines else "it said nothing"
        return f"{self._python} ended with status {self._status()}: {said}"

    def _status(self) -> int:
        """Close the input, wait for the end, and return the exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
