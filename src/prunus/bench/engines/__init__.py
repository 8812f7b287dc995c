"""The engines of the benchmark: prunus in this process, its rivals each in their own."""

from __future__ import annotations

from prunus.bench.engines.contract import Arrays, Engine, EngineError, Job, Loader
from prunus.bench.engines.openvino_engine import OpenVinoEngine
from prunus.bench.engines.prunus_engine import Compiled, PrunusDenseEngine, PrunusEngine
from prunus.bench.engines.remote import RemoteEngine
from prunus.bench.engines.torch_engine import TorchCompileEngine, TorchEngine

OURS = {"prunus": PrunusEngine, "prunus-dense": PrunusDenseEngine}
RIVALS = {
    "torch": TorchEngine,
    "torch-compile": TorchCompileEngine,
    "openvino": OpenVinoEngine,
}
ENGINE_NAMES = (*OURS, *RIVALS)

__all__ = [
    "ENGINE_NAMES",
    "Arrays",
    "Compiled",
    "Engine",
    "EngineError",
    "Job",
    "Loader",
    "make_engine",
]


def make_engine(name: str, model: Compiled) -> Engine:
    """Make the engine of a name in `ENGINE_NAMES`, not yet prepared. Raises KeyError for others."""
    if name in OURS:
        return OURS[name](model)
    return RemoteEngine(RIVALS[name]())
