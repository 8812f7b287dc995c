"""The workers: one pool per process and thread count, started when first used."""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time

from prunus.errors import PrunusError
from prunus.kernels.compiler import linker
from prunus.kernels.target import parse_target
from prunus.runtime import walker
from prunus.runtime.arena import aligned_words

SPIN_SECONDS = 50e-6
"""How long a waiting worker spins before it sleeps. A wake-up costs about 50 µs, so longer would
not pay."""

_RUN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
_WAKE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Pool:
    """So many workers; the thread that calls `run` is one of them.

    Calls from several threads take turns. Foreign functions are called without the interpreter's
    lock.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.lock = threading.Lock()
        self._closed = False
        self._memory = aligned_words(walker.POOL_BYTES // 8)
        self._address = self._memory.ctypes.data
        self._run = _RUN(_function("run"))
        self._memory[walker.WORKERS // 8] = threads
        self._memory[walker.SPINS // 8] = self._measure_spins()
        work = _WORK(_function("work"))
        self._threads = [
            threading.Thread(
                target=work, args=(self._address, worker), name=f"prunus-{worker}", daemon=True
            )
            for worker in range(1, threads)
        ]
        for thread in self._threads:
            thread.start()

    def _measure_spins(self) -> int:
        """The number of spins that take `SPIN_SECONDS` (a pause takes 5 to 140 cycles, by
        processor).
        """
        spin, count = _WORK(_function("spin")), 1000
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            spin(self._address, count)
            seconds.append(time.perf_counter() - begin)
        return max(1, int(SPIN_SECONDS / min(seconds) * count))

    def run(self, program: int) -> None:
        """Let all workers walk the program at this address; returns when the last has finished.

        Raises:
            PrunusError: the pool is closed.
        """
        with self.lock:
            if self._closed:  # the workers would never come to the barrier
                raise PrunusError("the workers have ended, as this process is ending")
            self._run(self._address, program)

    def close(self) -> None:
        """End the workers."""
        with self.lock:
            self._closed = True
            if not self._threads:
                return
            self._memory[walker.STOP // 8] = 1
            _WAKE(_function("wake"))(self._address)
            for thread in self._threads:
                thread.join()
            self._threads = []


def _function(symbol: str) -> int:
    """The address of a function of the walker."""
    target = parse_target("native")
    text = walker.walker_ir(target.triple)
    return linker(target).functions(text, walker.SYMBOLS, lambda: text)[symbol]


_pools: dict[int, Pool] = {}
_pools_lock = threading.Lock()


def pool(threads: int) -> Pool:
    """The process's pool of so many threads."""
    with _pools_lock:
        if threads not in _pools:
            _pools[threads] = Pool(threads)
        return _pools[threads]


def _forget() -> None:
    """A forked child has no workers: its pools start anew."""
    global _pools_lock
    _pools_lock = threading.Lock()
    _pools.clear()


def _close_all() -> None:
    for one in list(_pools.values()):
        one.close()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
