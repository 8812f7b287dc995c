"""What a linear layer does to a sum before it is stored: `activation(sum + bias) + residual`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunus.kernels.emit import Emitter, Value
from prunus.kernels.spec import tile_words
from prunus.kernels.vector_math import ACTIVATIONS


@dataclass(frozen=True, slots=True)
class Epilogue:
    """`activation` by its name in the op table, and whether a residual is added."""

    activation: str = "none"
    residual: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The argument words that it needs."""
        return tile_words("residual") if self.residual else ()

    def finish(self, k: Emitter, sums: Sequence[Value], residual: Value | None) -> list[Value]:
        """The vectors to store, of sums that have their bias; `residual` is the address of its
        lanes.
        """
        values = [ACTIVATIONS[self.activation](k, value) for value in sums]
        if residual is None:
            return values
        lanes = k.load_row(residual, len(values))
        return [value + lane for value, lane in zip(values, lanes, strict=True)]
