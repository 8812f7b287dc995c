"""Embed sentences with sentence-transformers, before and after the one line that prunus asks for.

    python examples/embed_sentences.py
    python examples/embed_sentences.py --model my/sentence-transformer --file sentences.txt

Without arguments the model is all-MiniLM-L6-v2, its weights pruned to 90 % zeros by magnitude and
trained no further, so its vectors are worse than those of a model that was; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

import prunus
from prunus.frontend.stand_in import minilm_folder, minilm_pruned

SENTENCES = (
    "Prune plum trees in late winter.",
    "Why?",
    "A cut that is made while the tree is at rest heals before the sap rises, and the buds that "
    "stay behind get all of what the roots have stored.",
    "Branches that grow inwards keep the light from the fruit, so they are taken out first.",
    "Most of a network can be taken out as well.",
    "Magnitude pruning sets the weights that are closest to zero to zero, layer by layer, and in "
    "most cases trains the others on, so that the answers stay what they were.",
    "Those that are left are stored one after the other.",
    "Nothing is multiplied by zero.",
)


def main() -> None:
    """Embed the same sentences twice and compare vectors and times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="a hub name or a folder; default: a pruned MiniLM")
    parser.add_argument("--file", type=Path, help="one sentence a line; default: a few of our own")
    parser.add_argument("--repeat", type=int, default=16, help="how often each is embedded")
    parser.add_argument("--threads", type=int, help="default: the physical cores")
    settings = parser.parse_args()

    lines = settings.file.read_text().splitlines() if settings.file else SENTENCES
    sentences = [*lines] * settings.repeat
    with tempfile.TemporaryDirectory() as folder:
        model = SentenceTransformer(settings.model or pruned_minilm(folder), device="cpu")
    before = embed(model, sentences, "PyTorch")

    model = prunus.st.accelerate(model, threads=settings.threads)  # the one line

    after = embed(model, sentences, "prunus")
    print(f"largest cosine distance of two vectors: {largest_distance(before, after):.0e}")


def pruned_minilm(folder: str) -> str:
    """The folder itself, after a pruned MiniLM and its tokenizer have been written there."""
    shutil.copytree(minilm_folder(), folder, dirs_exist_ok=True)
    minilm_pruned(0.9)[0].save_pretrained(folder)
    return folder


def embed(model: SentenceTransformer, sentences: list[str], label: str) -> np.ndarray:
    """The vectors of the sentences [sentences, features]; prints how fast they came."""
    model.encode(sentences[:8])  # to warm up
    begin = time.perf_counter()
    vectors = model.encode(sentences, show_progress_bar=sys.stderr.isatty())
    rate = len(sentences) / (time.perf_counter() - begin)
    print(f"{label:8} {len(sentences)} sentences, {rate:.0f} a second", flush=True)
    return vectors


def largest_distance(before: np.ndarray, after: np.ndarray) -> float:
    """The largest cosine distance between vectors of equal rows, both [sentences, features]."""
    one, other = (
        each / np.linalg.norm(each, axis=1, keepdims=True)
        for each in (before.astype(np.float64), after.astype(np.float64))
    )
    return float(np.max(1 - np.sum(one * other, axis=1)))


if __name__ == "__main__":
    try:
        main()
    except prunus.PrunusError as error:
        sys.exit(f"error: {error}")
