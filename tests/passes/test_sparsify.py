import numpy as np
import pytest

from prunus.errors import InputError
from prunus.ir import Graph, interpret, verify
from prunus.passes import Notes
from prunus.passes.sparsify import sparsify
from prunus.sparsity import BlockSparse, SparsityRecipe, simulate_weight
from tests.graphs import GraphBuilder


def weight(recipe: str, shape: tuple[int, int] = (64, 96)) -> np.ndarray:
    return simulate_weight(np.zeros(shape), SparsityRecipe.parse(recipe), seed=1)


def one_layer(array: np.ndarray) -> Graph:
    b = GraphBuilder()
    x = b.input("x", f"f32[batch, {array.shape[1]}]")
    w = b.constant("w", array)
    return b.graph(b.add("linear", x, w, activation="none"))


@pytest.mark.parametrize(
    ("recipe", "block"),
    [("0", None), ("0.3", None), ("0.8", (1, 1)), ("0.8@4x1", (4, 1)), ("0.9@1x16", (1, 16))],
)
def test_a_weight_is_stored_as_its_zeros_lie(recipe: str, block: tuple[int, int] | None) -> None:
    array = weight(recipe)
    graph, notes = one_layer(array), Notes()
    result = verify(sparsify(graph, notes))
    constant = result.constants["w"]
    assert constant.pattern is not None and len(notes) == 1
    assert constant.pattern.describe() in notes[0] and notes[0].startswith("w: ")
    if block is None:
        assert constant.value is graph.constants["w"].value
    else:
        assert isinstance(constant.value, BlockSparse) and constant.value.block == block
    np.testing.assert_array_equal(constant.dense(), array)
    assert sparsify(result, []) is result
    x = {"x": np.ones((2, 96), np.float32)}
    np.testing.assert_array_equal(interpret(result, x)[0], interpret(graph, x)[0])


@pytest.mark.parametrize("shape", [(1, 1), (0, 4), (4, 0), (1, 7000)])
def test_empty_and_tiny_weights(shape: tuple[int, int]) -> None:
    result = verify(sparsify(one_layer(np.zeros(shape, np.float32)), []))
    assert isinstance(result.constants["w"].value, BlockSparse) == bool(np.prod(shape))


def test_a_weight_that_other_ops_read_stays_dense_and_is_measured() -> None:
    b = GraphBuilder()
    table = b.constant("table", weight("0.9", (96, 96)))
    y = b.add("linear", b.add("embedding", table, b.input("ids", "i64[n]")), table,
              activation="none")  # fmt: skip
    result = sparsify(b.graph(y), notes := Notes())
    assert isinstance(result.constants["table"].value, np.ndarray)
    assert result.constants["table"].pattern is not None
    assert "other ops read it" in notes[0]


def test_other_constants_are_not_measured() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[n, 4]")
    bias = b.constant("bias", np.zeros(4, np.float32))
    graph = b.graph(b.add("add", x, bias))
    assert sparsify(graph, []) is graph


def test_a_weight_in_float64_stays_dense() -> None:
    b = GraphBuilder()
    w = b.constant("w", np.zeros((3, 4)))
    result = verify(sparsify(b.graph(b.add("linear", b.input("x", "f64[n, 4]"), w,
                                           activation="none")), []))  # fmt: skip
    assert isinstance(result.constants["w"].value, np.ndarray)


def test_a_weight_that_is_not_finite_is_an_error_with_its_name() -> None:
    array = weight("0.8")
    array[3, 4] = np.nan
    with pytest.raises(InputError, match=r"the weight w: .*NaN"):
        sparsify(one_layer(array), [])
