"""The same numbers whatever the batch, the number of threads and the call."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.graphs import Case, graphs
from tests.native.decisions import HASWELL, Decisions, compiled, decisions, examples, rewritten, run
from tests.native.encoder import encoder, sentences

TARGETS = ["native", pytest.param(HASWELL, marks=pytest.mark.isa("avx2", "fma"))]


@pytest.mark.parametrize("target", TARGETS)
@examples(0.3)
@given(st.integers(1, 5), st.sampled_from([1, 7, 16, 17, 33, 48]), st.integers(0, 3))
def test_one_batch_equals_its_rows(target: str, batch: int, seq: int, seed: int) -> None:
    executable = compiled(encoder(), Decisions(seed, target))
    inputs = sentences(batch, seq, seed)
    together = run(executable, inputs)
    for row in range(batch):
        alone = run(executable, {name: array[row : row + 1] for name, array in inputs.items()})
        real = inputs["attention_mask"][row] == 1  # what lies at padding is not promised
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0][real], other[row][real], rtol=1e-5, atol=1e-5)


@examples(0.5)
@given(graphs(), decisions())
def test_threads_do_not_change_a_bit(case: Case, decided: Decisions) -> None:
    graph = rewritten(case.graph, decided)
    one, two = (compiled(graph, decided._replace(threads=n)) for n in (1, 2))
    for a, b, c in zip(*(run(e, case.inputs) for e in (one, two, two)), strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()
