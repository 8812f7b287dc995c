"""A transformers model as an ONNX file with dynamic axes, the form that OpenVINO is fastest with.

The exporter is the TorchScript one (``dynamo=False``): it takes positional tensors and a tuple of
tensors back, so the module is wrapped. Operator set 14 is the newest that it writes for every
encoder tried, in both attention implementations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prunus.bench.engines.contract import Arrays
from prunus.bench.engines.torch_engine import as_tensors, float_tensors
from prunus.bench.machine import package_versions

OPSET = 14


def export_onnx(module: Any, example: Arrays, path: Path) -> None:
    """Write the module to ``path``, first and second axis of every input dynamic.

    ``example`` holds arrays of ``[batch, sequence, …]`` by the names of the module's arguments.
    """
    import torch

    names = list(example)
    axes = {name: {0: "batch", 1: "sequence"} for name in names if example[name].ndim > 1}
    tensors = as_tensors({name: _at_least_two(value) for name, value in example.items()})
    with torch.inference_mode():
        torch.onnx.export(
            _positional(module, names),
            tuple(tensors.values()),
            str(path),
            input_names=names,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def fingerprint(module: Any, names: Sequence[str]) -> str | None:
    """A digest of all that an export depends on: weights, configuration, inputs, versions.

    None for a module that is not of transformers: its code may change while its weights stay.
    """
    config = getattr(module, "config", None)
    if not type(module).__module__.startswith("transformers.") or config is None:
        return None
    digest = hashlib.sha256()
    versions = package_versions(("torch", "transformers"))
    digest.update(
        repr((type(module).__name__, list(names), OPSET, sorted(versions.items()))).encode()
    )
    digest.update(config.to_json_string(use_diff=False).encode())
    for name, tensor in module.state_dict().items():
        array = tensor.detach().contiguous().numpy()
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _positional(module: Any, names: Sequence[str]) -> Any:
    """The module as one that takes its arguments in order and returns a flat tuple of tensors."""
    import torch

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *arguments: Any) -> tuple[Any, ...]:
            answer = self.module(**dict(zip(names, arguments, strict=True)))
            return tuple(float_tensors(answer).values())

    return Positional().eval()


def _at_least_two(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # A batch or a length of 1 would be traced as a constant wherever the model broadcasts.
    for axis in range(min(2, array.ndim)):
        if array.shape[axis] == 1:
            array = np.concatenate([array, array], axis)
    return array
