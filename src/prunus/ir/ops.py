"""The op table: each op's name, inputs, attributes, type rule and meaning in NumPy stand in one
entry.

The interpreter, the verifier and the parser follow from it. The ops are the field's, not those of a
framework. To add one, add an entry; it then runs everywhere on the interpreter, until the plan
knows a kernel for it.

A type rule and a meaning get the node's attributes first, then the operands: types, or arrays in
the dtypes of the types. `infer` checks the attributes' kinds before a rule sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunus.errors import GraphError
from prunus.ir import numeric, rules
from prunus.ir.attention import attend, attention_type
from prunus.ir.attributes import (
    ACTIVATION,
    AXES,
    AXIS,
    COUNT,
    DIM,
    DTYPE,
    EPSILON,
    FINITE,
    FLAG,
    INDEX,
    NUMBER,
    SHAPE,
    Kind,
    check_attributes,
)
from prunus.ir.dims import Expr, evaluate
from prunus.ir.graph import OPERANDS, Attrs
from prunus.ir.rules import TypeRule
from prunus.ir.types import DTYPES, TensorType

Meaning = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Op:
    """One entry of the table.

    Attributes:
        name: Its name in graphs.
        inputs: The operands: `x?` may be left out (None), `*x` stands for any number from one on.
        attrs: The kind of each attribute.
        type: The type rule.
        meaning: What it computes.
    """

    name: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Kind]
    type: TypeRule
    meaning: Meaning

    def check_arity(self, operands: Sequence[object | None]) -> None:
        """Raises GraphError unless `operands` fit `inputs`."""
        variadic = any(name.startswith("*") for name in self.inputs)
        required = sum(not name.endswith("?") for name in self.inputs)
        fits = required <= len(operands) and (variadic or len(operands) <= len(self.inputs))
        names = (*self.inputs, *self.inputs[-1:] * max(0, len(operands) - len(self.inputs)))
        missing = [
            name
            for name, operand in zip(names, operands, strict=False)
            if operand is None and not name.endswith("?")
        ]
        if not fits or missing:
            raise GraphError(
                f"{self.name} takes ({' '.join(self.inputs)}), found {len(operands)} operands"
                + (f" with {', '.join(missing)} left out" if missing else "")
            )


OPS: dict[str, Op] = {}


def op(name: str, inputs: str, *, type: TypeRule, meaning: Meaning, **attrs: Kind) -> Op:
    """Enter an op into the table; keyword arguments beyond the named ones are its attributes."""
    OPS[name] = Op(name, tuple(inputs.split()), attrs, type, meaning)
    OPERANDS[name] = {
        operand.removesuffix("?"): position
        for position, operand in enumerate(OPS[name].inputs)
        if not operand.startswith("*")
    }
    return OPS[name]


def infer(op: str, operands: Sequence[TensorType | None], attrs: Attrs) -> TensorType:
    """The type of `op` on operands of the given types.

    Raises:
        GraphError: the op is unknown, or does not take such operands or attributes.
    """
    if op not in OPS:
        raise GraphError(f"unknown op {op!r}; the op table has {', '.join(sorted(OPS))}")
    entry = OPS[op]
    entry.check_arity(operands)
    check_attributes(op, entry.attrs, attrs)
    return entry.type(attrs, *operands)


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
    op(_name, "x", type=rules.float_type, meaning=lambda a, x, f=_meaning: f(x))

op("negate", "x", type=rules.number_type, meaning=lambda a, x: -x)
op("abs", "x", type=rules.number_type, meaning=lambda a, x: np.abs(x))
op("sign", "x", type=rules.number_type, meaning=lambda a, x: np.sign(x))
op("not", "x", type=rules.logic_type, meaning=lambda a, x: np.logical_not(x))

for _name, _ufunc, _type in (
    ("add", np.add, rules.broadcast_type),
    ("subtract", np.subtract, rules.arithmetic_type),
    ("multiply", np.multiply, rules.broadcast_type),
    ("divide", np.divide, rules.arithmetic_type),
    ("power", np.power, rules.arithmetic_type),
    ("minimum", np.minimum, rules.broadcast_type),
    ("maximum", np.maximum, rules.broadcast_type),
    ("equal", np.equal, rules.comparison_type),
    ("not_equal", np.not_equal, rules.comparison_type),
    ("less", np.less, rules.comparison_type),
    ("less_equal", np.less_equal, rules.comparison_type),
    ("greater", np.greater, rules.comparison_type),
    ("greater_equal", np.greater_equal, rules.comparison_type),
    ("and", np.logical_and, rules.logic_type),
    ("or", np.logical_or, rules.logic_type),
):
    op(_name, "x y", type=_type, meaning=lambda a, x, y, f=_ufunc: f(x, y))

op("where", "condition x y", type=rules.where_type, meaning=lambda a, c, x, y: np.where(c, x, y))
op("cast", "x", dtype=DTYPE, type=rules.cast_type,
   meaning=lambda a, x: x.astype(DTYPES[a.dtype]))  # fmt: skip

# New tensors

op("arange", "", length=DIM, dtype=DTYPE, type=rules.arange_type,
   meaning=lambda a: np.arange(a.length).astype(DTYPES[a.dtype]))  # fmt: skip
op("full", "", shape=SHAPE, value=NUMBER, dtype=DTYPE, type=rules.full_type,
   meaning=lambda a: np.full(a.shape, a.value, DTYPES[a.dtype]))  # fmt: skip

# Shapes


def _slice(a: Any, x: np.ndarray) -> np.ndarray:
    size = x.shape[a.axis]
    if not 0 <= a.start <= a.stop <= size:
        raise GraphError(f"the slice {a.start}:{a.stop} is not inside an axis of {size}")
    index = [slice(None)] * x.ndim
    index[a.axis] = slice(a.start, a.stop, a.step)
    return x[tuple(index)]


def _select(a: Any, x: np.ndarray) -> np.ndarray:
    size = x.shape[a.axis]
    if not -size <= a.index < size:
        raise GraphError(f"index {a.index} is outside an axis of {size}")
    return np.asarray(np.take(x, a.index, axis=a.axis))


op("reshape", "x", shape=SHAPE, type=rules.reshape_type, meaning=lambda a, x: x.reshape(a.shape))
op("expand", "x", shape=SHAPE, type=rules.expand_type,
   meaning=lambda a, x: np.broadcast_to(x, a.shape))  # fmt: skip
op("permute", "x", axes=AXES, type=rules.permute_type, meaning=lambda a, x: x.transpose(a.axes))
op("slice", "x", axis=AXIS, start=DIM, stop=DIM, step=COUNT, type=rules.slice_type, meaning=_slice)
op("select", "x", axis=AXIS, index=INDEX, type=rules.select_type, meaning=_select)
op("concat", "*xs", axis=AXIS, type=rules.concat_type,
   meaning=lambda a, *xs: np.concatenate(xs, axis=a.axis))  # fmt: skip

# Indexing


def _checked(index: np.ndarray, size: int, what: str) -> np.ndarray:
    if index.size and (index.min() < 0 or index.max() >= size):
        wrong = int(index.min()) if index.min() < 0 else int(index.max())
        advice = "; prunus does not count from the end, so add the size first" if wrong < 0 else ""
        raise GraphError(f"an index of {what} is {wrong}, outside 0…{size - 1}{advice}")
    return index


def _gather(a: Any, x: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take_along_axis(x, _checked(index, x.shape[a.axis], "gather"), axis=a.axis)


def _index(a: Any, x: np.ndarray, *indices: np.ndarray) -> np.ndarray:
    return np.asarray(x[tuple(_checked(i, x.shape[n], "index") for n, i in enumerate(indices))])


def _embedding(a: Any, *operands: np.ndarray) -> np.ndarray:
    tables, ids = rules.pairs(operands)
    checked = [_checked(i, len(table), "embedding") for table, i in zip(tables, ids, strict=True)]
    return numeric.accumulate(list(tables), checked)


op("index", "x *indices", type=rules.index_type, meaning=_index)
op("gather", "x index", axis=AXIS, type=rules.gather_type, meaning=_gather)
op("embedding", "*tables_and_ids", type=rules.embedding_type, meaning=_embedding)

# Reductions


def _reduce(function: Callable[..., np.ndarray]) -> Meaning:
    return lambda a, x: np.asarray(function(x, axis=a.axes, keepdims=a.keep), dtype=x.dtype)


def _extremum(function: Callable[..., np.ndarray]) -> Meaning:
    reduce = _reduce(function)
    return lambda a, x: reduce(a, _with_elements(x, a.axes))


def _with_elements(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    if any(x.shape[axis] == 0 for axis in axes):
        raise GraphError(f"the largest of no elements is asked for: {x.dtype}{list(x.shape)}")
    return x


op("sum", "x", axes=AXES, keep=FLAG, type=rules.reduction_type, meaning=_reduce(np.sum))
op("mean", "x", axes=AXES, keep=FLAG, type=rules.mean_type,
   meaning=lambda a, x: numeric.mean(x, a.axes, keep=a.keep))  # fmt: skip
op("max", "x", axes=AXES, keep=FLAG, type=rules.extremum_type, meaning=_extremum(np.max))
op("argmax", "x", axis=AXIS, type=rules.argmax_type,
   meaning=lambda a, x: np.argmax(_with_elements(x, (a.axis,)), axis=a.axis))  # fmt: skip
op("cumsum", "x", axis=AXIS, type=rules.cumsum_type,
   meaning=lambda a, x: np.cumsum(x, axis=a.axis, dtype=x.dtype))  # fmt: skip
op("softmax", "x", axis=AXIS, type=rules.softmax_type,
   meaning=lambda a, x: numeric.softmax(x, a.axis))  # fmt: skip

# The layers of a transformer


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


op("matmul", "x y", type=rules.matmul_type, meaning=lambda a, x, y: x @ y)
op("linear", "x weight bias? residual?", activation=ACTIVATION, type=rules.linear_type,
   meaning=_linear)  # fmt: skip
op("layer_norm", "x gamma beta", eps=EPSILON, type=rules.norm_type,
   meaning=lambda a, x, gamma, beta: numeric.layer_norm(x, gamma, beta, a.eps))  # fmt: skip
op("rms_norm", "x gamma", eps=EPSILON, type=rules.norm_type,
   meaning=lambda a, x, gamma: numeric.rms_norm(x, gamma, a.eps))  # fmt: skip
op("rotary", "x cos sin", heads=COUNT, type=rules.rotary_type,
   meaning=lambda a, x, cos, sin: numeric.rotary(x, cos, sin, a.heads))  # fmt: skip
op("attention", "query key value mask? key_table? key_index? query_table? query_index?",
   heads=COUNT, scale=FINITE, causal=FLAG, type=attention_type, meaning=attend)  # fmt: skip


def evaluate_attrs(attrs: Attrs, sizes: Mapping[str, int]) -> Attrs:
    """Attributes with every symbolic dimension in them replaced by its size."""
    return Attrs({key: evaluate_attr(value, sizes) for key, value in attrs.items()})


def evaluate_attr(value: Any, sizes: Mapping[str, int]) -> Any:
    """An attribute with every symbolic dimension in it replaced by its size."""
    if isinstance(value, tuple):
        return tuple(evaluate_attr(item, sizes) for item in value)
    return evaluate(value, sizes) if isinstance(value, Expr) else value
