"""The two engines side by side: prunus and the module itself, both on arrays by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunus.errors import InputError
from prunus.frontend.arrays import leaves

if TYPE_CHECKING:
    import torch

    from prunus.frontend.structure import Structure
    from prunus.ir.types import TensorType
    from prunus.model import CompiledModel

Arrays = dict[str, NDArray[Any]]
"""Inputs or outputs by name."""

Engine = Callable[[Arrays], Arrays]
"""Answers inputs with the floating-point outputs."""

_GIVE = "give the checkpoint that the model was compiled from"


def prunus_engine(model: CompiledModel) -> Engine:
    """The compiled model."""
    return lambda inputs: _float_arrays(model(**inputs))


def module_engine(module: torch.nn.Module, model: CompiledModel) -> Engine:
    """The module in evaluation mode and float32, in this process, as `model` was compiled from it.

    A module that is not in that state is copied, not changed.
    """
    import torch

    floats = {each.dtype for each in module.parameters() if each.is_floating_point()}
    if module.training or floats - {torch.float32}:
        module = copy.deepcopy(module).float().eval()

    def answer(inputs: Arrays) -> Arrays:
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        try:
            with torch.inference_mode():
                return _float_arrays(module(**tensors, **model.signature.fixed))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"{type(module).__name__} in PyTorch does not take what the model takes "
                f"({type(error).__name__}: {error}); {_GIVE}"
            ) from error

    return answer


def check_alike(found: Arrays, expected: Arrays) -> None:
    """Raise `InputError` where two answers differ in the names or shapes of their outputs, or have
    none.
    """
    ours = {name: value.shape for name, value in found.items()}
    theirs = {name: value.shape for name, value in expected.items()}
    if ours != theirs:
        raise InputError(
            f"the model answers {_shapes(ours)}, but the module in PyTorch {_shapes(theirs)}: "
            f"these are different models; {_GIVE}"
        )
    if not ours:
        raise InputError("the model answers no floating-point numbers, so there is none to compare")


def output_types(model: CompiledModel) -> dict[str, TensorType]:
    """The types of all outputs, by the names that their arrays have in an `Engine`'s answer."""
    types, names = model.graph.types(), _output_names(model.signature.answer)
    return {name: types[output] for name, output in zip(names, model.graph.outputs, strict=True)}


def _output_names(structure: Structure, path: str = "") -> Iterator[str]:
    if structure.form == "tensor":
        yield path or "output"
    for place, part in enumerate(structure.parts):
        key = structure.keys[place] if structure.keys else place
        yield from _output_names(part, f"{path}.{key}" if path else str(key))


def _float_arrays(answer: object) -> Arrays:
    leaf_arrays = ((name, np.asarray(v)) for name, v in leaves(answer) if hasattr(v, "dtype"))
    return {name: value for name, value in leaf_arrays if value.dtype.kind == "f"}


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "nothing"
