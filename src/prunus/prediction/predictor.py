"""A call's time under any recipe, summed from what single layers take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prunus.errors import InputError
from prunus.ir import evaluate, parse_dim
from prunus.prediction.curve import Curve

Shape = tuple[int, int]
"""Batch and length in tokens."""

Key = tuple[int, int, str, bool, str]
"""What a layer's time depends on besides its zeros: outputs, inputs, activation, residual and
tokens."""

Sparsities = float | Mapping[str, float]
"""One share of zeros for all layers, or one for each by name; a layer that is left out is dense."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer of the plan.

    Attributes:
        name: Of its weight; layers that the compiler joined (query, key and value) are one.
        outputs: Rows of the weight.
        inputs: Columns.
        activation: That its kernel applies, by its name in the op table.
        residual: Whether its kernel adds one.
        tokens: Of a call, in the symbols of the graph; a pooler has one for each text.
    """

    name: str
    outputs: int
    inputs: int
    activation: str = "none"
    residual: bool = False
    tokens: str = "batch*seq"

    @property
    def weights(self) -> int:
        """Elements of the weight."""
        return self.outputs * self.inputs

    def count_tokens(self, sizes: Mapping[str, int]) -> int:
        """Its tokens at a call of these sizes."""
        return evaluate(parse_dim(self.tokens), sizes)

    @property
    def epilogue(self) -> str:
        """What its kernel does besides, for people: "none", "gelu", "gelu + residual"."""
        parts = [self.activation] * (self.activation != "none") + ["residual"] * self.residual
        return " + ".join(parts) or "none"

    @property
    def key(self) -> Key:
        """Layers of one key take the same time."""
        return self.outputs, self.inputs, self.activation, self.residual, self.tokens


@dataclass(frozen=True, slots=True)
class Predictor:
    """Predicts the time of a call: each linear layer by its curve, and all else as measured.

    Attributes:
        layers: Every linear layer, in the order of the plan.
        curves: By the layer's key, pattern (`"1x1"`, `"16x1"`, `"2:4"`) and shape.
        dense: Seconds of the dense kernel by the layer's key and shape.
        rest: Seconds of a call that are not spent in linear layers, by shape.
    """

    layers: tuple[Layer, ...]
    curves: Mapping[tuple[Key, str, Shape], Curve]
    dense: Mapping[tuple[Key, Shape], float]
    rest: Mapping[Shape, float]

    def layer_seconds(self, layer: Layer, pattern: str, sparsity: float, shape: Shape) -> float:
        """Seconds of one layer; dense where that is faster, as the plan would have it.

        Raises:
            InputError: a pattern or shape that was not measured.
        """
        dense = self.dense_seconds(layer, shape)
        if sparsity <= 0:
            return dense
        return min(dense, self.curve(layer, pattern, shape).at(sparsity))

    def curve(self, layer: Layer, pattern: str, shape: Shape) -> Curve:
        """What the layer takes in a pattern, also where the dense kernel is faster.

        Raises:
            InputError: a pattern or shape that was not measured.
        """
        curve = self.curves.get((layer.key, pattern, shape))
        if curve is None:
            raise InputError(
                f"{pattern} at {shape[0]}x{shape[1]} was not measured for layers of "
                f"{layer.outputs}×{layer.inputs}; name it in the grid"
            )
        return curve

    def dense_seconds(self, layer: Layer, shape: Shape) -> float:
        """Seconds of one layer without zeros."""
        return self.dense[layer.key, shape]

    def seconds(self, pattern: str, sparsity: Sparsities, shape: Shape) -> float:
        """Seconds of a call."""
        return self.rest[shape] + sum(
            self.layer_seconds(layer, pattern, _of(sparsity, layer), shape) for layer in self.layers
        )

    def dense_call(self, shape: Shape) -> float:
        """Seconds of a call of the model without zeros."""
        return self.seconds("1x1", 0.0, shape)


def _of(sparsity: Sparsities, layer: Layer) -> float:
    return sparsity.get(layer.name, 0.0) if isinstance(sparsity, Mapping) else sparsity
