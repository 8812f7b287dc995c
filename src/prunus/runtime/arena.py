"""One block of memory for all activations, shared by buffers that are not alive at the same
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prunus.kernels.layout import FLOAT, LINE, padded
from prunus.runtime.chains import find_chains
from prunus.runtime.intervals import Interval
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
    names = sorted(sizes, key=lambda n: (-sizes[n], n))
    placed = _Placed(len(names))
    offsets = {name: placed.add(sizes[name], lives[name]) for name in names}
    return offsets, max((offsets[n] + sizes[n] for n in offsets), default=0)


class _Placed:
    """The buffers that have an offset, as columns: all of them are compared with a new one at once,
    as graphs of thousands of steps would take seconds one by one.
    """

    def __init__(self, count: int) -> None:
        self._count = 0
        self._begin, self._end = np.zeros((2, count), np.int64)
        self._steps, self._chains = np.zeros((2, 2, count), np.int64)
        self._shape = np.zeros(count, np.int64)
        self._shapes: dict[object, int] = {}

    def add(self, size: int, life: Life) -> int:
        """Place a buffer, and return its offset."""
        n = self._count
        shape = self._shapes.setdefault(life.shape, len(self._shapes))
        # Rivals may be in use at the same time, by different tiles if by no other.
        meets = _meet(self._chains[:, :n], life.chains)
        rivals = slice(n) if meets.all() else np.flatnonzero(meets)  # a view where it can be
        begin, end = self._begin[rivals], self._end[rivals]
        # Of a twin each tile is done with before that tile of this buffer is used, or the other way
        # round: the two may share their place if they share it wholly.
        apart = ~_meet(self._steps[:, rivals], life.steps)
        twins = (self._shape[rivals] == shape) & apart
        offset = _shared_place(begin, end, twins, size)
        if offset is None:
            offset = _lowest_gap(begin, end, size)
        self._begin[n], self._end[n], self._shape[n] = offset, offset + size, shape
        self._steps[:, n], self._chains[:, n] = life.steps, life.chains
        self._count += 1
        return offset


def _meet(intervals: np.ndarray, interval: tuple[int, int]) -> np.ndarray:
    """Which of the closed intervals [2, count] meet another one."""
    return np.asarray((intervals[0] <= interval[1]) & (interval[0] <= intervals[1]))


def _shared_place(begin: np.ndarray, end: np.ndarray, twins: np.ndarray, size: int) -> int | None:
    """The lowest offset of a twin at which no rival but twins lies, if there is one.

    Twins have the same shape, so all have `size` bytes.
    """
    candidates = begin[twins]
    if not candidates.size:
        return None
    lowest = int(candidates.min())  # most often the place
    inside = (begin < lowest + size) & (lowest < end)
    if not (inside & ~(twins & (begin == lowest))).any():
        return lowest
    candidates = np.sort(candidates)
    candidates = candidates[np.diff(candidates, prepend=-1) > 0]
    # Of the other rivals that begin before a place ends, the furthest end must not lie in it.
    others, ends = begin[~twins], end[~twins]
    order = np.argsort(others, kind="stable")
    reached = np.maximum.accumulate(np.concatenate(([0], ends[order])))
    free = reached[np.searchsorted(others[order], candidates + size)] <= candidates
    # Nor may another twin overlap it: only one in front of it or behind it can.
    crossed = np.diff(candidates) < size
    free[1:] &= ~crossed
    free[:-1] &= ~crossed
    return int(candidates[free.argmax()]) if free.any() else None


def _lowest_gap(begin: np.ndarray, end: np.ndarray, size: int) -> int:
    """The lowest offset at which so many bytes touch none of the intervals."""
    order = np.argsort(begin, kind="stable")
    free_from = np.maximum.accumulate(np.concatenate(([0], end[order])))
    fits = np.flatnonzero(free_from[:-1] + size <= begin[order])
    return int(free_from[fits[0] if fits.size else -1])


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

    def span(self, buffer: str) -> Interval:
        """The first byte of a buffer, and the one behind it."""
        begin = self.offsets[buffer]
        return begin, begin + self._sizes[buffer]


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
