"""How steady calls are: the 99th percentile against the median over 1,000 calls, beside OpenVINO's
in the same run, and whether memory grows.

A third contender shows what the machine itself does: one thread adds up 16 KB again and again, for
about as long as a call of prunus. What that loop varies by, neighbours vary it by.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from harness import (
    caller,
    compiled_bert,
    header,
    make_bert,
    make_inputs,
    make_parser,
    say,
    table,
    write_json,
)

from prunus.bench import turn_of
from prunus.bench.engines import Job, make_engine, make_ready
from prunus.bench.rounds import Turn
from prunus.cache import cache_folder

EARLY = 100
"""Calls after which memory is read for the first time: what is made once has been made by then."""


def machine(seconds: float) -> Turn:
    """Turns of a loop inside the first cache that takes about so many seconds."""
    array = np.ones(4096, np.float32)

    def loop(count: int) -> None:
        for _ in range(count):
            array.sum()

    once = min(turn_of(lambda: loop(1000))(20)) / 1000
    return turn_of(lambda: loop(round(seconds / once)))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of all calls of each contender, in turns, and the memory of this process."""
    model = compiled_bert(arguments.recipe, arguments)
    inputs = make_inputs(model, 1, arguments.length)
    ours = turn_of(caller(model, inputs))
    control = machine(float(np.median(ours(50))))
    samples: dict[str, list[float]] = {"prunus": [], "openvino": [], "a loop": []}
    memory: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        rival = make_engine("openvino", model)
        try:
            say("preparing openvino")
            kept = cache_folder() if arguments.size == "base" else None
            loader = partial(make_bert, arguments.recipe, arguments.size)
            make_ready(rival, Job(loader, inputs, arguments.threads, kept or Path(folder)))
            rival.run(inputs)
            say(f"{arguments.calls} calls of each")
            turn = arguments.calls // arguments.rounds
            for _ in range(arguments.rounds):
                # The first call of a turn finds the caches full of the other's weights.
                samples["prunus"] += list(ours(turn + 1))[1:]
                samples["openvino"] += list(rival.time(turn + 1))[1:]
                samples["a loop"] += list(control(turn + 1))[1:]
                made = len(samples["prunus"])
                if made == arguments.calls or (made >= EARLY and not memory):
                    memory[made] = psutil.Process().memory_info().rss
        finally:
            rival.close()
    return {"seconds": samples, "memory": memory}


def main() -> None:
    """Print each contender's percentiles."""
    parser = make_parser(__doc__, rounds=20, seconds=None)
    parser.add_argument("--recipe", default="0.95", help="zeros")
    parser.add_argument("--length", type=int, default=128, help="tokens")
    parser.add_argument("--calls", type=int, default=1000, help="of each engine")
    arguments = parser.parse_args()
    if arguments.calls % arguments.rounds:
        parser.error(f"{arguments.calls} calls do not fill {arguments.rounds} equal turns")
    found = measure(arguments)
    what = f"BERT-{arguments.size}, {arguments.recipe} zeros, 1 × {arguments.length}"
    print(header(what, arguments, ("openvino",), taken="all calls") + "\n")
    rows = []
    for name, seconds in found["seconds"].items():
        median, high, most = np.percentile(seconds, [50, 99, 100]) * 1e3
        rows.append((name, f"{median:.2f}", f"{high:.2f}", f"{most:.2f}", f"{high / median:.2f}"))
    print(table(("engine", "median ms", "p99 ms", "most ms", "p99 ÷ median"), rows))
    lines = (f"{size / 1e6:.1f} MB after {calls} calls" for calls, size in found["memory"].items())
    print(f"\nMemory of prunus's process: {', '.join(lines)}")
    write_json(found, arguments)


if __name__ == "__main__":
    main()
