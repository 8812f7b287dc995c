"""Folds a factor for each feature behind a linear layer into its weight, as the layer scales of
DINOv2 and BEiT.
"""

from __future__ import annotations

import numpy as np

from prunus.ir import Graph
from prunus.passes.pattern import NewConstant, Value, constant, op, variable
from prunus.passes.rewrite import Notes, Replacement, apply_rewrites, rewrite

x, weight, bias, factor = variable("x"), constant("weight"), constant("bias"), constant("factor")


def fold_scales(graph: Graph, notes: Notes) -> Graph:
    """Multiply the rows of weights by constant factors once, here; zeros stay zeros."""
    return apply_rewrites(graph, (scaled, scaled_with_bias), notes)


@rewrite(op.multiply(op.linear(x, weight, activation="none"), factor))
def scaled(x: Value, weight: Value, factor: Value) -> Replacement:
    """A layer without a bias."""
    return _scaled(x, weight, None, factor)


@rewrite(op.multiply(op.linear(x, weight, bias, activation="none"), factor))
def scaled_with_bias(x: Value, weight: Value, bias: Value, factor: Value) -> Replacement:
    """A layer with a bias."""
    return _scaled(x, weight, bias, factor)


def _scaled(x: Value, weight: Value, bias: Value | None, factor: Value) -> Replacement:
    assert weight.constant is not None and factor.constant is not None
    outputs = weight.type.shape[0]
    factors = factor.constant.dense().reshape(-1)
    shape = factor.type.shape
    if factors.size > 1 and (factors.size != outputs or shape[-1] != outputs):
        return None
    rows = np.broadcast_to(factors.astype(np.float64), (weight.type.sizes({})[0],))
    own = _times(weight, rows[:, None])
    vector = None if bias is None else _times(bias, rows)
    call = op.linear(x, own, vector, activation="none")
    return call, f"{factor.name} scales the rows of {weight.name} once, here"


def _times(value: Value, rows: np.ndarray) -> NewConstant:
    assert value.constant is not None
    scaled = value.constant.dense().astype(np.float64) * rows
    return NewConstant(f"{value.name}.scaled", scaled.astype(np.float32))
