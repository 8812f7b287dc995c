import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import GraphError
from prunus.ir import DTYPES, Expr, TensorType, parse_type, symbol
from prunus.ir.types import broadcast_shapes, dtype_name

DIMS = st.sampled_from([0, 1, 7, symbol("batch"), symbol("seq") + 1, symbol("batch") * 2])
SHAPES = st.lists(st.sampled_from([1, 2, 3]), max_size=4).map(tuple)


@given(st.sampled_from(sorted(DTYPES)), st.lists(DIMS, max_size=4))
def test_a_types_text_reads_back(dtype: str, shape: list[int | Expr]) -> None:
    type = TensorType(dtype, tuple(shape))
    assert parse_type(str(type)) == type


@pytest.mark.parametrize(
    "text", ["f32", "f16[2]", "f32[2", "[2]", "f32[-1]", "f32[x y]", "f32[2](1)"]
)
def test_other_text_is_an_error(text: str) -> None:
    with pytest.raises(GraphError):
        parse_type(text)


@given(SHAPES, SHAPES)
def test_broadcasting_is_that_of_numpy(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(GraphError, match="do not broadcast"):
            broadcast_shapes(a, b)
    else:
        assert broadcast_shapes(a, b) == expected


def test_a_symbol_meets_itself_or_one() -> None:
    batch, seq = symbol("batch"), symbol("seq")
    assert broadcast_shapes((batch, 1), (seq,)) == (batch, seq)
    for other in (2, seq, batch + 1):
        with pytest.raises(GraphError, match="do not broadcast"):
            broadcast_shapes((batch,), (other,))


def test_every_dtype_has_a_name_and_others_have_none() -> None:
    for name, dtype in DTYPES.items():
        assert dtype_name(dtype) == name
    with pytest.raises(GraphError, match="float16"):
        dtype_name(np.dtype(np.float16))


def test_sizes_and_symbols() -> None:
    type = TensorType("f32", (symbol("batch"), symbol("seq") * 2, 5))
    assert type.sizes({"batch": 3, "seq": 4}) == (3, 8, 5)
    assert type.symbols() == {"batch", "seq"}
    assert (type.rank, type.is_float) == (3, True)
