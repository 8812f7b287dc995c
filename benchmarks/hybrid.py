"""What removing empty parts brings: a BERT-base in which a third of the heads and 60 % of the rows
of the feed-forward networks are empty and the rest is half zeros, beside the same number of
nonzeros strewn at random, and beside the dense model.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from harness import (
    caller,
    figure,
    header,
    make_bert,
    make_inputs,
    make_parser,
    medians,
    say,
    table,
    write_json,
)

import prunus


def make_hybrid(size: str) -> Any:
    """A BERT with empty heads, empty rows, and zeros in half of what is left."""
    model, random = make_bert("0.5", size), np.random.default_rng(0)
    heads = model.config.num_attention_heads
    width = model.config.hidden_size // heads
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            attention = layer.attention
            for head in random.choice(heads, heads // 3, replace=False):
                span = slice(head * width, (head + 1) * width)
                for part in (attention.self.query, attention.self.key, attention.self.value):
                    part.weight[span] = 0
                attention.output.dense.weight[:, span] = 0
            inner = model.config.intermediate_size
            rows = torch.from_numpy(random.choice(inner, inner * 6 // 10, replace=False))
            layer.intermediate.dense.weight[rows] = 0
            layer.output.dense.weight[:, rows] = 0
    return model


def main() -> None:
    """Print the times and what the operations alone would give."""
    parser = make_parser(__doc__)
    parser.add_argument("--length", type=int, default=128, help="tokens")
    arguments: argparse.Namespace = parser.parse_args()
    say("compiling")
    hybrid = prunus.compile(make_hybrid(arguments.size), threads=arguments.threads)
    zeros = round(1 - hybrid.density, 3)
    strewn = prunus.compile(make_bert(str(zeros), arguments.size), threads=arguments.threads)
    dense = prunus.compile(make_bert("0", arguments.size), threads=arguments.threads)
    models = {
        "hybrid": hybrid,
        "hybrid, dense kernels": hybrid.recompile(sparse=False),
        f"{100 * zeros:.1f} % at random": strewn,
        "dense": dense,
    }
    inputs: dict[str, Any] = dict(make_inputs(dense, 1, arguments.length))
    times = medians({name: caller(model, inputs) for name, model in models.items()}, arguments)
    whole, flops = times["dense"], dense.flops(**inputs)
    rows: list[dict[str, Any]] = [
        {
            "model": name,
            "ms": 1e3 * times[name],
            "ratio": times[name] / whole,
            "operations": model.flops(**inputs) / flops,
        }
        for name, model in models.items()
    ]
    print(header(f"BERT-{arguments.size}, 1 × {arguments.length}", arguments) + "\n")
    cells = [
        (r["model"], figure(r["ms"]), f"{r['ratio']:.2f}", f"{r['operations']:.2f}") for r in rows
    ]
    print(table(("model", "ms", "÷ dense", "operations ÷ dense"), cells))
    write_json({"rows": rows}, arguments)


if __name__ == "__main__":
    main()
