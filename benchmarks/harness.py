"""What the scripts here share: their options, the model they time, medians of interleaved calls,
and how a result is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import prunus
from prunus.bench import interleave, turn_of
from prunus.bench.engines import Arrays
from prunus.bench.inputs import random_inputs
from prunus.bench.machine import python_version, this_machine
from prunus.bench.table import aligned
from prunus.frontend.stand_in import CONFIGS, random_bert
from prunus.kernels.peak import fma_peak
from prunus.runtime.threads import default_threads
from prunus.sparsity import SparsityRecipe
from prunus.versions import package_versions

Key = TypeVar("Key", bound=Hashable)


def make_parser(
    description: str | None,
    *,
    rounds: int = 7,
    seconds: float | None = 0.5,
    threads: int | None = None,
    sized: bool = True,
) -> argparse.ArgumentParser:
    """The options that the scripts have in common.

    Args:
        description: What is shown.
        rounds: The default.
        seconds: The default; None where a turn is a number of calls, not a length of time.
        threads: The number where there is no choice.
        sized: Whether whole models are timed, which may be tiny then, to try the script.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    if sized:
        parser.add_argument("--size", choices=tuple(CONFIGS), default="base", help="of the BERT")
    if threads is None:
        parser.add_argument(
            "--threads", type=int, default=default_threads(), help="workers of a call"
        )
    else:
        parser.set_defaults(threads=threads)
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each contender")
    if seconds is not None:
        parser.add_argument("--seconds", type=float, default=seconds, help="length of a turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


def make_bert(recipe: str, size: str = "base") -> Any:
    """A BERT for question answering with the recipe's zeros in its encoder's linear weights."""
    parsed = SparsityRecipe.parse(recipe)
    return random_bert(
        sparsity=parsed.sparsity,
        block=parsed.block or (1, 1),
        size="tiny" if size == "tiny" else "base",
    )


def compiled_bert(recipe: str, arguments: argparse.Namespace) -> prunus.CompiledModel:
    """`make_bert`, compiled for the threads that were asked for."""
    say(f"compiling a BERT with {recipe} zeros")
    return prunus.compile(make_bert(recipe, arguments.size), threads=arguments.threads)


def make_inputs(model: prunus.CompiledModel, batch: int, length: int) -> Arrays:
    """Random ids [batch, length] of the model's vocabulary, nothing masked."""
    return random_inputs(model.input_names, (batch, length), model.vocabulary)


def caller(model: prunus.CompiledModel, inputs: Arrays) -> Callable[[], object]:
    """A call of the model as a user makes it."""
    return lambda: model(**inputs)


def medians(
    calls: Mapping[Key, Callable[[], object]], arguments: argparse.Namespace
) -> dict[Key, float]:
    """The median seconds of each call, all timed side by side in interleaved rounds."""
    say(f"timing {len(calls)} contenders, {arguments.rounds} rounds")
    samples = interleave(
        [turn_of(call) for call in calls.values()],
        rounds=arguments.rounds,
        seconds=arguments.seconds,
    )
    return {key: statistics.median(s) for key, s in zip(calls, samples, strict=True)}


def header(
    what: str,
    arguments: argparse.Namespace,
    packages: Sequence[str] = (),
    *,
    taken: str = "medians",
) -> str:
    """What must be known to read the figures, as Markdown: model, processor, threads, versions.

    `packages` are those that the script uses beside prunus's own, `taken` is what was taken of the
    rounds, where there are rounds.
    """
    rounds = vars(arguments).get("rounds")
    peak = fma_peak(arguments.threads) / 1e9
    versions = python_version() | package_versions(("prunus", "llvmlite", "numpy", *packages))
    return "\n".join(
        (
            f"- Model: {what}",
            f"- Processor: {this_machine().describe()}; measured FMA peak {peak:.0f} GFLOP/s "
            "with these threads",
            f"- Threads: {arguments.threads}; {taken}"
            + ("" if rounds is None else f" of {rounds} interleaved rounds"),
            f"- Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}",
        )
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned; the first column holds texts, the others figures."""
    return "\n".join(aligned(titles, rows, {0}))


def figure(value: float) -> str:
    """Three significant digits, never an exponent: 165, 50.3, 8.12, 0.0123.

    What a disturbed run was fitted to may lie below zero.
    """
    order = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, 2 - order)}f}"


def write_json(figures: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """Write the figures with the machine and the settings, where `--json` asks for it."""
    if arguments.json is None:
        return
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(arguments).items()
        if name != "json"
    }
    document = {
        "machine": dataclasses.asdict(this_machine()),
        "versions": python_version() | package_versions(("prunus", "llvmlite", "numpy")),
        "settings": settings,
        **figures,
    }
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def say(what: str) -> None:
    """Tell on standard error what is being done."""
    print(f"… {what}", file=sys.stderr, flush=True)
