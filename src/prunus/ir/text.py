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

import re
from collections.abc import Mapping

from prunus.errors import GraphError
from prunus.ir.dims import Expr, parse_dim
from prunus.ir.graph import Attrs, AttrValue, Constant, Graph, Node
from prunus.ir.types import TensorType, parse_type

NAME = r"[\w.:/+\-]+"
_NODE = re.compile(rf"({NAME}) = (\w+)\(([^()]*)\)(?: \{{(.*)\}})?: (\w+\[[^\[\]]*\])")
_VALUE = re.compile(rf"(input|constant) ({NAME}): (\w+\[[^\]]*\])(?: \((.*)\))?")
_LIMIT = re.compile(r"limit (\w+) = (\d{1,18})")
_REMOVED = re.compile(r"removed (\d{1,18}) weights")


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


_ATTRIBUTE = re.compile(r"\s*(\w+)=")
_ITEM = re.compile(
    r"""\s*(?:(?P<open>\()|(?P<close>\))|<(?P<dim>[^<>]*)>|"(?P<text>[^"\\]*)\"|"""
    r"""(?P<word>True|False|None)\b|(?P<float>-?(?:inf|nan|\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+))|"""
    r"""(?P<integer>-?\d{1,19})(?![\w.]))"""
)
_COMMA = re.compile(r"\s*,")
_WORDS = {"True": True, "False": False, "None": None}
_MAX_DEPTH = 4
"""Tuples inside each other; no op has an attribute with more than one."""


def _parse_attrs(text: str) -> Attrs:
    """`key=value, …`, where a value is a number, a string, a dimension `<batch*seq>` or a tuple."""
    attrs: dict[str, AttrValue] = {}
    position = 0
    while position < len(text):
        match = _ATTRIBUTE.match(text, position)
        if match is None or match[1] in attrs:
            raise GraphError(f"attributes are written key=value, each once, found {text[:120]!r}")
        attrs[match[1]], position = _parse_value(text, match.end(), 0)
        position = _skip_comma(text, position)
    return Attrs(attrs)


def _skip_comma(text: str, position: int) -> int:
    match = _COMMA.match(text, position)
    if match is None and text[position:].strip():
        raise GraphError(f"expected a comma at {text[position:][:60]!r}")
    return match.end() if match else len(text)


def _parse_value(text: str, position: int, depth: int) -> tuple[AttrValue, int]:
    """The value at a position of a text, and the position behind it."""
    match = _ITEM.match(text, position)
    if match is None or match["close"] or depth > _MAX_DEPTH:
        raise GraphError(f"cannot read the attribute {text[position:][:60]!r}")
    if match["open"]:
        return _parse_tuple(text, match.end(), depth + 1)
    value: AttrValue
    match match.lastgroup:
        case "dim":
            value = parse_dim(match["dim"])
        case "text":
            value = match["text"]
        case "word":
            value = _WORDS[match["word"]]
        case "float":
            value = float(match["float"])
        case _:
            value = int(match["integer"])
    return value, match.end()


def _parse_tuple(text: str, position: int, depth: int) -> tuple[AttrValue, int]:
    items: list[AttrValue] = []
    while True:
        match = _ITEM.match(text, position)
        if match is not None and match["close"]:
            return tuple(items), match.end()
        item, position = _parse_value(text, position, depth)
        items.append(item)
        if comma := _COMMA.match(text, position):
            position = comma.end()
        elif not re.match(r"\s*\)", text[position:]):
            raise GraphError(f"a tuple is not closed: {text[:120]!r}")
