"""Batches with padding at the right: only real tokens are computed, and the answers stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.ir import bind_sizes
from prunus.runtime.executable import Executable
from prunus.runtime.packing import PackingRule
from tests.graphs import MAX_SEQ, Arrays
from tests.native.decisions import Decisions, compiled, examples, run
from tests.native.encoder import encoder, sentences
from tests.native.test_batches import TARGETS

RAGGED = st.lists(st.sampled_from([1, 2, 15, 16, 17, 31, 33, 48]), min_size=1, max_size=6)


def ragged(lengths: list[int], seed: int, *, more: int = 0) -> Arrays:
    """Sentences of these lengths, padded to the longest and by `more`."""
    inputs = sentences(len(lengths), min(max(lengths) + more, MAX_SEQ), seed)
    real = np.arange(inputs["input_ids"].shape[1]) < np.array(lengths)[:, None]
    return {**inputs, "attention_mask": real.astype(np.int64)}


def count(executable: Executable, inputs: Arrays) -> int:
    """How many tokens a call computes."""
    sizes = bind_sizes(executable.program.inputs, inputs)
    values = {**executable._constants, **inputs}
    for call in executable._bind_prologue(sizes):
        call.run(values, None)
    return executable._packing(values, sizes).count


@pytest.mark.parametrize("target", TARGETS)
@examples(0.3)
@given(RAGGED, st.integers(0, 3), st.integers(0, 20))
def test_each_sentence_is_answered_as_alone(
    target: str, lengths: list[int], seed: int, more: int
) -> None:
    executable = compiled(encoder(), Decisions(seed, target))
    inputs = ragged(lengths, seed, more=more)
    assert count(executable, inputs) == sum(lengths)
    together = run(executable, inputs)
    for row, length in enumerate(lengths):
        alone = {name: array[row : row + 1, :length] for name, array in inputs.items()}
        for one, other in zip(run(executable, alone), together, strict=True):
            np.testing.assert_allclose(one[0], other[row, :length], rtol=1e-5, atol=1e-5)
            assert (other[row, length:] == 0).all()


def test_any_other_mask_computes_every_token() -> None:
    executable = compiled(encoder(), Decisions())
    inputs = ragged([5, 17, 33], 0)
    for mask in (inputs["attention_mask"][:, ::-1].copy(), np.zeros((3, 33), np.int64)):
        assert count(executable, {**inputs, "attention_mask": mask}) == 3 * 33


@given(RAGGED, st.integers(1, 4))
@examples(0.3)
def test_a_batch_that_is_too_large_runs_in_parts(lengths: list[int], sentences: int) -> None:
    executable = compiled(encoder(), Decisions())
    inputs = ragged(lengths, 0)
    whole = run(executable, inputs)
    smaller = compiled(encoder(), Decisions())
    smaller.most = sentences * max(lengths)
    parts = run(smaller, inputs)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert isinstance(smaller.program.packing, PackingRule)
    assert smaller.program.packing.splits
