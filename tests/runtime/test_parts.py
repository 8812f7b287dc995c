"""Large batches in parts."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prunus.runtime import parts
from prunus.runtime.parts import MAX_TOKENS, divide, most_tokens


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(1, 100))
def test_parts_are_as_large_as_they_may_be(lengths: list[int], most: int) -> None:
    starts = np.concatenate(([0], np.cumsum(lengths)))
    bounds = divide(starts, most)
    assert bounds[0] == 0
    assert bounds[-1] == len(lengths)
    for first, end in pairwise(bounds):
        assert first < end
        tokens = starts[end] - starts[first]
        assert tokens <= most or end == first + 1
        assert end == len(lengths) or tokens + lengths[end] > most


def test_few_tokens_at_once_where_weights_stay_in_the_cache() -> None:
    cached = parts._last_cache()
    assert most_tokens(cached + 1, 2) == MAX_TOKENS
    assert most_tokens(cached, 2) == 512
    assert most_tokens(0, 1000) == MAX_TOKENS
