"""Runs pruned Hugging Face transformers as fast as their zeros allow, on the CPU you have.

    import prunus
    model = prunus.from_pretrained("huggingface/prunebert-base-uncased-6-finepruned-w-distil-squad")
    answer = model(input_ids=ids, attention_mask=mask)
    print(model.explain())

Everything is imported when it is first used: `import prunus` itself is a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from prunus import hf as hf
    from prunus import st as st
    from prunus import text as text
    from prunus.api import compile as compile
    from prunus.api import from_pretrained as from_pretrained
    from prunus.api import load as load
    from prunus.errors import CheckpointError as CheckpointError
    from prunus.errors import GraphError as GraphError
    from prunus.errors import InputError as InputError
    from prunus.errors import ModuleChangedError as ModuleChangedError
    from prunus.errors import PrunusError as PrunusError
    from prunus.errors import SavedModelError as SavedModelError
    from prunus.errors import TargetError as TargetError
    from prunus.errors import UnsupportedError as UnsupportedError
    from prunus.frontend.simulate import simulate as simulate
    from prunus.inspection import inspect as inspect
    from prunus.model import CompiledModel as CompiledModel
    from prunus.plan.benchmark import BenchmarkResult as BenchmarkResult
    from prunus.plan.explain import Explanation as Explanation
    from prunus.prediction.whatif import whatif as whatif
    from prunus.reporting.comparison import compare as compare
    from prunus.reporting.measure import report as report

_HOME = {
    **dict.fromkeys(("compile", "from_pretrained", "load"), "prunus.api"),
    "CompiledModel": "prunus.model",
    "BenchmarkResult": "prunus.plan.benchmark",
    **dict.fromkeys(
        ("CheckpointError", "GraphError", "InputError", "ModuleChangedError", "PrunusError",
         "SavedModelError", "TargetError", "UnsupportedError"),
        "prunus.errors",
    ),
    "simulate": "prunus.frontend.simulate",
    "Explanation": "prunus.plan.explain",
    "compare": "prunus.reporting.comparison",
    "inspect": "prunus.inspection",
    "report": "prunus.reporting.measure",
    "whatif": "prunus.prediction.whatif",
}  # fmt: skip

_MODULES = ("hf", "st", "text")

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"prunus.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'prunus' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
