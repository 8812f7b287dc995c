"""Embed texts with Ray Data in a pool of two actors, each with threads of its own.

    python examples/ray_actors.py
    python examples/ray_actors.py --model my/bert --actors 4 --threads 8

The model is compiled and saved once. An actor gets a reference to that folder, from which the
operating system maps the dense weights into all actors of a machine as one copy; what kernels read
is packed by each actor for itself. On a cluster, save to a folder that all machines see.

Without arguments the model is all-MiniLM-L6-v2 from a package, and nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from typing import Any

import numpy as np
import psutil
import ray
from transformers import AutoTokenizer

import prunus
from prunus.frontend.stand_in import minilm_folder

TEXTS = (
    "Prune plum trees in late winter.",
    "Why?",
    "Branches that grow inwards keep the light from the fruit, so they are taken out first.",
    "Most of a network can be taken out as well.",
)


class Embed:
    """An actor: opens the model once, then embeds one batch after the other."""

    def __init__(self, model: prunus.CompiledModel, tokenizer: Any) -> None:
        context: Any = ray.get_runtime_context()
        self.model = model.recompile(threads=int(context.get_assigned_resources()["CPU"]))
        self.tokenizer = tokenizer

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """The mean of each text's tokens as `embedding` [texts, features], and who computed it."""
        texts = batch["item"].tolist()
        tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="np")
        states = self.model(**tokens)["last_hidden_state"]
        mask = tokens["attention_mask"][..., np.newaxis]
        embedding = (states * mask).sum(axis=1) / mask.sum(axis=1)
        mapped = {each.path for each in psutil.Process().memory_maps()}
        weights = next(path for path in mapped if path.endswith("model.safetensors"))
        actor = f"process {os.getpid()}: {self.model.threads} thread(s), weights from {weights}"
        return {"embedding": embedding, "actor": [actor] * len(texts)}


def main() -> None:
    """Embed some texts and say which actors did it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=str(minilm_folder()), help="a hub name or a folder")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each actor")
    settings = parser.parse_args()

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        num_cpus=settings.actors * settings.threads + 1,  # one to read the texts
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
    )
    ray.data.DataContext.get_current().wait_for_min_actors_s = 60  # begin when all are there
    with tempfile.TemporaryDirectory() as folder:
        model = prunus.from_pretrained(settings.model, threads=settings.threads)
        model.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(settings.model)
        embedded = (
            ray.data.from_items([f"{n}. {text}" for n in range(64) for text in TEXTS])
            .repartition(16)
            .map_batches(
                Embed,
                fn_constructor_args=(model, tokenizer),
                batch_size=16,
                compute=ray.data.ActorPoolStrategy(size=settings.actors),
                num_cpus=settings.threads,
            )
            .take_all()
        )
    ray.shutdown()
    shape = np.stack([row["embedding"] for row in embedded]).shape
    print(f"embeddings: {shape}")
    print(*sorted({row["actor"] for row in embedded}), sep="\n")


if __name__ == "__main__":
    try:
        main()
    except prunus.PrunusError as error:
        sys.exit(f"error: {error}")
