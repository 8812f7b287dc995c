"""Moves permutations behind the ops that do not care, until they meet one that undoes them.

A model that keeps its channels in front of its tokens, as convolutions want them, permutes around
every layer; here tokens come first, so all of that cancels.
"""

from __future__ import annotations

from collections.abc import Iterator

from prunus.ir import Expr, Graph, Node, product
from prunus.kernels.elementwise import BINARY, UNARY
from prunus.passes.pattern import Call, Value, op, variable
from prunus.passes.rewrite import Editor, Notes, Replacement, apply_rewrites, rewrite

Dims = tuple[int | Expr, ...]

x = variable("x")


def sink_permutes(graph: Graph, notes: Notes) -> Graph:
    """Let permutations follow element-wise ops and reshapes."""
    return apply_rewrites(graph, (elementwise, reshape), notes)


def elementwise(edit: Editor, node: Node) -> Replacement:
    """An op on operands that are all permuted alike."""
    if node.op not in UNARY and node.op not in BINARY:
        return None
    operands = [edit.value(name) for name in node.inputs if name is not None]
    makers = [value.node for value in operands if value.number is None]
    axes = {maker.attrs.axes if maker and maker.op == "permute" else None for maker in makers}
    shapes = {value.type.shape for value in operands if value.number is None}
    if len(axes) != 1 or None in axes or len(shapes) != 1:
        return None
    (order,) = axes
    inner = [
        value if value.number is not None or value.node is None else value.node["x"]
        for value in operands
    ]
    call = op.permute(Call(node.op, tuple(inner), node.attrs), axes=order)
    return call, f"{node.op} does not care about the order of axes"


@rewrite(op.reshape(op.permute(x).shared().named("permuted")).named("outer"))
def reshape(x: Value, permuted: Value, outer: Value) -> Replacement:
    """A reshape that splits axes, or joins some that were neighbours before."""
    if permuted.node is None:
        return None
    order: tuple[int, ...] = permuted.node.attrs.axes
    groups = list(_groups(permuted.type.shape, outer.type.shape))
    if not groups:
        return None
    blocks = []
    for axes, dims in groups:
        source = [order[axis] for axis in axes]
        if source != list(range(source[0], source[0] + len(source))):
            return None
        blocks.append((source[0], dims))
    by_source = sorted(range(len(blocks)), key=lambda i: blocks[i][0])
    starts: dict[int, int] = {}
    shape: list[int | Expr] = []
    for i in by_source:
        starts[i] = len(shape)
        shape += blocks[i][1]
    axes_of = [starts[i] + j for i, (_, dims) in enumerate(blocks) for j in range(len(dims))]
    if axes_of == list(range(len(axes_of))):
        return None  # axes of length 1 alone moved: another rewrite's matter
    inner = op.reshape(x, shape=tuple(shape))
    return op.permute(inner, axes=tuple(axes_of)), "the axes are split or joined before they move"


def _groups(before: Dims, after: Dims) -> Iterator[tuple[range, Dims]]:
    """Axes of `before` with the dimensions of `after` that they become: one of either side in each.
    Nothing where a reshape mixes them otherwise.
    """
    found, i, j = [], 0, 0
    while i < len(before) and j < len(after):
        ends = next(
            (
                (last, end)
                for last, end in (
                    *((i + 1, end) for end in range(j + 1, len(after) + 1)),
                    *((last, j + 1) for last in range(i + 2, len(before) + 1)),
                )
                if product(before[i:last]) == product(after[j:end])
            ),
            None,
        )
        if ends is None:
            return
        found.append((range(i, ends[0]), after[j : ends[1]]))
        i, j = ends
    if i < len(before):
        return
    if found and all(dim == 1 for dim in after[j:]):
        axes, dims = found[-1]
        found[-1] = (axes, (*dims, *after[j:]))
        yield from found
