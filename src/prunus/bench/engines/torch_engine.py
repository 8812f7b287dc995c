"""PyTorch, eager and compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from prunus.bench.engines.contract import Arrays, Job, LocalEngine, missing
from prunus.frontend.arrays import leaves
from prunus.versions import package_versions

_PROGRAM = "#include <cmath>\n#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n"


class TorchEngine(LocalEngine):
    """The module as PyTorch runs it, with its own attention implementation."""

    name = "torch"
    _module: Any = None

    def versions(self) -> dict[str, str]:
        """torch, and transformers for the module."""
        return package_versions(("torch", "transformers"))

    def available(self) -> str | None:
        """The reason when torch is not installed."""
        return missing({"torch": "torch"}, "torch")

    def load(self, job: Job) -> None:
        """Load the module and set the threads of this process."""
        import torch

        torch.set_num_threads(job.threads)
        torch.set_num_interop_threads(1)
        self._module = job.load()
        self.note = attention_of(self._module)

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        """A call of the module on tensors."""
        return _inference(self._module, inputs)

    def outputs(self, result: Any) -> Arrays:
        """The float tensors of the answer."""
        return tensor_arrays(result)

    def close(self) -> None:
        """Drop the module."""
        super().close()
        self._module = None


class TorchCompileEngine(TorchEngine):
    """``torch.compile`` with static shapes, compiled anew for each."""

    name = "torch-compile"

    def available(self) -> str | None:
        """The reason when torch is not installed or there is no working C++ compiler."""
        return super().available() or _compiler_fault()

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        """A module compiled for these shapes, which the first call does."""
        import torch

        # Past eight shapes the compiler would go on eagerly without a word: each starts afresh.
        torch.compiler.reset()
        return _inference(torch.compile(self._module, dynamic=False), inputs)


def tensor_arrays(answer: object) -> Arrays:
    """Copies of the floating-point tensors of an answer."""
    return {name: value.numpy().copy() for name, value in float_tensors(answer).items()}


def float_tensors(answer: object) -> dict[str, Any]:
    """The floating-point tensors of an answer by name; caches and other objects are left out."""
    import torch

    return {
        name: value.detach()
        for name, value in leaves(answer)
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }


def as_tensors(inputs: Arrays) -> dict[str, Any]:
    """The inputs as tensors that share their memory."""
    import torch

    return {name: torch.from_numpy(value) for name, value in inputs.items()}


def attention_of(module: Any) -> str:
    """The attention implementation of a transformers model as a note, empty for other modules."""
    chosen = getattr(getattr(module, "config", None), "_attn_implementation", None)
    return f"{chosen} attention" if chosen else ""


def _inference(function: Callable[..., object], inputs: Arrays) -> Callable[[], object]:
    import torch

    tensors = as_tensors(inputs)

    def call() -> object:
        with torch.inference_mode():
            return function(**tensors)

    return call


def _compiler_fault() -> str | None:
    """Why there is no working C++ compiler, found by checking a small program with OpenMP in it."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    path = shutil.which(name)
    if path is None:
        return f"no C++ compiler: {name} not found (install g++, or set CXX to a compiler)"
    command = [path, "-x", "c++", "-fopenmp", "-fsyntax-only", "-"]
    try:
        subprocess.run(
            command, input=_PROGRAM, text=True, capture_output=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return f"the C++ compiler {name} does not work: {said[-1] if said else error}"
    return None
