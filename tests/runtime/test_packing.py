"""Which tokens a call computes, from its mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.runtime.packing import lengths_of, packed, whole

LOWEST = np.finfo(np.float32).min
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def prefix(lengths: list[int], length: int) -> np.ndarray:
    real: np.ndarray = np.arange(length) < np.array(lengths)[:, None]
    return real.reshape(-1, 1, 1, length)


@given(LENGTHS, st.integers(0, 4))
def test_lengths_are_read_off_any_spelling_of_a_mask(lengths: list[int], more: int) -> None:
    length = max(lengths) + more
    real = prefix(lengths, length)
    for hidden in (-np.inf, LOWEST, -1e31):
        for mask in (real, np.where(real, np.float32(0), np.float32(hidden))):
            np.testing.assert_array_equal(lengths_of(mask, len(lengths), length), lengths)


@pytest.mark.parametrize(
    "row",
    [[0, 1, 1], [1, 0, 1], [0, 0, 0]],
    ids=["left padding", "a hole", "nothing real"],
)
def test_other_masks_have_no_lengths(row: list[int]) -> None:
    mask = np.array([[1, 1, 1], row], bool).reshape(2, 1, 1, 3)
    assert lengths_of(mask, 2, 3) is None


def test_a_soft_mask_has_no_lengths() -> None:
    mask = np.array([[0, 0, -5], [0, 0, LOWEST]], np.float32).reshape(2, 1, 1, 3)
    assert lengths_of(mask, 2, 3) is None


def test_one_mask_for_all_sequences() -> None:
    mask = np.array([True, True, False]).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(lengths_of(mask, 4, 3), [2, 2, 2, 2])


@given(LENGTHS, st.integers(0, 4))
def test_packing_keeps_the_real_tokens_in_order(lengths: list[int], more: int) -> None:
    length = max(lengths) + more
    packing = packed(np.array(lengths), length)
    places = [i * length + j for i, n in enumerate(lengths) for j in range(n)]
    assert packing.count == len(places)
    assert packing.rows.tolist() == places
    assert packing.starts.tolist() == [0, *np.cumsum(lengths)]
    assert packing.find(packing.rows).tolist() == list(range(packing.count))
    array = np.random.default_rng(0).standard_normal((len(lengths) * length, 2))
    assert (packing.pack(array) == array[places]).all()


def test_a_whole_batch_is_left_as_it_is() -> None:
    packing, array = whole(2, 3), np.zeros((6, 2))
    assert packing.pack(array) is array
    assert packing.starts.tolist() == [0, 3, 6]
    assert packing.rows.tolist() == list(range(6))
