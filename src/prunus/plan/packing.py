"""Whether a graph may be computed without its padding: no token reads another but by attention, and
attention hides the padding.

Each value is one of three kinds. Plain: made from the inputs alone, for all tokens. Tokens: made
for the real tokens, each from its own sequence; what lies at padding does not matter. Sequences:
one for each sequence. A node that fits none of the rules ends the analysis with a sentence.
"""

from __future__ import annotations

from typing import Any, Literal

from prunus.ir import Expr, Graph, Node, TensorType, product
from prunus.ir.dims import symbols
from prunus.kernels.elementwise import BINARY, UNARY
from prunus.passes.heads import ROLES
from prunus.runtime.packing import PackingRule

Kind = Literal["plain", "tokens", "sequences"]

BY_ELEMENT = frozenset({
    *UNARY, *BINARY, "where", "cast", "not", "and", "or", "equal", "not_equal", "less",
    "less_equal", "greater", "greater_equal", "power", "minimum", "maximum", "divide", "negate",
    "abs", "erf", "exp", "log", "sqrt", "rsqrt", "expand",
})  # fmt: skip
COMPUTED_BY_KERNELS = frozenset(
    {"linear", "layer_norm", "rms_norm", "rotary", "embedding", "attention"}
)
"""Ops that a kernel may compute whatever their operands are; those by element only if one of these
is behind them."""

BY_ROW = BY_ELEMENT | {"linear", "layer_norm", "rms_norm", "rotary", "reshape", "embedding"}


def find_packing(graph: Graph) -> PackingRule | str:
    """The rule by which padding is left out, or why it cannot be."""
    attentions = [node for node in graph.nodes if node.op == "attention"]
    if not attentions:
        return "no attention, so nothing says what is padding"
    types = graph.types()
    query = attentions[0]["query"]
    first = types[query].shape
    if len(first) != 3 or not all(isinstance(dim, Expr) for dim in first[:2]):
        return f"attention reads {query}, which is not [batch, length, features]"
    return _Analysis(graph, types, first[0], first[1]).rule(attentions)


class _Analysis:
    def __init__(
        self, graph: Graph, types: dict[str, TensorType], batch: int | Expr, length: int | Expr
    ) -> None:
        self.graph, self.types, self.batch, self.length = graph, types, batch, length
        self.kinds: dict[str, Kind] = {}
        self.producers = graph.producers()

    def rule(self, attentions: list[Node]) -> PackingRule | str:
        masks = {node.get("mask") for node in attentions}
        if len(masks) > 1:
            return "attentions have different masks"
        mask = masks.pop()
        if mask is not None and not self._hides_keys(self.types[mask]):
            return f"the mask {mask} is {self.types[mask]}, not one number for each key"
        for node in self.graph.nodes:
            kind = self._kind(node)
            if kind is None:
                return f"{node.name} ({node.op}) may read padding"
            self.kinds[node.name] = kind
        if other := self._in_another_order():
            return f"the tokens of {other} may lie in another order"
        if mask is not None and not self._is_made_first(mask):
            return f"the mask {mask} is not made from the inputs alone"
        return PackingRule(self.batch, self.length, mask, self._splits())

    def _in_another_order(self) -> str | None:
        """A value with as many tokens, but not known to have them sequence by sequence: the planner
        tells by their number which tokens are left out.
        """
        tokens = product((self.batch, self.length))
        ordered = set[str]()
        for name, type in self.types.items():
            if type.dtype != "f32" or not type.rank or product(type.shape[:-1]) != tokens:
                continue
            if type.shape[:2] != (self.batch, self.length) and not self._keeps_order(name, ordered):
                return name
            ordered.add(name)
        return None

    def _keeps_order(self, name: str, ordered: set[str]) -> bool:
        """Whether a value has its tokens in the order of its operands that have as many."""
        node = self.producers.get(name)
        return node is not None and node.op in BY_ROW and any(x in ordered for x in node.inputs)

    def _hides_keys(self, mask: TensorType) -> bool:
        return mask.shape == (self.batch, 1, 1, self.length)

    def _is_made_first(self, mask: str) -> bool:
        """Whether a value is computed by NumPy before any kernel runs."""
        behind, seen = [mask], set[str]()
        while behind:
            name = behind.pop()
            node = None if name in seen else self.producers.get(name)
            seen.add(name)  # once: as many paths lead to a value as there are sums of sums
            if node is not None:
                if self.kinds[node.name] != "plain" or node.op in COMPUTED_BY_KERNELS:
                    return False
                behind += [each for each in node.inputs if each is not None]
        return True

    def _kind(self, node: Node) -> Kind | None:
        """The kind of a node's value; None where padding could be read."""
        kinds = {self.kinds.get(name, "plain") for name in node.inputs if name is not None}
        if node.op == "attention":
            lead = (self.batch, self.length)
            fits = all(self.types[node[role]].shape[:-1] == lead for role in ROLES)
            return "tokens" if fits else None
        if kinds <= {"plain"}:
            return "tokens" if self._in_tiles(node.type) else "plain"
        if node.op in ("slice", "select"):
            return self._selection(node)
        if node.op not in BY_ROW:
            return None
        if "tokens" in kinds:
            return "tokens" if self._by_token(node.type) else None
        return "sequences" if node.type.rank and node.type.shape[0] == self.batch else None

    def _in_tiles(self, type: TensorType) -> bool:
        """Whether the planner may keep a value in tiles, by real tokens only."""
        return type.dtype == "f32" and self._by_token(type) and isinstance(type.shape[-1], int)

    def _by_token(self, type: TensorType) -> bool:
        """Whether the axes in front are batch and length, or both in one."""
        shape = type.shape
        return shape[:2] == (self.batch, self.length) or (
            type.rank == 2 and shape[0] == product((self.batch, self.length))
        )

    def _selection(self, node: Node) -> Kind | None:
        """Features of a value, or the first token of each sequence, which is always real."""
        name, attrs = node["x"], node.attrs
        kind, axis = self.kinds[name], attrs.axis
        if kind == "sequences":
            return kind if axis > 0 else None
        if self.types[name].shape[:2] != (self.batch, self.length):
            return kind if axis > 0 else None
        if axis > 1:
            return kind
        first = attrs.index == 0 if node.op == "select" else (attrs.start, attrs.stop) == (0, 1)
        return "sequences" if axis == 1 and first else None

    def _splits(self) -> bool:
        """Whether no sequence reads another: plain values need a look of their own."""
        values = [*self.graph.inputs, *self.graph.outputs]
        if any(self.types[name].shape[:1] != (self.batch,) for name in values):
            return False
        if not all(map(self._has_batch_in_front, self.types.values())):
            return False
        return all(self._keeps_batch(node) for node in self.graph.nodes)

    def _keeps_batch(self, node: Node) -> bool:
        """Whether an op on plain values, if they have the batch, keeps it in front and apart."""
        inputs = (self.types[name] for name in node.inputs if name is not None)
        shapes = [type.shape for type in (node.type, *inputs) if self._has_batch(type)]
        if self.kinds[node.name] != "plain" or not shapes:
            return True
        attrs: Any = node.attrs
        axes = attrs.axes if "axes" in attrs else (attrs.get("axis", -1),)
        return (
            node.op in BY_ROW | {"full", "slice", "select", "cumsum", "sum", "mean", "max"}
            and all(axis % len(shape) for axis in axes for shape in shapes)
            and all(shape[0] == self.batch for shape in shapes)
        )

    def _has_batch_in_front(self, type: TensorType) -> bool:
        """Whether the batch is the first axis, or in it with the length, and in no other."""
        own, (first, *rest) = symbols(self.batch), (*type.shape, 1)
        in_front = first in (self.batch, product((self.batch, self.length)))
        return (in_front or not symbols(first) & own) and not any(symbols(d) & own for d in rest)

    def _has_batch(self, type: TensorType) -> bool:
        return bool(type.symbols() & symbols(self.batch))
