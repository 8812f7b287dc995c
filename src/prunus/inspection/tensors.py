"""Tensors that are read in bands of rows, so that one of any size needs little memory."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunus.errors import CheckpointError
from prunus.frontend.weights import StoredTensor

if TYPE_CHECKING:
    import torch

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
"""The names that NumPy and torch give to the dtypes of safetensors that can be read."""

FLOATS = ("float64", "float32", "float16", "bfloat16")

_MOST_DIMENSIONS = 8  # more than any weight has


@dataclass(frozen=True)
class Tensor(ABC):
    """A tensor that is not read yet.

    Attributes:
        shape: Its sizes.
        dtype: The dtype that it is stored in, as NumPy and torch call it.
        nbytes: Bytes that it takes in the files, in whatever form.
    """

    shape: tuple[int, ...]
    dtype: str
    nbytes: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @abstractmethod
    def bands(self, rows: int, columns: int) -> Iterator[NDArray[Any]]:
        """The elements in their order, as matrices [rows, columns], the last with fewer rows.

        Floating-point numbers narrower than float32 come as float32. `columns` is the last
        dimension, or it times those before it.
        """


class Flat(Tensor):
    """A tensor of which any stretch of elements can be read."""

    @abstractmethod
    def part(self, first: int, last: int) -> NDArray[Any]:
        """The elements `first` to `last`, [last - first]."""

    def bands(self, rows: int, columns: int) -> Iterator[NDArray[Any]]:
        """As `Tensor.bands`."""
        for first in range(0, self.size, rows * columns or 1):
            yield self.part(first, min(first + rows * columns, self.size)).reshape(-1, columns)


@dataclass(frozen=True)
class InFile(Flat):
    """A tensor in a safetensors file; pages of the file stay outside of the process."""

    stored: StoredTensor

    @classmethod
    def of(cls, stored: StoredTensor) -> InFile:
        """The tensor at that place; a dtype that is not in `DTYPES` keeps the format's name."""
        return cls(stored.shape, DTYPES.get(stored.dtype, stored.dtype), stored.nbytes, stored)

    def part(self, first: int, last: int) -> NDArray[Any]:
        """As `Flat.part`.

        Raises:
            CheckpointError: the file cannot be read, or became shorter.
        """
        bits = np.dtype("u2" if self.dtype == "bfloat16" else self.dtype).newbyteorder("<")
        path, offset = self.stored.path, self.stored.offset + first * bits.itemsize
        try:
            values = np.fromfile(path, bits, last - first, offset=offset)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        if len(values) != last - first:
            raise CheckpointError(f"{path} became shorter while it was read: try again.")
        if self.dtype == "bfloat16":  # the upper half of a float32
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32) if self.dtype == "float16" else values


@dataclass(frozen=True)
class InPickle(Flat):
    """A tensor of torch, as a rule mapped from its file."""

    tensor: torch.Tensor

    @classmethod
    def of(cls, tensor: torch.Tensor) -> InPickle:
        """The same tensor.

        Raises:
            CheckpointError: it is in one of torch's sparse layouts.
        """
        if str(tensor.layout) != "torch.strided":
            raise CheckpointError(
                f"a tensor {list(tensor.shape)} has the layout {tensor.layout}, expected dense "
                "tensors with zeros in them: call `to_dense()` on it and save again."
            )
        name = str(tensor.dtype).removeprefix("torch.")
        return cls(tuple(tensor.shape), name, tensor.numel() * tensor.element_size(), tensor)

    def part(self, first: int, last: int) -> NDArray[Any]:
        """As `Flat.part`."""
        values = self.tensor.detach().reshape(-1)[first:last]
        narrow = self.dtype in ("float16", "bfloat16")
        return np.asarray((values.float() if narrow else values).numpy())


@dataclass(frozen=True)
class InMemory(Flat):
    """An array."""

    array: NDArray[Any]

    @classmethod
    def of(cls, array: NDArray[Any], nbytes: int) -> InMemory:
        """An array that takes so many bytes in a file."""
        return cls(array.shape, str(array.dtype), nbytes, array)

    def part(self, first: int, last: int) -> NDArray[Any]:
        """As `Flat.part`."""
        return self.array.reshape(-1)[first:last]


@dataclass(frozen=True)
class Masked(Tensor):
    """What `torch.nn.utils.prune` leaves behind: the product of a tensor and a mask of its shape.

    It has the dtype of the first, as after `prune.remove`.
    """

    original: Tensor
    mask: Tensor

    @classmethod
    def of(cls, original: Tensor, mask: Tensor) -> Masked:
        """The product."""
        nbytes = original.nbytes + mask.nbytes
        return cls(original.shape, original.dtype, nbytes, original, mask)

    def bands(self, rows: int, columns: int) -> Iterator[NDArray[Any]]:
        """As `Tensor.bands`."""
        pairs = (each.bands(rows, columns) for each in (self.original, self.mask))
        for original, mask in zip(*pairs, strict=True):
            yield original * mask.astype(original.dtype)


@dataclass(frozen=True)
class Bitmask(Tensor):
    """A tensor of compressed-tensors: a bit for each element and the values of those that are set.

    `prunus.frontend.bitmask` describes both forms. Here they are expanded in bands.
    """

    name: str
    values: Flat
    bits: Flat
    offsets: Flat | None

    @classmethod
    def of(cls, name: str, parts: dict[str, Tensor]) -> Bitmask:
        """The tensor that is stored as these parts: compressed, bitmask, shape, row_offsets.

        Raises:
            CheckpointError: one is missing or does not fit the others. `name` begins the message.
        """
        for part in ("compressed", "bitmask", "shape"):
            if part not in parts:
                raise _damaged(f"{name}.{part}", "missing", f"beside the {', '.join(parts)} of it")
        values, bits, sizes, offsets = (
            each if isinstance(each, Flat) else None
            for each in map(parts.get, ("compressed", "bitmask", "shape", "row_offsets"))
        )
        assert values is not None and bits is not None and sizes is not None, "files hold no other"
        is_list = 1 <= sizes.size <= _MOST_DIMENSIONS and sizes.dtype.startswith(("int", "uint"))
        shape = tuple(map(int, sizes.part(0, sizes.size))) if is_list else ()
        if not shape or min(shape) < 1:
            raise _damaged(f"{name}.shape", _kind(sizes), "a positive integer for each dimension")
        packed = (*shape[:-1], -(-shape[-1] // 8))
        if bits.dtype != "uint8" or bits.size != math.prod(packed):
            raise _damaged(
                f"{name}.bitmask",
                _kind(bits),
                f"uint8 {list(packed)} for a tensor of the shape {list(shape)}",
            )
        nbytes = sum(part.nbytes for part in parts.values())
        return cls(shape, values.dtype, nbytes, name, values, bits, offsets)

    def bands(self, rows: int, columns: int) -> Iterator[NDArray[Any]]:
        """As `Tensor.bands`.

        Raises:
            CheckpointError: the bits are not as many as the values.
        """
        packed, lines = -(-self.shape[-1] // 8), self.size // self.shape[-1]
        step = rows * columns // self.shape[-1]
        taken = 0
        for first in range(0, lines, step):
            last = min(first + step, lines)
            bits = self.bits.part(first * packed, last * packed).reshape(-1, packed)
            mask = np.unpackbits(bits, axis=-1, count=self.shape[-1], bitorder="little").view(bool)
            counts = mask.sum(axis=1)
            self._check(counts, first, taken)
            values = self.values.part(taken, taken + int(counts.sum()))
            taken += len(values)
            dense = np.zeros(mask.shape, values.dtype)
            dense[mask] = values
            yield dense.reshape(-1, columns)
        if taken != self.values.size:
            raise _damaged(
                f"{self.name}.compressed", _kind(self.values), f"the {taken} that its bitmask has"
            )

    def _check(self, counts: NDArray[np.int_], first: int, taken: int) -> None:
        """Compare the bits of the lines from `first` on with what else is known of them."""
        if taken + counts.sum() > self.values.size:
            raise _damaged(
                f"{self.name}.compressed", _kind(self.values), "as many as its bitmask has"
            )
        if len(self.values.shape) == 2 and (counts != self.values.shape[1]).any():
            raise _damaged(
                f"{self.name}.bitmask",
                f"a mask of {counts.min()} to {counts.max()} values in a row",
                f"{self.values.shape[1]} in each, as the shape of its compressed values says",
            )
        if self.offsets is None:
            return
        # Before each row; those of a vector are one number.
        expected = taken + np.cumsum(counts) - counts
        found = self.offsets.part(first, min(first + len(counts), self.offsets.size))
        if len(found) != len(expected) or (found != expected).any():
            raise _damaged(
                f"{self.name}.row_offsets", _kind(self.offsets), "the sums of the bits of its mask"
            )


def _damaged(part: str, found: object, expected: object) -> CheckpointError:
    return CheckpointError(
        f"{part} is {found}, expected {expected}: the compressed-tensors bitmask is damaged, so "
        "download or copy it again."
    )


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
