"""ATen's convolutions, and what else moves whole windows: padding, unfolding, rolling, resizing.

There is no convolution in the graph. One whose windows do not overlap, such as the patches of a
vision transformer, is a linear layer on the windows; any other is a linear layer on the shifted
copies that its taps read, side by side. Groups are a block-diagonal weight, whose zeros the sparse
kernels skip like any others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from prunus.frontend.call import Call, Dim, Number, Value, axis, refuse, translates
from prunus.ir import product


@translates("conv1d", "conv2d", "conv3d")
def _convolution(
    call: Call, x: Value, weight: Value, bias: Value | None = None,
    stride: Sequence[int] = (1,), padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,), groups: int = 1,
) -> Value:  # fmt: skip
    axes = weight.rank - 2
    kernel = [_fixed(size) for size in weight.shape[2:]]
    stride, dilation = _for_each(stride, axes), _for_each(dilation, axes)
    if x.rank != weight.rank:
        raise refuse("a convolution without a batch", "give the input a batch dimension")
    before, after = _paddings(padding, kernel, dilation, stride)
    x = _pad(call, x, [(0, 0), (0, 0), *zip(before, after, strict=True)], 0.0)
    last = [0, *range(2, 2 + axes), 1]  # [batch, …, channels]
    back = [0, axes + 1, *range(1, 1 + axes)]
    spatial = call.result.shape[2:]
    channels, outputs = _fixed(x.shape[1]), _fixed(weight.shape[0])
    if groups == channels == outputs and math.prod(kernel) > 1:
        taps = _taps(call, x, kernel, stride, dilation, spatial)
        return _depthwise(call, list(taps), weight, bias)
    rows = call.reshape(weight, (outputs, math.prod(kernel) * channels // groups))
    if groups > 1:
        rows = _block_diagonal(call, rows, groups, channels // groups, math.prod(kernel))
    if kernel == list(stride) and set(dilation) == {1} and groups == 1:
        windows = _windows(call, x, kernel, spatial)
    else:
        taps = _taps(call, x, kernel, stride, dilation, spatial)
        moved = [call.reshape(call.permute(tap, last), (x.shape[0], *spatial, channels, 1))
                 for tap in taps]  # fmt: skip
        joined = moved[0] if len(moved) == 1 else call.emit("concat", *moved, axis=axes + 2)
        windows = call.reshape(joined, (x.shape[0], *spatial, channels * len(moved)))
    return call.permute(call.emit("linear", windows, rows, bias, activation="none"), back)


def _fixed(size: Dim) -> int:
    if not isinstance(size, int):
        raise refuse("a convolution whose channels or taps vary", "fix them with dynamic_shapes")
    return size


def _for_each(given: Sequence[int], axes: int) -> list[int]:
    """ATen writes one number for all axes as a list of one."""
    return list(given) * (axes if len(given) == 1 else 1)


def _paddings(
    padding: Sequence[int] | str, kernel: Sequence[int], dilation: Sequence[int],
    stride: Sequence[int],
) -> tuple[list[int], list[int]]:  # fmt: skip
    """Zeros in front of and behind each axis."""
    if not isinstance(padding, str):
        each = _for_each(padding, len(kernel))
        return each, each
    if padding == "valid":
        return [0] * len(kernel), [0] * len(kernel)
    whole = [step * (taps - 1) for step, taps in zip(dilation, kernel, strict=True)]
    return [size // 2 for size in whole], [size - size // 2 for size in whole]


def _windows(call: Call, x: Value, kernel: Sequence[int], spatial: Sequence[Dim]) -> Value:
    """Windows that lie side by side: `[batch, …, channels · taps]`."""
    axes = len(kernel)
    for i, (size, count) in enumerate(zip(kernel, spatial, strict=True)):
        x = call.slice(x, 2 + i, 0, count * size)
    pairs = [dim for count, size in zip(spatial, kernel, strict=True) for dim in (count, size)]
    split = call.reshape(x, (*x.shape[:2], *pairs))
    order = [0, *range(2, 2 + 2 * axes, 2), 1, *range(3, 3 + 2 * axes, 2)]
    features = product((x.shape[1], *kernel))
    return call.reshape(call.permute(split, order), (x.shape[0], *spatial, features))


def _taps(
    call: Call, x: Value, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int],
    spatial: Sequence[Dim],
) -> Iterator[Value]:  # fmt: skip
    """What each tap of the kernel reads: `[batch, channels, …]`, in the order of the weight."""
    for at in itertools.product(*map(range, kernel)):
        tap = x
        for i, (index, step, gap, count) in enumerate(
            zip(at, stride, dilation, spatial, strict=True)
        ):
            first = index * gap
            tap = call.slice(tap, 2 + i, first, first + (count - 1) * step + 1, step)
        yield tap


def _depthwise(call: Call, taps: Sequence[Value], weight: Value, bias: Value | None) -> Value:
    """Each channel by itself: Σ tap · weight."""
    channels = weight.shape[0]
    column = (channels, *(1,) * (weight.rank - 2))
    by_tap = call.reshape(weight, (channels, len(taps)))
    total = None if bias is None else call.reshape(bias, column)
    for i, tap in enumerate(taps):
        factor = call.reshape(call.slice(by_tap, 1, i, i + 1), column)
        part = call.emit("multiply", tap, factor)
        total = part if total is None else call.emit("add", part, total)
    assert total is not None, "a kernel has a tap"
    return total


def _block_diagonal(call: Call, rows: Value, groups: int, inputs: int, taps: int) -> Value:
    """The weight of all channels, [outputs, channels · taps]: each group reads only its own."""
    outputs = _fixed(rows.shape[0]) // groups
    parts = []
    for group in range(groups):
        own = call.slice(rows, 0, group * outputs, (group + 1) * outputs)
        width = inputs * taps
        beside = [(0, 0), (group * width, (groups - 1 - group) * width)]
        parts.append(_pad(call, own, beside, 0.0))
    return call.emit("concat", *parts, axis=0)


@translates("im2col")
def _unfold(
    call: Call, x: Value, kernel_size: Sequence[int], dilation: Sequence[int],
    padding: Sequence[int], stride: Sequence[int],
) -> Value:  # fmt: skip
    """`[batch, channels, …]` as `[batch, channels · taps, windows]`."""
    kernel, axes = list(kernel_size), len(kernel_size)
    padding, stride = _for_each(padding, axes), _for_each(stride, axes)
    dilation = _for_each(dilation, axes)
    spatial = [
        (size + 2 * beside - gap * (taps - 1) - 1) // step + 1 if step > 1
        else size + 2 * beside - gap * (taps - 1)
        for size, beside, gap, taps, step in zip(
            x.shape[2:], padding, dilation, kernel, stride, strict=True
        )
    ]  # fmt: skip
    x = _pad(call, x, [(0, 0), (0, 0), *((each, each) for each in padding)], 0.0)
    windows = product(spatial)
    taps = [call.reshape(tap, (*x.shape[:2], 1, windows))
            for tap in _taps(call, x, kernel, stride, dilation, spatial)]  # fmt: skip
    joined = taps[0] if len(taps) == 1 else call.emit("concat", *taps, axis=2)
    return call.reshape(joined, call.result.shape)


@translates("pad", "constant_pad_nd")
def _constant_pad(
    call: Call, x: Value, pad: Sequence[Dim], mode: str = "constant", value: Number | None = None
) -> Value:
    if mode != "constant":
        raise refuse(f"padding in the mode {mode!r}", "pad with a constant, or before")
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    return _pad(call, x, [(0, 0)] * (x.rank - len(pairs)) + pairs, value or 0)


def _pad(call: Call, x: Value, widths: Sequence[tuple[Dim, Dim]], value: Number) -> Value:
    """Numbers in front of and behind each axis; a negative width takes away."""
    kind = bool if x.dtype == "bool" else float if x.type.is_float else int
    for at, (before, after) in enumerate(widths):
        size = x.shape[at]
        cut_before, cut_after = (
            -width if isinstance(width, int) and width < 0 else 0 for width in (before, after)
        )
        x = call.slice(x, at, cut_before, size - cut_after)
        beside = [
            None
            if isinstance(width, int) and width <= 0
            else call.emit("full", shape=(*x.shape[:at], width, *x.shape[at + 1 :]),
                           value=kind(value), dtype=x.dtype)  # type: ignore[arg-type]
            for width in (before, after)
        ]  # fmt: skip
        parts = [part for part in (beside[0], x, beside[1]) if part is not None]
        x = x if len(parts) == 1 else call.emit("concat", *parts, axis=at)
    return x


@translates("roll")
def _roll(call: Call, x: Value, shifts: Sequence[Dim], dims: Sequence[int] = ()) -> Value:
    if not dims:
        raise refuse("rolling a tensor as if it were flat", "name the dimensions")
    for shift, dim in zip(shifts, dims, strict=True):
        along = axis(dim, x.rank)
        size = x.shape[along]
        if not (isinstance(shift, int) and isinstance(size, int)):
            raise refuse("rolling by or along a size that varies", "fix it with dynamic_shapes")
        first = -shift % size
        if first:
            ends = call.slice(x, along, first, size), call.slice(x, along, 0, first)
            x = call.emit("concat", *ends, axis=along)
    return x


@translates("upsample_bilinear2d")
def _resize(
    call: Call, x: Value, output_size: Sequence[int] | None = None, align_corners: bool = False,
    scale_factors: object = None, scales_h: object = None, scales_w: object = None,
) -> Value:  # fmt: skip
    """Images `[…, height, width]` in another size: a matrix for each axis."""
    if scale_factors is not None or scales_h is not None or scales_w is not None:
        raise refuse("resizing by a factor", "give the size")
    rows, columns = (
        _resizing(call, _fixed(before), _fixed(after), align_corners)
        for before, after in zip(x.shape[-2:], call.result.shape[-2:], strict=True)
    )
    lower = call.emit("matmul", rows, x)
    return call.emit("matmul", lower, call.permute(columns, (1, 0)))


def _resizing(call: Call, before: int, after: int, align_corners: bool) -> Value:
    """The matrix [after, before] by which an axis is resized: each position lies between two."""
    places = np.arange(after, dtype=np.float64)
    if align_corners:
        places *= (before - 1) / max(after - 1, 1)
    else:
        places = np.maximum((places + 0.5) * before / after - 0.5, 0)
    low = np.minimum(places.astype(np.int64), before - 1)
    high = np.minimum(low + 1, before - 1)
    matrix = np.zeros((after, before), np.float32)
    np.add.at(matrix, (np.arange(after), low), 1 - (places - low))
    np.add.at(matrix, (np.arange(after), high), places - low)
    return call.writer.constant(f"resize:{before}:{after}:{align_corners}", lambda: matrix)
