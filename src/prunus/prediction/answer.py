"""Answers to what people ask of a prediction; each says itself in a sentence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunus.prediction.predictor import Layer, Shape
from prunus.prediction.words import count, milliseconds, names_text, percent, sizes, times

ALIKE = 0.1
"""Rates that differ by less are alike: a prediction is hardly more exact."""


class Answer(ABC):
    """What was asked of a prediction, answered: `str()` says it in a sentence."""

    @abstractmethod
    def __str__(self) -> str:
        """The answer in a sentence."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`, times in seconds; "answers" tells which question it was."""


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """Layers that take the same time: of one size, with the same epilogue and tokens.

    Attributes:
        layers: In the order of the plan, at least one.
    """

    layers: tuple[Layer, ...]

    @property
    def layer(self) -> Layer:
        """Any of them."""
        return self.layers[0]

    @property
    def weights(self) -> int:
        """Elements of all their weights together."""
        return sum(layer.weights for layer in self.layers)

    @property
    def size(self) -> str:
        """Outputs by inputs, and the epilogue: `3072×768 gelu`."""
        layer = self.layer
        epilogue = "" if layer.epilogue == "none" else f" {layer.epilogue}"
        return f"{layer.outputs}×{layer.inputs}{epilogue}"

    @property
    def names(self) -> str:
        """Of the layers, with a star for the numbers in which they differ."""
        return names_text(layer.name for layer in self.layers)

    def __str__(self) -> str:
        return f"{count(len(self.layers), 'layer')} of {self.size} ({self.names})"

    def to_dict(self) -> dict[str, Any]:
        """What the layers have in common, and how many there are."""
        layer = self.layer
        return {
            "outputs": layer.outputs,
            "inputs": layer.inputs,
            "epilogue": layer.epilogue,
            "tokens": layer.tokens,
            "count": len(self.layers),
        }


@dataclass(frozen=True, slots=True)
class LeastSparsity(Answer):
    """The least share of zeros with which a call takes no longer than wanted.

    Attributes:
        pattern: Of the zeros.
        shape: Batch and length.
        target: Seconds wanted.
        speedup: Over dense, where the target was given so.
        sparsity: The answer; 0 where the dense model is fast enough, None where nothing is that was
            measured.
        seconds: Predicted at that share, or at the fastest one measured where there is no answer.
        dense: Seconds of the dense model, predicted.
        least: The least share of zeros that was measured.
        most: The largest.
    """

    pattern: str
    shape: Shape
    target: float
    speedup: float | None
    sparsity: float | None
    seconds: float
    dense: float
    least: float
    most: float

    @property
    def wanted(self) -> str:
        """The target in the words in which it was given."""
        time = f"{milliseconds(self.target)} ms"
        return time if self.speedup is None else f"{self.speedup:g}× ({time})"

    def __str__(self) -> str:
        where = f"{self.pattern} at {sizes(self.shape)}"
        if self.sparsity is None:
            return (
                f"{where}: {self.wanted} is out of reach, up to {percent(self.most)} zeros a call "
                f"takes {milliseconds(self.seconds)} ms at best"
            )
        if self.sparsity == 0:
            return f"{where}: {self.wanted} is met without zeros, in {milliseconds(self.dense)} ms"
        if self.sparsity <= self.least:
            met = f"{percent(self.sparsity)} zeros, the least measured, meet"
        else:
            met = f"at least {percent(self.sparsity)} zeros are needed for"
        return f"{where}: {met} {self.wanted}, predicted {milliseconds(self.seconds)} ms"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "answers": "least sparsity",
            "pattern": self.pattern,
            "shape": list(self.shape),
            "target": self.target,
            "speedup": self.speedup,
            "sparsity": self.sparsity,
            "seconds": self.seconds,
            "dense": self.dense,
            "measured": [self.least, self.most],
        }


@dataclass(frozen=True, slots=True)
class BreakEven(Answer):
    """The share of zeros from which on the sparse kernel of a layer beats the dense one.

    Attributes:
        group: The layers.
        pattern: Of the zeros.
        shape: Batch and length.
        sparsity: The answer, None where dense wins at the most zeros measured.
        least: The least share of zeros that was measured; the answer may lie below it.
        most: The largest.
    """

    group: LayerGroup
    pattern: str
    shape: Shape
    sparsity: float | None
    least: float
    most: float

    def __str__(self) -> str:
        where = f"{self.pattern} at {sizes(self.shape)}, {self.group}"
        if self.sparsity is None:
            return f"{where}: dense is not beaten up to {percent(self.most)} zeros"
        if self.sparsity <= self.least:
            return f"{where}: sparse is faster from {percent(self.sparsity)} zeros, or fewer"
        return f"{where}: sparse is faster from {percent(self.sparsity)} zeros"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "answers": "break-even",
            "pattern": self.pattern,
            "shape": list(self.shape),
            "layers": self.group.to_dict(),
            "sparsity": self.sparsity,
            "measured": [self.least, self.most],
        }


@dataclass(frozen=True, slots=True)
class Bought:
    """What pruning a group of layers buys.

    Attributes:
        group: The layers.
        seconds: By which a call becomes shorter if these alone are pruned.
        removed: Weights that become zero for it.
    """

    group: LayerGroup
    seconds: float
    removed: float

    @property
    def rate(self) -> float:
        """Seconds bought per weight removed."""
        return self.seconds / self.removed

    @property
    def rate_text(self) -> str:
        """Microseconds bought per million weights removed."""
        return milliseconds(1e9 * self.rate)


@dataclass(frozen=True, slots=True)
class PruneOrder(Answer):
    """Which layers to prune first, by the time that each weight removed there buys.

    Attributes:
        pattern: Of the zeros.
        sparsity: Up to which each layer is pruned.
        shape: Batch and length.
        bought: By group of layers, the largest rate first.
    """

    pattern: str
    sparsity: float
    shape: Shape
    bought: tuple[Bought, ...]

    @property
    def tie(self) -> str | None:
        """Why no layer comes first, or None where one does."""
        first, last = self.bought[0], self.bought[-1]
        if first.rate <= 0:
            return "no layer becomes faster, so none comes first"
        if first is last:
            return (
                f"all {count(len(first.group.layers), 'layer')} have the same size and gain the "
                f"same, so none comes first: {first.rate_text} µs per million weights removed"
            )
        if last.rate >= (1 - ALIKE) * first.rate:
            return (
                "no layer comes first, since a million weights removed buy nearly the same "
                f"everywhere: {last.rate_text} to {first.rate_text} µs"
            )
        return None

    def __str__(self) -> str:
        where = f"{percent(self.sparsity)} {self.pattern} at {sizes(self.shape)}"
        if self.tie is not None:
            return f"{where}: {self.tie}"
        listed = "; ".join(f"{each.group}, {each.rate_text} µs" for each in self.bought)
        return f"{where}: prune first where a million weights removed buy most time: {listed}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "answers": "which layers first",
            "pattern": self.pattern,
            "sparsity": self.sparsity,
            "shape": list(self.shape),
            "layers": [
                {
                    **each.group.to_dict(),
                    "seconds_bought": each.seconds,
                    "weights_removed": each.removed,
                    "seconds_per_weight": each.rate,
                }
                for each in self.bought
            ],
        }


@dataclass(frozen=True, slots=True)
class NonUniform(Answer):
    """What a recipe by layer would buy that keeps as many weights as the uniform one.

    Attributes:
        pattern: Of the zeros.
        sparsity: Share of zeros of all weights together, in both recipes.
        shape: Batch and length.
        shares: Share of zeros of each layer, by name.
        groups: Layers of one size with one share of zeros.
        seconds: Predicted with these shares.
        uniform: Predicted with the same share everywhere.
    """

    pattern: str
    sparsity: float
    shape: Shape
    shares: Mapping[str, float]
    groups: tuple[tuple[LayerGroup, float], ...]
    seconds: float
    uniform: float

    @property
    def bought(self) -> float:
        """Share of the uniform recipe's time that is saved."""
        return 1 - self.seconds / self.uniform

    @property
    def verdict(self) -> str:
        """What the other shares buy, without saying which they are."""
        same = f"{milliseconds(self.uniform)} ms"
        if round(100 * self.bought, 1) <= 0:
            return f"with as many weights, no other share by layer beats {same}"
        return (
            f"with as many weights, other shares by layer take {milliseconds(self.seconds)} ms "
            f"instead of {same} ({times(self.uniform / self.seconds)}); whether the accuracy bears "
            "them is not known"
        )

    def shares_of(self, group: LayerGroup) -> str:
        """The shares of a group of layers: `90 %`, or `97 % of 7, 50 % of 5`."""
        counts = Counter(self.shares[layer.name] for layer in group.layers)
        if len(counts) == 1:
            return percent(next(iter(counts)))
        return ", ".join(f"{percent(share)} of {layers}" for share, layers in counts.items())

    def __str__(self) -> str:
        where = f"{percent(self.sparsity)} {self.pattern} at {sizes(self.shape)}"
        listed = "; ".join(f"{percent(share)} in {group}" for group, share in self.groups)
        return f"{where}: {self.verdict}" + (f": {listed}" if self.bought > 0 else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the shares by size; `shares` has them by layer."""
        return {
            "answers": "non-uniform",
            "pattern": self.pattern,
            "sparsity": self.sparsity,
            "shape": list(self.shape),
            "layers": [{**group.to_dict(), "sparsity": share} for group, share in self.groups],
            "seconds": self.seconds,
            "uniform": self.uniform,
        }
