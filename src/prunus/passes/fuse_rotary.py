"""Recognises rotary position embeddings: queries and keys turned by angles that grow with the
position.
"""

from __future__ import annotations

from prunus.ir import Graph
from prunus.passes.pattern import Value, op, variable
from prunus.passes.rewrite import Notes, Replacement, apply_rewrites, rewrite

x, cos, sin = variable("x"), variable("cos"), variable("sin")
_front, _back = op.slice(x).named("front"), op.slice(x).named("back")
_turned = op.concat(op.negate(_back), _front).named("turned")


def fuse_rotary(graph: Graph, notes: Notes) -> Graph:
    """Make written-out rotations one op on joined heads; `cancel_shapes` then joins nothing."""
    return apply_rewrites(graph, (rotary,), notes)


@rewrite(op.add(op.multiply(x, cos), op.multiply(_turned, sin)))
def rotary(
    x: Value, cos: Value, sin: Value, front: Value, back: Value, turned: Value
) -> Replacement:
    """x · cos + (-x₂, x₁) · sin on `[batch, heads, tokens, width]`, the same for all heads."""
    if x.type.rank != 4 or front.node is None or back.node is None or turned.node is None:
        return None
    batch, heads, tokens, width = x.type.shape
    if not (isinstance(heads, int) and isinstance(width, int)) or width % 2:
        return None
    half = width // 2
    if not (_is_part(front, 0, half) and _is_part(back, half, width)):
        return None
    if turned.node.attrs.axis != 3 or not (_is_shared(cos, width) and _is_shared(sin, width)):
        return None
    joined = op.reshape(op.permute(x, axes=(0, 2, 1, 3)), shape=(batch, tokens, heads * width))
    angles = [
        op.reshape(value, shape=(value.type.shape[0], *value.type.shape[2:]))
        for value in (cos, sin)
    ]
    mixed = op.rotary(joined, *angles, heads=heads)
    split = op.reshape(mixed, shape=(batch, tokens, heads, width))
    return op.permute(split, axes=(0, 2, 1, 3)), f"a rotation of the halves of {heads} heads"


def _is_part(part: Value, start: int, stop: int) -> bool:
    assert part.node is not None
    attrs = part.node.attrs
    return bool(attrs.axis == 3 and (attrs.start, attrs.stop, attrs.step) == (start, stop, 1))


def _is_shared(angles: Value, width: int) -> bool:
    """Whether all heads have the same angles, `[batch or 1, 1, tokens, width]`."""
    shape = angles.type.shape
    return len(shape) == 4 and shape[1] == 1 and shape[3] == width
