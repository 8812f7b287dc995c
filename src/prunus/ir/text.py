"""Graphs as text, and back. Constants' values are not part of the text: it names their types and
how they are stored.

    graph
      limit seq = 512
      input input_ids: i64[batch, seq]
      constant w: f32[8, 4]
      h = linear(x, w, _) {activation="relu"}: f32[batch, seq, 8]
      return h
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from prunus.errors import GraphError
from prunus.ir.dims import Expr, parse_dim
from prunus.ir.graph import Attrs, AttrValue, Constant, Graph, Node
from prunus.ir.types import TensorType, parse_type

_NAME = r"[\w.:/+\-]+"
_NODE = re.compile(rf"({_NAME}) = (\w+)\(([^()]*)\)(?: \{{(.*)\}})?: (\w+\[[^\[\]]*\])")
_VALUE = re.compile(rf"(input|constant) ({_NAME}): (\w+\[[^\]]*\])(?: \((.*)\))?")
_LIMIT = re.compile(r"limit (\w+) = (\d+)")
_REMOVED = re.compile(r"removed (\d+) weights")


def print_graph(graph: Graph) -> str:
    """The graph as text; `parse_graph` reads it back."""
    lines = [f"limit {name} = {size}" for name, size in sorted(graph.limits.items())]
    lines += [f"removed {graph.removed} weights"] if graph.removed else []
    lines += [f"input {name}: {type}" for name, type in graph.inputs.items()]
    lines += [_constant_text(name, constant) for name, constant in graph.constants.items()]
    lines += [node_text(node) for node in graph.nodes]
    lines.append(f"return {', '.join(graph.outputs)}")
    return "graph\n" + "".join(f"  {line}\n" for line in lines)


def node_text(node: Node) -> str:
    """One node as a line."""
    operands = ", ".join("_" if name is None else name for name in node.inputs)
    attrs = ", ".join(f"{key}={_attr_text(value)}" for key, value in node.attrs.items())
    return f"{node.name} = {node.op}({operands}){f' {{{attrs}}}' if attrs else ''}: {node.type}"


def _constant_text(name: str, constant: Constant) -> str:
    note = f" ({constant.pattern.describe()})" if constant.pattern is not None else ""
    return f"constant {name}: {constant.type}{note}"


def _attr_text(value: AttrValue) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(_attr_text(item) for item in value)}{',' * (len(value) == 1)})"
    if isinstance(value, Expr):
        return f"<{value}>"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def parse_graph(text: str, constants: Mapping[str, Constant]) -> Graph:
    """The graph that `print_graph` printed, with the constants' values given by name.

    Raises:
        GraphError: a line that cannot be read, or a constant that is missing or of another type.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != "graph" or not lines[-1].startswith("return "):
        raise GraphError("a graph's text starts with 'graph' and ends with 'return …'")
    inputs: dict[str, TensorType] = {}
    used: dict[str, Constant] = {}
    limits: dict[str, int] = {}
    removed = 0
    nodes: list[Node] = []
    for line in lines[1:-1]:
        if match := _LIMIT.fullmatch(line):
            limits[match[1]] = int(match[2])
        elif match := _REMOVED.fullmatch(line):
            removed = int(match[1])
        elif match := _VALUE.fullmatch(line):
            kind, name, type = match[1], match[2], parse_type(match[3])
            if kind == "input":
                inputs[name] = type
            else:
                used[name] = _constant(name, type, constants)
        elif match := _NODE.fullmatch(line):
            nodes.append(_parse_node(match))
        else:
            raise GraphError(f"cannot read the line {line[:120]!r}")
    outputs = tuple(name.strip() for name in lines[-1].removeprefix("return ").split(","))
    return Graph(inputs, used, tuple(nodes), outputs, limits, removed)


def _constant(name: str, type: TensorType, constants: Mapping[str, Constant]) -> Constant:
    if name not in constants:
        raise GraphError(f"the constant {name!r} has no value")
    if constants[name].type != type:
        raise GraphError(f"the constant {name!r} is {constants[name].type}, expected {type}")
    return constants[name]


def _parse_node(match: re.Match[str]) -> Node:
    name, op, operands, attrs, type = match.groups()
    names = tuple(None if n == "_" else n for n in re.split(r",\s*", operands) if n)
    return Node(name, op, names, _parse_attrs(attrs or ""), parse_type(type))


def _parse_attrs(text: str) -> Attrs:
    # A dimension is printed as <batch*seq>; as a call of a name that no attribute has, Python's own
    # parser reads it.
    call = "attrs(" + re.sub(r"<([^<>]*)>", r"dim__(\1)", text) + ")"
    try:
        match ast.parse(call, mode="eval").body:
            case ast.Call(func=ast.Name(id="attrs"), args=[], keywords=words):
                return Attrs({_keyword(word): _parse_attr(word.value) for word in words})
    except (SyntaxError, ValueError, RecursionError) as error:
        raise GraphError(f"cannot read the attributes {text[:120]!r}") from error
    raise GraphError(f"attributes are written key=value, found {text[:120]!r}")


def _keyword(word: ast.keyword) -> str:
    if word.arg is None:
        raise ValueError("an attribute without a name")
    return word.arg


def _parse_attr(node: ast.expr) -> AttrValue:
    match node:
        case ast.Tuple(elts=elements):
            return tuple(_parse_attr(element) for element in elements)
        case ast.Call(func=ast.Name(id="dim__"), args=[inner]):
            return parse_dim(ast.unparse(inner))
        case ast.Name(id=("inf" | "nan") as name):
            return float(name)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id="inf")):
            return float("-inf")
    value = ast.literal_eval(node)
    if value is None or isinstance(value, int | float | bool | str):
        return value
    raise GraphError(f"an attribute cannot be {value!r}")
