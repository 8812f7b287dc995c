import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import GraphError
from prunus.ir import Attrs, Constant, Graph, Node, TensorType, parse_graph, print_graph, symbol
from prunus.ir.graph import AttrValue
from prunus.passes import run_passes
from prunus.sparsity import measure
from tests.graphs import Case, GraphBuilder, graphs

DIM = 2 * symbol("batch") * symbol("seq") + (symbol("seq") + 1) // 2 - 3

ATTRIBUTES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False)
    | st.sampled_from(["relu", "gelu_tanh"])
    | st.just(DIM),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)


@given(graphs())
def test_a_graphs_text_reads_back(case: Case) -> None:
    for graph in (case.graph, run_passes(case.graph)):
        text = print_graph(graph)
        again = parse_graph(text, graph.constants)
        assert print_graph(again) == text
        assert again.nodes == graph.nodes
        assert (again.inputs, again.outputs, again.limits) == (
            graph.inputs, graph.outputs, graph.limits
        )  # fmt: skip


@given(st.dictionaries(st.sampled_from(["a", "shape", "value"]), ATTRIBUTES))
def test_any_attribute_reads_back(attrs: dict[str, AttrValue]) -> None:
    node = Node("y", "op", (None, "x.y/z:0+1-2"), Attrs(attrs), TensorType("f32", ()))
    graph = Graph({}, {}, (node,), ("y",))
    (again,) = parse_graph(print_graph(graph), {}).nodes
    assert again == node
    assert repr(again.attrs) == repr(node.attrs)  # 1, 1.0 and True are equal, but not the same


def test_not_a_number_reads_back() -> None:
    b = GraphBuilder()
    graph = b.graph(b.full(math.nan))
    assert math.isnan(parse_graph(print_graph(graph), {}).nodes[0].attrs.value)


def test_the_text_of_a_small_graph() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 4]")
    w = b.constant("layer.weight", np.eye(8, 4, dtype=np.float32))
    y = b.add("linear", x, w, activation="relu", name="y")
    graph = b.graph(b.reshape(y, symbol("batch") * 2, 4), limits={"batch": 9})
    graph = Graph(
        graph.inputs, {w: Constant(graph.constants[w].value, measure(np.eye(8, 4)))},
        graph.nodes, graph.outputs, graph.limits,
    )  # fmt: skip
    assert str(graph) == (
        "graph\n"
        "  limit batch = 9\n"
        "  input x: f32[batch, 4]\n"
        "  constant layer.weight: f32[8, 4] (87.5 % zero, unstructured; 4 of 8 rows empty)\n"
        '  y = linear(x, layer.weight) {activation="relu"}: f32[batch, 8]\n'
        "  reshape_1 = reshape(y) {shape=(<2*batch>, 4)}: f32[2*batch, 4]\n"
        "  return reshape_1\n"
    )


@pytest.mark.parametrize(
    "line",
    ["y = relu(x)", "y relu(x): f32[2]", "input x", "constant w: f32[2]", "limit seq = many",
     "y = relu(x) {a=f(1)}: f32[2]", "y = relu(x) {a=}: f32[2]", "y = relu(x) {a={1}}: f32[2]",
     "y = relu(x) {**1}: f32[2]", "y = relu(x) {a=1) + f(b=2}: f32[2]",
     "y = relu(x) {a=1)(b=2}: f32[2]", "y = relu(x) {1}: f32[2]", "y = relu(x): f32[!]",
     "y = relu(x) {a=<1.5>}: f32[2]"],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_an_error(line: str) -> None:
    with pytest.raises(GraphError):
        parse_graph(f"graph\n  {line}\n  return y\n", {})


@pytest.mark.parametrize("text", ["", "graph", "return y", "graph\nreturn", "nonsense\nreturn y"])
def test_a_text_without_its_frame_is_an_error(text: str) -> None:
    with pytest.raises(GraphError, match="starts with"):
        parse_graph(text, {})


def test_a_constant_of_another_type_is_an_error() -> None:
    text = "graph\n  constant w: f32[2]\n  return w\n"
    with pytest.raises(GraphError, match="expected f32"):
        parse_graph(text, {"w": Constant(np.zeros(3, np.float32))})
