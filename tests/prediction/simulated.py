"""A processor whose times follow from a formula, so that every prediction can be worked out."""

from __future__ import annotations

from prunus.plan import Options
from prunus.prediction.curve import Curve
from prunus.prediction.layer_times import ANCHORS
from prunus.prediction.predictor import Layer, Predictor, Shape
from prunus.prediction.probe import Probe

SHAPES: tuple[Shape, ...] = ((1, 128), (8, 128))
LAYERS = (
    Layer("encoder.0.up.weight", 64, 16, "gelu"),
    Layer("encoder.0.down.weight", 16, 64, residual=True),
    Layer("encoder.1.up.weight", 64, 16, "gelu"),
    Layer("encoder.1.down.weight", 16, 64, residual=True),
    Layer("pooler.weight", 16, 16, "tanh", tokens="batch"),
)
PER_NONZERO = {"1x1": 1.7e-9, "16x1": 1.05e-9, "2:4": 1.7e-9}
PER_ROW = 40e-9
PER_WEIGHT = 1e-9
REST = {(1, 128): 1e-3, (8, 128): 8e-3}


def seconds_of(layer: Layer, pattern: str | None, sparsity: float, tokens: int) -> float:
    """What the processor takes for a layer: for each nonzero, and for each row."""
    vectors = -(-tokens // 16)
    if pattern is None:
        return vectors * layer.weights * PER_WEIGHT
    nonzeros = (1 - sparsity) * layer.weights
    return vectors * (nonzeros * PER_NONZERO[pattern] + layer.outputs * PER_ROW / 16)


def tokens_of(layer: Layer, shape: Shape) -> int:
    return shape[0] if layer.tokens == "batch" else shape[0] * shape[1]


def simulated_predictor(layers: tuple[Layer, ...] = LAYERS) -> Predictor:
    """A predictor that has measured this processor at the usual densities."""

    def curve(layer: Layer, pattern: str, shape: Shape) -> Curve:
        shares = (0.5,) if ":" in pattern else tuple(reversed(ANCHORS))
        tokens = tokens_of(layer, shape)
        return Curve(
            tuple(1 - share for share in shares),
            tuple(seconds_of(layer, pattern, share, tokens) for share in shares),
        )

    return Predictor(
        layers=layers,
        curves={(e.key, p, s): curve(e, p, s) for e in layers for p in PER_NONZERO for s in SHAPES},
        dense={(e.key, s): seconds_of(e, None, 0, tokens_of(e, s)) for e in layers for s in SHAPES},
        rest=REST,
    )


def measure(probe: Probe, options: Options) -> float:
    """In the place of `time_probe`."""
    if probe.recipe is None:
        return seconds_of(probe.layer, None, 0, probe.tokens)
    pattern = "16x1" if probe.recipe.block == (16, 1) else "1x1"
    return seconds_of(probe.layer, pattern, probe.recipe.sparsity, probe.tokens)
