"""Recognises the normalisation by root mean square, which is written out in models such as T5."""

from __future__ import annotations

from prunus.ir import Graph
from prunus.passes.pattern import Value, constant, either, number, op, variable
from prunus.passes.rewrite import Notes, Replacement, apply_rewrites, rewrite

x, gamma, eps = variable("x"), constant("gamma"), number("eps")
_square = either(op.power(x, 2), op.multiply(x, x))
_root = op.rsqrt(op.add(op.mean(_square).named("mean"), eps))
_normal = op.multiply(x, _root)


def fuse_norms(graph: Graph, notes: Notes) -> Graph:
    """Make written-out normalisations one op."""
    return apply_rewrites(graph, (rms_norm,), notes)


@rewrite(op.multiply(_normal, gamma).named("scaled"))
def rms_norm(x: Value, mean: Value, eps: Value, gamma: Value, scaled: Value) -> Replacement:
    """x · rsqrt(mean(x²) + eps) · gamma."""
    node = mean.node
    if node is None or not node.attrs.keep or node.attrs.axes not in ((-1,), (x.type.rank - 1,)):
        return None
    if gamma.type.shape != x.type.shape[-1:] or scaled.type != x.type or eps.number is None:
        return None
    call = op.rms_norm(x, gamma, eps=float(eps.number))
    return call, "x / sqrt(mean(x²) + eps) · gamma is rms_norm"
