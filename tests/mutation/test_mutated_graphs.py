"""Mutated graphs are refused, or compute what the interpreter does; and what checks that can fail.

`python -m tests.mutation.campaign` runs as many as one likes.
"""

import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.mutation.campaign import ROOT, Child, report, run_seeds
from tests.mutation.trial import Mismatch, compare, run_trial

SEEDS = 300
SECONDS = 110.0


def test_mutated_graphs_are_refused_or_agree() -> None:
    outcomes = run_seeds(range(SEEDS), native_every=1, children=1, seconds=SECONDS)
    text = report(outcomes)
    print(text)
    assert not any(outcome["stage"] == "failed" for outcome in outcomes), text
    # A slow machine may not come through all of them; a test of nothing would be none.
    assert len(outcomes) > SEEDS // 4
    native = [outcome for outcome in outcomes if outcome["stage"] == "native"]
    assert len(native) > len(outcomes) // 5
    assert len({op for outcome in outcomes for op in outcome["ops"]}) > 40


def test_a_seed_gives_the_same_graph_again() -> None:
    first, second = (run_trial(7, native=False) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("offset", "dies"), [(0, False), (4, True), (-4096, True)])
def test_an_array_ends_at_a_page_that_may_not_be_touched(offset: int, dies: bool) -> None:
    code = f"""
import ctypes
import numpy as np
from tests.mutation.guard import guarded_arrays
with guarded_arrays():
    array = np.empty(1000, np.float32)
assert np.isnan(array).all()
ctypes.c_float.from_address(array.ctypes.data + array.nbytes - 4 + {offset}).value
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == (-signal.SIGSEGV if dies else 0)


def test_a_child_that_ends_is_a_failure_and_another_takes_its_place() -> None:
    child = Child((sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    for seed in (1, 2):
        outcome = child.run(seed, native=True)
        assert outcome["stage"] == "failed"
        assert "SIGSEGV" in outcome["error"]
    child.stop()


def test_another_output_is_a_mismatch() -> None:
    wanted = np.linspace(-1, 1, 50, dtype=np.float32)
    precise = wanted.astype(np.float64)
    assert compare(wanted + 1e-6, wanted, precise, roomy=False) == 50
    wrong = wanted.copy()
    wrong[3] += 0.1
    with pytest.raises(Mismatch, match="1 of 50 elements differ"):
        compare(wrong, wanted, precise, roomy=False)
    with pytest.raises(Mismatch, match="in place of"):
        compare(wanted[:40], wanted, precise, roomy=False)
    assert compare(wrong, wanted, precise, roomy=True) == 50
