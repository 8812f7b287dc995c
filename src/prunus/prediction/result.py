"""What `whatif` found: the predicted grid, what was built and run of it, and the answers."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import Any

from prunus.prediction.answer import Answer
from prunus.prediction.grid import pattern_of
from prunus.prediction.predictor import Predictor, Shape
from prunus.records import Cell, Records
from prunus.sparsity import Method, SparsityRecipe


@dataclass(frozen=True, slots=True)
class Combination:
    """A recipe at a shape, predicted.

    Attributes:
        recipe: Of all linear weights.
        shape: Batch and length.
        seconds: Of a call.
        dense: Seconds of a call of the dense model.
        linear: Of `seconds`, those in linear layers.
        norm: Share of the weights' Euclidean norm that pruning by magnitude keeps, from 0 to 1;
            None for random zeros.
    """

    recipe: SparsityRecipe
    shape: Shape
    seconds: float
    dense: float
    linear: float
    norm: float | None = None

    @property
    def pattern(self) -> str:
        """The recipe's pattern, such as `16x1`."""
        return pattern_of(self.recipe)

    @property
    def speedup(self) -> float:
        """How many times as fast as the dense model, both predicted."""
        return self.dense / self.seconds


@dataclass(frozen=True, slots=True)
class Built:
    """A combination that was built and run.

    Attributes:
        combination: With what was predicted.
        seconds: Median of a call, measured.
        dense: Median of the dense model in the same run.
        slowed: How many times as long as on a quiet machine the gauge took meanwhile.
        distance: Euclidean distance of the answer from the dense model's, relative to that; None
            for random zeros, whose answer means nothing.
    """

    combination: Combination
    seconds: float
    dense: float
    slowed: float = 1.0
    distance: float | None = None

    @property
    def error(self) -> float:
        """How much too long the prediction is, relative to what was measured. Predictions are of a
        quiet machine, so where the gauge was slow, it scales what was measured.
        """
        return self.combination.seconds * self.slowed / self.seconds - 1

    @property
    def speedup(self) -> float:
        """How many times as fast as the dense model, both measured."""
        return self.dense / self.seconds


@dataclass(frozen=True)
class WhatIf(Records):
    """What pruning would buy, predicted from layers that were measured on this processor.

    The zeros are simulated: no model was trained, and nothing here says what its accuracy would be.

    Attributes:
        model: Its name.
        method: How weights are chosen: at "random", or the smallest by "magnitude".
        threads: Of every call.
        processor: This one.
        zeros: Share of the model's linear weights that are zero already.
        shapes: Batches and lengths of the grid.
        recipes: Recipes of the grid.
        grid: Every recipe at every shape.
        built: Those that were built and run.
        predictor: Predicts any other.
        answers: Least sparsity for a target, break-even, which layers first, recipes by layer.
        skipped: What is not in the grid, and why.
        disturbed: How many measurements fell into moments in which the machine was busy with other
            things, also when they were repeated. Those of single layers are scaled.
    """

    model: str
    method: Method
    threads: int
    processor: str
    zeros: float
    shapes: tuple[Shape, ...]
    recipes: tuple[SparsityRecipe, ...]
    grid: tuple[Combination, ...]
    built: tuple[Built, ...]
    predictor: Predictor
    answers: tuple[Answer, ...]
    skipped: tuple[str, ...] = ()
    disturbed: int = 0

    @property
    def error(self) -> float | None:
        """Median of the absolute relative errors of what was built, or None."""
        return statistics.median(abs(each.error) for each in self.built) if self.built else None

    def fastest(self, shape: Shape) -> Combination:
        """Of the grid at this shape."""
        return min(self.at(shape), key=lambda each: each.seconds)

    def at(self, shape: Shape) -> tuple[Combination, ...]:
        """The grid at this shape."""
        return tuple(each for each in self.grid if each.shape == shape)

    def records(self) -> list[dict[str, Cell]]:
        """A row for each combination; what was not built or asked for is None."""
        built = {(each.combination.recipe, each.combination.shape): each for each in self.built}
        return [self._row(each, built.get((each.recipe, each.shape))) for each in self.grid]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`; the layers are listed once, answers refer to their sizes."""
        return {
            "model": self.model,
            "simulated": True,
            "predicted_from": "layers measured on this processor",
            "accuracy": None,
            "method": self.method,
            "threads": self.threads,
            "processor": self.processor,
            "linear_zeros": self.zeros,
            "shapes": [list(shape) for shape in self.shapes],
            "recipes": [str(recipe) for recipe in self.recipes],
            "skipped": list(self.skipped),
            "disturbed": self.disturbed,
            "median_error": self.error,
            "grid": self.records(),
            "answers": [answer.to_dict() for answer in self.answers],
            "layers": [dataclasses.asdict(layer) for layer in self.predictor.layers],
        }

    def __str__(self) -> str:
        from prunus.prediction.text import whatif_text

        return whatif_text(self)

    def _row(self, each: Combination, built: Built | None) -> dict[str, Cell]:
        return {
            "model": self.model,
            "method": self.method,
            "batch": each.shape[0],
            "length": each.shape[1],
            "pattern": each.pattern,
            "sparsity": each.recipe.sparsity,
            "recipe": str(each.recipe),
            "predicted_seconds": each.seconds,
            "predicted_dense_seconds": each.dense,
            "predicted_speedup": each.speedup,
            "predicted_linear_seconds": each.linear,
            "norm_kept": each.norm,
            "measured_seconds": None if built is None else built.seconds,
            "measured_dense_seconds": None if built is None else built.dense,
            "measured_speedup": None if built is None else built.speedup,
            "error": None if built is None else built.error,
            "output_distance": None if built is None else built.distance,
        }
