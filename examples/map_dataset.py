"""Embed a column of a dataset in two processes: the model travels as a reference, not as weights.

    python examples/map_dataset.py
    python examples/map_dataset.py --model my/bert --csv reviews.csv --column text --num-proc 4

Without arguments the model is all-MiniLM-L6-v2 from a package, and nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoTokenizer

import prunus
from prunus.frontend.stand_in import minilm_folder

TEXTS = (
    "Prune plum trees in late winter.",
    "Why?",
    "Branches that grow inwards keep the light from the fruit, so they are taken out first.",
    "Most of a network can be taken out as well.",
)


def main() -> None:
    """Map a dataset and show who computed what."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=str(minilm_folder()), help="a hub name or a folder")
    parser.add_argument("--csv", help="default: a few texts of our own")
    parser.add_argument("--column", default="text", help="the column that is embedded")
    parser.add_argument("--num-proc", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    settings = parser.parse_args()

    rows = Dataset.from_csv(settings.csv) if settings.csv else texts_of_our_own()
    model = prunus.from_pretrained(settings.model, threads=settings.threads)
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    print(f"the model travels as {len(pickle.dumps(model))} bytes")

    mapped = rows.map(
        partial(embed, model=model, tokenizer=tokenizer, column=settings.column),
        batched=True,
        batch_size=16,
        num_proc=settings.num_proc,
    )

    processes = sorted(set(mapped["process"]))
    print(f"{len(mapped)} rows were embedded by {len(processes)} processes")
    first = embed({settings.column: rows[:1][settings.column]}, model, tokenizer, settings.column)
    difference = np.abs(np.array(mapped[0]["embedding"]) - first["embedding"][0]).max()
    print(f"the first row differs by {difference:.0e} from what this process computes")


def texts_of_our_own() -> Dataset:
    """Some rows, none of them like another."""
    return Dataset.from_dict({"text": [f"{n}. {text}" for n in range(16) for text in TEXTS]})


def embed(
    batch: dict[str, list[str]], model: prunus.CompiledModel, tokenizer: Any, column: str
) -> dict[str, Any]:
    """The mean of each text's tokens, as `embedding` [texts, features], and which process it was.

    No torch is involved: NumPy in, NumPy out.
    """
    tokens = tokenizer(batch[column], padding=True, truncation=True, return_tensors="np")
    states = model(**tokens)["last_hidden_state"]
    mask = tokens["attention_mask"][..., np.newaxis]
    mean = (states * mask).sum(axis=1) / mask.sum(axis=1)
    return {"embedding": mean.astype(np.float32), "process": [os.getpid()] * len(mean)}


if __name__ == "__main__":
    try:
        main()
    except prunus.PrunusError as error:
        sys.exit(f"error: {error}")
