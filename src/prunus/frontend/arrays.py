"""Between what a caller has (NumPy, torch, lists) and the arrays that a graph takes and gives.

torch is never imported here: who passes tensors has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from prunus.errors import InputError
from prunus.ir import DTYPES
from prunus.ir.size_check import memory_error
from prunus.runtime.memory import call_memory

Kind = Literal["numpy", "torch"]
"""What the caller passed in, and gets back."""

_NOT_A_TENSOR = (
    TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError,
    AssertionError, BufferError, MemoryError,
)  # fmt: skip
"""What an object raises that does not become an array. All else passes through, such as an
interrupt or what a signal handler raises."""

_LIST_BYTES = 40
"""Bytes that NumPy needs for each element of a sequence that makes its elements, as `range` does:
a pointer and an integer."""


def to_array(name: str, value: Any, dtype: str) -> tuple[np.ndarray, Kind]:
    """An input as a C-contiguous array of `dtype`, and what kind it was.

    Another dtype is cast where that is exact (a mask of booleans or floats as integers, 32-bit
    ids), and floats of another width are always cast.

    Raises:
        InputError: not a tensor, on another device, part of a gradient, or not exact in `dtype`.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _cast(name, _from_torch(name, value, torch), dtype), "torch"
    return _cast(name, _from_numpy(name, value), dtype), "numpy"


def from_array(array: np.ndarray, kind: Kind) -> Any:
    """An output in the kind that the inputs had; the caller may write to it."""
    if not array.flags.writeable:
        array = array.copy()
    return sys.modules["torch"].from_numpy(array) if kind == "torch" else array


def leaves(answer: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors of a model's answer with their names: mappings by key, sequences by place.

    A bare tensor is named ``output``; inner names are joined by dots. None is left out.
    """
    if isinstance(answer, Mapping):
        parts: Any = answer.items()
    elif isinstance(answer, Sequence) and not isinstance(answer, str):
        parts = enumerate(answer)
    else:
        if answer is not None:
            yield path or "output", answer
        return
    for key, value in parts:
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def _from_torch(name: str, tensor: Any, torch: Any) -> np.ndarray:
    if tensor.requires_grad and torch.is_grad_enabled():
        raise InputError(
            f"{name} requires a gradient, which prunus does not compute; call the model under "
            f"torch.no_grad(), or pass {name}.detach()"
        )
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        place = tensor.device if tensor.device.type != "cpu" else tensor.layout
        raise InputError(f"{name} is {place}, expected a dense tensor on the CPU; move it there")
    tensor = tensor.detach()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        _check_memory(name, tensor.numel() * torch.float32.itemsize)
        tensor = tensor.float()  # NumPy has no bfloat16
    array: np.ndarray = tensor.numpy()
    return array


def _from_numpy(name: str, value: Any) -> np.ndarray:
    if isinstance(value, Mapping):
        raise InputError(
            f"{name} is a {type(value).__name__}, expected a tensor; to pass inputs by name, "
            "write model(**inputs)"
        )
    try:
        if not hasattr(value, "__array__") and _makes_elements(value):
            _check_memory(name, len(value) * _LIST_BYTES)
        array = np.asarray(value)
    except _NOT_A_TENSOR as error:
        if isinstance(error, InputError):
            raise
        advice = (
            " Rows of different lengths must be padded to one"
            if isinstance(value, (list, tuple))
            else ""
        )
        raise InputError(
            f"{name} is not a tensor: {type(value).__name__} gives {type(error).__name__}: "
            f"{error}.{advice}"
        ) from error
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{name} is a {type(value).__name__} of {array.dtype}, expected numbers: an array, "
            "a tensor or nested lists"
        )
    return array


def _makes_elements(value: Any) -> bool:
    """Whether a sequence may be longer than its memory."""
    held = (list, tuple, str, bytes, bytearray, memoryview)
    return hasattr(value, "__len__") and not isinstance(value, held)


def _check_memory(name: str, nbytes: int) -> None:
    """Refuse an input whose copy would not fit: a view of one number may have any shape."""
    if nbytes > call_memory():
        raise memory_error(name, nbytes, call_memory())


def _cast(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    wanted = DTYPES[dtype]
    if array.dtype != wanted or not array.flags.c_contiguous:
        _check_memory(name, array.size * wanted.itemsize)
    with np.errstate(invalid="ignore", over="ignore"):
        result = np.asarray(array, dtype=wanted, order="C")
    if wanted.kind != "f" and array.dtype != wanted and not np.array_equal(result, array):
        wrong = array[result != array].flat[0]
        raise InputError(
            f"{name} is {array.dtype}, expected {wanted}, and holds {wrong}, which is not one; "
            f"convert it to {wanted} as it is meant"
        )
    return result
