"""What the wider vectors are worth: the same models for this processor and for an older one, on
this machine.

By default `native` against `llvm -mcpu=haswell`, which is AVX2: 8 floats in a vector instead of 16,
16 registers instead of 32. On a processor with one 512-bit FMA a cycle both have the same peak, on
one with two the wider has twice as much; the header gives both peaks as measured.
"""

from __future__ import annotations

import argparse
from typing import Any

from harness import (
    caller,
    compiled_bert,
    figure,
    header,
    make_inputs,
    make_parser,
    medians,
    table,
    write_json,
)

from prunus.kernels.peak import fma_peak
from prunus.kernels.target import parse_target

RECIPES = ("0", "0.7", "0.8", "0.9", "0.95", "0.97", "0.85@16x1")


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each recipe: milliseconds on both targets, and their ratio."""
    calls = {}
    for recipe in arguments.recipes:
        model = compiled_bert(recipe, arguments)
        inputs = make_inputs(model, 1, arguments.length)
        calls[recipe, "native"] = caller(model, inputs)
        calls[recipe, "other"] = caller(model.recompile(target=arguments.other), inputs)
    times = medians(calls, arguments)
    return [
        {
            "zeros": recipe,
            "native_ms": 1e3 * times[recipe, "native"],
            "other_ms": 1e3 * times[recipe, "other"],
            "ratio": times[recipe, "other"] / times[recipe, "native"],
        }
        for recipe in arguments.recipes
    ]


def main() -> None:
    """Print the times on both targets and their ratios."""
    parser = make_parser(__doc__)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="zeros")
    parser.add_argument("--other", default="llvm -mcpu=haswell", help="the older processor")
    parser.add_argument("--length", type=int, default=128, help="tokens")
    arguments = parser.parse_args()
    rows = measure(arguments)
    peak = fma_peak(arguments.threads, parse_target(arguments.other)) / 1e9
    print(header(f"BERT-{arguments.size}, random zeros, 1 × {arguments.length}", arguments))
    print(f"- FMA peak with the vectors of `{arguments.other}`: {peak:.0f} GFLOP/s\n")
    cells = [
        (r["zeros"], figure(r["native_ms"]), figure(r["other_ms"]), f"{r['ratio']:.2f}")
        for r in rows
    ]
    print(table(("zeros", "native ms", f"{arguments.other} ms", "ratio"), cells))
    write_json({"other_peak_gflops": peak, "rows": rows}, arguments)


if __name__ == "__main__":
    main()
