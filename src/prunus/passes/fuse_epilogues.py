"""Lets a linear layer apply its activation and add its residual while it stores its outputs."""

from __future__ import annotations

import math

from prunus.ir import Graph, Node
from prunus.ir.attributes import ACTIVATIONS
from prunus.passes.pattern import Call, Value, either, op, variable
from prunus.passes.rewrite import Editor, Notes, Replacement, apply_rewrites, rewrite

x, residual = variable("x"), variable("residual")


def fuse_epilogues(graph: Graph, notes: Notes) -> Graph:
    """Name activations that are written out, then fuse them and residuals into linear layers."""
    graph = apply_rewrites(graph, (gelu, gelu_tanh, silu, relu), notes)
    return apply_rewrites(graph, (activation_of_linear, residual_of_linear), notes)


# x / √2 and x · √½ are both written; so are ½x · (1 + …), x · (½ · (1 + …)) and ½ · (x · (1 + …)).
_halves = either(op.divide(x, math.sqrt(2)), op.multiply(x, math.sqrt(0.5)))
_erf = op.add(op.erf(_halves), 1)
_cube = either(op.power(x, 3), op.multiply(op.multiply(x, x), x))
_polynomial = either(
    op.multiply(op.add(x, op.multiply(_cube, 0.044715)), math.sqrt(2 / math.pi)),
    op.multiply(
        op.multiply(x, math.sqrt(2 / math.pi)),
        op.add(
            either(
                op.multiply(op.multiply(x, 0.044715), x),
                op.multiply(op.multiply(x, x), 0.044715),
                op.multiply(op.power(x, 2), 0.044715),
            ),
            1,
        ),
    ),
)
_tanh = op.add(op.tanh(_polynomial), 1)


def _half_of_x_times(factor: Call) -> tuple[Call, ...]:
    return (
        op.multiply(op.multiply(x, 0.5), factor),
        op.multiply(x, op.multiply(factor, 0.5)),
        op.multiply(op.multiply(x, factor), 0.5),
    )


@rewrite(either(*_half_of_x_times(_erf)))
def gelu(x: Value) -> Replacement:
    """½ · x · (1 + erf(x / √2))."""
    return op.gelu(x), "½x · (1 + erf(x/√2)) is gelu"


@rewrite(either(*_half_of_x_times(_tanh)))
def gelu_tanh(x: Value) -> Replacement:
    """½ · x · (1 + tanh(√(2/π) · (x + 0.044715 x³))), `gelu_new` in transformers."""
    return op.gelu_tanh(x), "½x · (1 + tanh(√(2/π) · (x + 0.044715x³))) is gelu_tanh"


@rewrite(op.multiply(x, op.sigmoid(x)))
def silu(x: Value) -> Replacement:
    """x · sigmoid(x)."""
    return op.silu(x), "x · sigmoid(x) is silu"


@rewrite(op.maximum(x, 0))
def relu(x: Value) -> Replacement:
    """max(x, 0)."""
    return (op.relu(x), "max(x, 0) is relu") if x.type.is_float else None


def activation_of_linear(edit: Editor, node: Node) -> Replacement:
    """An activation that reads a plain layer, and is all that does."""
    if node.op not in ACTIVATIONS:
        return None
    layer = _sole_linear(edit, node["x"])
    if layer is None or layer.attrs.activation != "none":
        return None
    call = Call.like(layer, {"activation": node.op})
    return call, f"{node.op} is applied where {layer.name} stores its outputs"


def residual_of_linear(edit: Editor, node: Node) -> Replacement:
    """An addition of a layer's outputs, read by nothing else, and of a value of the same type."""
    if node.op != "add":
        return None
    for name, other in ((node["x"], node["y"]), (node["y"], node["x"])):
        layer = _sole_linear(edit, name)
        if layer is None or not _is_residual(edit.value(other), layer):
            continue
        call = Call.like(layer, residual=other)
        return call, f"{other} is added where {layer.name} stores its outputs"
    return None


def _is_residual(value: Value, layer: Node) -> bool:
    """Whether a value is of the layer's type, and computed for each token as its outputs are."""
    return value.constant is None and value.type == layer.type


def _sole_linear(edit: Editor, name: str) -> Node | None:
    """The layer without a residual that computes a value which one node reads."""
    node = edit.value(name).node
    if node is None or node.op != "linear" or not edit.is_read_once(name):
        return None
    return None if node.get("residual") is not None else node
