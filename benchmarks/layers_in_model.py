"""Whether single layers, timed alone, take what they take in a model: the ground on which
`prunus whatif` predicts.

Both are timed in turns, so that a shared machine disturbs them alike. A ratio of 1 is exact; below
it a prediction is too optimistic. The rest of a call is set beside that of 90 % zeros, which is
what predictions add.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness import header, make_bert, make_inputs, make_parser, say, table, write_json

import prunus
from prunus.bench.engines import Arrays
from prunus.ir import bind_sizes
from prunus.model import CompiledModel
from prunus.prediction.layer_times import LayerTimes
from prunus.prediction.predictor import Shape
from prunus.prediction.probe import probe_calls
from prunus.prediction.pruned import find_layers, pruned_model
from prunus.prediction.times import Times
from prunus.sparsity import SparsityRecipe

RECIPES = ("0.95@16x1", "0.97@16x1", "0.97")
SHAPES = ("1x128", "8x128")
REST = SparsityRecipe(0.9, None, None)


@dataclass(frozen=True)
class Alone:
    """A kind of layer by itself.

    Attributes:
        one: A call with the layer once.
        many: A call with it several times.
        copies: How often.
        layers: Of a model, counted as often as a large batch is cut in parts.
    """

    one: Callable[[], object]
    many: Callable[[], object]
    copies: int
    layers: float

    def seconds(self) -> float:
        """Of all layers of this kind, in one turn."""
        return (_seconds(self.many) - _seconds(self.one)) / (self.copies - 1) * self.layers


def layers_alone(model: CompiledModel, recipe: SparsityRecipe, shape: Shape) -> list[Alone]:
    """Each kind of layer of a model, as predictions time it."""
    sizes = bind_sizes(model.graph.inputs, make_inputs(model, *shape))
    layers = find_layers(model.graph)
    weights = sum(layer.weights for layer in layers)
    times = LayerTimes(model.options, weights, Times(model.options), splits=True)
    kinds = {layer.key: layer for layer in layers}
    found = []
    for key, layer in kinds.items():
        probe, parts = times.probe(layer, recipe, layer.count_tokens(sizes), shape)
        one, many, copies = probe_calls(probe, model.options)
        found.append(Alone(one, many, copies, parts * sum(each.key == key for each in layers)))
    return found


def split_call(model: CompiledModel, inputs: Arrays, names: frozenset[str]) -> tuple[float, float]:
    """Seconds of a call within the linear layers, and outside of them."""
    profile = model.profile(inputs, 2)
    within = sum(step.tally.seconds for step in profile.steps if step.name in names)
    whole = _seconds(partial(model, **inputs))
    linear = whole * within / profile.seconds
    return linear, whole - linear


def compare(
    model: CompiledModel, usual: CompiledModel, recipe: str, shape: Shape, rounds: int
) -> dict[str, Any]:
    """Medians of the layers alone ÷ in the model, and of the rest at 90 % zeros ÷ the rest."""
    say(f"{recipe} at {shape[0]}x{shape[1]}")
    parsed = SparsityRecipe.parse(recipe)
    sparse = pruned_model(model, parsed)
    alone, inputs = layers_alone(model, parsed, shape), make_inputs(model, *shape)
    names = frozenset(layer.name for layer in find_layers(model.graph))
    for each in (sparse, usual):
        each(**inputs)
    layers, rests, shares = [], [], []
    for _ in range(rounds):
        linear, rest = split_call(sparse, inputs, names)
        layers.append(sum(each.seconds() for each in alone) / linear)
        rests.append(split_call(usual, inputs, names)[1] / rest)
        shares.append(linear / (linear + rest))
    return {
        "recipe": recipe,
        "shape": f"{shape[0]}x{shape[1]}",
        "layers": statistics.median(layers),
        "rest": statistics.median(rests),
        "share": statistics.median(shares),
    }


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main() -> None:
    """Print how far each is off."""
    parser: argparse.ArgumentParser = make_parser(__doc__, rounds=15, seconds=None)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="of all linear layers")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="batch x tokens")
    arguments = parser.parse_args()
    model = prunus.compile(make_bert("0", arguments.size), threads=arguments.threads)
    usual = pruned_model(model, REST)
    rows = [
        compare(model, usual, recipe, (int(batch), int(length)), arguments.rounds)
        for batch, length in (shape.split("x") for shape in arguments.shapes)
        for recipe in arguments.recipes
    ]
    print(header("a BERT with random zeros", arguments) + "\n")
    titles = ("recipe", "shape", "layers alone ÷ in the model", "rest at 90 % ÷ rest",
              "share of layers in a call", "prediction ÷ call")  # fmt: skip
    cells = [
        (row["recipe"], row["shape"], f"{row['layers']:.2f}", f"{row['rest']:.2f}",
         f"{row['share']:.2f}",
         f"{row['layers'] * row['share'] + row['rest'] * (1 - row['share']):.2f}")
        for row in rows
    ]  # fmt: skip
    print(table(titles, cells))
    write_json({"rows": rows}, arguments)


if __name__ == "__main__":
    main()
