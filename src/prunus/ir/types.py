"""The types of tensors: a dtype and a shape of dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prunus.errors import GraphError
from prunus.ir.dims import MAX_INTEGER, Expr, evaluate, parse_dim, symbols

DTYPES: Mapping[str, np.dtype] = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
FLOATS = ("f32", "f64")
INTEGERS = ("i32", "i64")

MAX_RANK = 16
"""More axes than any model has, and fewer than the 64 that NumPy can broadcast."""


def dtype_name(dtype: np.dtype) -> str:
    """`f32` for `numpy.float32`, and so on.

    Raises:
        GraphError: prunus has no such dtype.
    """
    name = _NAMES.get(np.dtype(dtype))
    if name is None:
        raise GraphError(f"a tensor has dtype {dtype}; known are {', '.join(DTYPES)}")
    return name


@dataclass(frozen=True, slots=True)
class TensorType:
    """`f32[batch, seq, 768]`: a dtype's name and a shape."""

    dtype: str
    shape: tuple[int | Expr, ...]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise GraphError(f"unknown dtype {self.dtype!r}; known are {', '.join(DTYPES)}")
        if len(self.shape) > MAX_RANK:
            raise GraphError(f"a tensor has {len(self.shape)} axes, expected at most {MAX_RANK}")
        for dim in self.shape:
            check_dim(dim)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return self.dtype in FLOATS

    @property
    def is_integer(self) -> bool:
        """Whether the elements may be indices: signed integers of 32 or 64 bits."""
        return self.dtype in INTEGERS

    def symbols(self) -> frozenset[str]:
        """The names of all symbols in the shape."""
        return frozenset().union(*(symbols(dim) for dim in self.shape))

    def sizes(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape as integers, for given sizes of the symbols."""
        return tuple(evaluate(dim, sizes) for dim in self.shape)


def check_dim(dim: object) -> None:
    """Check that `dim` is a size or an expression of sizes.

    Raises:
        GraphError: it is something else, or a negative or absurdly large number.
    """
    if isinstance(dim, Expr) or (type(dim) is int and 0 <= dim < MAX_INTEGER):
        return
    raise GraphError(f"a dimension must be a size of at least 0 or an expression, found {dim!r}")


def parse_type(text: str) -> TensorType:
    """The type that `str` printed.

    Raises:
        GraphError: the text is not `dtype[dim, dim, …]`.
    """
    dtype, bracket, rest = text.strip().partition("[")
    if not bracket or not rest.endswith("]"):
        raise GraphError(f"not a tensor type: {text[:80]!r}; expected e.g. f32[batch, 768]")
    dims = [part for part in rest[:-1].split(",") if part.strip()]
    return TensorType(dtype, tuple(parse_dim(part.strip()) for part in dims))


def broadcast_shapes(*shapes: tuple[int | Expr, ...]) -> tuple[int | Expr, ...]:
    """NumPy's broadcasting over symbolic shapes; a symbol meets only itself or 1.

    Raises:
        GraphError: two dimensions differ and neither is 1.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[int | Expr] = []
    for axis in range(rank):
        here: int | Expr = 1
        for shape in shapes:
            position = axis - rank + len(shape)
            dim = shape[position] if position >= 0 else 1
            if here == 1:
                here = dim
            elif dim not in (1, here):
                raise GraphError(f"shapes {_show(shapes)} do not broadcast: {here} meets {dim}")
        result.append(here)
    return tuple(result)


def _show(shapes: tuple[tuple[int | Expr, ...], ...]) -> str:
    return " and ".join(f"[{', '.join(map(str, shape))}]" for shape in shapes)
