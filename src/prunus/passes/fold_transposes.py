"""Folds the transpose in front of a layer into its weight, and a bias behind it into the layer.

The idea is that of `simplify_fc_transpose` in Apache TVM's tutorial on pruned models.
"""

from __future__ import annotations

import numpy as np

from prunus.ir import Graph
from prunus.passes.pattern import NewConstant, Value, constant, op, variable
from prunus.passes.rewrite import Notes, Replacement, apply_rewrites, rewrite

x, weight, bias = variable("x"), constant("weight"), constant("bias")


def fold_transposes(graph: Graph, notes: Notes) -> Graph:
    """Turn products with constants into linear layers, and permute constants once."""
    # A product takes a transposed weight as it is, so permuting comes after all products.
    graph = apply_rewrites(graph, (transposed_product, product, bias_of_linear), notes)
    return apply_rewrites(graph, (permuted_constant,), notes)


@rewrite(op.matmul(x, op.permute(weight, axes=(1, 0)).shared()))
def transposed_product(x: Value, weight: Value) -> Replacement:
    """x · transpose(weight) is what a linear layer computes."""
    if not x.type.is_float:
        return None
    return op.linear(x, weight, activation="none"), f"the transpose of {weight.name} is in the op"


@rewrite(op.matmul(x, weight))
def product(x: Value, weight: Value) -> Replacement:
    """x · weight is a linear layer whose weight has been transposed once, here."""
    if weight.constant is None or weight.type.rank != 2 or not x.type.is_float:
        return None
    transposed = _permuted(weight, (1, 0))
    return (
        op.linear(x, transposed, activation="none"),
        f"a product with {weight.name} is a linear layer of its transpose",
    )


@rewrite(op.permute(weight).named("node"))
def permuted_constant(weight: Value, node: Value) -> Replacement:
    """A constant is permuted once, here."""
    if node.node is None:
        return None
    axes: tuple[int, ...] = node.node.attrs.axes
    return _permuted(weight, axes), f"{weight.name} is permuted once, here"


@rewrite(op.add(op.linear(x, weight).named("linear"), bias))
def bias_of_linear(x: Value, weight: Value, linear: Value, bias: Value) -> Replacement:
    """A vector added to the outputs of a layer is its bias."""
    outputs = weight.type.shape[0]
    if linear.node is None or linear.node.attrs.activation != "none" or bias.constant is None:
        return None
    shape = bias.type.shape
    if not shape or shape[-1] != outputs or any(dim != 1 for dim in shape[:-1]):
        return None
    vector = bias if len(shape) == 1 else _flat(bias)
    return op.linear(x, weight, vector, activation="none"), f"{bias.name} is the layer's bias"


def _permuted(value: Value, axes: tuple[int, ...]) -> NewConstant:
    assert value.constant is not None
    suffix = "T" if axes == (1, 0) else "permute"
    array = np.ascontiguousarray(np.transpose(value.constant.dense(), axes))
    return NewConstant(f"{value.name}.{suffix}", array)


def _flat(value: Value) -> NewConstant:
    assert value.constant is not None
    return NewConstant(f"{value.name}.flat", value.constant.dense().reshape(-1))
