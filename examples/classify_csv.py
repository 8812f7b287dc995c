"""Classify the texts of a CSV file: a common script in which one line changed.

    python examples/classify_csv.py                                   # a stand-in, nothing to download
    python examples/classify_csv.py reviews.csv --model my-pruned-bert --column text
    python examples/classify_csv.py reviews.csv --model my-pruned-bert --transformers   # as it was

The model is a hub name or a folder with its tokenizer, made for sequence classification. The file
comes back with two more columns, `label` and `score`. The stand-in has random weights, nine of ten
zero: its speed tells something, its labels do not.
"""  # noqa: E501 - a command cannot be broken

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

import prunus
from prunus.frontend.stand_in import save_stand_in
from prunus.hf import PrunusModelForSequenceClassification

LABELS = {0: "negative", 1: "positive"}
REVIEWS = (
    "The plums arrived fresh and sweet.",
    "Half of them were squashed, and nobody answered my letters.",
    "Good value, although the box was larger than it had to be.",
)


def main() -> None:
    """Read, classify, write."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        name = arguments.model or make_stand_in(Path(folder, "stand-in"))
        source = arguments.file or make_reviews(Path(folder, "reviews.csv"))
        rows = read(source, arguments.column)
        tokenizer = AutoTokenizer.from_pretrained(name)
        model: Any
        if arguments.transformers:
            model = AutoModelForSequenceClassification.from_pretrained(name)
        else:
            model = PrunusModelForSequenceClassification.from_pretrained(name)  # the one line
        classify = pipeline("text-classification", model=model, tokenizer=tokenizer)

        texts = (row[arguments.column] for row in rows)
        begin = time.perf_counter()
        answers = list(classify(texts, batch_size=arguments.batch_size, truncation=True))
        seconds = time.perf_counter() - begin

    for row, answer in zip(rows, answers, strict=True):
        row |= {"label": answer["label"], "score": f"{answer['score']:.4f}"}
    write(arguments.output, rows)
    rate = len(rows) / seconds
    print(f"{len(rows)} texts, {rate:.0f} a second, by {type(model).__name__}", file=sys.stderr)


def parse_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, help="a CSV file; default: a few reviews")
    parser.add_argument("--model", help="a hub name or a folder; default: a stand-in")
    parser.add_argument("--column", default="text", help="where the texts are")
    parser.add_argument("--output", type=Path, help="a CSV file; default: print it")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--transformers", action="store_true", help="run PyTorch instead")
    return parser.parse_args()


def read(path: Path, column: str) -> list[dict[str, str]]:
    """The rows of a CSV file that has the column and at least one row."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise prunus.InputError(f"{path} cannot be read: {error}") from error
    if not rows:
        raise prunus.InputError(f"{path} has no rows below its header: there is nothing to do")
    if column not in rows[0]:
        raise prunus.InputError(
            f"{path} has no column {column!r}: choose one with --column: {', '.join(rows[0])}"
        )
    return rows


def write(path: Path | None, rows: list[dict[str, str]]) -> None:
    """Write the rows as CSV, or print them."""
    with nullcontext(sys.stdout) if path is None else path.open("w", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def make_reviews(path: Path) -> Path:
    """A CSV file of a few reviews, each met several times."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["text"], *([review] for review in REVIEWS * 4)])
    return path


def make_stand_in(folder: Path) -> str:
    """A tiny BERT with random weights, pruned to a tenth, and a real tokenizer."""
    name = save_stand_in(folder, "BertForSequenceClassification", id2label=LABELS)
    print("The model is a STAND-IN with random weights: its labels mean nothing.", file=sys.stderr)
    return name


if __name__ == "__main__":
    try:
        main()
    except prunus.PrunusError as error:
        sys.exit(f"error: {error}")
