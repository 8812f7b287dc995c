"""The processor's measured limit: FMAs a second, from registers alone."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np

from prunus.kernels.emit import Emitter
from prunus.kernels.layout import TILE
from prunus.kernels.spec import Kernel
from prunus.kernels.target import Target, parse_target

CHAINS = 12
"""Independent sums: two FMAs a cycle of four cycles' latency need eight."""

REPEATS = 3_000_000
"""About 10 ms: what it takes to start a thread must not show."""
ROUNDS = 25
PAUSE = 0.01
"""Seconds between rounds, so that a short disturbance does not meet them all."""


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
            k.store(total.get(), k.address("out") + i * k.lanes * 4, aligned=False)


def fma_peak(threads: int, target: Target | None = None) -> float:
    """Floating-point operations (two an FMA) a second that `threads` threads reach together."""
    target = target or parse_target("native")
    kernel = FmaPeak(TILE)
    function = kernel.function(target)
    outs = [np.zeros(CHAINS * target.lanes, np.float32) for _ in range(threads)]
    words = [np.array(kernel.words({"repeats": REPEATS, "out": o.ctypes.data})) for o in outs]
    best = float("inf")
    for _ in range(ROUNDS):
        workers = [threading.Thread(target=function, args=(w.ctypes.data, 0, None)) for w in words]
        begin = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = min(best, time.perf_counter() - begin)
        time.sleep(PAUSE)
    return 2.0 * REPEATS * CHAINS * target.lanes * threads / best
