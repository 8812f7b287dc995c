import numpy as np
import pytest

from prunus.errors import GraphError
from prunus.ir import Attrs, Graph, Node, TensorType, verify
from prunus.passes.pattern import Call, Value, constant, either, number, op, variable
from prunus.passes.rewrite import Notes, Replacement, Rule, apply_rewrites, rewrite
from tests.graphs import GraphBuilder

x, y = variable("x"), variable("y")


def rule(pattern: Call, replacement: Call | None = None) -> Rule:
    """A rule that replaces what the pattern matches, by `relu(x)` where nothing is given."""

    @rewrite(pattern)
    def build(**values: Value) -> Replacement:
        return replacement or op.relu(values["x"]), "as the test wants it"

    return build


def applied(pattern: Call, graph: Graph) -> list[str]:
    """The ops after the rule of `pattern`."""
    return [node.op for node in verify(apply_rewrites(graph, (rule(pattern),), [])).nodes]


def test_an_unfitting_graph_comes_back_as_it_is() -> None:
    b = GraphBuilder()
    graph = b.graph(b.add("tanh", b.input("x", "f32[2]")))
    notes: Notes = []
    assert apply_rewrites(graph, (rule(op.exp(x)),), notes) is graph
    assert notes == []


def test_a_replacement_keeps_the_name_and_says_why() -> None:
    b = GraphBuilder()
    b.add("exp", b.add("tanh", b.input("x", "f32[2]")), name="y")
    graph, notes = b.graph("y"), Notes()
    after = verify(apply_rewrites(graph, (rule(op.exp(op.tanh(x))),), notes))
    assert [(node.name, node.op, node.inputs) for node in after.nodes] == [("y", "relu", ("x",))]
    assert notes == ["y: as the test wants it"]


def test_both_orders_of_a_commutative_op_match_and_only_of_such() -> None:
    for name, expected in (("add", ["relu"]), ("subtract", ["exp", "subtract"])):
        b = GraphBuilder()
        b.input("x", "f32[2]")
        graph = b.graph(b.add(name, b.input("y", "f32[2]"), b.add("exp", "x")))
        assert applied(Call(name, (op.exp(x), y)), graph) == expected


def test_a_node_inside_must_be_read_once_unless_it_is_shared() -> None:
    b = GraphBuilder()
    inner = b.add("exp", b.input("x", "f32[2]"))
    graph = b.graph(b.add("tanh", inner), inner)
    assert applied(op.tanh(op.exp(x)), graph) == ["exp", "tanh"]
    assert sorted(applied(op.tanh(op.exp(x).shared()), graph)) == ["exp", "relu"]


def test_a_variable_twice_is_one_value() -> None:
    b = GraphBuilder()
    b.input("x", "f32[2]")
    once = b.add("add", "x", b.input("y", "f32[2]"))
    twice = b.add("add", "x", "x")
    assert applied(op.add(x, x), b.graph(once, twice)) == ["add", "relu"]


def test_numbers_constants_and_attributes() -> None:
    b = GraphBuilder()
    b.input("x", "f32[2]")
    b.constant("c", np.ones(2, np.float32))
    b.constant("third", np.asarray([1 / 3], np.float32))
    doubled = b.scaled("multiply", "x", 2.0)
    by_third = b.add("multiply", "x", "third")
    by_c = b.add("multiply", "x", "c")
    top = b.add("softmax", "x", axis=0)
    graph = b.graph(doubled, by_third, by_c, top)
    rest = ["full", "multiply", "multiply", "multiply", "softmax"]

    def changed(pattern: Call) -> list[str]:
        after = apply_rewrites(graph, (rule(pattern),), [])
        return [node.name for node in after.nodes if node.op == "relu"]

    assert changed(op.multiply(x, 2)) == [doubled]
    assert changed(op.multiply(x, 1 / 3)) == [by_third]
    assert changed(op.multiply(x, number("n"))) == [doubled, by_third]
    assert changed(op.multiply(x, constant("c"))) == [by_third, by_c]
    assert changed(op.multiply(x, either(1 / 3, 2))) == [doubled, by_third]
    assert changed(op.softmax(x, axis=0)) == [top]
    assert changed(op.softmax(x, axis=1)) == []
    assert [node.op for node in graph.nodes] == rest


def test_an_ellipsis_stands_for_any_more_operands() -> None:
    b = GraphBuilder()
    b.input("x", "f64[2, 3]")
    weight, bias = b.constant("w", np.ones((3, 3))), b.constant("b", np.ones(3))
    short = b.add("linear", "x", weight, activation="none")
    long = b.add("linear", "x", weight, bias, "x", activation="none")
    left_out = b.add("linear", "x", weight, None, None, activation="none")
    graph = b.graph(short, long, left_out)
    assert applied(op.linear(x, ...), graph) == ["relu", "relu", "relu"]
    assert applied(op.linear(x, y), graph) == ["relu", "linear", "relu"]
    assert applied(op.linear(x, y, None, ...), graph) == ["linear", "linear", "linear"]


def test_a_replacement_of_another_type_is_declined() -> None:
    b = GraphBuilder()
    b.input("x", "f32[2, 1]")
    graph = b.graph(b.add("add", "x", b.input("y", "f32[3]")))
    assert applied(op.add(x, y), graph) == ["add"]


def test_a_part_used_twice_is_made_once_and_names_are_fresh() -> None:
    b = GraphBuilder()
    b.input("x", "f32[2]")
    b.add("exp", "x", name="y.tanh")
    b.add("exp", "x", name="y")
    inner = op.tanh("x")
    only_y = rule(op.exp(x), op.multiply(inner, op.add(inner, op.tanh("x"))))
    after = verify(apply_rewrites(b.graph("y", "y.tanh"), (only_y,), []))
    names = [node.name for node in after.nodes if node.op == "tanh"]
    assert len(names) == len(set(names)) == 4
    assert after.outputs == ("y", "y.tanh")


def test_rules_that_undo_each_other_are_found_out() -> None:
    b = GraphBuilder()
    graph = b.graph(b.add("exp", b.add("tanh", b.input("x", "f32[2]"))))
    there = rule(op.exp(op.tanh(x)), op.tanh(op.exp("x")))
    back = rule(op.tanh(op.exp(x)), op.exp(op.tanh("x")))

    with pytest.raises(GraphError, match="undo each other"):
        apply_rewrites(graph, (there, back), [])


def test_a_rule_whose_function_lacks_a_name_is_an_error() -> None:
    with pytest.raises(TypeError, match="does not take y"):

        @rewrite(op.add(x, y))
        def build(x: Value) -> Replacement:
            return x, "never"


def test_nodes_that_nothing_needs_vanish() -> None:
    b = GraphBuilder()
    b.add("exp", b.add("tanh", b.input("x", "f32[2]")))
    graph = b.graph(b.add("relu", "x"))
    assert [node.op for node in apply_rewrites(graph, (), []).nodes] == ["relu"]


def test_a_call_like_a_node_changes_what_is_named() -> None:
    node = Node(
        "y", "linear", ("x", "w", None, "r"), Attrs(activation="none"), TensorType("f32", (2,))
    )
    assert Call.like(node).operands == node.inputs
    assert Call.like(node, bias="b").operands == ("x", "w", "b", "r")
    assert Call.like(node, residual=None).operands == ("x", "w")
    made = Call.like(node, {"activation": "relu"}, x="z")
    assert (made.op, made.operands, made.attrs) == (
        "linear", ("z", "w", None, "r"), {"activation": "relu"},
    )  # fmt: skip
    with pytest.raises(GraphError, match="no operand 'gamma'"):
        Call.like(node, gamma="g")
