"""The table of the README: BERT-base with random zeros against OpenVINO dense float32, in the same
run.

For each density a model is made, compiled, and timed in rounds that alternate with OpenVINO on the
dense model: dense engines take as long for any weights.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from harness import make_bert

import prunus
from prunus.bench import run_bench
from prunus.bench.shapes import parse_shapes
from prunus.cache import cache_folder

RECIPES = ("0", "0.7", "0.8", "0.9", "0.95", "0.97", "0.85@16x1")


def main() -> None:
    """Print the table; with `--json FILE` write the report there too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--shapes", default="1x128")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--engines", nargs="+", default=("prunus", "openvino", "torch"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    models, density = {}, {}
    for recipe in arguments.recipes:
        name = "dense" if recipe == "0" else f"{recipe} zeros"
        models[name] = prunus.compile(make_bert(recipe), threads=arguments.threads)
        density[name] = models[name].density
    report = run_bench(
        models,
        module_loader={
            name: partial(make_bert, recipe)
            for name, recipe in zip(models, arguments.recipes, strict=True)
        },
        engines=arguments.engines,
        shapes=parse_shapes(arguments.shapes),
        rounds=arguments.rounds,
        density=density,
        cache=cache_folder(),
        progress=lambda what: print(what, file=sys.stderr, flush=True),
    )
    print(report.to_markdown())
    if arguments.json:
        arguments.json.write_text(json.dumps(report.to_dict(), indent=1) + "\n")


if __name__ == "__main__":
    main()
