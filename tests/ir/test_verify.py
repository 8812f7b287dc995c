from dataclasses import replace

import numpy as np
import pytest

from prunus.errors import GraphError
from prunus.ir import Attrs, Constant, Graph, Node, TensorType, infer, parse_type, symbol, verify


def small_graph() -> Graph:
    types = {"x": parse_type("f32[batch, 4]")}
    constants = {"w": Constant(np.zeros((3, 4), np.float32))}
    h = Node("h", "linear", ("x", "w"), Attrs(activation="none"), parse_type("f32[batch, 3]"))
    y = Node("y", "relu", ("h",), Attrs(), parse_type("f32[batch, 3]"))
    return Graph(types, constants, (h, y), ("y",))


def test_a_well_formed_graph_passes() -> None:
    graph = small_graph()
    assert verify(graph) is graph


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (1, {"name": "h"}, "given twice"),
        (1, {"name": "x"}, "given twice"),
        (1, {"name": "w"}, "given twice"),
        (0, {"inputs": ("y", "w")}, "before it is computed"),
        (1, {"op": "swish"}, "unknown op"),
        (1, {"inputs": ()}, "takes"),
        (1, {"inputs": ("h", "h")}, "takes"),
        (1, {"inputs": (None,)}, "left out"),
        (1, {"attrs": Attrs(slope=0.1)}, "has the attributes"),
        (0, {"attrs": Attrs()}, "has the attributes"),
        (0, {"attrs": Attrs(activation="swish")}, "needs activation"),
        (1, {"type": parse_type("f32[batch, 4]")}, "should be"),
    ],
)
def test_a_bad_line_is_an_error(position: int, change: dict[str, object], message: str) -> None:
    graph = small_graph()
    nodes = list(graph.nodes)
    nodes[position] = replace(nodes[position], **change)  # type: ignore[arg-type]
    with pytest.raises(GraphError, match=message):
        verify(replace(graph, nodes=tuple(nodes)))


@pytest.mark.parametrize("name", ["_", "", "a b", "a(b", "a,b", "a\nb"])
def test_a_name_that_text_cannot_hold_is_an_error(name: str) -> None:
    graph = small_graph()
    nodes = (graph.nodes[0], replace(graph.nodes[1], name=name))
    with pytest.raises(GraphError, match="cannot be the name"):
        verify(replace(graph, nodes=nodes, outputs=(name,)))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": "f32[batch, 4]", "y": "f32[seq // 2]"}, "gives the size of"),
        ({"x": "f32[2 * batch, 4]"}, "gives the size of"),
        ({"x": "f32[3, 4]"}, "no input has a size batch"),
    ],
)
def test_a_symbol_that_no_input_sizes_is_an_error(inputs: dict[str, str], message: str) -> None:
    types = {name: parse_type(text) for name, text in inputs.items()}
    graph = small_graph()
    if "3" in inputs["x"]:
        full = Node("f", "full", (), Attrs(shape=(symbol("batch"),), value=0, dtype="f32"),
                    parse_type("f32[batch]"))  # fmt: skip
        graph = replace(graph, nodes=(full,), outputs=("f",))
    with pytest.raises(GraphError, match=message):
        verify(replace(graph, inputs=types))


def test_an_output_that_is_not_computed_is_an_error() -> None:
    with pytest.raises(GraphError, match="never computed"):
        verify(replace(small_graph(), outputs=("z",)))


def test_inferring_with_nonsense_is_a_graph_error() -> None:
    x = TensorType("f32", (2, 3))
    for attrs in (Attrs(), Attrs(axis="last"), Attrs(axis=7), Attrs(axis=None)):
        with pytest.raises(GraphError):
            infer("slice", [x], attrs)


def test_with_nodes_drops_what_nothing_needs_and_keeps_inputs() -> None:
    graph = small_graph()
    shorter = graph.with_nodes(graph.nodes, outputs=("x",))
    assert (shorter.nodes, dict(shorter.constants)) == ((), {})
    assert shorter.inputs == graph.inputs


def test_users_and_producers() -> None:
    graph = small_graph()
    assert [node.name for node in graph.users()["h"]] == ["y"]
    assert graph.producers()["h"].op == "linear"
    assert str(graph.type_of("h")) == "f32[batch, 3]"
    with pytest.raises(GraphError, match="no value named"):
        graph.type_of("z")


def test_attributes_cannot_be_changed() -> None:
    attrs = Attrs(axis=1)
    with pytest.raises(AttributeError, match="make a new node"):
        attrs.axis = 2
    with pytest.raises(AttributeError, match="no attribute"):
        _ = attrs.keep
    assert hash(Attrs(axis=1)) == hash(attrs)
