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


class Placement:
    """Where the buffers of a program lie in the arena, for calls of up to so many tokens.

    A smaller call uses the same places, so that its sizes need no planning of their own.
    """

    def __init__(self, program: Program, tokens: Mapping[str, int]) -> None:
        self.tokens = dict(tokens)
        spans = lifetimes(program.steps)
        self._sizes = {name: buffer_bytes(program.buffers[name], tokens[name]) for name in spans}
        self.offsets, self.nbytes = place(self._sizes, spans)
        self._barriers: dict[tuple[str, ...], list[bool]] = {}

    def fits(self, tokens: Mapping[str, int]) -> bool:
        """Whether a call with so many tokens in each buffer has room."""
        return all(count <= self.tokens[name] for name, count in tokens.items())

    def span(self, buffer: str) -> tuple[int, int]:
        """The first byte of a buffer, and the one behind it."""
        begin = self.offsets[buffer]
        return begin, begin + self._sizes[buffer]

    def barriers(self, steps: Sequence[NativeStep]) -> list[bool]:
        """Whether a step must wait: it reads or overwrites memory that was written since the last
        barrier, or writes memory that was read since then.
        """
        key = tuple(step.name for step in steps)
        if key not in self._barriers:
            self._barriers[key] = self._find_barriers(steps)
        return self._barriers[key]

    def _find_barriers(self, steps: Sequence[NativeStep]) -> list[bool]:
        needed, read, written = [], set[str](), set[str]()
        for step in steps:
            touches = step.buffers()
            wait = self._overlap(touches, written) or self._overlap(step.writes, read)
            if wait:
                read, written = set(), set()
            needed.append(wait)
            read |= touches - step.writes
            written |= step.writes
        return needed

    def _overlap(self, some: frozenset[str], others: set[str]) -> bool:
        """Whether buffers share memory; two that are never alive together may lie in the same
        place.
        """
        return any(self._shares(a, b) for a in some for b in others)

    def _shares(self, a: str, b: str) -> bool:
        (a_low, a_high), (b_low, b_high) = self.span(a), self.span(b)
        return a_low < b_high and b_low < a_high


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
