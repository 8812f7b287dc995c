"""ATen's views, selections, indexing, and tensors made of nothing as ops of the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prunus.frontend.call import Call, Dim, Number, Value, axis, refuse, translates
from prunus.ir import Expr, evaluate, product
from prunus.ir.dims import symbols

# Views


@translates(
    "view", "reshape", "_unsafe_view", "_reshape_alias", "view_as", "reshape_as", "flatten",
    "unflatten", "unsqueeze", "squeeze", "ravel",
)  # fmt: skip
def _view(
    call: Call, x: Value, size: object = None, shape: object = None, stride: object = None,
    other: object = None, start_dim: object = None, end_dim: object = None, dim: object = None,
    sizes: object = None, dtype: object = None,
) -> Value:  # fmt: skip
    """Whatever the arguments mean, the shape that comes of them is known."""
    if dtype is not None:
        raise refuse("a view in another dtype", "convert the values with to()")
    return call.reshape(x, call.result.shape)


@translates("expand", "expand_as", "broadcast_to")
def _expand(call: Call, x: Value, size: object = None, other: object = None) -> Value:
    return call.expand(x, call.result.shape)


@translates("repeat", "tile")
def _repeat(call: Call, x: Value, repeats: Sequence[Dim] = (), dims: Sequence[Dim] = ()) -> Value:
    """`[d]` → `[1, d]` → `[count, d]` → `[count · d]`, along every axis."""
    counts = tuple(repeats or dims)
    rank = max(len(counts), x.rank)
    counts = (1,) * (rank - len(counts)) + counts
    own = (1,) * (rank - x.rank) + x.shape
    pairs = [dim for count, size in zip(counts, own, strict=True) for dim in (count, size)]
    single = [dim for size in own for dim in (1, size)]
    repeated = call.expand(call.reshape(x, single), pairs)
    return call.reshape(repeated, [product(pairs[i : i + 2]) for i in range(0, 2 * rank, 2)])


@translates("permute")
def _permute(call: Call, x: Value, dims: Sequence[int]) -> Value:
    return call.permute(x, [axis(dim, x.rank) for dim in dims])


@translates("transpose", "swapaxes", "swapdims")
def _transpose(
    call: Call, x: Value, dim0: int = 0, dim1: int = 0, axis0: int = 0, axis1: int = 0
) -> Value:
    first, second = axis(dim0 or axis0, x.rank), axis(dim1 or axis1, x.rank)
    axes = list(range(x.rank))
    if x.rank:
        axes[first], axes[second] = axes[second], axes[first]
    return call.permute(x, axes)


@translates("t", "mT", "numpy_T")
def _transposed(call: Call, x: Value) -> Value:
    """Of a matrix, or of the last two axes."""
    return call.permute(x, (*range(x.rank - 2), *range(x.rank - 1, max(x.rank - 3, -1), -1)))


@translates("movedim", "moveaxis")
def _movedim(
    call: Call, x: Value, source: int | Sequence[int], destination: int | Sequence[int]
) -> Value:
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    moved = {axis(to, x.rank): axis(of, x.rank) for to, of in zip(targets, sources, strict=True)}
    rest = iter(sorted(set(range(x.rank)) - set(moved.values())))
    return call.permute(x, [moved[i] if i in moved else next(rest) for i in range(x.rank)])


# Parts and wholes


@translates("slice")
def _slice(
    call: Call, x: Value, dim: int = 0, start: Dim | None = None, end: Dim | None = None,
    step: int = 1,
) -> Value:  # fmt: skip
    """Torch clips both ends to the axis; the length that is left is known."""
    along = axis(dim, x.rank)
    size, length = x.shape[along], call.result.shape[along]
    if length == size and step == 1:
        return x
    first = _inside(0 if start is None else start, size)
    if step == 1:
        return call.slice(x, along, first, first + length)
    if isinstance(size, int):
        return call.slice(x, along, first, _inside(size if end is None else end, size), step)
    steps = call.binary("multiply", call.emit("arange", length=length, dtype="i64"), step, "i64")
    return _select_at(call, x, [*(None,) * along, call.binary("add", steps, first, "i64")])


@translates("narrow")
def _narrow(call: Call, x: Value, dim: int, start: Dim, length: Dim) -> Value:
    along = axis(dim, x.rank)
    first = _inside(start, x.shape[along])
    return call.slice(x, along, first, first + length)


@translates("select")
def _select(call: Call, x: Value, dim: int, index: Dim) -> Value:
    along = axis(dim, x.rank)
    at = _inside(index, x.shape[along])
    if isinstance(at, int):
        return call.emit("select", x, axis=along, index=at)
    return call.reshape(call.slice(x, along, at, at + 1), call.result.shape)


def _inside(index: Dim, size: Dim) -> Dim:
    """An index counted from the start, and not beyond the end where that is known."""
    # The sign of an expression is that for large sizes; were it wrong, the slice would be refused.
    large = 1 << 20
    names = symbols(index)
    counted = index if evaluate(index, dict.fromkeys(names, large)) >= 0 else index + size
    if isinstance(counted, int) and isinstance(size, int):
        return min(max(counted, 0), size)
    return size if isinstance(counted, int) and counted >= 1 << 62 else counted


@translates(
    "split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk",
    "unsafe_split_with_sizes",
)  # fmt: skip
def _split(
    call: Call, x: Value, dim: int = 0, split_size: object = None, split_sizes: object = None,
    chunks: object = None, sections: object = None, indices: object = None,
) -> list[Value]:  # fmt: skip
    """Parts whose lengths are known, whatever the arguments."""
    along, parts = axis(dim, x.rank), list[Value]()
    first: Dim = 0
    for result in call.results:
        last = first + result.shape[along]
        parts.append(call.slice(x, along, first, last))
        first = last
    return parts


@translates("unbind")
def _unbind(call: Call, x: Value, dim: int = 0) -> list[Value]:
    along = axis(dim, x.rank)
    return [call.emit("select", x, axis=along, index=i) for i in range(len(call.results))]


@translates("cat", "concat", "concatenate")
def _concatenate(call: Call, tensors: Sequence[Value], dim: int | None = 0) -> Value:
    # Torch still lets an empty vector join tensors of any shape.
    parts = [call.cast(each, call.result.dtype) for each in tensors if each.shape != (0,)]
    along = axis(dim or 0, call.result.rank)
    return parts[0] if len(parts) == 1 else call.emit("concat", *parts, axis=along)


@translates("stack")
def _stack(call: Call, tensors: Sequence[Value], dim: int = 0) -> Value:
    along = axis(dim, call.result.rank)
    parts = [
        call.reshape(
            call.cast(each, call.result.dtype), (*each.shape[:along], 1, *each.shape[along:])
        )
        for each in tensors
    ]
    return parts[0] if len(parts) == 1 else call.emit("concat", *parts, axis=along)


# Indexing


@translates("index")
def _index(call: Call, x: Value, indices: Sequence[Value | None]) -> Value:
    """Indices of some axes; those of a constant may count from the end."""
    found = [
        None if index is None else _from_start(call, index, size)
        for index, size in zip(indices, x.shape, strict=False)
    ]
    return _select_at(call, x, found)


def _select_at(call: Call, x: Value, indices: Sequence[Value | None]) -> Value:
    """Indices of some axes: they go first, and what they select goes where torch puts it."""
    axes = [i for i, index in enumerate(indices) if index is not None]
    chosen = [index for index in indices if index is not None]
    if any(index.dtype in ("bool", "u8") for index in chosen):
        raise refuse("indexing by a mask", "use torch.where, whose result has a known size")
    rest = [i for i in range(x.rank) if i not in axes]
    ids = [call.cast(index, "i64") for index in chosen]
    found = call.emit("index", call.permute(x, [*axes, *rest]), *ids)
    lead = found.rank - len(rest)
    is_together = axes == list(range(axes[0], axes[0] + len(axes)))
    before = axes[0] if is_together else 0
    order = [*range(lead, lead + before), *range(lead), *range(lead + before, found.rank)]
    return call.permute(found, order)


def _from_start(call: Call, index: Value, size: Dim) -> Value:
    """Indices, with those of a constant that count from the end of an axis counted from its start.

    Indices that are computed stay as they are: the graph refuses a negative one at the call.
    """
    array = call.writer.array(index) if index.dtype in ("i32", "i64") else None
    if array is None or not (array < 0).any():
        return index
    ids = call.cast(index, "i64")
    is_negative = call.cast(call.emit("less", ids, call.number(0, "i64")), "i64")
    return call.emit("add", ids, call.emit("multiply", is_negative, call.number(size, "i64")))


@translates("index_select")
def _index_select(call: Call, x: Value, dim: int, index: Value) -> Value:
    along = axis(dim, x.rank)
    vector = call.reshape(index, (product(index.shape),))
    return _select_at(call, x, [*(None,) * along, vector])


@translates("gather")
def _gather(call: Call, x: Value, dim: int, index: Value) -> Value:
    """Of the other axes torch reads only as much as the index has."""
    along = axis(dim, x.rank)
    for i, (size, wanted) in enumerate(zip(x.shape, index.shape, strict=True)):
        if i != along and size != wanted:
            x = call.slice(x, i, 0, wanted)
    return call.emit("gather", x, call.cast(index, "i64"), axis=along)


@translates("tril")
def _lower_triangle(call: Call, x: Value, diagonal: int = 0) -> Value:
    return _triangle(call, x, "less_equal", diagonal)


@translates("triu")
def _upper_triangle(call: Call, x: Value, diagonal: int = 0) -> Value:
    return _triangle(call, x, "greater_equal", diagonal)


def _triangle(call: Call, x: Value, comparison: str, diagonal: int) -> Value:
    """What lies on one side of `column = row + diagonal`, zeros beyond it."""
    rows, columns = x.shape[-2:]
    row = call.reshape(call.emit("arange", length=rows, dtype="i64"), (rows, 1))
    limit = call.binary("add", row, diagonal, "i64") if diagonal else row
    kept = call.emit(comparison, call.emit("arange", length=columns, dtype="i64"), limit)
    return call.emit("where", kept, x, call.number(0, x.dtype))


# New tensors


@translates("arange")
def _arange(
    call: Call, end: Number, start: Number = 0, step: Number = 1, dtype: object = None
) -> Value:  # fmt: skip
    dtype_name = call.result.dtype
    counted = call.emit("arange", length=call.result.shape[0], dtype=dtype_name)
    if step != 1:
        counted = call.binary("multiply", counted, step, dtype_name)
    return counted if start == 0 else call.binary("add", counted, start, dtype_name)


@translates("full", "full_like", "new_full", "scalar_tensor")
def _full(
    call: Call, x: object = None, size: object = None, fill_value: Value | Number | None = None,
    s: Number | None = None, dtype: object = None,
) -> Value:  # fmt: skip
    value = s if fill_value is None else fill_value
    assert value is not None, "the schema has one of them"
    if isinstance(value, Value):
        return call.expand(call.cast(value, call.result.dtype), call.result.shape)
    return _filled(call, value)


@translates("ones", "ones_like", "new_ones")
def _ones(call: Call, x: object = None, size: object = None, dtype: object = None) -> Value:
    return _filled(call, 1)


@translates("zeros", "zeros_like", "new_zeros")
def _zeros(call: Call, x: object = None, size: object = None, dtype: object = None) -> Value:
    return _filled(call, 0)


def _filled(call: Call, value: Number) -> Value:
    dtype, shape = call.result.dtype, call.result.shape
    if isinstance(value, Expr):
        return call.expand(call.number(value, dtype), shape)
    if math.isnan(value):
        raise refuse("a tensor of NaN", "fill it with a number")
    kind = bool if dtype == "bool" else float if call.result.is_float else int
    return call.emit("full", shape=shape, value=kind(value), dtype=dtype)
