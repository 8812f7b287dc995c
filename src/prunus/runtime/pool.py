"""The workers: one pool per process and thread count, started when first used."""

from __future__ import annotations

import atexit
import ctypes
import os
import time
from functools import partial

from prunus.errors import PrunusError
from prunus.kernels.compiler import linker
from prunus.kernels.target import parse_target
from prunus.native_threads import Task, new_lock, undisturbed
from prunus.runtime import walker

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

    Raises:
        PrunusError: the system does not start so many threads.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.lock = new_lock()
        self._closed = False
        self._memory = walker.POOL.zeros()
        self._address = self._memory.ctypes.data
        self._run = _RUN(function_address("run"))
        self._wake = _WAKE(function_address("wake"))
        self._memory["workers"] = threads
        self._memory["spins"] = self._measure_spins()
        self._work = _WORK(function_address("work"))
        self._workers: list[Task[None]] = []
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        for worker in range(1, self.threads):
            try:
                # Of a method, since the pool's memory must live as long as any worker.
                self._workers.append(Task(partial(self._serve, worker)))
            except RuntimeError as error:
                raise PrunusError(
                    f"{self.threads} threads were asked for, but the system starts no more of "
                    f"them ({error}); pass threads=1, or raise the limit on processes"
                ) from error

    def _serve(self, worker: int) -> None:
        self._work(self._address, worker)

    def _measure_spins(self) -> int:
        """The number of spins that take `SPIN_SECONDS` (a pause takes 5 to 140 cycles, by
        processor).
        """
        spin, count = _WORK(function_address("spin")), 1000
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
            self._memory["stop"] = 1
            self._wake(self._address)
            while self._workers:
                self._workers[-1].wait()
                self._workers.pop()


def function_address(symbol: str) -> int:
    """The address of one of `walker.SYMBOLS`."""
    target = parse_target("native")
    text = walker.walker_ir(target.triple)
    return linker(target).functions(text, walker.SYMBOLS, lambda: text)[symbol]


_pools: dict[int, Pool] = {}
_pools_lock = new_lock()


def pool(threads: int) -> Pool:
    """The process's pool of so many threads."""
    found = _pools.get(threads)
    return undisturbed(partial(_started, threads)) if found is None else found


def _started(threads: int) -> Pool:
    with _pools_lock:
        if threads not in _pools:
            _pools[threads] = Pool(threads)
        return _pools[threads]


def _forget() -> None:
    """A forked child has no workers: its pools start anew."""
    global _pools_lock
    _pools_lock = new_lock()
    _pools.clear()


def _close_all() -> None:
    for one in list(_pools.values()):
        one.close()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
