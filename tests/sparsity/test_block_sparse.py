from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prunus.errors import InputError
from prunus.sparsity import MAX_BLOCK_ELEMENTS, BlockSparse

BLOCKS = st.tuples(st.integers(1, 9), st.integers(1, 9))
DTYPES = st.sampled_from([np.float16, np.float32, np.float64])


@st.composite
def matrices(draw: st.DrawFn) -> NDArray[Any]:
    shape = draw(st.tuples(st.integers(0, 21), st.integers(0, 21)))
    density = draw(st.sampled_from([0.0, 0.05, 0.3, 0.9, 1.0]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = generator.standard_normal(shape) + 3
    weight = np.where(generator.random(shape) < density, values, 0).astype(draw(DTYPES))
    return weight.T if draw(st.booleans()) else weight


@given(weight=matrices(), block=BLOCKS)
def test_dense_comes_back(weight: NDArray[Any], block: tuple[int, int]) -> None:
    sparse = BlockSparse.from_dense(weight, block)
    sparse.validate()
    dense = sparse.to_dense()
    assert dense.dtype == weight.dtype
    assert dense.flags.c_contiguous
    np.testing.assert_array_equal(dense, weight)


@given(weight=matrices(), block=BLOCKS)
def test_the_blocks_are_those_of_scipy(weight: NDArray[Any], block: tuple[int, int]) -> None:
    overhang = [(0, -side % part) for side, part in zip(weight.shape, block, strict=True)]
    padded = np.pad(weight.astype(np.float64), overhang)
    sparse = BlockSparse.from_dense(weight, block)
    if not padded.size:
        assert sparse.stored == 0
        return
    expected = scipy.sparse.bsr_array(padded, blocksize=block)
    expected.sort_indices()
    np.testing.assert_array_equal(sparse.data, expected.data)
    np.testing.assert_array_equal(sparse.indices, expected.indices)
    np.testing.assert_array_equal(sparse.indptr, expected.indptr)


@given(weight=matrices(), block=BLOCKS)
def test_rows_are_the_same_matrix_in_1x1_blocks(
    weight: NDArray[Any], block: tuple[int, int]
) -> None:
    rows = BlockSparse.from_dense(weight, block).to_rows()
    rows.validate()
    direct = BlockSparse.from_dense(weight)
    assert (rows.shape, rows.block) == (direct.shape, (1, 1))
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(rows, name), getattr(direct, name))
        assert getattr(rows, name).dtype == getattr(direct, name).dtype


def test_rows_drop_stored_zeros() -> None:
    sparse = BlockSparse.from_dense(np.ones((2, 3), np.float32))
    sparse.data[1] = 0
    assert sparse.nnz == 5
    assert sparse.to_rows().stored == 5


@given(weight=matrices(), block=BLOCKS)
def test_counts(weight: NDArray[Any], block: tuple[int, int]) -> None:
    sparse = BlockSparse.from_dense(weight, block)
    assert sparse.nnz == np.count_nonzero(weight)
    assert sparse.stored == len(sparse.indices) * block[0] * block[1]
    assert sparse.density == (sparse.nnz / weight.size if weight.size else 0)
    assert sparse.nbytes == (
        sparse.stored * weight.itemsize + 4 * len(sparse.indices) + 8 * len(sparse.indptr)
    )


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (5, 7), (1, 1)])
def test_nothing_is_stored_of_nothing(shape: tuple[int, int]) -> None:
    sparse = BlockSparse.from_dense(np.zeros(shape, np.float32), (2, 3))
    sparse.validate()
    assert (sparse.stored, sparse.nnz, sparse.density) == (0, 0, 0)
    assert sparse.to_dense().shape == shape
    assert sparse.to_rows().to_dense().shape == shape


def test_a_negative_zero_is_a_zero() -> None:
    assert BlockSparse.from_dense(np.full((2, 2), -0.0)).stored == 0


def test_a_wide_matrix() -> None:
    weight = np.zeros((2, 70_000), np.float32)
    weight[1, -1] = 1
    for block in ((1, 1), (4, 1), (1, 70_001), (16, 16)):
        sparse = BlockSparse.from_dense(weight, block)
        sparse.validate()
        np.testing.assert_array_equal(sparse.to_dense(), weight)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(3, np.float32), r"2-D .* found <f4 \[3\]"),
        (np.zeros((3, 3), np.int32), "found <i4"),
        (np.zeros((3, 3), ">f4"), "native .* found >f4"),
        (np.array([[1, np.nan]]), "NaN"),
        (np.array([[1, np.inf]]), "infinity"),
    ],
)
def test_a_wrong_weight_is_refused(weight: NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BlockSparse.from_dense(weight)


@pytest.mark.parametrize("block", [(0, 1), (1, -1), (1,), (1, 2, 3), (1.0, 2), [1, 2], "ab", None])
def test_a_wrong_block_is_refused(block: Any) -> None:
    with pytest.raises(InputError, match="two positive integers"):
        BlockSparse.from_dense(np.ones((2, 2), np.float32), block)
    with pytest.raises(InputError, match="two positive integers"):
        replace(BlockSparse.from_dense(np.ones((2, 2), np.float32)), block=block).validate()


def test_a_huge_block_is_refused() -> None:
    with pytest.raises(InputError, match="at most"):
        BlockSparse.from_dense(np.ones((2, 2), np.float32), (2, MAX_BLOCK_ELEMENTS))


def sound() -> BlockSparse:
    """5×7 in 2×3 blocks: three block rows of 2, 1 and 3 blocks; both edges overhang."""
    weight = np.zeros((5, 7), np.float32)
    weight[[0, 1, 3, 4, 4, 4], [0, 6, 4, 1, 3, 6]] = 1
    return BlockSparse.from_dense(weight, (2, 3))


def with_data(sparse: BlockSparse, block: int, row: int, column: int, value: float) -> BlockSparse:
    data = sparse.data.copy()
    data[block, row, column] = value
    return replace(sparse, data=data)


def with_indices(sparse: BlockSparse, *indices: int) -> BlockSparse:
    return replace(sparse, indices=np.array(indices, np.int32))


def with_indptr(sparse: BlockSparse, *indptr: int) -> BlockSparse:
    return replace(sparse, indptr=np.array(indptr, np.int64))


def test_the_sound_one_is_sound() -> None:
    sound().validate()
    assert sound().indices.tolist() == [0, 2, 1, 0, 1, 2]
    assert sound().indptr.tolist() == [0, 2, 3, 6]


CORRUPTIONS: list[tuple[Callable[[BlockSparse], BlockSparse], str]] = [
    (lambda s: replace(s, shape=(5, -7)), "a shape is"),
    (lambda s: replace(s, shape=(5, 2**31)), "a shape is"),
    (lambda s: replace(s, shape=(True, 7)), "a shape is"),
    (lambda s: replace(s, shape=(5, 7, 1)), "a shape is"),  # type: ignore[arg-type]
    (lambda s: replace(s, shape=[5, 7]), "a shape is"),  # type: ignore[arg-type]
    (lambda s: replace(s, data=s.data.tolist()), "data must be a numpy array"),
    (lambda s: replace(s, data=s.data.astype(np.int32)), "data must be native"),
    (lambda s: replace(s, data=s.data.astype(">f4")), "data must be native"),
    (lambda s: replace(s, data=s.data.astype(np.complex64)), "data must be native"),
    (lambda s: replace(s, data=s.data[:, :, 0]), "data must have 3 dimensions"),
    (lambda s: replace(s, data=s.data.transpose(0, 2, 1)), "C-contiguous"),
    (lambda s: replace(s, data=s.data.reshape(6, 3, 2)), r"data must be \[blocks, 2, 3\]"),
    (lambda s: replace(s, data=s.data[:5]), "data holds 5 blocks, but indices 6"),
    (lambda s: replace(s, block=(3, 2)), r"data must be \[blocks, 3, 2\]"),
    (lambda s: replace(s, indices=s.indices.astype(np.int64)), "indices must be native int32"),
    (lambda s: replace(s, indices=s.indices.astype(np.uint32)), "indices must be native int32"),
    (lambda s: replace(s, indices=s.indices.astype(">i4")), "indices must be native int32"),
    (lambda s: replace(s, indices=s.indices[:, None]), "indices must have 1 dimension"),
    (lambda s: replace(s, indices=np.repeat(s.indices, 2)[::2]), "C-contiguous"),
    (lambda s: with_indices(s, 0, 2, 1, 0, 1), "indices 5"),
    (lambda s: with_indices(s, -1, 2, 1, 0, 1, 2), "0 to 2, found -1"),
    (lambda s: with_indices(s, 0, 3, 1, 0, 1, 2), "0 to 2, found 3"),
    (lambda s: with_indices(s, 0, 2, 1, 0, 2, 1), "found 1 after 2 at block 5"),
    (lambda s: with_indices(s, 0, 0, 1, 0, 1, 2), "found 0 after 0 at block 1"),
    (lambda s: replace(s, indptr=s.indptr.astype(np.int32)), "indptr must be native int64"),
    (lambda s: replace(s, indptr=s.indptr[None]), "indptr must have 1 dimension"),
    (lambda s: with_indptr(s), "indptr must have 4 entries"),
    (lambda s: with_indptr(s, 0, 2, 6), "indptr must have 4 entries"),
    (lambda s: with_indptr(s, 1, 2, 3, 6), "from 0 to 6, found 1"),
    (lambda s: with_indptr(s, 0, 2, 3, 5), "found 0 to 5"),
    (lambda s: with_indptr(s, 0, 2, 3, 7), "found 0 to 7"),
    (lambda s: with_indptr(s, 0, 3, 2, 6), "must not decrease"),
    (lambda s: with_indptr(s, 0, -1, 3, 6), "must not decrease"),
    (lambda s: with_indptr(s, 0, 2**62, -(2**62), 6), "must not decrease"),
    (lambda s: with_indptr(s, 0, 7, 7, 6), "must not decrease"),
    (lambda s: with_data(s, 0, 0, 0, np.nan), "finite"),
    (lambda s: with_data(s, 0, 1, 1, np.inf), "finite"),
    (lambda s: with_data(s, 3, 1, 0, 1), "below the last row"),
    (lambda s: with_data(s, 1, 0, 1, 1), "right of the last column"),
    (lambda s: with_data(s, 5, 0, 2, 1), "right of the last column"),
]


@pytest.mark.parametrize(("corrupt", "message"), CORRUPTIONS)
def test_every_corruption_is_found(
    corrupt: Callable[[BlockSparse], BlockSparse], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        corrupt(sound()).validate()


@given(
    indices=st.lists(st.integers(-3, 6), max_size=6),
    indptr=st.lists(st.integers(-3, 8), max_size=6),
    shape=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    block=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_what_validates_is_within_bounds(
    indices: list[int], indptr: list[int], shape: tuple[int, int], block: tuple[int, int]
) -> None:
    sparse = BlockSparse(
        shape,
        block,
        np.zeros((len(indices), *block), np.float32),
        np.array(indices, np.int32),
        np.array(indptr, np.int64),
    )
    try:
        sparse.validate()
    except InputError:
        return
    assert sparse.to_dense().shape == shape
    assert sparse.to_rows().nnz == 0
