"""One block of memory for all activations, shared by buffers that are not alive at the same
time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from prunus.kernels.layout import FLOAT, padded
from prunus.runtime.program import Buffer, NativeStep, Program, Step

LINE = 64
GUARD = 256
"""Bytes behind each buffer: a vector copy may read over the end of a row, so over the last one
too."""


def lifetimes(steps: Sequence[Step]) -> dict[str, tuple[int, int]]:
    """The first and the last step that touches each buffer."""
    spans: dict[str, tuple[int, int]] = {}
    for position, step in enumerate(steps):
        if isinstance(step, NativeStep):
            for name in step.buffers():
                spans[name] = (spans.get(name, (position, position))[0], position)
    return spans


def buffer_bytes(buffer: Buffer, tokens: int) -> int:
    """The bytes of a buffer for so many tokens, in whole cache lines."""
    size = buffer.rows * padded(tokens) * FLOAT + GUARD
    return -(-size // LINE) * LINE


def place(
    sizes: Mapping[str, int], spans: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, int], int]:
    """The offset of each buffer and the size of the whole, both in bytes.

    Largest first, each into the lowest gap that is free while it lives (Pisarchyk and Lee,
    "Efficient Memory Management for Deep Neural Net Inference", 2020).
    """
    offsets: dict[str, int] = {}
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
        begin, end = spans[name]
        taken = sorted(
            (offsets[other], offsets[other] + sizes[other])
            for other in offsets
            if spans[other][0] <= end and begin <= spans[other][1]
        )
        offset = 0
        for low, high in taken:
            if offset + sizes[name] <= low:
                break
            offset = max(offset, high)
        offsets[name] = offset
    return offsets, max((offsets[n] + sizes[n] for n in offsets), default=0)


def plan_arena(program: Program, tokens: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """`place` for a program's buffers, given each buffer's tokens."""
    spans = lifetimes(program.steps)
    sizes = {name: buffer_bytes(program.buffers[name], tokens[name]) for name in spans}
    return place(sizes, spans)


class Arena:
    """Memory that starts a cache line and grows to the largest request, never per shape."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)
        self.generation = 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._memory.nbytes

    def reserve(self, size: int) -> int:
        """The address of at least `size` bytes. What lay there before is lost if it had to grow;
        then `generation` changes.
        """
        if self._memory.nbytes < size + LINE:
            self._memory = np.zeros(size + LINE, np.uint8)
            self.generation += 1
        address = self._memory.ctypes.data
        return address + -address % LINE


def aligned_words(count: int) -> np.ndarray:
    """Zeroed int64 words that start a cache line."""
    memory = np.zeros(count + LINE // 8, np.int64)
    start = (-memory.ctypes.data % LINE) // 8
    return memory[start : start + count]
