"""Layer normalisation: with tokens in the lanes it is a vertical reduction over the features."""

from __future__ import annotations

from dataclasses import dataclass

from prunus.kernels.emit import Emitter, vectors_of
from prunus.kernels.layout import FLOAT
from prunus.kernels.spec import Kernel, tile_words


@dataclass(frozen=True)
class LayerNorm(Kernel):
    """One vector of tokens: mean, variance around it, then the normalised features.

    Attributes:
        eps: Added to the variance.
        centred: Whether the mean is taken off; without it is the root mean square that divides, and
            there is no beta.
    """

    eps: float = 1e-12
    centred: bool = True

    @property
    def parameters(self) -> tuple[str, ...]:
        """Activations, gamma and beta [features], the number of features, vectors of the widest
        tile.
        """
        beta = ("beta",) if self.centred else ()
        return (*tile_words("x", "y"), "gamma", *beta, "features", "vectors")

    def emit(self, k: Emitter) -> None:
        """y = (x - mean) / sqrt(variance + eps) · gamma + beta."""
        tile, vector = k.unit // k.word("vectors"), k.unit % k.word("vectors")
        with k.when(vector < vectors_of(self.width, k.target)):
            offset = vector * (k.lanes * FLOAT)
            x, y = k.tile("x", tile, self.width), k.tile("y", tile, self.width)
            features = k.word("features")
            share = k.splat(k.number(1.0) / k.as_float(features))

            mean = k.splat(0.0)
            if self.centred:
                total = k.variable(k.splat(0.0))
                with k.loop(features) as f:
                    total.set(total.get() + k.load(x.row(f) + offset))
                mean = total.get() * share

            squares = k.variable(k.splat(0.0))
            with k.loop(features) as f:
                centred = k.load(x.row(f) + offset) - mean
                squares.set(k.fma(centred, centred, squares.get()))
            scale = k.splat(1.0) / k.sqrt(squares.get() * share + self.eps)

            with k.loop(features) as f:
                normal = (k.load(x.row(f) + offset) - mean) * scale
                gamma = k.broadcast(k.address("gamma") + f * FLOAT)
                if self.centred:
                    beta = k.broadcast(k.address("beta") + f * FLOAT)
                    k.store(k.fma(normal, gamma, beta), y.row(f) + offset)
                else:
                    k.store(normal * gamma, y.row(f) + offset)
