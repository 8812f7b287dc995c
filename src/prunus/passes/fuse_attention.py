"""Recognises attention that is written out: softmax(scale · q·kᵀ + mask) · v."""

from __future__ import annotations

from prunus.ir import Graph
from prunus.ir.rules import Shape
from prunus.passes.pattern import Call, Operand, Value, Variable, either, op, variable
from prunus.passes.rewrite import Notes, Replacement, apply_rewrites, rewrite

q, k, v, mask = variable("q"), variable("k"), variable("v"), variable("mask")
bias, product = variable("bias"), variable("product")


def fuse_attention(graph: Graph, notes: Notes) -> Graph:
    """Make written-out attention one op, on joined heads; `cancel_shapes` then joins nothing."""
    return apply_rewrites(graph, (joined_masks, written_out, hiding_mask), notes)


def scaled(pattern: Operand, name: str) -> Operand:
    """The pattern, perhaps times or divided by a number that is then bound to `name`."""
    by = Variable(name, lambda value: value.number is not None and value.number != 0)
    return either(
        op.multiply(pattern, by).named(f"{name}_node"),
        op.divide(pattern, by).named(f"{name}_node"),
        pattern,
    )


scores = scaled(op.matmul(scaled(q, "q_scale"), scaled(k, "k_scale")), "scale")
masked = either(op.add(scores, mask), op.where(mask, scores, float("-inf")), scores)


@rewrite(op.softmax(op.add(op.add(product, bias), mask)).named("softmax"))
def joined_masks(product: Value, bias: Value, mask: Value, softmax: Value) -> Replacement:
    """Scores with a bias and then a mask added: what all layers share is added up once.

    Where the scores are two products, as in LiLT (text and layout), one of them is the bias. It
    must not be taken for the mask of the other, or the two would change places for ever.
    """
    if softmax.node is None or not _may_be_product(product):
        return None
    if _may_be_product(mask) and mask.type.shape == softmax.type.shape:
        return None
    if not (fits_scores(bias, softmax.type.shape) and fits_scores(mask, softmax.type.shape)):
        return None
    call = Call("softmax", (op.add(product, op.add(bias, mask)),), softmax.node.attrs)
    return call, f"{bias.name} and {mask.name} are one mask"


@rewrite(op.matmul(op.softmax(masked).named("softmax"), v))
def written_out(
    q: Value,
    k: Value,
    v: Value,
    softmax: Value,
    mask: Value | None = None,
    **scales: Value,
) -> Replacement:
    """`k` is transposed already, `[batch, heads, width, keys]`; without heads, that axis is not."""
    if not _is_attention(q, k, v, softmax, mask):
        return None
    *lead, width, keys = k.type.shape
    rank = q.type.rank
    swapped = op.permute(k, axes=(*range(rank - 2), rank - 1, rank - 2))
    heads = lead[1] if rank == 4 else 1
    attention = op.attention(
        join_heads(q, q.type.shape),
        join_heads(swapped, (*lead, keys, width)),
        join_heads(v, v.type.shape),
        None if mask is None else _with_heads(mask, rank),
        heads=heads,
        scale=_product(scales),
        causal=False,
    )
    split = split_heads(attention, (*q.type.shape[:-1], v.type.shape[-1]))
    return split, f"softmax of q·kᵀ times v is attention with {heads} heads"


@rewrite(op.attention(q, k, v, op.where(mask, 0.0, float("-inf")).shared()).named("attention"))
def hiding_mask(q: Value, k: Value, v: Value, mask: Value, attention: Value) -> Replacement:
    """Adding 0 or -inf to a score is to see the key or not."""
    if attention.node is None or mask.type.dtype != "bool":
        return None
    call = Call("attention", (q, k, v, mask), attention.node.attrs)
    return call, f"adding 0 where {mask.name} holds, else -inf, is a boolean mask"


def _may_be_product(value: Value) -> bool:
    """Whether a value may be q·kᵀ, scaled or not, by the op that computes it."""
    return value.node is not None and value.node.op in ("matmul", "multiply", "divide")


def _is_attention(q: Value, k: Value, v: Value, softmax: Value, mask: Value | None) -> bool:
    """Whether ranks, shapes and the axis of the softmax are those of attention."""
    rank, sequences, scores = q.type.rank, q.type.shape[:-2], (*q.type.shape[:-1], k.type.shape[-1])
    widths = (q.type.shape[-1], v.type.shape[-1], *sequences[1:])
    return (
        rank in (3, 4)
        and all(isinstance(width, int) for width in widths)
        and sequences == k.type.shape[:-2] == v.type.shape[:-2]
        and softmax.node is not None
        and softmax.node.attrs.axis in (-1, rank - 1)
        and softmax.type.shape == scores
        and (mask is None or fits_scores(mask, scores))
    )


def fits_scores(mask: Value, scores: Shape) -> bool:
    """Whether the mask broadcasts to the scores, rather than the scores to it."""
    if mask.type.rank > len(scores):
        return False
    own = scores[len(scores) - mask.type.rank :]
    return all(dim in (1, score) for dim, score in zip(mask.type.shape, own, strict=True))


def _with_heads(mask: Value, rank: int) -> Operand:
    """A mask for attention, whose scores have an axis for heads even if the model has none."""
    shape = mask.type.shape
    return (
        op.reshape(mask, shape=(shape[0], 1, *shape[1:])) if (rank, len(shape)) == (3, 3) else mask
    )


def join_heads(value: Operand, shape: Shape) -> Operand:
    """`[batch, heads, tokens, width]` as `[batch, tokens, heads · width]`."""
    if len(shape) == 3:
        return value
    batch, heads, tokens, width = shape
    return op.reshape(op.permute(value, axes=(0, 2, 1, 3)), shape=(batch, tokens, heads * width))


def split_heads(value: Call, shape: Shape) -> Call:
    """The inverse of `join_heads`."""
    if len(shape) == 3:
        return value
    batch, heads, tokens, width = shape
    return op.permute(op.reshape(value, shape=(batch, tokens, heads, width)), axes=(0, 2, 1, 3))


def _product(scales: dict[str, Value]) -> float:
    """The factor that all multiplications and divisions of the scores come to."""
    factor = 1.0
    for name, value in scales.items():
        node = scales.get(f"{name}_node")
        if node is not None and value.number is not None and node.node is not None:
            factor = factor / value.number if node.node.op == "divide" else factor * value.number
    return factor
