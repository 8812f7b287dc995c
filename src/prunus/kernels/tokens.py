"""Moving tokens into, out of and between tiles: embedding look-ups, and tensors that NumPy made or
will read.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunus.kernels.emit import Emitter, Value
from prunus.kernels.layout import FLOAT, QUANTUM, TILE
from prunus.kernels.spec import Kernel, tile_words


@dataclass(frozen=True)
class Embed(Kernel):
    """One tile of Σ table[id]: the sum of rows of several tables.

    With one table and ids 0, 1, 2, … it brings a plain `[tokens, features]` array into tiles.

    Attributes:
        tables: How many.
    """

    tables: int = 1

    @property
    def parameters(self) -> tuple[str, ...]:
        """The result, its features and tokens, and per table its address and its int64 ids
        [tokens].
        """
        pairs = tuple(f"{kind}{i}" for i in range(self.tables) for kind in ("table", "ids"))
        return (*tile_words("y"), "features", "tokens", *pairs)

    def emit(self, k: Emitter) -> None:
        """Rows are read by vectors of features and written lane by lane; lanes without a token
        become 0.
        """
        y, features = k.tile("y", k.unit, self.width), k.word("features")
        first = k.unit * TILE
        present = (k.word("tokens") - first).minimum(self.width)
        whole = features // k.lanes
        with k.loop(present) as lane:
            token = first + lane
            rows = [
                k.address(f"table{i}")
                + k.load_int(k.address(f"ids{i}") + token * 8, 64) * features * FLOAT
                for i in range(self.tables)
            ]
            with k.loop(whole) as block:
                f = block * k.lanes
                total = k.load(rows[0] + f * FLOAT, aligned=False)
                for row in rows[1:]:
                    total = total + k.load(row + f * FLOAT, aligned=False)
                for i in range(k.lanes):
                    k.store_float(k.lane(total, i), y.row(f + i) + lane * FLOAT)
            with k.loop(features, start=whole * k.lanes) as f:
                value = k.load_float(rows[0] + f * FLOAT)
                for row in rows[1:]:
                    value = value + k.load_float(row + f * FLOAT)
                k.store_float(value, y.row(f) + lane * FLOAT)
        with k.loop(features) as f, k.loop(self.width, start=present) as lane:
            k.store_float(k.number(0.0), y.row(f) + lane * FLOAT)


@dataclass(frozen=True)
class Unpack(Kernel):
    """One tile, written as rows of a plain `[…, features]` array for NumPy to read."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The activation, its features and tokens, the address of the array, and the row of each
        token in it (int64).
        """
        return (*tile_words("x"), "features", "tokens", "out", "rows")

    def emit(self, k: Emitter) -> None:
        """Vectors of features are gathered lane by lane, so that the array is written in whole
        lines.
        """
        x, features = k.tile("x", k.unit, self.width), k.word("features")
        first = k.unit * TILE
        present = (k.word("tokens") - first).minimum(self.width)
        whole = features // k.lanes

        def write(f: Value, lane: Value, count: int) -> None:
            row = k.load_int(k.address("rows") + (first + lane) * 8, 64)
            out = k.address("out") + (row * features + f) * FLOAT
            values = [k.load_float(x.row(f + i) + lane * FLOAT) for i in range(count)]
            if count == 1:
                k.store_float(values[0], out)
            else:
                k.store(k.vector(values), out, aligned=False)

        with k.loop(whole) as block, k.loop(present) as lane:
            write(block * k.lanes, lane, k.lanes)
        with k.loop(features, start=whole * k.lanes) as f, k.loop(present) as lane:
            write(f, lane, 1)


@dataclass(frozen=True)
class TakeTokens(Kernel):
    """One tile made of chosen tokens of another tensor: a `select` of each sequence's first token,
    say.
    """

    @property
    def parameters(self) -> tuple[str, ...]:
        """Activations, features, tokens of the result, and the positions (int64) of its tokens in
        x.
        """
        return (*tile_words("x", "y"), "features", "tokens", "positions", "x_tokens")

    def emit(self, k: Emitter) -> None:
        """Copied float by float; lanes without a token become 0."""
        y, features = k.tile("y", k.unit, self.width), k.word("features")
        first = k.unit * TILE
        present = (k.word("tokens") - first).minimum(self.width)
        last = (k.word("x_tokens") - 1) // TILE
        rest = (k.word("x_tokens") - last * TILE + (QUANTUM - 1)) // QUANTUM * QUANTUM
        with k.loop(present) as lane:
            token = k.load_int(k.address("positions") + (first + lane) * 8, 64)
            tile = token // TILE
            width = (tile < last).select(k.integer(TILE), rest)
            start = k.address("x") + tile * k.word("x.features") * (TILE * FLOAT)
            start = start + (k.word("x.first") * width + token % TILE) * FLOAT
            with k.loop(features) as f:
                value = k.load_float(start + f * width * FLOAT)
                k.store_float(value, y.row(f) + lane * FLOAT)
        with k.loop(features) as f, k.loop(self.width, start=present) as lane:
            k.store_float(k.number(0.0), y.row(f) + lane * FLOAT)
