"""DeepSparse, in the interpreter that has it: run by path, so nothing of prunus is imported.

A request is a line on standard input, a JSON object whose ``do`` names a method of `Worker` and
whose other members are its arguments. The answer is a line on standard output, ``{"answer": …}`` or
``{"error": "…"}``. Arrays travel as ``.npy`` files. It runs on Python 3.8 and newer.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np


class Worker:
    """One compiled model, and the inputs that it is timed on."""

    engine: Any = None
    inputs: list[np.ndarray[Any, Any]]

    def versions(self) -> dict[str, str]:
        """Import DeepSparse, to learn whether that works, and say the versions that count."""
        import deepsparse

        versions = {"python": platform.python_version(), "numpy": np.__version__}
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions["onnx"] = metadata.version("onnx")
        return {"deepsparse": deepsparse.__version__, **versions}

    def run(self, model: str, inputs: dict[str, str], folder: str, threads: int) -> list[str]:
        """Compile for the shapes of these inputs (files by name); the outputs' files, by place."""
        from deepsparse import Engine
        from deepsparse.utils import get_input_names

        copy = os.path.join(folder, "model")
        # DeepSparse writes the shapes into the file that it gets.
        shutil.copytree(os.path.dirname(model), copy)
        path = os.path.join(copy, os.path.basename(model))
        # The export drops arguments that the model does not use.
        self.inputs = [np.load(inputs[name]) for name in get_input_names(path)]
        self.engine = Engine(
            path,
            batch_size=self.inputs[0].shape[0],
            num_cores=threads,
            input_shapes=[list(array.shape) for array in self.inputs],
        )
        shutil.rmtree(copy)
        files = []
        for place, output in enumerate(self.engine.run(self.inputs)):
            files.append(os.path.join(folder, f"output-{place}.npy"))
            np.save(files[-1], output)
        return files

    def time(self, calls: int) -> list[float]:
        """Seconds of each of so many calls."""
        engine, inputs = self.engine, self.inputs
        seconds = []
        for _ in range(calls):
            start = time.perf_counter()
            engine.run(inputs, val_inp=False)
            seconds.append(time.perf_counter() - start)
        return seconds


def main() -> None:
    """Answer requests until there are no more."""
    # Whatever the library prints, its native code included, must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker()
    methods: dict[str, Callable[..., Any]] = {
        "versions": worker.versions,
        "run": worker.run,
        "time": worker.time,
    }
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"answer": methods[request.pop("do")](**request)}
        except Exception as error:  # it becomes the reason in the engine's row
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file: its other names are none of DeepSparse's business
    main()
