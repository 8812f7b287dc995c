"""One block of memory for all activations, shared by buffers that are not alive at the same
time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunus.kernels.layout import FLOAT, LINE, padded
from prunus.runtime.chains import find_chains
from prunus.runtime.program import Buffer, NativeStep, Program

GUARD = 256
"""Bytes behind each buffer: a vector copy may read over the end of a row, so over the last one
too."""


@dataclass(frozen=True, slots=True)
class Life:
    """When a buffer is in use: by steps, and by chains, whose steps are in no common order.

    Attributes:
        steps: The first and the last step that touches it.
        chains: The first and the last chain.
        shape: Its rows and tokens: two buffers of one shape have their tiles in the same places.
    """

    steps: tuple[int, int]
    chains: tuple[int, int]
    shape: object

    def meets(self, other: Life) -> bool:
        """Whether the two may be in use at the same time, by different tiles if by no other."""
        return _meet(self.chains, other.chains)

    def follows_by_tile(self, other: Life) -> bool:
        """Whether each tile of one is done with before that tile of the other is used, though the
        buffers meet: they may share their place if they share it wholly.
        """
        return self.shape == other.shape and not _meet(self.steps, other.steps)


def _meet(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def lifetimes(program: Program, *, chained: bool) -> dict[str, Life]:
    """When each buffer that is touched is in use, if chains are taken as such or step by step."""
    lives: dict[str, Life] = {}
    alone = [range(i, i + 1) for i in range(len(program.steps))]
    for number, chain in enumerate(find_chains(program.steps) if chained else alone):
        for position in chain:
            step = program.steps[position]
            for name in step.buffers() if isinstance(step, NativeStep) else ():
                buffer, old = program.buffers[name], lives.get(name)
                begin = (position, number) if old is None else (old.steps[0], old.chains[0])
                lives[name] = Life(
                    (begin[0], position), (begin[1], number), (buffer.rows, buffer.tokens)
                )
    return lives


def buffer_bytes(buffer: Buffer, tokens: int) -> int:
    """The bytes of a buffer for so many tokens, in whole cache lines."""
    size = buffer.rows * padded(tokens) * FLOAT + GUARD
    return -(-size // LINE) * LINE


def place(sizes: Mapping[str, int], lives: Mapping[str, Life]) -> tuple[dict[str, int], int]:
    """The offset of each buffer and the size of the whole, both in bytes.

    Largest first, each into the lowest gap that is free while it lives (Pisarchyk and Lee,
    "Efficient Memory Management for Deep Neural Net Inference", 2020), or into the place of one
    that it follows tile by tile.
    """
    offsets: dict[str, int] = {}
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
        life, size = lives[name], sizes[name]
        rivals = [other for other in offsets if life.meets(lives[other])]
        taken = sorted((offsets[other], offsets[other] + sizes[other]) for other in rivals)
        shared = (
            offsets[twin]
            for twin in rivals
            if life.follows_by_tile(lives[twin])
            and all(
                offsets[other] >= offsets[twin] + size
                or offsets[other] + sizes[other] <= offsets[twin]
                or (offsets[other] == offsets[twin] and life.follows_by_tile(lives[other]))
                for other in rivals
            )
        )
        offsets[name] = min(shared, default=_lowest_gap(taken, size))
    return offsets, max((offsets[n] + sizes[n] for n in offsets), default=0)


def _lowest_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """The lowest offset at which so many bytes touch no interval of a sorted list."""
    offset = 0
    for begin, end in taken:
        if offset + size <= begin:
            break
        offset = max(offset, end)
    return offset


class Placement:
    """Where the buffers of a program lie in the arena, for calls of up to so many tokens.

    A smaller call uses the same places, so that its sizes need no planning of their own.

    Args:
        program: Whose buffers.
        tokens: Of each buffer.
        chained: Whether steps may run as chains.
    """

    def __init__(self, program: Program, tokens: Mapping[str, int], *, chained: bool) -> None:
        self.tokens, self.chained = dict(tokens), chained
        lives = lifetimes(program, chained=chained)
        self._sizes = {name: buffer_bytes(program.buffers[name], tokens[name]) for name in lives}
        self.offsets, self.nbytes = place(self._sizes, lives)

    def fits(self, tokens: Mapping[str, int]) -> bool:
        """Whether a call with so many tokens in each buffer has room."""
        return all(count <= self.tokens[name] for name, count in tokens.items())

    def span(self, buffer: str) -> tuple[int, int]:
        """The first byte of a buffer, and the one behind it."""
        begin = self.offsets[buffer]
        return begin, begin + self._sizes[buffer]

    def overlap(self, some: frozenset[str], others: frozenset[str]) -> bool:
        """Whether buffers share memory; two that are never alive together may lie in the same
        place.
        """
        spans = [(self.span(a), self.span(b)) for a in some for b in others]
        return any(a[0] < b[1] and b[0] < a[1] for a, b in spans)


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
            self.generation += 1  # first, should an interrupt come between
            self._memory = np.zeros(size + LINE, np.uint8)
        address = self._memory.ctypes.data
        return address + -address % LINE


def aligned_words(count: int) -> np.ndarray:
    """Zeroed int64 words that start a cache line."""
    memory = np.zeros(count + LINE // 8, np.int64)
    start = (-memory.ctypes.data % LINE) // 8
    return memory[start : start + count]
