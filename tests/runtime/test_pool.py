"""Workers: started, used again, ended; used by many threads, in forked children, at exit."""

import ctypes
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest

from prunus.errors import PrunusError
from prunus.native_threads import Task
from prunus.runtime import pool as pools
from prunus.runtime import walker
from prunus.runtime.pool import Pool, pool
from tests.native.decisions import Decisions, compiled, run
from tests.native.encoder import encoder, sentences
from tests.runtime.processes import in_a_child, needs_fork, run_python, wait_until

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)


class Count:
    """A program of steps whose kernels are Python functions that get the step, the unit and the
    scratch.
    """

    def __init__(
        self,
        work: Callable[[int, int, int], None],
        units: list[int],
        *,
        workers: int,
        barriers: list[bool] | None = None,
        tail: int = 10**9,
    ) -> None:
        steps = len(units)
        self.calls: list[tuple[int, int, int]] = []

        def kernel(kind: int) -> Any:
            def call(words: int, unit: int, scratch: int) -> None:
                step = ctypes.c_int64.from_address(words).value
                self.calls.append((step, unit, kind))
                work(step, unit, scratch)

            return KERNEL(call)

        self.kernels = [kernel(0), kernel(1)]
        addresses = [ctypes.cast(each, ctypes.c_void_p).value or 0 for each in self.kernels]
        self.words = np.arange(steps, dtype=np.int64)
        self.records = walker.STEP.zeros(steps)
        self.records["arguments"] = self.words.ctypes.data + 8 * np.arange(steps)
        self.records["kernel"] = addresses[0]
        self.records["tail_kernel"] = addresses[1]
        self.records["tail"] = tail
        self.records["barrier"] = barriers or [True] * steps
        self.records["chain"] = self.records["units"] = 1
        self.claims = walker.CLAIM.zeros(steps, workers)
        for step, count in enumerate(units):
            bounds = np.linspace(0, count, workers + 1).astype(np.int64)
            self.claims["next"][step], self.claims["end"][step] = bounds[:-1], bounds[1:]
        self.header = walker.PROGRAM.zeros()
        self.header["steps"], self.header["records"] = steps, self.records.ctypes.data
        self.header["claims"] = self.claims.ctypes.data
        self.header["scratch"], self.header["scratch_bytes"] = 4096, 64

    @property
    def address(self) -> int:
        return self.header.ctypes.data


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_unit_of_every_step_runs_once(workers: int) -> None:
    units = [0, 1, 7, 2, 16]
    started = Pool(workers)
    for _ in range(3):
        program = Count(lambda *_: None, units, workers=workers, tail=6)
        started.run(program.address)
        wanted = [(s, u, int(u >= 6)) for s, count in enumerate(units) for u in range(count)]
        assert sorted(program.calls) == wanted
    started.close()


def test_a_claim_of_a_chain_goes_through_all_its_steps() -> None:
    by_worker: dict[int, list[tuple[int, int]]] = {}

    def work(step: int, unit: int, scratch: int) -> None:
        by_worker.setdefault(scratch, []).append((step, unit))

    program = Count(work, [4, 0, 3], workers=2)
    program.records["chain"][:2] = 2
    program.records["units"][:2] = 2, 3
    started = Pool(2)
    started.run(program.address)
    started.close()
    claims = []
    for calls in by_worker.values():
        chained = [call for call in calls if call[0] < 2]
        for i in range(0, len(chained), 5):
            claim = chained[i][1] // 2
            links = [(0, 2 * claim), (0, 2 * claim + 1)]
            assert chained[i : i + 5] == links + [(1, 3 * claim + j) for j in range(3)]
            claims.append(claim)
    assert sorted(claims) == [0, 1, 2, 3]
    assert sorted(unit for step, unit, _ in program.calls if step == 2) == [0, 1, 2]


def test_a_barrier_parts_two_steps() -> None:
    done: list[int] = []

    def work(step: int, unit: int, scratch: int) -> None:
        if unit == 3:  # the other worker has nothing left to do and would go on
            time.sleep(0.02)
        done.append(step)

    program = Count(work, [4, 4, 4], workers=2)
    started = Pool(2)
    started.run(program.address)
    started.close()
    assert done == sorted(done)


def test_without_a_barrier_steps_may_meet() -> None:
    """The second step's unit ends before the first's: each waits for the other's beginning."""
    begun = [threading.Event(), threading.Event()]

    def work(step: int, unit: int, scratch: int) -> None:
        begun[step].set()
        assert begun[1 - step].wait(60)

    # The only unit of the first step is the second worker's share, that of the second the first's.
    program = Count(work, [1, 1], workers=2, barriers=[False, False])
    started = Pool(2)
    started.run(program.address)
    started.close()
    assert all(event.is_set() for event in begun)


def test_every_worker_has_scratch_of_its_own() -> None:
    both = threading.Barrier(2, timeout=60)
    found: dict[int, int] = {}

    def work(step: int, unit: int, scratch: int) -> None:
        both.wait()
        found[threading.get_native_id()] = scratch

    started = Pool(2)
    started.run(Count(work, [2], workers=2).address)
    started.close()
    assert sorted(found.values()) == [4096, 4096 + 64]


def threads_of_the_system() -> int:
    """How many this process has, those that Python's `threading` does not know included."""
    return int(psutil.Process().num_threads())


def test_a_pool_ends_its_workers() -> None:
    Pool(1)  # may link what workers run, on a thread that ends a moment later
    time.sleep(0.05)
    before = threads_of_the_system()
    started = Pool(3)
    assert threads_of_the_system() == before + 2
    started.close()
    started.close()
    wait_until(lambda: threads_of_the_system() == before)
    with pytest.raises(PrunusError, match="workers have ended"):
        started.run(Count(lambda *_: None, [1], workers=3).address)


def test_a_system_that_starts_no_more_threads_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Pool(1)
    time.sleep(0.05)
    before, started = threads_of_the_system(), list[Task[None]]()

    def start(function: Callable[[], None]) -> Task[None]:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(Task(function))
        return started[0]

    monkeypatch.setattr(pools, "Task", start)
    with pytest.raises(PrunusError, match=r"3 threads were asked for.*pass threads=1"):
        Pool(3)
    assert len(started) == 1
    wait_until(lambda: threads_of_the_system() == before)


def test_workers_that_sleep_wake_up() -> None:
    started = Pool(2)
    for pause in (0.0, 0.01, 0.0, 0.05):
        threading.Event().wait(pause)  # beyond `SPIN_SECONDS` they sleep
        program = Count(lambda *_: None, [4], workers=2)
        started.run(program.address)
        assert len(program.calls) == 4
    started.close()


def test_one_pool_for_each_number_of_threads() -> None:
    assert pool(2) is pool(2)
    assert pool(1) is not pool(2)


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_from_four_threads_are_all_right(threads: int) -> None:
    executables = [compiled(encoder(), Decisions(seed=s, threads=threads)) for s in (1, 2)]
    cases = [(e, sentences(b, s, seed=b)) for e in executables for b, s in ((1, 5), (2, 17))]
    wanted = [run(*case) for case in cases]

    def often(start: int) -> None:
        for n in range(start, start + 30):
            found = run(*cases[n % len(cases)])
            for one, other in zip(found, wanted[n % len(cases)], strict=True):
                assert one.tobytes() == other.tobytes()

    with ThreadPoolExecutor(4) as four:
        for result in [four.submit(often, start) for start in range(4)]:
            result.result(timeout=120)


@needs_fork
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_computes_as_well(threads: int) -> None:
    executable, inputs = compiled(encoder(), Decisions(threads=threads)), sentences(2, 9)
    wanted = run(executable, inputs)[0].tobytes()
    assert in_a_child(lambda: run(executable, inputs)[0].tobytes()) == wanted
    assert run(executable, inputs)[0].tobytes() == wanted
    grandchild = in_a_child(lambda: in_a_child(lambda: run(executable, inputs)[0].tobytes()))
    assert grandchild == wanted


@needs_fork
def test_a_fork_while_other_threads_compute() -> None:
    """Locks that they hold at that moment must not block the child."""
    executable, inputs = compiled(encoder(), Decisions(threads=2)), sentences(2, 9)
    wanted = run(executable, inputs)[0].tobytes()
    stop = threading.Event()

    def forever() -> None:
        while not stop.is_set():
            run(executable, inputs)

    busy = [threading.Thread(target=forever) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        for _ in range(5):
            assert in_a_child(lambda: run(executable, inputs)[0].tobytes()) == wanted
    finally:
        stop.set()
        for thread in busy:
            thread.join()


PROLOGUE = """
import atexit, sys, threading
from tests.native.decisions import Decisions, compiled, run
from tests.native.encoder import encoder, sentences
executable, inputs = compiled(encoder(), Decisions(threads=2)), sentences(2, 9)
run(executable, inputs)
"""

ENDINGS = {
    "at once": "",
    "after sys.exit": "sys.exit(0)",
    "beside a thread that computes": """
from prunus.errors import PrunusError
def forever():
    try:
        while True:
            run(executable, inputs)
    except PrunusError:  # said to whoever still calls when the workers have ended
        pass
threading.Thread(target=forever, daemon=True).start()
run(executable, inputs)
""",
    "with a call while it ends": """
def last():
    run(executable, inputs)
atexit.register(last)  # runs before what was registered earlier, so the workers are still there
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_ends_cleanly(ending: str) -> None:
    ended = run_python("-c", PROLOGUE + ENDINGS[ending])
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
