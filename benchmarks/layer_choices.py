"""Whether the race picks losers: each of BERT-base's layers at many densities and blocks, the
kernel that prunus chooses against the best candidate of a much longer race; and from which share of
zeros on a sparse kernel beats the dense one.

Every layer is chosen several times, each with a race of its own, and the worst choice counts. The
long race takes all candidates, also those that the choice dismisses by their estimates.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from harness import header, make_parser, say, table, write_json

from prunus.ir import Constant
from prunus.kernels.layout import TILE
from prunus.plan import linear, make_options
from prunus.plan.race import Choices, race
from prunus.runtime.weights import Source
from prunus.sparsity import BlockSparse, SparsityRecipe, measure, simulate_weight

RECIPES = ("0", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "0.95", "0.97", "0.8@4x1", "0.8@1x4",
           "0.8@16x1", "0.8@32x1", "0.8@4x4")  # fmt: skip
LAYERS = ("qkv", "output", "up", "down")
TOLERANCE = 0.05
"""A choice that is slower than the best by more has lost."""


class NothingRemembered(Choices):
    """Choices that race each time, as on a machine that has never compiled such a layer."""

    def remembered(
        self, identity: str, keys: Iterable[str], run: Callable[[], dict[str, float]]
    ) -> dict[str, float]:
        """The seconds of a race that is run now."""
        return run()


def layer_shape(name: str, hidden: int) -> tuple[int, int]:
    """[outputs, inputs] of a linear layer of BERT; query, key and value are merged into one."""
    return {
        "qkv": (3 * hidden, hidden),
        "output": (hidden, hidden),
        "up": (4 * hidden, hidden),
        "down": (hidden, 4 * hidden),
    }[name]


def make_weight(shape: tuple[int, int], recipe: str) -> Constant:
    """A random weight with the recipe's zeros, measured and stored as the passes do it."""
    dense = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    weight = simulate_weight(dense, SparsityRecipe.parse(recipe), seed=1)
    pattern = measure(weight)
    block = pattern.block or (1, 1)
    stored = BlockSparse.from_dense(weight, block) if pattern.zeros >= 0.5 else weight
    return Constant(stored, pattern)


def compare(name: str, recipe: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One layer: the worst choice, what it loses against the best, and sparse ÷ dense."""
    shape = layer_shape(name, arguments.hidden)
    weight, options = make_weight(shape, recipe), make_options(threads=arguments.threads)
    choices = NothingRemembered(options.target)
    picks = [
        linear.choose(weight, options, choices).candidate.key for _ in range(arguments.choices)
    ]
    source = Source(weight)
    candidates = linear._candidates(source, options)
    seconds = race(
        [(c.key, c.kernel, c.form.pack(source)) for c in candidates],
        shape, options.target, settled=arguments.rounds, most_rounds=arguments.rounds,
    )  # fmt: skip
    best = min(seconds, key=lambda key: seconds[key])
    chosen = max(picks, key=lambda key: seconds[key])
    sparse = min((seconds[c.key] for c in candidates if c.sparse), default=None)
    return {
        "layer": name,
        "zeros": recipe,
        "chosen": chosen,
        "best": best,
        "loss": seconds[chosen] / seconds[best] - 1,
        "losers": sum(seconds[key] > seconds[best] * (1 + TOLERANCE) for key in picks),
        "sparse_over_dense": None if sparse is None else sparse / seconds["dense"],
    }


def break_even(ratios: Sequence[tuple[float, float]]) -> str:
    """The share of zeros from which on sparse is faster, by (zeros, sparse ÷ dense) in order."""
    slower = [(zeros, ratio) for zeros, ratio in ratios if ratio > 1]
    faster = [(zeros, ratio) for zeros, ratio in ratios if ratio <= 1]
    if not slower or not faster:
        return "none measured" if not faster else f"below {100 * faster[0][0]:g} %"
    (zeros, ratio), (more, less) = slower[-1], faster[0]
    return f"{100 * (zeros + (more - zeros) * (ratio - 1) / (ratio - less)):.0f} %"


def break_evens(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """By layer, from those of its rows whose zeros lie anywhere."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        recipe, ratio = SparsityRecipe.parse(row["zeros"]), row["sparse_over_dense"]
        if recipe.block is None and recipe.n_of_m is None and ratio is not None:
            found.setdefault(row["layer"], []).append((recipe.sparsity, ratio))
    return {layer: break_even(sorted(ratios)) for layer, ratios in found.items()}


def cells(row: dict[str, Any]) -> Sequence[str]:
    """One row of the table."""
    ratio = row["sparse_over_dense"]
    return (
        f"{row['layer']}, {row['zeros']}", row["chosen"], row["best"],
        f"{100 * row['loss']:.1f} %", "–" if ratio is None else f"{ratio:.2f}",
    )  # fmt: skip


def main() -> None:
    """Print each layer's choice, the largest loss, and where sparse and dense break even."""
    parser = make_parser(__doc__, rounds=60, seconds=None, threads=1, sized=False)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="zeros")
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=LAYERS, help="of the BERT")
    parser.add_argument("--hidden", type=int, default=768, help="features between layers")
    parser.add_argument("--choices", type=int, default=5, help="times that a layer is chosen")
    arguments = parser.parse_args()
    rows = []
    for recipe in arguments.recipes:
        say(f"{recipe} zeros")
        rows += [compare(layer, recipe, arguments) for layer in arguments.layers]
    what = f"the layers of a BERT with {arguments.hidden} features, one tile of {TILE} tokens"
    print(header(what, arguments, taken="the fastest") + "\n")
    titles = ("layer, zeros", "chosen", "best", "loss", "sparse ÷ dense")
    print(table(titles, [cells(row) for row in rows]))
    worst = max(rows, key=lambda row: row["loss"])
    evens = break_evens(rows)
    print(f"\nLargest loss: {100 * worst['loss']:.1f} % ({worst['layer']}, {worst['zeros']})")
    losers, chosen = sum(row["losers"] for row in rows), len(rows) * arguments.choices
    print(f"\nMore than {100 * TOLERANCE:g} % slower than the best: {losers} of {chosen} choices")
    print("\nSparse is faster from:", ", ".join(f"{at} ({name})" for name, at in evens.items()))
    write_json({"rows": rows, "sparse_is_faster_from": evens}, arguments)


if __name__ == "__main__":
    main()
