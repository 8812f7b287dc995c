"""The steps of TVM's tutorial "Deploy a Hugging Face Pruned Model on CPU", taken with prunus.

What pruning is. A trained network does not need all of its weights. Pruning picks those that matter
least (the smallest ones, or in PruneBERT those that training pushes towards zero), sets them to
zero, and trains the rest on to make up for the loss. The more is cut, the more of that training
it takes. Of PruneBERT's encoder 6 % of the weights are left. That alone saves no time: a dense
matrix product multiplies by a zero as patiently as by any other number.

Unstructured and structured. Unstructured zeros lie wherever a weight was not needed. That costs the
least accuracy, but what is left is scattered: each weight must be stored with its own place, and is
fetched and used alone. Structured zeros fill whole blocks, and so do the weights that are left.
Hardware likes that, since it reads and computes whole vectors: one index serves a block, and a
vector that was loaded once serves all rows of it. In prunus the lanes of a vector are tokens, so
scattered weights run as vector code too; but each of them loads its activations again, where a
block of 16×1 loads them once for several rows.

Why fake blocks stand beside a real model. Training a model into blocks is dear, and nobody knows
beforehand whether it pays. The time of a matrix product depends on where the zeros are and not on
what the other values are, so random weights in blocks tell how fast a model of that structure would
be. Beside the real, unstructured checkpoint they show what structure would buy. They answer
nothing sensible, of course: they are measured, not used.

    python examples/deploy_pruned_bert.py                      # a stand-in, nothing to download
    python examples/deploy_pruned_bert.py --name huggingface/prunebert-base-uncased-6-finepruned-w-distil-squad

The engines run one after another here, as in the tutorial. `prunus bench` interleaves them, reports
medians, and has torch.compile and OpenVINO beside them: take that for numbers to rely on.
"""  # noqa: E501 - a command cannot be broken

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import prunus
from prunus.bench.inputs import random_inputs
from prunus.frontend import hub
from prunus.frontend.checkpoint import load_module
from prunus.frontend.stand_in import CONFIGS, prunebert_stand_in
from prunus.runtime.threads import check_threads

# The settings. Each is an option of the command line as well.
NAME = "stand-in"  # or a name on the Hugging Face hub, or the folder of a checkpoint
BATCH_SIZE = 1
SEQ_LEN = 128
TARGET = "native"  # or as LLVM writes it: "llvm -mcpu=haswell"
MEASURE_SPARSE = True  # False stops after the dense model
BS_R = 16  # rows of the simulated blocks, which are BS_R×1; the tutorial has 1
SPARSITY = 0.85  # share of zeros in the simulated weights
REPEAT, NUMBER = 5, 5  # a time is the mean of REPEAT means of NUMBER calls each

# What step 8 runs in a new process: a saved model in, its answer out, and neither library loaded.
ANSWER_WITHOUT_TORCH = """
import sys
import numpy as np
import prunus

folder, inputs, answer, target, threads = sys.argv[1:]
model = prunus.load(folder, target=target, threads=int(threads))
np.savez(answer, **model(**np.load(inputs)))
loaded = {"torch", "transformers"} & set(sys.modules)
print(f"  a new process loaded {model}")
print(f"  torch and transformers in it: {', '.join(loaded) or 'not imported'}")
"""


@dataclass(frozen=True)
class Row:
    """A line of the final table: `zeros` is a share, times are in seconds.

    `difference` is the largest one between its answer and PyTorch's for the same weights.
    """

    label: str
    zeros: float
    mean: float
    deviation: float
    difference: float = 0.0

    def __str__(self) -> str:
        time = f"{1e3 * self.mean:.2f} ms (sd {1e3 * self.deviation:.2f})"
        return f"{time}, {self.difference:.0e} from PyTorch's answer"


@dataclass(frozen=True)
class Stopwatch:
    """Times PyTorch and prunus in the same way, on the same inputs."""

    inputs: Mapping[str, np.ndarray]
    repeat: int
    number: int

    def time_torch(self, module: torch.nn.Module) -> tuple[float, float]:
        """Mean and standard deviation, as `CompiledModel.benchmark` computes them."""
        answer_of(module, self.inputs)  # to warm up
        seconds = timeit.repeat(
            lambda: answer_of(module, self.inputs), repeat=self.repeat, number=self.number
        )
        return float(np.mean(seconds)) / self.number, float(np.std(seconds)) / self.number

    def time_prunus(self, label: str, model: prunus.CompiledModel, module: torch.nn.Module) -> Row:
        """A compiled model's time, and how far its answer is from that of the module behind it."""
        result = model.benchmark(self.inputs, repeat=self.repeat, number=self.number)
        expected = {name: value.numpy() for name, value in answer_of(module, self.inputs).items()}
        difference = largest_difference(model(**self.inputs), expected)
        return Row(label, model.explain().linear_zeros, result.mean, result.std, difference)


def main() -> None:
    """Take the steps in order."""
    settings = parse_settings()
    options = {"target": settings.target, "threads": settings.threads}

    step(1, "Load the model")
    module, what = load(settings)
    print(f"  {what}")

    step(2, "Time PyTorch itself")
    inputs = draw_inputs(settings, module)
    stopwatch = Stopwatch(inputs, settings.repeat, settings.number)
    torch.set_num_threads(settings.threads)
    mean, deviation = stopwatch.time_torch(module)
    print(
        f"  batch {settings.batch_size}, {settings.seq_len} tokens, {settings.threads} threads: "
        f"{1e3 * mean:.2f} ms (sd {1e3 * deviation:.2f})"
    )

    step(3, "Import it into prunus, and run it with dense kernels only (sparse=False)")
    dense = compile_dense(settings, module, options)
    rows = [
        Row("PyTorch, eager", dense.explain().linear_zeros, mean, deviation),
        stopwatch.time_prunus("prunus, dense kernels", dense, module),
    ]
    print(f"  {rows[-1].label}: {rows[-1]}")
    print(f"  measured: {100 * rows[-1].zeros:.0f} % of its linear weights are zero")
    if not settings.measure_sparse:
        return

    step(4, "The same graph, skipping zeros")
    sparse = dense.recompile(sparse=True)
    rows.append(stopwatch.time_prunus("prunus, skipping zeros", sparse, module))
    print(f"  {rows[-1].label}: {rows[-1]}")

    step(5, "What prunus found and chose")
    print(sparse.explain())

    step(6, "Simulated zeros: random weights, as if somebody had pruned in blocks")
    for block in sorted({(1, 1), (settings.bs_r, 1)}):
        # The model has zeros of its own, which these replace: force says that this is meant.
        fake = prunus.simulate(module, settings.sparsity, block, force=True)
        label = f"SIMULATED, {block[0]}×{block[1]} blocks"
        rows.append(stopwatch.time_prunus(label, prunus.compile(fake, **options), fake))
        print(f"  {rows[-1].label}: {rows[-1]}")

    step(7, "Side by side")
    print(f"  the model: {what}")
    print_table(rows)

    step(8, "Save, and load without torch")
    save_and_load(sparse, inputs, settings)


def parse_settings() -> argparse.Namespace:
    """The settings above, or what the command line says instead."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", default=NAME, help="stand-in, a hub name, or a folder")
    parser.add_argument("--size", choices=list(CONFIGS), default="base", help="of the stand-in")
    parser.add_argument("--batch-size", type=at_least_one, default=BATCH_SIZE)
    parser.add_argument("--seq-len", type=at_least_one, default=SEQ_LEN)
    parser.add_argument("--target", default=TARGET, help='native, or e.g. "llvm -mcpu=haswell"')
    parser.add_argument("--threads", type=int, help="default: the physical cores")
    parser.add_argument(
        "--measure-sparse", action=argparse.BooleanOptionalAction, default=MEASURE_SPARSE
    )
    parser.add_argument(
        "--bs-r", type=at_least_one, default=BS_R, help="rows of the simulated blocks"
    )
    parser.add_argument("--sparsity", type=float, default=SPARSITY, help="of simulated weights")
    parser.add_argument("--repeat", type=at_least_one, default=REPEAT)
    parser.add_argument("--number", type=at_least_one, default=NUMBER)
    settings = parser.parse_args()
    settings.threads = check_threads(settings.threads)
    return settings


def at_least_one(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} was given, expected at least 1")
    return value


def step(number: int, title: str) -> None:
    """Print the heading of a step."""
    print(f"\n{number}. {title}", flush=True)


def load(settings: argparse.Namespace) -> tuple[torch.nn.Module, str]:
    """The PyTorch module, and in words what it is.

    A checkpoint's class is read from its configuration, and all of its weights must be in its
    files: a head that was forgotten is an error here, not random numbers.
    """
    if settings.name == "stand-in":
        return prunebert_stand_in(size=settings.size), (
            f"a STAND-IN for PruneBERT, BERT-{settings.size}: random weights, with zeros where "
            "movement\n  pruning leaves them. Its times tell something, its answers do not."
        )
    module = load_module(hub.resolve(settings.name))
    return module, f"{settings.name}, a {type(module).__name__}"


def draw_inputs(settings: argparse.Namespace, module: Any) -> Mapping[str, np.ndarray]:
    """Random ids of [batch, sequence], nothing masked. Token types may be left out, as in PyTorch.

    Random ones do: which ids are looked up changes the answer, not the time.
    """
    limit = module.config.max_position_embeddings
    if settings.seq_len > limit:
        raise prunus.InputError(
            f"--seq-len is {settings.seq_len}, but the model has {limit} positions"
        )
    shape = (settings.batch_size, settings.seq_len)
    return random_inputs(("input_ids", "attention_mask"), shape, module.config.vocab_size)


def answer_of(module: torch.nn.Module, inputs: Mapping[str, np.ndarray]) -> Any:
    """What PyTorch answers."""
    with torch.inference_mode():
        return module(**{name: torch.from_numpy(value) for name, value in inputs.items()})


def compile_dense(
    settings: argparse.Namespace, module: torch.nn.Module, options: dict[str, Any]
) -> prunus.CompiledModel:
    """The model with dense kernels: the baseline that sparse ones have to beat.

    By name, the imported graph stays in the cache, and the next start needs no PyTorch for it.
    """
    if settings.name == "stand-in":
        return prunus.compile(module, sparse=False, **options)
    return prunus.from_pretrained(settings.name, sparse=False, **options)


def largest_difference(
    answer: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> float:
    """The largest absolute difference of two answers, which sums in another order make unequal."""
    return max(float(np.abs(answer[name] - expected[name]).max()) for name in expected)


def print_table(rows: list[Row]) -> None:
    """Every row, with how many times as fast as PyTorch and as the dense kernels it is."""
    torch_row, dense_row = rows[:2]
    print("  SIMULATED: its architecture with random weights, pruned by nobody\n")
    print(f"  {'':26} zeros       mean      sd  vs PyTorch  vs dense  difference")
    for row in rows:
        print(
            f"  {row.label:26} {100 * row.zeros:3.0f} % {1e3 * row.mean:7.2f} ms"
            f" {1e3 * row.deviation:7.2f} {torch_row.mean / row.mean:10.2f}×"
            f" {dense_row.mean / row.mean:8.2f}× {row.difference:11.0e}"
        )
    if any(row.deviation > 0.1 * row.mean for row in rows):
        print(
            "\n  A deviation is above a tenth of its mean: something else was running, so trust no "
            "ratio here.\n  `prunus bench` interleaves the engines and takes medians."
        )
    if len(rows) == 5:
        scattered, blocks = rows[-2:]
        print(
            "\n  The simulated models have equally many zeros, which differ only in their places. "
            "The one in\n  blocks took "
            f"{blocks.mean / scattered.mean:.2f} times as long as the other: below 1, structure "
            "would pay on this processor."
        )


def save_and_load(
    model: prunus.CompiledModel, inputs: Mapping[str, np.ndarray], settings: argparse.Namespace
) -> None:
    """Write a folder of data and have a new process, without torch, answer from it."""
    with tempfile.TemporaryDirectory() as parent:
        folder, given, answered = (Path(parent, name) for name in ("model", "in.npz", "out.npz"))
        model.save_pretrained(folder)
        files = sorted(folder.iterdir())
        size = sum(file.stat().st_size for file in files) / 1e6
        print(f"  saved {', '.join(file.name for file in files)}: {size:.1f} MB", flush=True)
        np.savez(given, **dict[str, Any](inputs))
        arguments = (folder, given, answered, settings.target, settings.threads)
        command = [sys.executable, "-c", ANSWER_WITHOUT_TORCH, *map(str, arguments)]
        subprocess.run(command, check=True)
        with np.load(answered) as answer:
            print(f"  its answer is {largest_difference(answer, model(**inputs)):.0e} from ours")


if __name__ == "__main__":
    try:
        main()
    except prunus.PrunusError as error:
        sys.exit(f"error: {error}")
