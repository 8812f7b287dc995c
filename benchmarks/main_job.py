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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def minilm_module() -> Any:
    """The pruned MiniLM, for the engines that run the module itself."""
    return minilm_pruned(0.9)[0]


@dataclass(frozen=True)
class Job:
    """One table: a model, the function that makes its module, shapes, and inputs if not random."""

    title: str
    model: str
    load: Callable[[], Any]
    shapes: tuple[tuple[int, int], ...]
    inputs: Callable[[int, int], dict[str, np.ndarray]] | None = None

    def run(self, rounds: int) -> tuple[prunus.CompiledModel, Report]:
        """Compile the module, and time it beside the rivals."""
        model = prunus.compile(self.load())
        report = run_bench(
            {self.model: model},
            module_loader=self.load,
            engines=ENGINES,
            shapes=self.shapes,
            rounds=rounds,
            inputs=self.inputs,
            density={self.model: model.density},
            cache=cache_folder(),
            progress=_say,
        )
        return model, report


JOBS = {
    "stand_in": Job(
        "A pruned BERT-base, batch 1, 128 tokens: the tutorial's job",
        "PruneBERT stand-in (made on the spot)",
        prunebert_stand_in,
        ((1, 128),),
    ),
    "minilm": Job(
        "A real model on real sentences",
        "MiniLM, pruned by magnitude to 90 %",
        minilm_module,
        ((1, 128), (8, 64)),
        sentences,
    ),
}


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
    for name, job in JOBS.items():
        model, report = job.run(arguments.rounds)
        _say("")
        print(f"\n## {job.title}\n\n{report.to_markdown()}")
        print(f"What prunus chose:\n\n{model.explain()}\n", flush=True)
        results[name] = report.to_dict()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
