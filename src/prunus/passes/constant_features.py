"""Which features of a value are the same for every token and every input: what an empty row of a
weight leaves behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from prunus.ir import OPS, Attrs, Constant, Graph, Node, TensorType
from prunus.ir.attributes import ACTIVATIONS
from prunus.passes.heads import taken_features

Row: TypeAlias = np.ndarray
"""[features], float64: the number that a feature always is. One that is not finite says that the
feature varies, or is not known."""

EmptyLines: TypeAlias = Callable[[Constant], tuple[np.ndarray, np.ndarray]]
"""`empty_lines`, or a function that remembers its answers."""

UNARY = frozenset({*ACTIVATIONS, "erf", "exp", "log", "sqrt", "rsqrt", "negate", "abs"} - {"none"})
BINARY = frozenset({"add", "subtract", "multiply", "divide", "power", "minimum", "maximum"})


def constant_features(graph: Graph, empty: EmptyLines) -> dict[str, Row]:
    """The rows of all computed values that have a constant feature, by name."""
    types, rows = graph.types(), dict[str, Row]()

    def row_of(name: str | None) -> Row | None:
        constant = graph.constants.get(str(name))
        return rows.get(str(name)) if constant is None else constant_row(constant)

    for node in graph.nodes:
        features = node.type.shape[-1] if node.type.rank and node.type.is_float else None
        if isinstance(features, int):
            row = _row(node, [row_of(name) for name in node.inputs], graph, types, empty)
            if row is not None and np.isfinite(row).any():
                rows[node.name] = np.broadcast_to(row, (features,))
    return rows


def layer_features(
    node: Node, x: Row | None, constants: Mapping[str, Constant], empty: EmptyLines
) -> Row | None:
    """What a linear layer makes of the row `x` of its input, before any residual is added.

    An output is constant where its row of the weight is zero at every input that varies.
    """
    weight, bias = constants.get(node["weight"]), node.get("bias")
    if weight is None or (bias is not None and bias not in constants):
        return None
    if x is None:
        is_constant, _ = empty(weight)
        total = np.zeros(is_constant.size)
    else:
        known, dense = np.isfinite(x), weight.dense()
        is_constant = ~(dense[:, ~known] != 0).any(axis=1)
        with np.errstate(all="ignore"):  # what is not finite is not constant
            total = dense[:, known].astype(np.float64) @ x[known]
    if bias is not None:
        total = total + constants[bias].dense()
    activation: str = node.attrs.activation
    output = total if activation == "none" else _apply(activation, [total])
    return np.where(is_constant, output, np.nan)


def constant_row(constant: Constant) -> Row | None:
    """A constant that broadcasts along every axis but the last; a single number is one feature."""
    type = constant.type
    if not type.is_float or any(dim != 1 for dim in type.shape[:-1]):
        return None
    return constant.dense().reshape(-1).astype(np.float64)


def empty_lines(constant: Constant) -> tuple[np.ndarray, np.ndarray]:
    """Which rows and which columns of a weight hold no nonzero."""
    pattern = constant.pattern
    if pattern is not None and not pattern.empty_rows and not pattern.empty_columns:
        rows, columns = pattern.shape
        return np.zeros(rows, np.bool_), np.zeros(columns, np.bool_)
    live = constant.dense() != 0
    return ~live.any(axis=1), ~live.any(axis=0)


def _row(
    node: Node,
    rows: Sequence[Row | None],
    graph: Graph,
    types: Mapping[str, TensorType],
    empty: EmptyLines,
) -> Row | None:
    """The row of a node's value, from those of its operands."""
    if node.op == "linear":
        row = layer_features(node, rows[0], graph.constants, empty)
        if row is None or node.get("residual") is None:
            return row
        return None if rows[3] is None else row + rows[3]
    if node.op == "attention":
        mask = node.get("mask")
        return _attention(rows[2], None if mask is None else types[mask])
    known = [row for row in rows if row is not None]
    if len(known) < len(rows) or not known:
        return None
    if node.op in UNARY | BINARY:
        return _apply(node.op, known)
    if node.op == "slice" and node.attrs.axis in (-1, node.type.rank - 1):
        taken = taken_features(node)
        return None if taken is None else known[0][taken]
    return known[0] if node.op in ("slice", "expand") else None


def _apply(op: str, rows: Sequence[Row]) -> Row:
    """An op that treats every feature alike, on rows."""
    with np.errstate(all="ignore"):
        return np.asarray(OPS[op].meaning(Attrs(), *rows))


def _attention(value: Row | None, mask: TensorType | None) -> Row | None:
    """The mean over the keys of what is the same at every key is that.

    Where no key is seen, attention gives 0 instead. If the mask is one number for each key, that
    happens at padding alone, which does not matter; under another mask only zeros are certain.
    """
    hides_keys = mask is None or all(dim == 1 for dim in mask.shape[-3:-1])
    return value if value is None or hides_keys else np.where(value == 0, 0.0, np.nan)
