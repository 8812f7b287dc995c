"""Type rules: which operands an op takes, and the type of its result.

A rule gets the node's attributes first, which are of the kinds that the op table names, then the
types of the operands. It is complete: whatever it lets through, the op's meaning can compute for
all sizes of the symbols, except for what depends on sizes or values (an index, a slice with a
symbolic end), which the meaning checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from prunus.errors import GraphError
from prunus.ir.dims import Expr, product
from prunus.ir.types import DTYPES, TensorType, broadcast_shapes

Shape = tuple[int | Expr, ...]
TypeRule = Callable[..., TensorType]


# Requirements


def need(holds: bool, *found: TensorType | None, expected: str) -> None:
    """Raise GraphError unless `holds`, with the types that were found."""
    if not holds:
        raise GraphError(f"expected {expected}, found {', '.join(str(t or '_') for t in found)}")


def need_float(*types: TensorType | None) -> None:
    """Floating-point operands of one dtype; None is an operand that was left out."""
    given = [type for type in types if type is not None]
    same = len({type.dtype for type in given}) == 1 and given[0].is_float
    need(same, *types, expected="floating-point operands of one dtype")


def need_integer(*types: TensorType) -> None:
    """Operands that may be indices."""
    need(all(t.is_integer for t in types), *types, expected="indices of dtype i32 or i64")


def axis_of(axis: int, x: TensorType) -> int:
    """The axis itself, if `x` has it."""
    if axis >= x.rank:
        raise GraphError(f"axis {axis} is out of range for {x}")
    return axis


def replace(shape: Shape, axis: int, dims: Shape) -> Shape:
    """A shape with one axis replaced by other axes."""
    return (*shape[:axis], *dims, *shape[axis + 1 :])


# Elementwise


def number_type(a: Any, x: TensorType) -> TensorType:
    """A number of any dtype, and the same again."""
    need(x.dtype != "bool", x, expected="a number, not a boolean; cast it first")
    return x


def any_type(a: Any, x: TensorType) -> TensorType:
    """Anything, and the same again."""
    return x


def float_type(a: Any, x: TensorType) -> TensorType:
    """A floating-point tensor, and the same again."""
    need_float(x)
    return x


def logic_type(a: Any, *operands: TensorType) -> TensorType:
    """Booleans, broadcast against each other."""
    need(all(x.dtype == "bool" for x in operands), *operands, expected="booleans")
    return TensorType("bool", broadcast_shapes(*(x.shape for x in operands)))


def broadcast_type(a: Any, x: TensorType, y: TensorType) -> TensorType:
    """Two operands of one dtype, broadcast against each other."""
    need(x.dtype == y.dtype, x, y, expected="operands of one dtype; cast one first")
    return TensorType(x.dtype, broadcast_shapes(x.shape, y.shape))


def arithmetic_type(a: Any, x: TensorType, y: TensorType) -> TensorType:
    """Two numbers of one dtype, broadcast against each other."""
    return number_type(a, broadcast_type(a, x, y))


def comparison_type(a: Any, x: TensorType, y: TensorType) -> TensorType:
    """A boolean for each pair of elements."""
    return TensorType("bool", broadcast_type(a, x, y).shape)


def where_type(a: Any, condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
    """One of two values by a boolean condition."""
    need(condition.dtype == "bool", condition, expected="a boolean condition")
    both = broadcast_type(a, x, y)
    return TensorType(both.dtype, broadcast_shapes(condition.shape, both.shape))


def cast_type(a: Any, x: TensorType) -> TensorType:
    """The operand's shape in another dtype."""
    return TensorType(a.dtype, x.shape)


# New tensors


def arange_type(a: Any) -> TensorType:
    """A vector of numbers."""
    return number_type(a, TensorType(a.dtype, (a.length,)))


def full_type(a: Any) -> TensorType:
    """A tensor of one number, which its dtype can hold."""
    dtype = DTYPES[a.dtype]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not limits.min <= a.value <= limits.max:
            raise GraphError(f"{a.dtype} cannot hold the value {a.value}")
    return TensorType(a.dtype, a.shape)


# Shapes


def reshape_type(a: Any, x: TensorType) -> TensorType:
    """As many elements in another shape."""
    before, after = product(x.shape), product(a.shape)
    if before != after:
        raise GraphError(f"{x} has {before} elements and cannot take the shape of {after}")
    return TensorType(x.dtype, a.shape)


def expand_type(a: Any, x: TensorType) -> TensorType:
    """The operand broadcast to a shape."""
    if broadcast_shapes(x.shape, a.shape) != a.shape:
        raise GraphError(f"{x} does not expand to [{', '.join(map(str, a.shape))}]")
    return TensorType(x.dtype, a.shape)


def permute_type(a: Any, x: TensorType) -> TensorType:
    """The axes in another order."""
    if sorted(a.axes) != list(range(x.rank)):
        raise GraphError(f"axes {a.axes} are not a permutation of rank {x.rank}")
    return TensorType(x.dtype, tuple(x.shape[axis] for axis in a.axes))


def slice_type(a: Any, x: TensorType) -> TensorType:
    """Elements start, start + step, … before stop of an axis, with 0 ≤ start ≤ stop ≤ its size.

    Where these are symbolic, the meaning checks the bounds.
    """
    size = x.shape[axis_of(a.axis, x)]
    length = -1 * ((a.start - a.stop) // a.step) if a.step != 1 else a.stop - a.start
    bounds = (0, a.start, a.stop, size)
    for low, high in pairwise(bounds):
        if isinstance(low, int) and isinstance(high, int) and low > high:
            raise GraphError(
                f"the slice {a.start}:{a.stop}:{a.step} is not inside axis {a.axis} of {x}"
            )
    return TensorType(x.dtype, replace(x.shape, a.axis, (length,)))


def select_type(a: Any, x: TensorType) -> TensorType:
    """One element of an axis; a negative index counts from its end."""
    size = x.shape[axis_of(a.axis, x)]
    if isinstance(size, int) and not -size <= a.index < size:
        raise GraphError(f"index {a.index} is outside axis {a.axis} of {x}")
    return TensorType(x.dtype, replace(x.shape, a.axis, ()))


def concat_type(a: Any, *xs: TensorType) -> TensorType:
    """Tensors joined along an axis; all other axes are equal."""
    first, axis = xs[0], axis_of(a.axis, xs[0])
    for x in xs[1:]:
        same = x.dtype == first.dtype and x.rank == first.rank
        if not same or replace(x.shape, axis, ()) != replace(first.shape, axis, ()):
            raise GraphError(f"{first} and {x} cannot be joined along axis {axis}")
    total = sum((x.shape[axis] for x in xs[1:]), first.shape[axis])
    return TensorType(first.dtype, replace(first.shape, axis, (total,)))


# Indexing


def index_type(a: Any, x: TensorType, *indices: TensorType) -> TensorType:
    """Elements of the first axes of `x` by indices that broadcast against each other."""
    need_integer(*indices)
    if len(indices) > x.rank:
        raise GraphError(f"{len(indices)} indices are too many for {x}")
    lead = broadcast_shapes(*(index.shape for index in indices))
    return TensorType(x.dtype, (*lead, *x.shape[len(indices) :]))


def gather_type(a: Any, x: TensorType, index: TensorType) -> TensorType:
    """`x[…, index[…, i, …], …]` along an axis."""
    need_integer(index)
    axis = axis_of(a.axis, index)
    if x.rank != index.rank or any(
        axis != i and dim not in (1, index.shape[i]) for i, dim in enumerate(x.shape)
    ):
        raise GraphError(f"gather along axis {axis} of {x} does not take {index}")
    return TensorType(x.dtype, index.shape)


def pairs(operands: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The tables of an embedding and their ids."""
    if len(operands) % 2:
        raise GraphError("embedding takes pairs of a table and its ids")
    return operands[::2], operands[1::2]


def embedding_type(a: Any, *operands: TensorType) -> TensorType:
    """The sum of rows of tables `[ids, features]`."""
    tables, ids = pairs(operands)
    need_float(*tables)
    need_integer(*ids)
    if any(t.rank != 2 for t in tables) or len({t.shape[1] for t in tables}) != 1:
        raise GraphError("the tables of one embedding must be matrices of one width")
    lead = broadcast_shapes(*(i.shape for i in ids))
    return TensorType(tables[0].dtype, (*lead, tables[0].shape[1]))


# Reductions


def reduction_type(a: Any, x: TensorType) -> TensorType:
    """Some axes reduced to one element, which stays as an axis of length 1 if `keep`."""
    axes = {axis_of(axis, x) for axis in a.axes}
    shape = [1 if i in axes else dim for i, dim in enumerate(x.shape) if a.keep or i not in axes]
    return TensorType(x.dtype, tuple(shape))


def extremum_type(a: Any, x: TensorType) -> TensorType:
    """A reduction over at least one element."""
    need(all(x.shape[axis_of(axis, x)] != 0 for axis in a.axes), x, expected="axes with elements")
    return reduction_type(a, x)


def mean_type(a: Any, x: TensorType) -> TensorType:
    """A reduction of floating-point numbers."""
    return reduction_type(a, float_type(a, x))


def argmax_type(a: Any, x: TensorType) -> TensorType:
    """The index of the first of the largest elements along an axis."""
    need(x.shape[axis_of(a.axis, x)] != 0, x, expected="an axis with elements")
    return TensorType("i64", replace(x.shape, a.axis, ()))


def cumsum_type(a: Any, x: TensorType) -> TensorType:
    """Running sums along an axis."""
    axis_of(a.axis, x)
    return number_type(a, x)


def softmax_type(a: Any, x: TensorType) -> TensorType:
    """Floating-point numbers that add up to 1 along an axis."""
    axis_of(a.axis, x)
    return float_type(a, x)


# The layers of a transformer


def matmul_type(a: Any, x: TensorType, y: TensorType) -> TensorType:
    """Matrices in the last two axes, the others broadcast."""
    need(x.dtype == y.dtype != "bool", x, y, expected="numbers of one dtype")
    if min(x.rank, y.rank) < 2 or x.shape[-1] != y.shape[-2]:
        raise GraphError(f"{x} and {y} cannot be multiplied as matrices")
    lead = broadcast_shapes(x.shape[:-2], y.shape[:-2])
    return TensorType(x.dtype, (*lead, x.shape[-2], y.shape[-1]))


def linear_type(
    a: Any,
    x: TensorType,
    weight: TensorType,
    bias: TensorType | None = None,
    residual: TensorType | None = None,
) -> TensorType:
    """x · weightᵀ for a weight `[outputs, inputs]`, plus a bias `[outputs]` and a residual."""
    need_float(x, weight, bias, residual)
    if weight.rank != 2 or not x.rank or x.shape[-1] != weight.shape[1]:
        raise GraphError(f"a linear layer of {weight} (outputs, inputs) does not take {x}")
    result = TensorType(x.dtype, (*x.shape[:-1], weight.shape[0]))
    if bias is not None and bias.shape != weight.shape[:1]:
        raise GraphError(f"a linear layer of {weight} does not take the bias {bias}")
    if residual is not None and residual != result:
        raise GraphError(f"the residual {residual} is not of the layer's type {result}")
    return result


def norm_type(a: Any, x: TensorType, *scales: TensorType) -> TensorType:
    """Vectors of the last axis, each with the shape of the scales and shifts."""
    need_float(x, *scales)
    if not x.rank or any(scale.shape != x.shape[-1:] for scale in scales):
        found = ", ".join(map(str, scales))
        raise GraphError(f"a normalisation over the last axis of {x} does not take {found}")
    return x


def rotary_type(a: Any, x: TensorType, cos: TensorType, sin: TensorType) -> TensorType:
    """Heads of even width in the last axis, and their angles `[…, tokens, width]`."""
    need_float(x, cos, sin)
    width = x.shape[-1] if x.rank else 0
    if not isinstance(width, int) or not width or width % (2 * a.heads) or cos != sin:
        raise GraphError(f"rotary of {a.heads} heads does not take {x}, {cos}, {sin}")
    angles = (*x.shape[:-1], width // a.heads)
    if broadcast_shapes(cos.shape, angles) != angles:
        raise GraphError(f"the angles {cos} do not broadcast to the heads of {x}")
    return x
