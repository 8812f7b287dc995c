"""Exceptions at any point of a first call, a load or a compilation: what comes next is right.

Each point is tried in a forked child, whose first call links the kernels and starts the workers. A
thorough run (`--hypothesis-profile=thorough`) tries thousands of them.
"""

import logging
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import NoReturn

import numpy as np
import psutil
import pytest
from hypothesis import settings

import prunus
from prunus import cache, native_threads
from prunus.ir import bind_sizes
from prunus.kernels import compiler, llvm_access
from prunus.model import CompiledModel, Source
from prunus.plan import make_options
from prunus.runtime.executable import Executable
from prunus.runtime.trace import Recorder
from tests.graphs import Arrays, GraphBuilder
from tests.native.decisions import Decisions, compiled, run
from tests.native.encoder import SIGNATURE, encoder, sentences
from tests.runtime.interrupts import KINDS, Stop, count_points, stop_after, stop_at
from tests.runtime.processes import in_a_child, needs_fork, wait_until

pytestmark = needs_fork

STOPPED, MISSED = b"stopped", b"not stopped"


def points(total: int, share: float = 1.0) -> list[int]:
    """Points to try, spread evenly; other ones for each share and profile."""
    tried = max(2, round(settings().max_examples * share))
    random_ = random.Random(tried)
    return [min(total - 1, int((i + random_.random()) * total / tried)) for i in range(tried)]


def fresh(work: Callable[[], bytes]) -> bytes:
    """What work returns in a child in which nothing is linked, whatever tests ran before."""

    def forget() -> bytes:
        linked = dict(compiler._linkers)
        compiler._linkers.clear()
        answer = work()
        del linked  # not before: other models point into this code
        return answer

    return in_a_child(forget)


def stopped(interrupt: Callable[[], bool], call: Callable[[], bytes], wanted: bytes) -> bool:
    """Whether a call in a child was interrupted; two later calls must give what is wanted."""

    def work() -> bytes:
        came = interrupt()
        assert call() == wanted
        assert call() == wanted
        wait_until(lambda: psutil.Process().num_threads() <= 2)  # this one, and a worker
        return STOPPED if came else MISSED

    answer = fresh(work)
    assert answer in (STOPPED, MISSED)
    return answer == STOPPED


def check_at_points(call: Callable[[], bytes], share: float, wanted: bytes) -> None:
    """Stop a first call at points of a share of the profile's number, by each kind in turn."""
    total = count_in_a_child(call)
    came = [
        stopped(partial(stop_at, point, kind, call), call, wanted)
        for point, kind in zip(points(total, share), cycle(KINDS), strict=False)
    ]
    # The number of points varies a little, and what a finalizer raises is dropped.
    assert sum(came) >= 0.9 * len(came)


def outputs(executable: Executable, inputs: Arrays) -> bytes:
    """All outputs of one call."""
    return b"".join(each.tobytes() for each in run(executable, inputs))


def small() -> tuple[Executable, Arrays]:
    """A model of few kernels, for calls that compile all of them."""
    b = GraphBuilder()
    w = b.constant("w", np.ones((4, 3), np.float32))
    y = b.add("linear", b.input("x", "f32[batch, 3]"), w, activation="none")
    return compiled(b.graph(y), Decisions(threads=2)), {"x": np.ones((2, 3), np.float32)}


def count_in_a_child(work: Callable[[], object]) -> int:
    """The points of work of something done for the first time, which is not done here."""
    return int(fresh(lambda: str(count_points(work)).encode()))


def test_a_first_call_stopped_at_any_point_is_repeated_well() -> None:
    executable, inputs = compiled(encoder(), Decisions(threads=2)), sentences(2, 9)
    call = partial(outputs, executable, inputs)
    check_at_points(call, 2, fresh(call))


def test_a_first_call_that_compiles_is_repeated_well(monkeypatch: pytest.MonkeyPatch) -> None:
    executable, inputs = small()
    call = partial(outputs, executable, inputs)
    monkeypatch.setattr(cache, "read", lambda kind, key: None)  # nothing is ever there
    check_at_points(call, 0.4, fresh(call))


def test_a_first_call_stopped_without_another_thread_is_repeated_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the system starts no more threads, exceptions arrive inside llvmlite too."""
    executable, inputs = compiled(encoder(), Decisions(threads=1)), sentences(2, 9)
    call = partial(outputs, executable, inputs)
    monkeypatch.setattr(native_threads, "Task", refuse_to_start)
    check_at_points(call, 1, fresh(call))


def refuse_to_start(function: Callable[[], object]) -> NoReturn:
    """As the system does at its limit on processes."""
    raise RuntimeError("can't start new thread")


def test_a_signal_at_any_time_of_a_first_call() -> None:
    executable, inputs = compiled(encoder(), Decisions(threads=2)), sentences(2, 9)
    call = partial(outputs, executable, inputs)

    def seconds() -> bytes:
        begin = time.perf_counter()
        call()
        return str(time.perf_counter() - begin).encode()

    wanted, span = fresh(call), float(fresh(seconds))
    moments = [max(1e-5, span * each / 10**6) for each in points(10**6, 2)]
    came = [stopped(partial(stop_after, each, call), call, wanted) for each in moments]
    assert sum(came) >= 0.3 * len(came), "another time it may be faster"


def test_a_storm_of_signals_in_a_first_call() -> None:
    """A call that is stopped again and again, at another moment each time, gets on all the same."""
    executable, inputs = compiled(encoder(), Decisions(threads=2)), sentences(2, 9)
    call = partial(outputs, executable, inputs)

    def storm() -> bool:
        random_, times = random.Random(0), 0
        while times < 1000 and stop_after(random_.uniform(1e-4, 2e-3), call):
            times += 1
        return times > 3

    assert stopped(storm, call, fresh(call))


def test_an_interrupted_trace_leaves_nothing_to_write_to() -> None:
    """The memory of an unfinished trace is freed, so the next call must write nothing there."""
    executable, inputs = compiled(encoder(), Decisions(threads=2)), sentences(2, 9)
    sizes = bind_sizes(executable.program.inputs, inputs)
    wanted = outputs(executable, inputs)

    def interrupted(*_: object) -> None:
        raise Stop

    recorder = Recorder()
    recorder.detach = interrupted  # type: ignore[assignment,method-assign]
    with pytest.raises(Stop):
        executable.run(dict(inputs), sizes, recorder)
    traced = recorder._memory.copy()
    assert outputs(executable, inputs) == wanted
    assert (recorder._memory == traced).all()


def process_state() -> tuple[object, ...]:
    """What belongs to the whole process and a library may change for a moment."""
    return (
        sys.stdout, sys.stderr, sys.excepthook, warnings.showwarning, tuple(warnings.filters),
        logging.root.level, logging.root.manager.disable, os.getcwd(), dict(os.environ),
        *(signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)),
        sys.getrecursionlimit(), np.geterr(),
    )  # fmt: skip


@pytest.mark.parametrize("how", ["compile", "load"])
def test_compiling_and_loading_stopped_at_any_point(how: str, tmp_path: Path) -> None:
    options = make_options(tune="race", threads=2)
    graph, inputs = encoder(), sentences(2, 9)
    folder = tmp_path / "model"

    def make() -> CompiledModel:
        if how == "load":
            return prunus.load(folder, threads=2)
        return CompiledModel(graph, SIGNATURE, options, Source("encoder"))

    def answers() -> bytes:
        return b"".join(each.tobytes() for each in make()(**inputs))

    def interrupt(point: int, kind: type[BaseException]) -> bool:
        before = process_state()
        came = stop_at(point, kind, make)
        assert process_state() == before
        return came

    CompiledModel(graph, SIGNATURE, options, Source("encoder")).save_pretrained(folder)
    wanted = fresh(answers)  # the choices are remembered from now on
    total = count_in_a_child(make)
    came = [
        stopped(partial(interrupt, point, kind), answers, wanted)
        for point, kind in zip(points(total, 0.6), cycle(KINDS), strict=False)
    ]
    assert sum(came) >= 0.9 * len(came)


def test_nobody_waits_for_ever_for_llvm_after_an_interrupt() -> None:
    """The lock is free again, though the thread that was inside LLVM went on by itself."""

    def work() -> bytes:
        stop_after(0.01, lambda: llvm_access.in_llvm(lambda: time.sleep(0.1)))
        llvm_access.in_llvm(lambda: None)
        return STOPPED

    assert in_a_child(work) == STOPPED
