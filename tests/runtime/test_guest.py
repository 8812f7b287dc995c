"""prunus as a guest among others: it idles asleep, may be forked, may end at any moment, shares its
cores, and never mixes the answers of two callers.
"""

import gc
import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

import prunus
from prunus.kernels.normalize import LayerNorm
from prunus.kernels.target import parse_target
from prunus.model import CompiledModel
from prunus.runtime import pool as pools
from prunus.runtime import walker
from prunus.runtime.pool import SPIN_SECONDS, Pool, function_address
from tests.graphs import Arrays
from tests.native.encoder import save_encoder, sentences
from tests.runtime.processes import in_a_child, needs_fork, run_python, start_child

MOST_SPINNING = 100e-6
"""Seconds that an idle worker may spin."""

CASES = [sentences(batch, seq, seed=seq) for batch, seq in ((1, 5), (2, 17), (3, 9), (1, 40))]
ALIKE = [sentences(2, 9, seed) for seed in range(4)]
"""Inputs of one size, which a model feeds into the same memory."""

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="the system has no affinity"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved encoder."""
    return save_encoder(tmp_path_factory.mktemp("guest") / "model")


@pytest.fixture(scope="module", params=[1, 2])
def model(folder: Path, request: pytest.FixtureRequest) -> CompiledModel:
    """It, loaded for one thread and for two."""
    return prunus.load(folder, threads=request.param)


def answer(model: CompiledModel, inputs: Arrays) -> bytes:
    """The bits of an answer."""
    return b"".join(part.tobytes() for part in model(**inputs))


def answers(model: CompiledModel, cases: list[Arrays] = CASES) -> list[bytes]:
    """The bits of the answers to all cases."""
    return [answer(model, inputs) for inputs in cases]


def often(model: CompiledModel, inputs: Arrays, times: int) -> Callable[[], list[bytes]]:
    """A call of the model, again and again."""
    return lambda: [answer(model, inputs) for _ in range(times)]


def at_once(calls: list[Callable[[], list[bytes]]]) -> list[list[bytes]]:
    """The results of calls that begin together, each in a thread of its own."""
    together = threading.Barrier(len(calls))

    def begin(call: Callable[[], list[bytes]]) -> list[bytes]:
        together.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [each.result(timeout=60) for each in [threads.submit(begin, c) for c in calls]]


# What is used by default


@needs_affinity
def test_a_model_uses_the_cores_of_its_process_and_says_so(folder: Path) -> None:
    code = """
import os, sys, prunus
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(prunus.load(sys.argv[1]).threads)
"""
    shown = run_python("-c", code, str(folder))
    assert shown.stdout == "1\n", shown.stderr


# Idle


@contextmanager
def idle_pool(threads: int) -> Iterator[Pool]:
    """A pool that has just run a program, of no steps."""
    started = Pool(threads)
    header = walker.PROGRAM.zeros()
    started.run(header.ctypes.data)
    yield started
    started.close()


def test_a_worker_spins_for_100_microseconds_at_most() -> None:
    assert SPIN_SECONDS <= MOST_SPINNING
    with idle_pool(1) as started:
        spins = int(started._memory["spins"])
        spin = pools._WORK(function_address("spin"))
        seconds = []
        for _ in range(50):  # the best of many, as others may run meanwhile
            begin = time.perf_counter()
            spin(started._memory.ctypes.data, spins)
            seconds.append(time.perf_counter() - begin)
    assert min(seconds) <= MOST_SPINNING


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers sleep on Linux alone")
def test_an_idle_worker_sleeps() -> None:
    others = {thread.id for thread in psutil.Process().threads()}
    with idle_pool(3):
        workers = {thread.id for thread in psutil.Process().threads()} - others
        assert len(workers) >= 2

        def used() -> float:
            times = psutil.Process().threads()
            return float(sum(t.user_time + t.system_time for t in times if t.id in workers))

        time.sleep(0.05)
        before = used()
        time.sleep(0.3)
        assert used() - before < 0.05, "seconds of two workers; with spinning 0.6"


# Forks


@needs_fork
def test_many_forks_work_at_the_same_time(model: CompiledModel) -> None:
    wanted = answers(model)
    children = [start_child(lambda: b"".join(answers(model))) for _ in range(4)]
    assert answers(model) == wanted
    for reader, child in children:
        with os.fdopen(reader, "rb") as pipe:
            assert pipe.read() == b"".join(wanted)
        os.waitpid(child, 0)


@needs_fork
def test_a_child_that_has_called_may_fork_as_well(model: CompiledModel) -> None:
    wanted = answer(model, CASES[0])

    def generation(left: int) -> bytes:
        before = answer(model, CASES[0])
        below = in_a_child(lambda: generation(left - 1)) if left else b""
        return before + below + answer(model, CASES[0])

    assert in_a_child(lambda: generation(3)) == 8 * wanted


@needs_fork
def test_threads_of_a_child_take_turns_from_their_first_call_on(model: CompiledModel) -> None:
    wanted = [[each] * 3 for each in answers(model, ALIKE)]

    def child() -> bytes:
        sys.setswitchinterval(1e-6)  # several are then likely to be inside of their first call
        found = at_once([often(model, inputs, 3) for inputs in ALIKE])
        return b"right" if found == wanted else b"wrong"

    for _ in range(60):
        assert in_a_child(child) == b"right"


@needs_fork
def test_a_fork_while_another_thread_compiles() -> None:
    """What that thread holds inside LLVM would be held forever in the child."""
    target, stop = parse_target("native"), threading.Event()

    def compile_forever() -> None:
        for n in itertools.count(1):
            if stop.is_set():
                return
            LayerNorm(64, 1e-9 * n).address(target)

    def compiled(eps: float) -> bytes:
        return str(LayerNorm(32, eps).address(target) != 0).encode()

    busy = threading.Thread(target=compile_forever)
    busy.start()
    try:
        for n in range(1, 6):
            assert in_a_child(partial(compiled, 1e-3 * n), seconds=20) == b"True"
    finally:
        stop.set()
        busy.join()


_inherited: list[CompiledModel] = []


def _answer_inherited(case: int) -> bytes:
    return answer(_inherited[0], CASES[case])


@needs_fork
def test_a_pool_of_forked_processes(model: CompiledModel) -> None:
    wanted = answers(model)
    _inherited[:] = [model]
    with multiprocessing.get_context("fork").Pool(2) as processes:
        found = processes.map_async(_answer_inherited, [0, 1, 2, 3] * 3, chunksize=1)
        assert found.get(timeout=60) == wanted * 3


SPAWN = """
import multiprocessing, sys
import numpy as np, prunus

def call(batch):
    ids = np.ones((batch, 9), np.int64)
    return prunus.load(sys.argv[1], threads=2)(ids, ids)[0].tobytes()

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as processes:
        assert processes.map(call, [1, 2, 3]) == [call(batch) for batch in (1, 2, 3)]
    print("right")
"""


def test_a_pool_of_spawned_processes_that_load_a_folder(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "spawn.py"
    script.write_text(SPAWN)
    done = run_python(str(script), str(folder), seconds=120)
    assert (done.stdout, done.stderr, done.returncode) == ("right\n", "", 0)


# Endings

PROLOGUE = """
import os, signal, sys, threading, time
import numpy as np, prunus
model, ids = prunus.load(sys.argv[1], threads=2), np.ones((2, 9), np.int64)
def call():
    return model(ids, ids)[0].tobytes()
def forever():
    try:
        while True:
            call()
    except prunus.PrunusError:  # said to whoever still calls when the workers have ended
        pass
def in_background(work, threads=1):
    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.05)
wanted = call()
"""

ENDINGS = {
    "beside many threads that call": ("in_background(forever, 8)", 0),
    "by sys.exit beside a call": ("in_background(forever); sys.exit(3)", 3),
    "by os._exit beside a call": ("in_background(forever); os._exit(4)", 4),
    "by os._exit of another thread": (
        "in_background(lambda: (time.sleep(0.1), os._exit(4)))\nforever()", 4
    ),
    "by SIGTERM": ("in_background(forever); os.kill(os.getpid(), signal.SIGTERM)\nforever()", -15),
    "by SIGKILL": ("in_background(forever); os.kill(os.getpid(), signal.SIGKILL)\nforever()", -9),
    "by a handler that exits": (
        """
signal.signal(signal.SIGALRM, lambda *_: sys.exit(5))
in_background(forever)
signal.setitimer(signal.ITIMER_REAL, 0.1)
forever()
""",
        5,
    ),
    "while other threads call first": (
        """
def first(other):
    try:
        other(ids, ids)
    except prunus.PrunusError:
        pass
others = [prunus.load(sys.argv[1], threads=1) for _ in range(10)]
for other in others:
    threading.Thread(target=first, args=(other,), daemon=True).start()
""",
        0,
    ),
    "before its child": (
        """
if os.fork() == 0:
    time.sleep(0.2)
    os.write(1, b"right" if call() == wanted else b"wrong")
    os._exit(0)
""",
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_ends_at_any_moment(ending: str, folder: Path) -> None:
    code, status = ENDINGS[ending]
    ended = run_python("-c", PROLOGUE + code, str(folder))
    wanted = "right" if "child" in ending else ""
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, wanted, "")


COMPILE = """
import itertools, sys, threading, time
from prunus.errors import PrunusError
from prunus.kernels.attention import Attention
from prunus.kernels.target import parse_target
started = threading.Event()
def forever():
    try:
        for n in itertools.count():
            started.set()
            Attention(64, 64, 64, float(sys.argv[1]) + n).address(parse_target("native"))
    except PrunusError:
        pass
threading.Thread(target=forever, daemon=True).start()
started.wait()
time.sleep(float(sys.argv[1]))
"""


def test_a_process_ends_while_a_thread_compiles() -> None:
    """Two of three crashed inside LLVM, whose memory is gone before the thread is."""
    for delay in (0.3, 0.4, 0.5):
        ended = run_python("-c", COMPILE, str(delay))
        assert (ended.returncode, ended.stderr) == (0, "")


class Interruption(Exception):
    """What a signal handler raises, as Ctrl-C does."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timers")
def test_a_call_that_is_interrupted_leaves_the_model_intact(model: CompiledModel) -> None:
    wanted, draw = answers(model), random.Random(0)
    armed = False

    def interrupt(*_: object) -> None:
        nonlocal armed
        armed = False
        raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    # Hypothesis times collections in a callback. Python drops what is raised in one, so such an
    # interruption would reach no call, and pytest would report it.
    gc.disable()
    try:
        for _ in range(150):
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-5, 3e-3))
                while armed:
                    answer(model, draw.choice(CASES))
            except Interruption:
                pass
            assert answers(model) == wanted
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()


# Neighbours


@needs_affinity
def test_a_process_that_spins_on_a_core_does_not_stop_calls(model: CompiledModel) -> None:
    wanted = answers(model)
    code = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile True: pass"
    hog = subprocess.Popen([sys.executable, "-c", code])
    try:
        with ThreadPoolExecutor(1) as caller:
            found = caller.submit(lambda: [answers(model) for _ in range(20)])
            assert found.result(timeout=60) == [wanted] * 20
    finally:
        hog.kill()
        hog.wait()


@pytest.mark.parametrize("cases", [CASES, ALIKE], ids=["sizes that differ", "one size"])
def test_four_threads_get_their_own_answers(model: CompiledModel, cases: list[Arrays]) -> None:
    wanted = answers(model, cases)
    found = at_once([often(model, inputs, 50) for inputs in cases])
    assert found == [[each] * 50 for each in wanted]


@pytest.mark.parametrize("threads", [(1, 1), (2, 2), (1, 2)])
def test_two_models_in_two_threads(folder: Path, threads: tuple[int, int]) -> None:
    models = [prunus.load(folder, threads=count) for count in threads]
    wanted = answers(models[0])

    def all_cases(model: CompiledModel) -> list[bytes]:
        return [each for _ in range(20) for each in answers(model)]

    assert at_once([partial(all_cases, model) for model in models]) == [wanted * 20] * 2


def test_inputs_are_the_callers_own(model: CompiledModel) -> None:
    """A caller may change its arrays as soon as its call has ended, whatever others do."""
    ids, mask = (array.copy() for array in CASES[1].values())
    wanted = answer(model, CASES[1])
    stop = threading.Event()

    def others() -> list[bytes]:
        while not stop.is_set():
            answer(model, CASES[2])
        return []

    def mine() -> list[bytes]:
        try:
            found = []
            for _ in range(50):
                ids[...], mask[...] = CASES[1].values()
                found.append(answer(model, {"input_ids": ids, "attention_mask": mask}))
                ids[...] = mask[...] = np.zeros_like(ids) + 1
            return found
        finally:
            stop.set()

    assert at_once([mine, others])[0] == [wanted] * 50
