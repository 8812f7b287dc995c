"""Inputs of a call that cannot become arrays, or whose arrays would not fit into the memory."""

import time
from typing import Any

import numpy as np
import pytest
import torch

from prunus.errors import InputError
from prunus.frontend.arrays import to_array


class Raising:
    """An object that says it is an array, and raises when it is asked for it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise self.error


class Scalar:
    """A 0-D array of another library: it has a length, but asking for it fails."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(3, dtype)

    def __len__(self) -> int:
        raise TypeError("len() of unsized object")


class Endless:
    """A sequence that is much longer than the memory."""

    def __len__(self) -> int:
        return 1 << 43

    def __getitem__(self, index: int) -> int:
        return 1


@pytest.mark.parametrize(
    "error",
    [TypeError("t"), ValueError("v"), RuntimeError("r"), KeyError("k"), MemoryError(),
     AttributeError("a"), ZeroDivisionError(), NotImplementedError(), AssertionError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_object_that_does_not_become_an_array_is_refused(error: Exception) -> None:
    message = f"ids is not a tensor: Raising gives {type(error).__name__}"
    with pytest.raises(InputError, match=message) as caught:
        to_array("ids", Raising(error), "i64")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), TimeoutError()])
def test_an_interrupt_while_an_input_is_read_passes_through(error: BaseException) -> None:
    with pytest.raises(type(error)):
        to_array("ids", Raising(error), "i64")


@pytest.mark.parametrize(
    "value",
    [
        np.broadcast_to(np.int64(1), (1, 1 << 43)),
        np.broadcast_to(np.float32(1), (1 << 20, 1 << 23)),
        torch.ones(1, dtype=torch.int64).expand(1 << 43),
        torch.ones(1, dtype=torch.bfloat16).expand(1 << 43),
        torch.ones(1, dtype=torch.float16).expand(1 << 20, 1 << 23),
        range(1 << 43),
        range(1 << 70),
        Endless(),
    ],
    ids=["i64", "f32", "torch i64", "bfloat16", "float16", "range", "longer range", "sequence"],
)
def test_an_input_that_would_not_fit_into_the_memory_is_refused(value: Any) -> None:
    begin = time.monotonic()
    with pytest.raises(InputError, match=r"^ids (needs .* GB|is not a tensor)"):
        to_array("ids", value, "i64")
    assert time.monotonic() - begin < 2


def test_rows_of_different_lengths_are_refused_with_advice() -> None:
    with pytest.raises(InputError, match=r"ids is not a tensor.* must be padded to one"):
        to_array("ids", [[1, 2], [3]], "i64")


@pytest.mark.parametrize("value", [range(3), (0, 1, 2), [0, 1, 2], memoryview(b"\0\1\2")])
def test_sequences_of_numbers_are_taken(value: Any) -> None:
    assert to_array("ids", value, "i64")[0].tolist() == [0, 1, 2]


def test_a_scalar_of_another_library_is_taken() -> None:
    assert to_array("x", Scalar(), "f32")[0].tolist() == 3
