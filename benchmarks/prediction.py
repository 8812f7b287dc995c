"""How well `prunus whatif` predicts: what it says of models that were never built before, beside
what they take once they are.

Most shares of zeros lie between those that layers are measured at. At the highest ones a model's
weights stay in the last cache, and a large batch is computed in parts. It also tells how long the
usual grid takes, with nothing remembered and with all of it. The gauge is how many times as long as
on a quiet machine a fixed piece of work took while a model was timed: the error is after that.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import Any
from unittest.mock import patch

import torch
import transformers
from harness import figure, header, make_parser, say, table, write_json

import prunus
from prunus import cache

MODELS: dict[str, dict[str, Any]] = {
    "6 layers of 384": {
        "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "4 layers of 512": {
        "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
        "intermediate_size": 2048,
    },
    "6 layers of 768": {"num_hidden_layers": 6},
    "12 layers of 768": {},
}  # fmt: skip

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 48, "vocab_size": 60}  # fmt: skip

GRID = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97)
GRID_PATTERNS = ("1x1", "4x1", "1x4", "16x1", "4x4", "2:4")
SPARSITIES = (0.6, 0.85, 0.95, 0.97)
PATTERNS = ("1x1", "4x1", "16x1", "4x4")
SHAPES = ((1, 128), (8, 128))


def compiled(options: dict[str, Any], arguments: argparse.Namespace) -> prunus.CompiledModel:
    """A BERT of this size with random weights."""
    torch.manual_seed(0)
    chosen = TINY if arguments.size == "tiny" else options
    module = transformers.BertModel(transformers.BertConfig(**chosen)).eval()
    return prunus.compile(module, threads=arguments.threads)


def errors(name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each recipe and shape: predicted, measured, and how far off that is."""
    model = compiled(MODELS[name], arguments)
    rows = []
    for pattern in arguments.patterns:
        say(f"{name} {pattern}")
        found = prunus.whatif(
            model, sparsities=SPARSITIES, patterns=[pattern], shapes=SHAPES, build=len(SPARSITIES)
        )
        rows += [
            {
                "model": name,
                "recipe": str(each.combination.recipe),
                "shape": "{}x{}".format(*each.combination.shape),
                "predicted_ms": 1e3 * each.combination.seconds,
                "measured_ms": 1e3 * each.seconds,
                "slowed": each.slowed,
                "error": each.error,
            }
            for each in found.built
        ]
    return rows


def grid_seconds(arguments: argparse.Namespace) -> tuple[float, float]:
    """How long the usual grid of a BERT-base takes, cold and warm, without builds."""
    model = compiled({}, arguments)
    times = []
    for temperature in ("cold", "warm"):
        say(f"the grid of a BERT-base, {temperature}")
        begin = time.perf_counter()
        prunus.whatif(model, sparsities=GRID, patterns=arguments.grid, shapes=SHAPES, build=0)
        times.append(time.perf_counter() - begin)
    return times[0], times[1]


def main() -> None:
    """Print every prediction beside its measurement."""
    parser = make_parser(__doc__, rounds=1, seconds=None)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="sizes")
    parser.add_argument("--patterns", nargs="+", default=PATTERNS, help="of zeros")
    parser.add_argument(
        "--grid", nargs="+", default=GRID_PATTERNS, help="patterns of the usual grid"
    )
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.dict(os.environ, {cache.VARIABLE: folder}),
    ):
        cold, warm = grid_seconds(arguments)
        rounds = range(arguments.rounds)
        rows = [row for _ in rounds for name in arguments.models for row in errors(name, arguments)]
    off = [abs(row["error"]) for row in rows]
    print(header("BERTs that nothing was measured of before", arguments) + "\n")
    titles = ("model", "recipe", "shape", "predicted ms", "measured ms", "gauge", "error")
    cells = [
        (row["model"], row["recipe"], row["shape"], figure(row["predicted_ms"]),
         figure(row["measured_ms"]),
         f"{row['slowed']:.2f}", f"{100 * row['error']:+.1f} %")
        for row in rows
    ]  # fmt: skip
    print(table(titles, cells))
    print(f"\nmedian error {100 * statistics.median(off):.1f} % of {len(off)}, "
          f"largest {100 * max(off):.1f} %; the usual grid of a BERT-base takes {cold:.0f} s cold "
          f"and {warm:.1f} s warm")  # fmt: skip
    write_json({"rows": rows, "cold_seconds": cold, "warm_seconds": warm}, arguments)


if __name__ == "__main__":
    main()
