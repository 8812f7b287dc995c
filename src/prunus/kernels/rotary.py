"""Rotary position embeddings: each head's halves turned by the token's angles."""

from __future__ import annotations

from dataclasses import dataclass

from prunus.kernels.emit import Emitter, vectors_of
from prunus.kernels.spec import Kernel, tile_words


@dataclass(frozen=True)
class Rotary(Kernel):
    """One head of one tile: (a, b) · cos + (-b, a) · sin.

    Attributes:
        head_width: Features of a head, an even number.
    """

    head_width: int = 64

    @property
    def parameters(self) -> tuple[str, ...]:
        """Activations, the angles' cosines and sines as activations of one head, and the heads."""
        return (*tile_words("x", "cos", "sin", "y"), "heads")

    def emit(self, k: Emitter) -> None:
        """A pair of features at a time; tokens lie in the lanes."""
        heads = k.word("heads")
        tile, head = k.unit // heads, k.unit % heads
        x, cos, sin, y = (k.tile(name, tile, self.width) for name in ("x", "cos", "sin", "y"))
        vectors, half = vectors_of(self.width, k.target), self.head_width // 2
        first = head * self.head_width
        with k.loop(half) as f:
            front, back = (k.load_row(x.row(first + f + at), vectors) for at in (0, half))
            for own, other, at, sign in ((front, back, 0, -1.0), (back, front, half, 1.0)):
                angles = (k.load_row(each.row(f + at), vectors) for each in (cos, sin))
                turned = [
                    k.fma(o * sign, s, a * c)
                    for a, o, c, s in zip(own, other, *angles, strict=True)
                ]
                k.store_row(turned, y.row(first + f + at))
