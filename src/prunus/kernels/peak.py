"""The processor's measured limits: FMAs a second from registers alone, and bytes a second that
vector loads bring from a buffer of any size.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from prunus.kernels.emit import Emitter
from prunus.kernels.layout import FLOAT, TILE
from prunus.kernels.spec import Argument, Kernel
from prunus.kernels.target import Target, parse_target
from prunus.native_threads import Task

CHAINS = 12
"""Independent sums: two FMAs a cycle of four cycles' latency need eight."""

ROUND_SECONDS = 0.01
"""At least: what it takes to start a thread must not show."""
REPEATS = 3_000_000
"""Of the FMAs, for about as long."""
ROUNDS = 25
TRIAL_ROUNDS = 5
"""Of trials that find out how much work takes ROUND_SECONDS."""
PAUSE = 0.01
"""Seconds between rounds, so that a short disturbance does not meet them all."""

LOADS = 8
"""Loads in a row, each added to a sum of its own: two additions a cycle of four cycles' latency."""


@dataclass(frozen=True)
class FmaPeak(Kernel):
    """So many FMAs that depend on nothing but their own chain."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """How often, and where the sums go, so that they are not optimised away."""
        return ("repeats", "out")

    def emit(self, k: Emitter) -> None:
        """CHAINS sums side by side."""
        sums = [k.variable(k.splat(float(i))) for i in range(CHAINS)]
        factor = k.load(k.address("out"), aligned=False)
        with k.loop(k.word("repeats")):
            for total in sums:
                total.set(k.fma(total.get(), factor, factor))
        for i, total in enumerate(sums):
            k.store(total.get(), k.address("out") + i * k.lanes * FLOAT, aligned=False)


@dataclass(frozen=True)
class LoadStream(Kernel):
    """Reads a buffer from end to end again and again. Additions use up what is loaded, as they are
    cheaper than FMAs and mostly have units of their own.
    """

    @property
    def parameters(self) -> tuple[str, ...]:
        """How often, the buffer, its length in strides of LOADS vectors, and where the sums go."""
        return ("repeats", "buffer", "strides", "out")

    def emit(self, k: Emitter) -> None:
        """LOADS sums side by side."""
        sums = [k.variable(k.splat(0.0)) for _ in range(LOADS)]
        with k.loop(k.word("repeats")), k.loop(k.word("strides")) as stride:
            row = k.address("buffer") + stride * (LOADS * k.lanes * FLOAT)
            for total, lanes in zip(sums, k.load_row(row, LOADS), strict=True):
                total.set(total.get() + lanes)
        for i, total in enumerate(sums):
            k.store(total.get(), k.address("out") + i * k.lanes * FLOAT, aligned=False)


def fma_peak(threads: int, target: Target | None = None) -> float:
    """Floating-point operations (two an FMA) a second that `threads` threads reach together."""
    target = target or parse_target("native")
    outs = [np.zeros(CHAINS * target.lanes, np.float32) for _ in range(threads)]
    arguments = [{"repeats": REPEATS, "out": out.ctypes.data} for out in outs]
    seconds = _fastest(FmaPeak(TILE), arguments, target, ROUNDS, PAUSE)
    return 2.0 * REPEATS * CHAINS * target.lanes * threads / seconds


def load_rate(threads: int, nbytes: int, target: Target | None = None) -> float:
    """Bytes a second that `threads` threads load together, each from a buffer of its own of
    `nbytes`, rounded down to whole strides, over and over: the rate of the cache that it fits.
    """
    target = target or parse_target("native")
    kernel = LoadStream(TILE)
    stride = LOADS * target.lanes * FLOAT
    strides = max(1, nbytes // stride)
    outs = [np.zeros(stride // FLOAT, np.float32) for _ in range(threads)]
    buffers = [_buffer(strides * stride) for _ in range(threads)]

    def arguments(repeats: int) -> list[dict[str, Argument]]:
        return [
            {"repeats": repeats, "buffer": b.ctypes.data, "strides": strides, "out": o.ctypes.data}
            for b, o in zip(buffers, outs, strict=True)
        ]

    repeats = 1
    while (seconds := _fastest(kernel, arguments(repeats), target, TRIAL_ROUNDS)) < ROUND_SECONDS:
        repeats *= min(10, 1 + int(ROUND_SECONDS / seconds))
    seconds = _fastest(kernel, arguments(repeats), target, ROUNDS, PAUSE)
    return float(repeats) * strides * stride * threads / seconds


def _buffer(nbytes: int) -> np.ndarray:
    """Aligned floats; ones, since untouched zeros would all be one page of memory."""
    line = TILE * FLOAT
    floats = np.ones((nbytes + line) // FLOAT, np.float32)
    skipped = -floats.ctypes.data % line // FLOAT
    return floats[skipped : skipped + nbytes // FLOAT]


def _fastest(
    kernel: Kernel,
    arguments: Sequence[Mapping[str, Argument]],
    target: Target,
    rounds: int,
    pause: float = 0.0,
) -> float:
    """Seconds of the fastest of several rounds, in each of which the kernel runs once with each of
    the arguments, on a thread of its own.
    """
    function = kernel.function(target)
    words = [np.array(kernel.words(each)) for each in arguments]
    best = float("inf")
    for number in range(rounds):
        if number:
            time.sleep(pause)
        begin = time.perf_counter()
        workers = [Task(partial(function, each.ctypes.data, 0, None)) for each in words]
        for worker in workers:
            worker.wait()
        best = min(best, time.perf_counter() - begin)
    return best
