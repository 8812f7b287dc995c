"""DeepSparse, discontinued but the fastest sparse engine there was, in an environment of its own.

Its last release needs Python up to 3.11, NumPy 1 and ONNX 1.14, which is why the user names an
interpreter that has it; `deepsparse_worker.py` runs there. It is the one rival that skips zeros, so
it is given every model with its own weights.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prunus.bench.engines.contract import Arrays, EngineError, Job, missing
from prunus.bench.engines.onnx_export import Exports
from prunus.bench.engines.script import Script

VARIABLE = "PRUNUS_DEEPSPARSE_PYTHON"
WORKER = Path(__file__).with_name("deepsparse_worker.py")
# Left alone, pip takes 1.9, which is an empty shell that cannot be installed.
INSTALL = (
    "python3.11 -m venv deepsparse-env; "
    "deepsparse-env/bin/pip install 'deepsparse==1.8.*' 'numpy<2' 'onnx==1.14.*'"
)
PATIENCE = 600.0
"""Seconds. Compiling BERT-base was seen to take one minute on two busy cores."""


class DeepSparseEngine:
    """An ONNX model with its zeros, compiled for the shapes of each `run` in a new process."""

    name = "deepsparse"
    dense = False

    def __init__(self, python: str | Path | None = None, patience: float = PATIENCE) -> None:
        self.note = ""
        self._python = os.path.expanduser(python or os.environ.get(VARIABLE, ""))
        self._patience = patience
        self._version = ""
        self._threads = 1
        self._exports: Exports | None = None
        self._model = Path()
        self._script: Script | None = None

    def versions(self) -> dict[str, str]:
        """DeepSparse and what it runs on, as its interpreter told `available`."""
        return {self.name: self._version} if self._version else {}

    def available(self) -> str | None:
        """The reason when no interpreter is named, when it has no DeepSparse, or no export can be
        made for it.
        """
        if not self._python:
            return (
                "no interpreter that has it is named, by --deepsparse-python PATH or by the "
                f"variable {VARIABLE} (to install: {INSTALL})"
            )
        try:
            self._version = self._ask_version()
        except EngineError as error:
            return f"{error} (to install: {INSTALL})"
        return missing({"onnx": "onnx", "torch": "torch"}, "onnx torch")

    def load(self, job: Job) -> None:
        """Export the module, unless that was done. Raises `EngineError` when there is none.

        Eager attention, where the module has it: DeepSparse runs 99 % of BERT-base's operations
        itself in that form and 95 % in the fused one, and was seen to be faster at any length.
        """
        self._threads, self._exports = job.threads, Exports(job)
        attention = self._exports.facts.attentions[0]
        self._model = self._exports.path(attention)
        self._exports.forget_module()
        self.note = f"{attention} export{self._exports.note}"

    def wait(self) -> None:
        """Nothing is left to wait for."""

    def prepare(self) -> None:
        """Nothing is left to do: each `run` compiles for its shapes."""

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs; the inputs are kept over there for `time`. Raises `EngineError`."""
        if self._exports is None:
            raise EngineError(f"{self.name} has no model yet: load it before it runs")
        names = self._exports.facts.outputs
        self._stop()
        self._script = self._start()
        folder = self._script.folder
        files = {name: folder / f"input-{place}.npy" for place, name in enumerate(inputs)}
        for name, file in files.items():
            np.save(file, inputs[name])
        answer = self._script.ask(
            "run",
            model=str(self._model),
            inputs={name: str(file) for name, file in files.items()},
            folder=str(folder),
            threads=self._threads,
        )
        with sensible(answer):
            return {
                name: np.load(file, allow_pickle=False)
                for name, file in zip(names, answer, strict=True)
            }

    def time(self, calls: int) -> list[float]:
        """Seconds of each call as the other process measured them. Raises `EngineError`."""
        if self._script is None:
            raise EngineError(f"{self.name} has no inputs yet: run it before it is timed")
        answer = self._script.ask("time", calls=calls)
        with sensible(answer):
            return [float(seconds) for seconds in answer]

    def close(self) -> None:
        """End the process and remove an export that could not be kept."""
        self._stop()
        if self._exports is not None:
            self._exports.close()
            self._exports = None

    def _ask_version(self) -> str:
        with contextlib.closing(self._start()) as script:
            answer = script.ask("versions")
        with sensible(answer):
            around = [f"{name} {found}" for name, found in answer.items() if name != self.name]
            return f"{answer[self.name]} ({', '.join(around)})"

    def _start(self) -> Script:
        # It would report every start to its makers.
        return Script(self._python, WORKER, {"NM_DISABLE_ANALYTICS": "1"}, self._patience)

    def _stop(self) -> None:
        if self._script is not None:
            self._script.close()
            self._script = None


@contextlib.contextmanager
def sensible(answer: Any) -> Iterator[None]:
    """An answer of the other interpreter that cannot be used is an `EngineError`."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"the answer {str(answer)[:60]} makes no sense ({error})") from error
