"""Calls under gevent, eventlet, trio and asyncio: none of them may wait for what it stops itself.

gevent and eventlet replace Python's threads and locks, before prunus is imported or after it.
"""

from pathlib import Path

import pytest

from tests.native.encoder import save_encoder
from tests.runtime.processes import run_python

MODEL = """
import sys
import numpy as np
import prunus

def inputs(batch):
    ids = np.arange(9 * batch).reshape(batch, 9) % 30
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

model = prunus.load(sys.argv[1], threads=2)

def call(batch):
    return b"".join(each.tobytes() for each in model(**inputs(batch)))

def check(answers):
    wanted = [call(batch) for batch in BATCHES]
    assert list(answers) == wanted, "other answers than one after the other"
    print("right")

BATCHES = [1, 2, 3, 4] * 3
"""

GEVENT = """
import gevent.monkey
gevent.monkey.patch_all()
"""
EVENTLET = """
import warnings
warnings.simplefilter("ignore")  # it is deprecated, and says so
import eventlet
eventlet.monkey_patch()
"""

GEVENT_CALLS = """
import gevent, gevent.monkey
assert gevent.monkey.is_module_patched("threading")
jobs = [gevent.spawn(call, batch) for batch in BATCHES]
native = [gevent.get_hub().threadpool.spawn(call, batch) for batch in BATCHES]
gevent.joinall([*jobs, *native], raise_error=True)
assert [job.get() for job in native] == [job.get() for job in jobs]
check(job.get() for job in jobs)
"""
EVENTLET_CALLS = """
import threading
from eventlet import tpool
assert eventlet.patcher.is_monkey_patched("thread")
jobs = [eventlet.spawn(call, batch) for batch in BATCHES]
native = [eventlet.spawn(tpool.execute, call, batch) for batch in BATCHES]
assert [job.wait() for job in native] == [job.wait() for job in jobs]
check(job.wait() for job in jobs)
"""
TRIO_CALLS = """
import trio
async def main():
    answers = [b""] * len(BATCHES)
    async def one(at):
        answers[at] = await trio.to_thread.run_sync(call, BATCHES[at])
    async with trio.open_nursery() as nursery:
        for at in range(len(BATCHES)):
            nursery.start_soon(one, at)
    return answers
check(trio.run(main))
"""
ASYNCIO_CALLS = """
import asyncio
async def main():
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(None, call, each) for each in BATCHES))
check(asyncio.run(main()))
"""

PROGRAMS = {
    "gevent, patched first": GEVENT + MODEL + GEVENT_CALLS,
    "gevent, patched after the import": "import prunus\n" + GEVENT + MODEL + GEVENT_CALLS,
    "gevent, patched after the first call": MODEL + "call(1)\n" + GEVENT + GEVENT_CALLS,
    "eventlet, patched first": EVENTLET + MODEL + EVENTLET_CALLS,
    "eventlet, patched after the import": "import prunus\n" + EVENTLET + MODEL + EVENTLET_CALLS,
    "trio": MODEL + TRIO_CALLS,
    "asyncio": MODEL + ASYNCIO_CALLS,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved encoder."""
    return save_encoder(tmp_path_factory.mktemp("green") / "model")


@pytest.mark.parametrize("program", PROGRAMS)
def test_first_calls_from_many_green_threads(program: str, folder: Path) -> None:
    ended = run_python("-c", PROGRAMS[program], str(folder))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "right\n"


def test_a_worker_that_was_forked_under_gevent(folder: Path) -> None:
    """As `gunicorn --preload -k gevent` does: the model is loaded, and called, before the fork."""
    forked = """
wanted = call(2)
child = gevent.os.fork()
if child == 0:
    assert gevent.spawn(call, 2).get() == wanted
    sys.exit(0)
assert gevent.os.waitpid(child, 0)[1] == 0
check(gevent.spawn(call, batch).get() for batch in BATCHES)
"""
    ended = run_python("-c", GEVENT + MODEL + "import gevent, gevent.os\n" + forked, str(folder))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "right\n"
