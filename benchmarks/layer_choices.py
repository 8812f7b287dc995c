"""Whether the race picks losers: each of BERT-base's layers at many densities and blocks, the
kernel that prunus chooses against the best candidate of a much longer race; and from which share of
zeros on a sparse kernel beats the dense one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from harness import header, make_parser, say, table, write_json

from prunus.ir import Constant
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.layout import TILE
from prunus.plan import linear, make_options
from prunus.plan.race import Choices, race
from prunus.sparsity import BlockSparse, SparsityRecipe, measure, simulate_weight

SHAPES = {"qkv": (2304, 768), "output": (768, 768), "up": (3072, 768), "down": (768, 3072)}
RECIPES = ("0", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "0.95", "0.97", "0.8@4x1", "0.8@1x4",
           "0.8@16x1", "0.8@32x1", "0.8@4x4")  # fmt: skip


def make_weight(shape: tuple[int, int], recipe: str) -> Constant:
    """A random weight with the recipe's zeros, measured and stored as the passes do it."""
    dense = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    weight = simulate_weight(dense, SparsityRecipe.parse(recipe), seed=1)
    pattern = measure(weight)
    block = pattern.block or (1, 1)
    stored = BlockSparse.from_dense(weight, block) if pattern.zeros >= 0.5 else weight
    return Constant(stored, pattern)


def compare(name: str, recipe: str, rounds: int) -> dict[str, Any]:
    """One layer: the choice, what it loses against the best, and sparse ÷ dense."""
    shape = SHAPES[name]
    weight, options = make_weight(shape, recipe), make_options(threads=1)
    chosen = linear.choose(weight, options, Choices(options.target)).candidate.key
    candidates = linear._candidates(weight, options)
    seconds = race(
        [(c.key, c.kernel(TILE, Epilogue()), c.pack(1)) for c in candidates],
        shape, options.target, rounds,
    )  # fmt: skip
    best = min(seconds, key=lambda key: seconds[key])
    sparse = min((seconds[c.key] for c in candidates if c.sparse), default=None)
    return {
        "layer": name,
        "zeros": recipe,
        "chosen": chosen,
        "best": best,
        "loss": seconds[chosen] / seconds[best] - 1,
        "sparse_over_dense": None if sparse is None else sparse / seconds["dense"],
    }


def cells(row: dict[str, Any]) -> Sequence[str]:
    """One row of the table."""
    ratio = row["sparse_over_dense"]
    return (
        f"{row['layer']}, {row['zeros']}", row["chosen"], row["best"],
        f"{100 * row['loss']:.1f} %", "–" if ratio is None else f"{ratio:.2f}",
    )  # fmt: skip


def main() -> None:
    """Print each layer's choice and the largest loss."""
    parser: argparse.ArgumentParser = make_parser(__doc__, rounds=60, sized=False)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="zeros")
    parser.add_argument("--layers", nargs="+", choices=tuple(SHAPES), default=tuple(SHAPES))
    arguments = parser.parse_args()
    rows = []
    for recipe in arguments.recipes:
        say(f"{recipe} zeros")
        rows += [compare(layer, recipe, arguments.rounds) for layer in arguments.layers]
    print(header("BERT-base's layers, one tile of 64 tokens, one thread", arguments) + "\n")
    print(table(("layer, zeros", "chosen", "best", "loss", "sparse ÷ dense"), [*map(cells, rows)]))
    worst = max(rows, key=lambda row: row["loss"])
    print(f"\nLargest loss: {100 * worst['loss']:.1f} % ({worst['layer']}, {worst['zeros']})")
    write_json({"rows": rows}, arguments)


if __name__ == "__main__":
    main()
