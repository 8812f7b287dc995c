import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from prunus.errors import GraphError, InputError
from prunus.ir import OPS, Graph, bind_sizes, interpret, parse_type, symbol
from tests.graphs import GraphBuilder


def doubled() -> Graph:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, seq]")
    b.input("ids", "i64[batch, 3]")
    return b.graph(b.scaled("multiply", x, 2.0), x)


def test_outputs_come_in_order_and_inputs_may_be_outputs() -> None:
    x = np.ones((2, 5), np.float32)
    twice, same = interpret(doubled(), {"x": x, "ids": np.zeros((2, 3), np.int64)})
    np.testing.assert_array_equal(twice, 2 * x)
    np.testing.assert_array_equal(same, x)
    assert twice.dtype == np.float32


def test_precise_is_float64_throughout() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[n]")
    total = b.add("sum", x, axes=(0,), keep=False)
    graph = b.graph(total, b.add("cast", x, dtype="i64"))
    inputs = {"x": np.array([1e8, 1, -1e8], np.float32)}
    assert interpret(graph, inputs, precise=True)[0] == 1
    assert interpret(graph, inputs)[0] != 1
    assert interpret(graph, inputs, precise=True)[1].dtype == np.int64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "missing"),
        ({"x": np.ones((2, 5))}, "expected f32"),
        ({"x": np.ones(5, np.float32)}, "expected f32"),
        ({"ids": np.zeros((2, 4), np.int64)}, "expected i64"),
        ({"ids": np.zeros((3, 3), np.int64)}, "batch"),
    ],
)
def test_inputs_that_do_not_fit_are_an_error(
    change: dict[str, np.ndarray | None], message: str
) -> None:
    good: dict[str, np.ndarray] = {
        "x": np.ones((2, 5), np.float32), "ids": np.zeros((2, 3), np.int64)
    }  # fmt: skip
    inputs = {name: array for name, array in {**good, **change}.items() if array is not None}
    with pytest.raises(InputError, match=message):
        interpret(doubled(), inputs)


def test_sizes_are_read_off_and_checked_where_a_dimension_is_an_expression() -> None:
    types = {"x": parse_type("f32[n]"), "y": parse_type("f32[2*n + 1]")}
    arrays = {"x": np.ones(3, np.float32), "y": np.ones(7, np.float32)}
    assert bind_sizes(types, arrays) == {"n": 3}
    with pytest.raises(InputError, match="= 7"):
        bind_sizes(types, {**arrays, "y": np.ones(6, np.float32)})
    halves = {"x": parse_type("f32[n]"), "y": parse_type("f32[n//2]")}
    with pytest.raises(InputError, match="= 1"):
        bind_sizes(halves, {**arrays, "y": np.ones(2, np.float32)})


def test_symbols_in_attributes_take_their_sizes() -> None:
    b = GraphBuilder()
    b.input("x", "f32[batch, seq]")
    length = symbol("batch") * symbol("seq")
    graph = b.graph(b.add("arange", length=length, dtype="i64"))
    assert interpret(graph, {"x": np.ones((2, 3), np.float32)})[0].tolist() == [*range(6)]


def test_an_id_outside_its_table_is_an_error() -> None:
    b = GraphBuilder()
    table = b.constant("table", np.zeros((4, 2), np.float32))
    graph = b.graph(b.add("embedding", table, b.input("ids", "i64[n]")))
    with pytest.raises(GraphError, match="outside 0…3"):
        interpret(graph, {"ids": np.array([1, 4])})


def test_zero_size_and_strided_inputs() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[n, 4]")
    w = b.constant("w", np.arange(12, dtype=np.float32).reshape(3, 4))
    graph = b.graph(b.add("linear", x, w, activation="none"))
    assert interpret(graph, {"x": np.zeros((0, 4), np.float32)})[0].shape == (0, 3)
    wide = np.arange(48, dtype=np.float32).reshape(6, 8)[::2, ::2]
    np.testing.assert_array_equal(
        interpret(graph, {"x": wide})[0], interpret(graph, {"x": wide.copy()})[0]
    )


EXTREMES = np.array([0, -0.0, 1, -1, 1e-45, 3e38, -3e38, np.inf, -np.inf, np.nan], np.float32)
UNARY = [name for name, op in OPS.items() if op.inputs == ("x",) and not op.attrs and name != "not"]
BINARY = ["add", "subtract", "multiply", "divide", "power", "minimum", "maximum", "less"]


@pytest.mark.parametrize("name", UNARY + BINARY)
def test_no_op_warns_of_extreme_values(name: str) -> None:
    b = GraphBuilder()
    x, y = b.input("x", "f32[n, 1]"), b.input("y", "f32[m]")
    graph = b.graph(b.add(name, x, *([y] if name in BINARY else [])), y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interpret(graph, {"x": EXTREMES[:, None], "y": EXTREMES})


@pytest.mark.parametrize(
    ("name", "attrs", "expected"),
    [
        ("mean", {"axes": (1,), "keep": False}, torch.mean),
        ("sum", {"axes": (1,), "keep": False}, torch.sum),
        ("cumsum", {"axis": 1}, torch.cumsum),
        ("softmax", {"axis": 1}, torch.softmax),
    ],
)
def test_a_reduction_of_no_elements_is_what_torch_says(
    name: str, attrs: dict[str, Any], expected: Callable[..., torch.Tensor]
) -> None:
    b = GraphBuilder()
    graph = b.graph(b.add(name, b.input("x", "f32[n, m, 3]"), **attrs))
    for shape in ((2, 0, 3), (0, 2, 3), (2, 3, 3)):
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            (found,) = interpret(graph, {"x": x})
        wanted = expected(torch.from_numpy(x), 1).numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("attrs", [{"axes": (1,), "keep": False}, {"axis": 1}])
def test_the_largest_of_no_elements_is_refused(attrs: dict[str, Any]) -> None:
    b = GraphBuilder()
    graph = b.graph(
        b.add("argmax" if "axis" in attrs else "max", b.input("x", "f32[n, m]"), **attrs)
    )
    with pytest.raises(GraphError, match="largest of no elements"):
        interpret(graph, {"x": np.zeros((2, 0), np.float32)})


def test_norms_of_no_features_do_not_warn() -> None:
    b = GraphBuilder()
    x, none = b.input("x", "f32[n, 0]"), b.constant("c", np.zeros(0, np.float32))
    graph = b.graph(
        b.add("layer_norm", x, none, none, eps=1e-5), b.add("rms_norm", x, none, eps=1e-5)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [y.shape for y in interpret(graph, {"x": np.zeros((2, 0), np.float32)})] == [
            (2, 0)
        ] * 2
