"""Cancels reshapes and permutations that follow one another.

A model splits heads for attention and joins them after it; attention here reads and writes joined
heads, so what surrounds it undoes itself.
"""

from __future__ import annotations

from prunus.ir import Graph, product
from prunus.passes.fold_constants import drop_no_op, drop_permute
from prunus.passes.pattern import Call, Value, op, variable
from prunus.passes.rewrite import Notes, Replacement, apply_rewrites, rewrite

x = variable("x")


def cancel_shapes(graph: Graph, notes: Notes) -> Graph:
    """Merge chains of shape ops, down to nothing where they end as they began."""
    rewrites = (drop_no_op, drop_permute, merge_reshapes, merge_permutes, merge_expands,
                permute_of_ones, linear_between_reshapes, selection_of_split)  # fmt: skip
    return apply_rewrites(graph, rewrites, notes)


@rewrite(op.reshape(op.reshape(x).shared()).named("outer"))
def merge_reshapes(x: Value, outer: Value) -> Replacement:
    """The last of several reshapes decides."""
    return op.reshape(x, shape=outer.type.shape), "a reshape of a reshape is one reshape"


@rewrite(op.expand(op.expand(x).shared()).named("outer"))
def merge_expands(x: Value, outer: Value) -> Replacement:
    """The last of several expansions decides."""
    return op.expand(x, shape=outer.type.shape), "an expansion of an expansion is one"


@rewrite(op.permute(op.permute(x).shared().named("inner")).named("outer"))
def merge_permutes(x: Value, inner: Value, outer: Value) -> Replacement:
    """Two orders of the axes are one, or none."""
    if inner.node is None or outer.node is None:
        return None
    axes = tuple(inner.node.attrs.axes[axis] for axis in outer.node.attrs.axes)
    if axes == tuple(range(len(axes))):
        return x, f"undoes what {inner.name} does to the axes"
    return op.permute(x, axes=axes), "a permutation of a permutation is one permutation"


@rewrite(op.permute(x).named("outer"))
def permute_of_ones(x: Value, outer: Value) -> Replacement:
    """Moving axes of length 1 moves no element: it is a reshape."""
    if outer.node is None:
        return None
    moved = [axis for axis in outer.node.attrs.axes if x.type.shape[axis] != 1]
    if moved != sorted(moved):
        return None
    return op.reshape(x, shape=outer.type.shape), "only axes of length 1 change their places"


@rewrite(op.select(op.reshape(x).shared().named("split")).named("part"))
def selection_of_split(x: Value, split: Value, part: Value) -> Replacement:
    """One of the parts that the last axis was split into is a slice of that axis."""
    if part.node is None or not x.type.rank:
        return None
    lead, inner = len(x.type.shape) - 1, split.type.shape[x.type.rank :]
    is_first = part.node.attrs.axis == lead
    if not is_first or split.type.shape[:lead] != x.type.shape[:-1]:
        return None
    width, index = product(inner), part.node.attrs.index
    if not isinstance(width, int) or index < 0:
        return None
    own = op.slice(x, axis=lead, start=index * width, stop=(index + 1) * width, step=1)
    return op.reshape(own, shape=part.type.shape), f"a slice of the last axis of {x.name}"


flat = op.reshape(x).shared().named("flat")


@rewrite(op.reshape(op.linear(flat, ...).named("linear")).named("outer"))
def linear_between_reshapes(x: Value, flat: Value, linear: Value, outer: Value) -> Replacement:
    """A layer works on the last axis alone, so the others need not be joined and split for it."""
    if linear.node is None or linear.node.get("residual") is not None:
        return None
    shapes = (x.type.shape, flat.type.shape, linear.type.shape, outer.type.shape)
    if shapes[0][-1:] != shapes[1][-1:] or shapes[0][:-1] != shapes[3][:-1]:
        return None
    if shapes[2][-1:] != shapes[3][-1:]:
        return None
    call = Call.like(linear.node, x=x)
    return call, "the layer reads the last axis alone, so nothing is reshaped for it"
