"""What lowerings work with: where each value lies, moving it where it is needed, and the list of
steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunus.ir import Attrs, Expr, Graph, Node, TensorType, product
from prunus.ir.graph import AttrValue
from prunus.kernels.layout import TILE
from prunus.kernels.spec import Kernel
from prunus.kernels.tokens import Embed, Unpack
from prunus.plan.options import Options
from prunus.plan.packing import find_packing
from prunus.plan.race import Choices
from prunus.runtime.packing import COMPUTED_TOKENS, PackingRule
from prunus.runtime.program import (
    BoundArgument,
    Buffer,
    Derived,
    Feed,
    Fresh,
    NativeStep,
    NumpyStep,
    OfPacking,
    Step,
    Tiles,
    Work,
)
from prunus.runtime.weights import Weights


class Planner:
    """The state of planning one graph.

    A value lies in tiles (`places`), or as a plain array with NumPy, or both: `tiles` and `plain`
    bring it there.
    """

    def __init__(self, graph: Graph, options: Options, choices: Choices, weights: Weights) -> None:
        self.graph, self.options, self.choices, self.weights = graph, options, choices, weights
        self.types = graph.types()
        self.packing: PackingRule | str = "values of padding are read outside of the graph"
        if options.may_pack:
            self.packing = find_packing(graph)
        self.places: dict[str, Tiles] = {}
        self.steps: list[Step] = []
        self.buffers: dict[str, Buffer] = {}
        self.plain_constants: dict[str, None] = {}
        self._plain = set(graph.inputs)

    # Values

    def tiles(self, name: str) -> Tiles:
        """Where the value lies in tiles; a plain array is packed first."""
        if name not in self.places:
            self.plain(name)
            self._pack(name)
        return self.places[name]

    def spread(self, name: str, shape: tuple[int | Expr, ...]) -> Tiles:
        """Where the value lies in tiles, broadcast to a shape: as what every sequence shares."""
        type = TensorType("f32", shape)
        if self.types[name] == type:
            return self.tiles(name)
        spread = f"{name} as {type}"
        if spread not in self.places:
            self.plain(name)
            self.types[spread] = type
            self._pack(spread, name)
        return self.places[spread]

    def plain(self, name: str) -> None:
        """Make sure that NumPy has the value; tiles are unpacked first."""
        if name in self.graph.constants:
            self.plain_constants[name] = None
        elif name not in self._plain:
            self._unpack(name)
            self._plain.add(name)

    def define(self, node: Node) -> Tiles:
        """A new buffer for the node's value."""
        return self._new_buffer(node.name, node.type)

    def token_feed(self, function: str, value: str, type: TensorType, **attrs: AttrValue) -> Feed:
        """An array made at each call that has a row for each token of a value of this type."""
        by_token = self._is_packed(product(type.shape[:-1]))
        return Feed(function, (value,), Attrs(attrs), by_token)

    def tokens(self, type: TensorType) -> int | Expr:
        """The tokens of a value in tiles: all its axes but the last, or those that are computed
        where padding is left out.
        """
        tokens = product(type.shape[:-1])
        return COMPUTED_TOKENS if self._is_packed(tokens) else tokens

    def _is_packed(self, tokens: int | Expr) -> bool:
        rule = self.packing
        return isinstance(rule, PackingRule) and tokens == product((rule.batch, rule.length))

    def token_count(self, type: TensorType) -> BoundArgument:
        """The exact number of tokens of a value: `tokens` may be rounded up to whole quanta."""
        tokens = product(type.shape[:-1])
        return self._of_packing(tokens, OfPacking("count"), tokens)

    def token_rows(self, type: TensorType) -> BoundArgument:
        """For each token of a value its row among all tokens of the batch: int64."""
        tokens = product(type.shape[:-1])
        everyone = Derived("rows", Attrs(tokens=tokens))
        return self._of_packing(tokens, OfPacking("rows"), everyone)

    def sequence_starts(self, lead: Sequence[int | Expr], length: int | Expr) -> BoundArgument:
        """The first token of each of the sequences [lead] of so many tokens, and the end: int64."""
        count = product(lead)
        regular = Derived("starts", Attrs(count=count, length=length))
        return self._of_packing(product((count, length)), OfPacking("starts"), regular)

    def selected_tokens(self, type: TensorType, node: Node) -> BoundArgument:
        """The tokens of a value of this type that a selection takes: int64."""
        attrs = Attrs(node.attrs, op=node.op, shape=type.shape[:-1])
        tokens = product(type.shape[:-1])
        return self._of_packing(tokens, OfPacking("selected", attrs), Derived("selected", attrs))

    def _of_packing(
        self, tokens: int | Expr, packed: OfPacking, otherwise: BoundArgument
    ) -> BoundArgument:
        """What follows from the packing for tokens that it packs, else another argument."""
        return packed if self._is_packed(tokens) else otherwise

    def features(self, name: str) -> int:
        """The last dimension of a value that lies, or will lie, in tiles."""
        features = self.types[name].shape[-1]
        assert isinstance(features, int), "a tensor in tiles has a fixed number of features"
        return features

    # Steps

    def emit(
        self,
        node: Node,
        *,
        kernel: Kernel,
        label: str,
        tokens: int | Expr | None,
        units: int | Expr,
        arguments: Mapping[str, BoundArgument],
        scratch: int | Expr = 0,
        reason: str = "",
        weight: str | None = None,
        work: Work | None = None,
    ) -> None:
        """Add a native step that computes the node's value."""
        self.steps.append(
            NativeStep(
                node.name, node.op, kernel, label, tokens, units, arguments, scratch, reason,
                weight, work or Work(), frozenset({self.places[node.name].buffer}),
            )
        )  # fmt: skip

    def interpret(self, node: Node, reason: str) -> None:
        """Add a step on the interpreter."""
        for name in node.inputs:
            if name is not None:
                self.plain(name)
        self._plain.add(node.name)
        self.steps.append(NumpyStep(node, reason))

    def _new_buffer(self, name: str, type: TensorType) -> Tiles:
        features, tokens = self.features(name), self.tokens(type)
        self.buffers[name] = Buffer(name, features, tokens)
        self.places[name] = Tiles(name, tokens, features, 0, features)
        return self.places[name]

    def _pack(self, name: str, source: str | None = None) -> None:
        """Bring a plain array into tiles: the value's own, or another's that is broadcast."""
        type, source = self.types[name], source or name
        place = self._new_buffer(name, type)
        arguments: dict[str, BoundArgument] = {
            "y": place,
            "features": place.features,
            "tokens": self.token_count(type),
            "table0": Feed("tokens", (source,), Attrs(shape=type.shape)),
            "ids0": self.token_rows(type),
        }
        self.steps.append(
            NativeStep(
                name, "pack", Embed(TILE, 1), "pack", place.tokens, 1, arguments,
                reason="brings a plain array into tiles", writes=frozenset({place.buffer}),
            )
        )  # fmt: skip

    def _unpack(self, name: str) -> None:
        place, type = self.places[name], self.types[name]
        arguments: dict[str, BoundArgument] = {
            "x": place,
            "features": place.features,
            "tokens": self.token_count(type),
            "out": Fresh(name, type),
            "rows": self.token_rows(type),
        }
        self.steps.append(
            NativeStep(
                name, "unpack", Unpack(TILE), "unpack", place.tokens, 1, arguments,
                reason="brings tiles into a plain array",
            )
        )  # fmt: skip
