"""Computes what is known before any input is, and takes out what does nothing."""

from __future__ import annotations

import math

import numpy as np

from prunus.errors import GraphError
from prunus.ir import DTYPES, Expr, Graph, Node, TensorType, run_node
from prunus.ir.graph import AttrValue
from prunus.passes.pattern import NewConstant, Number, Value, op, variable
from prunus.passes.rewrite import Editor, Notes, Replacement, apply_rewrites, rewrite

MAX_BYTES = 16 << 20
"""Largest result that is computed ahead, unless its operands are as large."""

MAX_EXPANSION = 64 << 10
"""Largest result of `expand`: a broadcast costs nothing where it is read."""

NEUTRAL: dict[str, Number] = {"add": 0, "subtract": 0, "multiply": 1, "divide": 1, "power": 1,
                              "and": True, "or": False}  # fmt: skip
"""The right operand that leaves the left one as it is."""

x = variable("x")


def fold_constants(graph: Graph, notes: Notes) -> Graph:
    """Compute nodes of nothing but constants once, and remove those that do nothing."""
    rewrites = (compute, drop_neutral, drop_no_op, drop_permute, drop_slice, drop_concat,
                shape_full, make_number, double_negation)  # fmt: skip
    return apply_rewrites(graph, rewrites, notes)


def compute(edit: Editor, node: Node) -> Replacement:
    """A node whose operands are all known becomes a constant.

    A permutation of a constant is left to `fold_transposes`, which can put it into a layer without
    a copy under another name.
    """
    if node.op in ("full", "arange", "permute") or not _is_static(node.type, node):
        return None
    values = [edit.value(name) for name in node.inputs if name is not None]
    if len(values) < len(node.inputs) or not all(map(_is_known, values)):
        return None
    if _bytes(node.type) > max(_limit(node.op), sum(_bytes(value.type) for value in values)):
        return None
    try:
        array = run_node(node, [_widen(_array(value)) for value in values], {}, precise=True)
    except GraphError:
        return None  # an index out of range is for the one who runs the model to see
    sources = [each.name for each in values if each.constant is not None and each.number is None]
    name = f"{sources[0]}.{node.op}" if len(sources) == 1 else f"{node.name}.value"
    with np.errstate(all="ignore"):  # infinity is what float32 makes of it at run time too
        array = np.asarray(array, dtype=DTYPES[node.type.dtype], order="C")
    return NewConstant(name, array), f"{node.op} of constants is computed once, here"


def drop_neutral(edit: Editor, node: Node) -> Replacement:
    """x + 0, x · 1, x and True are x."""
    if node.op not in NEUTRAL:
        return None
    left, right = (edit.value(name) for name in node.inputs if name is not None)
    neutral = NEUTRAL[node.op]
    kept = None
    if right.number == neutral:
        kept = left
    elif left.number == neutral and node.op in ("add", "multiply", "and", "or"):
        kept = right
    if kept is None or kept.type != node.type:
        return None
    return kept, f"{node.op} with {neutral} changes nothing"


def drop_no_op(edit: Editor, node: Node) -> Replacement:
    """A reshape, an expansion or a cast to the type that the operand has already."""
    if node.op not in ("reshape", "expand", "cast"):
        return None
    operand = edit.value(node["x"])
    if operand.type != node.type:
        return None
    return operand, f"{node.op} to {node.type}, which {operand.name} has already"


@rewrite(op.permute(x).named("node"))
def drop_permute(x: Value, node: Value) -> Replacement:
    """An order of the axes that is the order they have."""
    if node.node is None or node.node.attrs.axes != tuple(range(x.type.rank)):
        return None
    return x, "the axes stay in their order"


@rewrite(op.slice(x, step=1).named("node"))
def drop_slice(x: Value, node: Value) -> Replacement:
    """A slice of a whole axis; the op requires it to lie inside, so equal length is enough."""
    return (x, "the slice is the whole axis") if x.type == node.type else None


@rewrite(op.concat(x))
def drop_concat(x: Value) -> Replacement:
    """A concatenation of one tensor."""
    return x, "nothing is joined to it"


@rewrite(op.not_(op.not_(x).shared()))
def double_negation(x: Value) -> Replacement:
    """Not not x, of booleans."""
    return (x, "negated twice") if x.type.dtype == "bool" else None


def shape_full(edit: Editor, node: Node) -> Replacement:
    """A tensor of one number is made in its final shape and dtype."""
    if node.op not in ("reshape", "expand", "permute", "cast"):
        return None
    source = edit.value(node["x"]).node
    if source is None or source.op != "full":
        return None
    number = np.full((), source.attrs.value, DTYPES[source.type.dtype])
    value = number.astype(DTYPES[node.type.dtype]).item()
    shape: AttrValue = node.type.shape
    call = op.full(shape=shape, value=value, dtype=node.type.dtype)
    return call, f"{node.op} of a tensor of one number is such a tensor"


def make_number(edit: Editor, node: Node) -> Replacement:
    """A tensor of a single number is a constant, which kernels take as an operand."""
    if node.op != "full" or any(dim != 1 for dim in node.type.shape):
        return None
    number = new_number(node.attrs.value, node.type.dtype, rank=node.type.rank)
    return number, f"{node.attrs.value} is a constant"


def new_number(value: Number, dtype: str, *, rank: int = 0) -> NewConstant:
    """A number as a constant named after itself, `f32:0.25`, with axes of length 1."""
    array = np.full((1,) * rank, value, DTYPES[dtype])
    return NewConstant(f"{dtype}:{array.reshape(())}".replace("+", ""), array)


def _is_known(value: Value) -> bool:
    """Whether a value is a constant, or a `full` or `arange` of known and moderate size."""
    node = value.node
    if node is None or node.op not in ("full", "arange"):
        return value.constant is not None
    return _is_static(node.type, node) and _bytes(node.type) <= MAX_BYTES


def _array(value: Value) -> np.ndarray:
    """What a known value is."""
    if value.node is not None:
        return run_node(value.node, [], {})
    assert value.constant is not None
    return value.constant.dense()


def _is_static(type: TensorType, node: Node) -> bool:
    return not type.symbols() and not any(map(_has_symbols, node.attrs.values()))


def _has_symbols(value: AttrValue) -> bool:
    return any(map(_has_symbols, value)) if isinstance(value, tuple) else isinstance(value, Expr)


def _bytes(type: TensorType) -> int:
    return math.prod(type.sizes({})) * DTYPES[type.dtype].itemsize


def _limit(op: str) -> int:
    return MAX_EXPANSION if op == "expand" else MAX_BYTES


def _widen(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array
