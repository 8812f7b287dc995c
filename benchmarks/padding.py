"""What padding costs: a batch of texts of random lengths, padded to the longest, against the same
number of real tokens without padding.

The unpadded rivals are a batch of equal lengths with as many tokens, and the texts one by one. The
mean of unequal lengths hides that attention grows with their squares, so the batch of equal lengths
has a little less to do; the column "squares" says how much. A batch of equal lengths is timed too
with a mask of ones and without a mask, which must not differ.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
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

import prunus
from prunus.bench.difference import largest_difference
from prunus.bench.engines import Arrays
from prunus.bench.engines.contract import float_arrays


def draw_lengths(batch: int, shortest: int, longest: int, seed: int) -> np.ndarray:
    """Random lengths [batch] between two, both included, whose mean is a whole number."""
    generator = np.random.default_rng(seed)
    while True:
        lengths = generator.integers(shortest, longest, batch, endpoint=True)
        if lengths.sum() % batch == 0:
            return lengths


def padded(inputs: Arrays, lengths: np.ndarray) -> Arrays:
    """Inputs [batch, longest] of texts of these lengths: ids 0 and mask 0 behind each."""
    kept = np.arange(lengths.max()) < lengths[:, None]
    return {name: np.where(kept, value, 0) for name, value in inputs.items()}


def alone(inputs: Arrays, lengths: np.ndarray) -> list[Arrays]:
    """Each text as a batch of one without padding."""
    return [
        {name: value[i : i + 1, :length].copy() for name, value in inputs.items()}
        for i, length in enumerate(lengths)
    ]


def unmasked(inputs: Arrays) -> Arrays:
    """The inputs without their mask."""
    return {name: value for name, value in inputs.items() if name != "attention_mask"}


def difference(model: prunus.CompiledModel, whole: Arrays, texts: list[Arrays]) -> float:
    """How far the answers of the padded batch lie from those of the texts one by one."""
    answers = float_arrays(model(**whole))
    return max(
        largest_difference(
            {
                name: value[i : i + 1, : text["input_ids"].shape[1]]
                for name, value in answers.items()
            },
            float_arrays(model(**text)),
            text,
        )
        for i, text in enumerate(texts)
    )


def measure_ragged(
    model: prunus.CompiledModel, batch: int, seed: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One batch of random lengths against the same tokens without padding."""
    lengths = draw_lengths(batch, arguments.shortest, arguments.longest, seed)
    whole = padded(make_inputs(model, batch, int(lengths.max())), lengths)
    texts = alone(whole, lengths)
    mean = int(lengths.mean())

    def one_by_one() -> None:
        for text in texts:
            model(**text)

    calls = {
        "padded": caller(model, whole),
        "equal": caller(model, make_inputs(model, batch, mean)),
        "alone": one_by_one,
    }
    times = medians(calls, arguments)
    return {
        "batch": batch,
        "lengths": lengths.tolist(),
        "padded_ms": 1e3 * times["padded"],
        "padded_to_equal": times["padded"] / times["equal"],
        "padded_to_one_by_one": times["padded"] / times["alone"],
        "squares": float((lengths**2).mean() / mean**2),
        "cells_to_tokens": float(lengths.max() / mean),
        "largest_difference": difference(model, whole, texts),
    }


def measure_mask(
    model: prunus.CompiledModel, batch: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """A batch of equal lengths with a mask of ones and without one."""
    inputs = make_inputs(model, batch, arguments.longest)
    calls = {"ones": caller(model, inputs), "none": caller(model, unmasked(inputs))}
    times = medians(calls, arguments)
    return {
        "batch": batch,
        "length": arguments.longest,
        "without_mask_ms": 1e3 * times["none"],
        "ones_to_none": times["ones"] / times["none"],
    }


def ragged_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the first table."""
    return (
        row["zeros"],
        str(row["batch"]),
        f"{min(row['lengths'])}–{max(row['lengths'])}",
        str(sum(row["lengths"])),
        f"{row['cells_to_tokens']:.2f}",
        f"{row['squares']:.2f}",
        figure(row["padded_ms"]),
        f"{row['padded_to_equal']:.2f}",
        f"{row['padded_to_one_by_one']:.2f}",
        f"{row['largest_difference']:.1e}",
    )


def mask_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the second table."""
    shape = f"{row['batch']} × {row['length']}"
    return row["zeros"], shape, figure(row["without_mask_ms"]), f"{row['ones_to_none']:.2f}"


RAGGED_TITLES = (
    "zeros",
    "batch",
    "lengths",
    "tokens",
    "padded ÷ real",
    "squares",
    "padded ms",
    "÷ equal lengths",
    "÷ one by one",
    "largest difference",
)


def main() -> None:
    """Print both tables."""
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--recipes", nargs="+", default=("0", "0.95"), help="zeros")
    parser.add_argument("--batches", type=int, nargs="+", default=(4, 16), help="texts")
    parser.add_argument("--shortest", type=int, default=20, help="tokens of a text, at least")
    parser.add_argument("--longest", type=int, default=128, help="tokens of a text, at most")
    parser.add_argument("--draws", type=int, default=2, help="draws of lengths for each batch")
    arguments = parser.parse_args()
    ragged, masks = [], []
    for recipe in arguments.recipes:
        model = compiled_bert(recipe, arguments)
        for batch in arguments.batches:
            for seed in range(arguments.draws):
                row = measure_ragged(model, batch, seed, arguments)
                ragged.append({"zeros": recipe, **row})
            masks.append({"zeros": recipe, **measure_mask(model, batch, arguments)})
    print(f"{header(f'BERT-{arguments.size}, random zeros', arguments)}\n")
    print(table(RAGGED_TITLES, [ragged_cells(row) for row in ragged]) + "\n")
    titles = ("zeros", "batch × tokens", "without a mask, ms", "mask of ones ÷ none")
    print(table(titles, [mask_cells(row) for row in masks]))
    write_json({"ragged": ragged, "equal": masks}, arguments)


if __name__ == "__main__":
    main()
