"""The engines of the benchmark: prunus in this process, its rivals each in their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from prunus.bench.engines.contract import (
    Arrays,
    Engine,
    EngineError,
    Job,
    Loader,
    make_ready,
)
from prunus.bench.engines.deepsparse_engine import DeepSparseEngine
from prunus.bench.engines.onnxruntime_engine import OnnxRuntimeEngine
from prunus.bench.engines.openvino_engine import OpenVinoEngine
from prunus.bench.engines.prunus_engine import Compiled, PrunusDenseEngine, PrunusEngine
from prunus.bench.engines.remote import RemoteEngine
from prunus.bench.engines.torch_engine import TorchCompileEngine, TorchEngine
from prunus.errors import InputError

OURS = {"prunus": PrunusEngine, "prunus-dense": PrunusDenseEngine}
DENSE_RIVALS: Mapping[str, Callable[[], Engine]] = {
    "openvino": OpenVinoEngine,
    "onnxruntime": OnnxRuntimeEngine,
    "torch-compile": TorchCompileEngine,
    "torch": TorchEngine,
}
"""The strongest first."""

SKIP_ZEROS = ("prunus", "deepsparse")
"""Engines whose time depends on the weights, so that each model is timed on them."""

ENGINE_NAMES = (*OURS, *DENSE_RIVALS, "deepsparse")

__all__ = [
    "DENSE_RIVALS",
    "ENGINE_NAMES",
    "SKIP_ZEROS",
    "Arrays",
    "Compiled",
    "Engine",
    "EngineError",
    "Job",
    "Loader",
    "check_engines",
    "make_engine",
    "make_ready",
]


def make_engine(name: str, model: Compiled, deepsparse_python: str | Path | None = None) -> Engine:
    """Make the engine of a name in `ENGINE_NAMES`, not yet prepared. Raises KeyError for others."""
    if name in OURS:
        return OURS[name](model)
    if name == DeepSparseEngine.name:
        return RemoteEngine(DeepSparseEngine(deepsparse_python))
    return RemoteEngine(DENSE_RIVALS[name]())


def check_engines(names: Sequence[str], deepsparse_python: str | Path | None = None) -> None:
    """Raise `InputError` for no engine, an unknown one, one named twice, or an interpreter for an
    engine that is not among them.
    """
    if not names:
        raise InputError("there is no engine to time; give at least one")
    unknown = [name for name in names if name not in ENGINE_NAMES]
    if unknown:
        raise InputError(
            f"there is no engine {unknown[0]!r}; the engines are {', '.join(ENGINE_NAMES)}"
        )
    twice = {name for name in names if list(names).count(name) > 1}
    if twice:
        raise InputError(f"the engine {min(twice)!r} is named twice; name each once")
    if deepsparse_python is not None and DeepSparseEngine.name not in names:
        raise InputError(
            f"an interpreter for DeepSparse is named ({deepsparse_python}), but the engines are "
            f"{', '.join(names)}; add deepsparse to them"
        )
