"""One op on every element: an activation that no linear layer could take up, or two tensors
added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prunus.kernels.emit import Emitter, Value, vectors_of
from prunus.kernels.layout import FLOAT
from prunus.kernels.spec import Kernel, tile_words
from prunus.kernels.vector_math import ACTIVATIONS, erf, exp

UNARY: dict[str, Callable[[Emitter, Value], Value]] = {
    **{name: function for name, function in ACTIVATIONS.items() if name != "none"},
    "exp": exp,
    "erf": erf,
    "sqrt": lambda k, x: k.sqrt(x),
    "rsqrt": lambda k, x: k.splat(1.0) / k.sqrt(x),
    "abs": lambda k, x: k.magnitude(x),
    "negate": lambda k, x: x * -1.0,
}

BINARY: dict[str, Callable[[Value, Value], Value]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
}

Operand = Literal["tile", "feature", "scalar"]
"""How an operand lies: an activation, one number for each feature, or one number."""


@dataclass(frozen=True)
class Elementwise(Kernel):
    """One group of features on one tile.

    Attributes:
        op: Its name in the op table.
        operands: How each operand lies.
    """

    op: str = "add"
    operands: tuple[Operand, ...] = ("tile", "tile")

    @property
    def parameters(self) -> tuple[str, ...]:
        """The result, the operands `a` and `b`, the groups, and the features."""
        words = tile_words("y")
        for name, kind in zip("ab", self.operands, strict=False):
            words += tile_words(name) if kind == "tile" else (name,)
        return (*words, "row_groups", "features")

    def emit(self, k: Emitter) -> None:
        """Feature by feature."""
        groups, features = k.word("row_groups"), k.word("features")
        tile, group = k.unit // groups, k.unit % groups
        y = k.tile("y", tile, self.width)
        vectors = vectors_of(self.width, k.target)
        rows = []
        for name, kind in zip("ab", self.operands, strict=False):
            rows.append(self._reader(k, name, kind, tile, vectors))
        first, last = features * group // groups, features * (group + 1) // groups
        with k.loop(last, start=first) as f:
            operands = [row(f) for row in rows]
            if len(operands) == 1:
                results = [UNARY[self.op](k, a) for a in operands[0]]
            else:
                results = [BINARY[self.op](a, b) for a, b in zip(*operands, strict=True)]
            k.store_row(results, y.row(f))

    def _reader(
        self, k: Emitter, name: str, kind: Operand, tile: Value, vectors: int
    ) -> Callable[[Value], list[Value]]:
        if kind == "tile":
            operand = k.tile(name, tile, self.width)
            return lambda f: k.load_row(operand.row(f), vectors)
        if kind == "feature":
            return lambda f: [k.broadcast(k.address(name) + f * FLOAT)] * vectors
        return lambda f: [k.broadcast(k.address(name))] * vectors
