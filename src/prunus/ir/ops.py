"""The op table: each op's name, inputs, attributes, type rule and meaning in NumPy stand in one
entry.

The interpreter, the verifier and the parser follow from it. The ops are the field's, not those of a
framework. To add one, add an entry; it then runs everywhere on the interpreter, until the plan
knows a kernel for it.

A type rule and a meaning get the node's attributes first, then the operands: types, or arrays in
the dtypes of the types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunus.errors import GraphError
from prunus.ir import numeric
from prunus.ir.attention import attend, attention_type
from prunus.ir.dims import Expr, evaluate, product
from prunus.ir.types import DTYPES, TensorType, broadcast_shapes

Shape = tuple[int | Expr, ...]
TypeRule = Callable[..., TensorType]
Meaning = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Op:
    """One entry of the table.

    `inputs` names the operands: `x?` may be left out (None), `*x` stands for any number from one
    on.
    """

    name: str
    inputs: tuple[str, ...]
    attrs: tuple[str, ...]
    type: TypeRule
    meaning: Meaning

    def check_arity(self, operands: Sequence[object | None]) -> None:
        """Raises GraphError unless `operands` fit `inputs`."""
        variadic = any(name.startswith("*") for name in self.inputs)
        required = sum(not name.endswith("?") for name in self.inputs)
        fits = required <= len(operands) and (variadic or len(operands) <= len(self.inputs))
        missing = [
            name
            for name, operand in zip(self.inputs, operands, strict=False)
            if operand is None and not name.endswith("?")
        ]
        if not fits or missing:
            raise GraphError(
                f"{self.name} takes ({' '.join(self.inputs)}), found {len(operands)} operands"
                + (f" with {', '.join(missing)} left out" if missing else "")
            )


OPS: dict[str, Op] = {}


def op(name: str, inputs: str, attrs: str = "", *, type: TypeRule, meaning: Meaning) -> Op:
    """Enter an op into the table."""
    OPS[name] = Op(name, tuple(inputs.split()), tuple(attrs.split()), type, meaning)
    return OPS[name]


# Type rules that several ops share.


def _same(a: Any, x: TensorType, *_: TensorType | None) -> TensorType:
    return x


def _broadcast(a: Any, x: TensorType, y: TensorType) -> TensorType:
    if x.dtype != y.dtype:
        raise GraphError(f"operands have the dtypes {x.dtype} and {y.dtype}; cast one first")
    return TensorType(x.dtype, broadcast_shapes(x.shape, y.shape))


def _compare(a: Any, x: TensorType, y: TensorType) -> TensorType:
    return TensorType("bool", _broadcast(a, x, y).shape)


def _float(a: Any, x: TensorType) -> TensorType:
    if not x.is_float:
        raise GraphError(f"a floating-point operand is needed, found {x}")
    return x


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise GraphError(f"axis {axis} is out of range for a tensor of rank {rank}")
    return axis % rank


def _replace(shape: Shape, axis: int, dims: Shape) -> Shape:
    axis = _axis(axis, len(shape))
    return (*shape[:axis], *dims, *shape[axis + 1 :])


def _reduced(a: Any, x: TensorType) -> TensorType:
    axes = {_axis(axis, x.rank) for axis in a.axes}
    shape = [1 if i in axes else dim for i, dim in enumerate(x.shape) if a.keep or i not in axes]
    return TensorType(x.dtype, tuple(shape))


def _reduce(function: Callable[..., np.ndarray]) -> Meaning:
    return lambda a, x: np.asarray(function(x, axis=a.axes, keepdims=a.keep), dtype=x.dtype)


# Elementwise

for _name, _meaning in {
    "gelu": numeric.gelu,
    "gelu_tanh": numeric.gelu_tanh,
    "relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "tanh": np.tanh,
    "sigmoid": numeric.sigmoid,
    "silu": lambda x: x * numeric.sigmoid(x),
    "erf": numeric.erf,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "cos": np.cos,
    "sin": np.sin,
    "ceil": np.ceil,
    "floor": np.floor,
}.items():
    op(_name, "x", type=_float, meaning=lambda a, x, f=_meaning: f(x))

op("negate", "x", type=_same, meaning=lambda a, x: -x)
op("abs", "x", type=_same, meaning=lambda a, x: np.abs(x))
op("sign", "x", type=_same, meaning=lambda a, x: np.sign(x))
op("not", "x", type=_same, meaning=lambda a, x: np.logical_not(x))

for _name, _ufunc in {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "minimum": np.minimum,
    "maximum": np.maximum,
}.items():
    op(_name, "x y", type=_broadcast, meaning=lambda a, x, y, f=_ufunc: f(x, y))

for _name, _comparison in {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
}.items():
    op(_name, "x y", type=_compare, meaning=lambda a, x, y, f=_comparison: f(x, y))


def _where_type(a: Any, condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
    both = _broadcast(a, x, y)
    return TensorType(both.dtype, broadcast_shapes(condition.shape, both.shape))


op("where", "condition x y", type=_where_type, meaning=lambda a, c, x, y: np.where(c, x, y))
op("cast", "x", "dtype", type=lambda a, x: TensorType(a.dtype, x.shape),
   meaning=lambda a, x: x.astype(DTYPES[a.dtype]))  # fmt: skip

# New tensors

op("arange", "", "length dtype", type=lambda a: TensorType(a.dtype, (a.length,)),
   meaning=lambda a: np.arange(a.length, dtype=DTYPES[a.dtype]))  # fmt: skip
op("full", "", "shape value dtype", type=lambda a: TensorType(a.dtype, a.shape),
   meaning=lambda a: np.full(a.shape, a.value, DTYPES[a.dtype]))  # fmt: skip

# Shape


def _reshape_type(a: Any, x: TensorType) -> TensorType:
    before, after = product(x.shape), product(a.shape)
    if before != after:
        raise GraphError(f"{x} has {before} elements and cannot take the shape of {after}")
    return TensorType(x.dtype, a.shape)


def _expand_type(a: Any, x: TensorType) -> TensorType:
    if broadcast_shapes(x.shape, a.shape) != tuple(a.shape):
        raise GraphError(f"{x} does not expand to [{', '.join(map(str, a.shape))}]")
    return TensorType(x.dtype, a.shape)


def _permute_type(a: Any, x: TensorType) -> TensorType:
    if sorted(a.axes) != list(range(x.rank)):
        raise GraphError(f"{a.axes} is no order of the axes of {x}")
    return TensorType(x.dtype, tuple(x.shape[axis] for axis in a.axes))


def _slice_type(a: Any, x: TensorType) -> TensorType:
    length = -1 * ((a.start - a.stop) // a.step) if a.step != 1 else a.stop - a.start
    if isinstance(length, int) and length < 0:
        raise GraphError(f"the slice {a.start}:{a.stop}:{a.step} of {x} is negative")
    return TensorType(x.dtype, _replace(x.shape, a.axis, (length,)))


def _slice(a: Any, x: np.ndarray) -> np.ndarray:
    size = x.shape[a.axis]
    if not 0 <= a.start <= a.stop <= size:
        raise GraphError(f"the slice {a.start}:{a.stop} is not inside an axis of {size}")
    index = [slice(None)] * x.ndim
    index[a.axis] = slice(a.start, a.stop, a.step)
    return x[tuple(index)]


def _select_type(a: Any, x: TensorType) -> TensorType:
    size = x.shape[_axis(a.axis, x.rank)]
    if isinstance(size, int) and not -size <= a.index < size:
        raise GraphError(f"index {a.index} is outside axis {a.axis} of {x}")
    return TensorType(x.dtype, _replace(x.shape, a.axis, ()))


def _select(a: Any, x: np.ndarray) -> np.ndarray:
    size = x.shape[a.axis]
    if not -size <= a.index < size:
        raise GraphError(f"index {a.index} is outside an axis of {size}")
    return np.asarray(np.take(x, a.index, axis=a.axis))


def _concat_type(a: Any, *xs: TensorType) -> TensorType:
    axis, total = (
        _axis(a.axis, xs[0].rank),
        sum((x.shape[a.axis] for x in xs[1:]), xs[0].shape[a.axis]),
    )
    for x in xs[1:]:
        if x.dtype != xs[0].dtype or _replace(x.shape, axis, ()) != _replace(xs[0].shape, axis, ()):
            raise GraphError(f"{xs[0]} and {x} cannot be joined along axis {axis}")
    return TensorType(xs[0].dtype, _replace(xs[0].shape, axis, (total,)))


op("reshape", "x", "shape", type=_reshape_type, meaning=lambda a, x: x.reshape(a.shape))
op("expand", "x", "shape", type=_expand_type, meaning=lambda a, x: np.broadcast_to(x, a.shape))
op("permute", "x", "axes", type=_permute_type, meaning=lambda a, x: x.transpose(a.axes))
op("slice", "x", "axis start stop step", type=_slice_type, meaning=_slice)
op("select", "x", "axis index", type=_select_type, meaning=_select)
op("concat", "*xs", "axis", type=_concat_type,
   meaning=lambda a, *xs: np.concatenate(xs, axis=a.axis))  # fmt: skip

# Indexing


def _index_type(a: Any, x: TensorType, *indices: TensorType) -> TensorType:
    if len(indices) > x.rank:
        raise GraphError(f"{len(indices)} indices are too many for {x}")
    lead = broadcast_shapes(*(index.shape for index in indices))
    return TensorType(x.dtype, (*lead, *x.shape[len(indices) :]))


def _checked(index: np.ndarray, size: int, what: str) -> np.ndarray:
    if index.size and (index.min() < 0 or index.max() >= size):
        raise GraphError(f"an index of {what} is outside 0…{size - 1}")
    return index


def _gather_type(a: Any, x: TensorType, index: TensorType) -> TensorType:
    axis = _axis(a.axis, index.rank)
    if x.rank != index.rank or any(
        axis != i and dim not in (1, index.shape[i]) for i, dim in enumerate(x.shape)
    ):
        raise GraphError(f"gather along axis {axis} of {x} does not take {index}")
    return TensorType(x.dtype, index.shape)


def _gather(a: Any, x: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take_along_axis(x, _checked(index, x.shape[a.axis], "gather"), axis=a.axis)


def _index(a: Any, x: np.ndarray, *indices: np.ndarray) -> np.ndarray:
    return np.asarray(x[tuple(_checked(i, x.shape[n], "index") for n, i in enumerate(indices))])


def _pairs(operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    if len(operands) % 2:
        raise GraphError("embedding takes pairs of a table and its ids")
    return list(operands[::2]), list(operands[1::2])


def _embedding_type(a: Any, *operands: TensorType) -> TensorType:
    tables, ids = _pairs(operands)
    if len({table.shape[-1] for table in tables}) != 1 or any(t.rank != 2 for t in tables):
        raise GraphError("the tables of one embedding must be matrices of one width")
    lead = broadcast_shapes(*(i.shape for i in ids))
    return TensorType(tables[0].dtype, (*lead, tables[0].shape[-1]))


def _embedding(a: Any, *operands: np.ndarray) -> np.ndarray:
    tables, ids = _pairs(operands)
    checked = [_checked(i, len(table), "embedding") for table, i in zip(tables, ids, strict=True)]
    return numeric.accumulate(tables, checked)


op("index", "x *indices", type=_index_type, meaning=_index)
op("gather", "x index", "axis", type=_gather_type, meaning=_gather)
op("embedding", "*tables_and_ids", type=_embedding_type, meaning=_embedding)

# Reductions

op("sum", "x", "axes keep", type=_reduced, meaning=_reduce(np.sum))
op("mean", "x", "axes keep", type=_reduced, meaning=_reduce(np.mean))
op("max", "x", "axes keep", type=_reduced, meaning=_reduce(np.max))
op("argmax", "x", "axis", type=lambda a, x: TensorType("i64", _replace(x.shape, a.axis, ())),
   meaning=lambda a, x: np.argmax(x, axis=a.axis))  # fmt: skip
op("cumsum", "x", "axis", type=_same,
   meaning=lambda a, x: np.cumsum(x, axis=a.axis, dtype=x.dtype))  # fmt: skip
op("softmax", "x", "axis", type=_float, meaning=lambda a, x: numeric.softmax(x, a.axis))

# The layers of a transformer

ACTIVATIONS = ("none", "gelu", "gelu_tanh", "relu", "tanh", "sigmoid", "silu")


def _matmul_type(a: Any, x: TensorType, y: TensorType) -> TensorType:
    if min(x.rank, y.rank) < 2 or x.shape[-1] != y.shape[-2]:
        raise GraphError(f"{x} and {y} cannot be multiplied as matrices")
    lead = broadcast_shapes(x.shape[:-2], y.shape[:-2])
    return TensorType(x.dtype, (*lead, x.shape[-2], y.shape[-1]))


def _linear_type(
    a: Any,
    x: TensorType,
    weight: TensorType,
    bias: TensorType | None = None,
    residual: TensorType | None = None,
) -> TensorType:
    if weight.rank != 2 or not x.rank or x.shape[-1] != weight.shape[1]:
        raise GraphError(f"a linear layer of {weight} (outputs, inputs) does not take {x}")
    if a.activation not in ACTIVATIONS:
        raise GraphError(f"unknown activation {a.activation!r}; known are {', '.join(ACTIVATIONS)}")
    result = TensorType(x.dtype, (*x.shape[:-1], weight.shape[0]))
    if bias is not None and bias.shape != weight.shape[:1]:
        raise GraphError(f"a linear layer of {weight} does not take the bias {bias}")
    if residual is not None and residual != result:
        raise GraphError(f"the residual {residual} is not of the layer's type {result}")
    return result


def _linear(
    a: Any,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    y = x @ weight.T
    if bias is not None:
        y = y + bias
    if a.activation != "none":
        y = OPS[a.activation].meaning(a, y)
    return np.asarray(y if residual is None else y + residual)


def _layer_norm_type(a: Any, x: TensorType, gamma: TensorType, beta: TensorType) -> TensorType:
    if not x.rank or not gamma.shape == beta.shape == x.shape[-1:]:
        raise GraphError(f"layer_norm over the last axis of {x} does not take {gamma} and {beta}")
    return x


def _rms_norm_type(a: Any, x: TensorType, gamma: TensorType) -> TensorType:
    if not x.rank or gamma.shape != x.shape[-1:]:
        raise GraphError(f"rms_norm over the last axis of {x} does not take {gamma}")
    return x


def _rotary_type(a: Any, x: TensorType, cos: TensorType, sin: TensorType) -> TensorType:
    width = x.shape[-1] if x.rank else 0
    if not isinstance(width, int) or width % (2 * a.heads) or cos != sin:
        raise GraphError(f"rotary of {a.heads} heads does not take {x}, {cos}, {sin}")
    angles = (*x.shape[:-1], width // a.heads)
    if broadcast_shapes(cos.shape, angles) != angles:
        raise GraphError(f"the angles {cos} do not broadcast to the heads of {x}")
    return x


op("matmul", "x y", type=_matmul_type, meaning=lambda a, x, y: x @ y)
op("linear", "x weight bias? residual?", "activation", type=_linear_type, meaning=_linear)
op("layer_norm", "x gamma beta", "eps", type=_layer_norm_type,
   meaning=lambda a, x, gamma, beta: numeric.layer_norm(x, gamma, beta, a.eps))  # fmt: skip
op("rms_norm", "x gamma", "eps", type=_rms_norm_type,
   meaning=lambda a, x, gamma: numeric.rms_norm(x, gamma, a.eps))  # fmt: skip
op("rotary", "x cos sin", "heads", type=_rotary_type,
   meaning=lambda a, x, cos, sin: numeric.rotary(x, cos, sin, a.heads))  # fmt: skip
op("attention", "q k v mask? key_table? key_index? query_table? query_index?",
   "heads scale causal", type=attention_type, meaning=attend)  # fmt: skip


def evaluate_attr(value: Any, sizes: dict[str, int]) -> Any:
    """An attribute with every symbolic dimension in it replaced by its size."""
    if isinstance(value, tuple):
        return tuple(evaluate_attr(item, sizes) for item in value)
    return evaluate(value, sizes) if isinstance(value, Expr) else value
