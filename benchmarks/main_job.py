"""The main job, with nothing to download: what `make bench` runs.

First a stand-in for PruneBERT, made on the spot: BERT-base for question answering whose encoder
keeps 6 % of its linear weights, unevenly, as movement pruning leaves them. Then a real model:
all-MiniLM-L6-v2 from the package that ships it, pruned by magnitude to 90 %, on real sentences
through its own tokenizer. Each stands beside dense engines in the same run, with the largest
difference of the outputs in the same row.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

import prunus
from prunus.bench import DEFAULT_ENGINES, run_bench
from prunus.bench.table import Report
from prunus.cache import cache_folder
from prunus.frontend.stand_in import minilm_folder, minilm_pruned, prunebert_stand_in

ENGINES = (*DEFAULT_ENGINES, "torch-compile", "openvino")

SENTENCES = (
    "The cherry trees along the river bloomed two weeks early this year.",
    "Our train was late again, so we missed the first half of the concert.",
    "She pruned the old plum tree before the frost and it carried more fruit than ever.",
    "The committee postponed its decision because two of the reports contradicted each other.",
    "Where can I change my delivery address after the order has been shipped?",
    "A magnitude 4.6 earthquake was felt in three provinces, but nobody was hurt.",
    "He learned to bake bread from a book that his grandmother had annotated in pencil.",
    "The museum is closed on Mondays and on public holidays.",
)


def sentences(batch: int, length: int) -> dict[str, np.ndarray]:
    """Real sentences as the model's own tokenizer makes them, cut and padded to `length`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    texts = [" ".join(SENTENCES[(i + j) % len(SENTENCES)] for j in range(8)) for i in range(batch)]
    encoded = tokenizer.encode_batch(texts)
    return {
        "input_ids": np.array([e.ids for e in encoded], np.int64),
        "attention_mask": np.array([e.attention_mask for e in encoded], np.int64),
        "token_type_ids": np.array([e.type_ids for e in encoded], np.int64),
    }


def minilm_module() -> object:
    """The pruned MiniLM, for the engines that run the module itself."""
    return minilm_pruned(0.9)[0]


def stand_in(rounds: int) -> tuple[prunus.CompiledModel, Report]:
    """The stand-in for PruneBERT at the tutorial's shape."""
    model = prunus.compile(prunebert_stand_in())
    report = run_bench(
        {"PruneBERT stand-in (made on the spot)": model},
        module_loader=partial(prunebert_stand_in),
        engines=ENGINES,
        rounds=rounds,
        density={"PruneBERT stand-in (made on the spot)": 1 - model.explain().linear_zeros},
        cache=cache_folder(),
        progress=_say,
    )
    return model, report


def minilm(rounds: int) -> tuple[prunus.CompiledModel, Report]:
    """The real MiniLM on real sentences."""
    model = prunus.compile(minilm_module())
    report = run_bench(
        {"MiniLM, pruned by magnitude to 90 %": model},
        module_loader=minilm_module,
        engines=ENGINES,
        shapes=((1, 128), (8, 64)),
        rounds=rounds,
        inputs=sentences,
        density={"MiniLM, pruned by magnitude to 90 %": 1 - model.explain().linear_zeros},
        cache=cache_folder(),
        progress=_say,
    )
    return model, report


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{what} …", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Print both tables; with `--json FILE` write them there too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    results = {}
    for title, job in (
        ("A pruned BERT-base, batch 1, 128 tokens: the tutorial's job", stand_in),
        ("A real model on real sentences", minilm),
    ):
        model, report = job(arguments.rounds)
        _say("")
        print(f"\n## {title}\n\n{report.to_markdown()}")
        print(f"What prunus chose:\n\n{model.explain()}\n")
        results[job.__name__] = report.to_dict()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
