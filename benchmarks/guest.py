"""How prunus fares among others: beside a process that spins on one of the cores, beside a second
model in the same process, and called from four threads.

The neighbour is a process of one endless loop, pinned to the first core that may be used (on Linux
alone); quiet and loud rounds alternate. Callers that share the workers get a share each: the shares
are their rates over the rate alone, and sum to 1 where sharing costs nothing. Every answer given to
one of several threads is compared, to the bit, with the one given to a single thread.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from harness import (
    caller,
    compiled_bert,
    figure,
    header,
    make_inputs,
    make_parser,
    say,
    table,
    write_json,
)

import prunus
from prunus.bench.engines import Arrays
from prunus.frontend.arrays import leaves

MOST_AT_MEDIAN, MOST_AT_WORST = 4, 100
"""What a call beside a spinning process may take, in medians of a quiet one."""

CALLERS = 4

_SPIN = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


@contextmanager
def neighbour() -> Iterator[Callable[[bool], None]]:
    """A process on the first usable core; the function lets it spin, or stops it."""
    core = min(os.sched_getaffinity(0))
    process = subprocess.Popen([sys.executable, "-c", _SPIN, str(core)])
    try:
        yield lambda loud: process.send_signal(signal.SIGCONT if loud else signal.SIGSTOP)
    finally:
        process.kill()
        process.wait()


def durations(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds that each call takes, one after the other for so long."""
    found: list[float] = []
    end = time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return found


def rates(calls: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Calls a second of each caller, all at once, each in a thread of its own."""
    together, found = threading.Barrier(len(calls)), [0.0] * len(calls)

    def work(i: int) -> None:
        together.wait()
        begin, count = time.perf_counter(), 0
        while time.perf_counter() < begin + seconds:
            calls[i]()
            count += 1
        found[i] = count / (time.perf_counter() - begin)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def measure_neighbour(
    model: prunus.CompiledModel, inputs: Arrays, arguments: argparse.Namespace
) -> dict[str, float]:
    """The model in quiet and in loud rounds, in seconds and in quiet medians."""
    samples: dict[bool, list[float]] = {False: [], True: []}
    with neighbour() as spin:
        for _ in range(arguments.rounds):
            for loud, found in samples.items():
                spin(loud)
                time.sleep(0.05)  # until the signal has been heeded
                found += durations(caller(model, inputs), arguments.seconds)
    quiet, slowed = (statistics.median(samples[key]) for key in (False, True))
    return {
        "quiet_median_ms": 1e3 * quiet,
        "loud_median_ms": 1e3 * slowed,
        "loud_to_quiet": slowed / quiet,
        "quiet_worst_to_median": max(samples[False]) / quiet,
        "loud_worst_to_quiet": max(samples[True]) / quiet,
    }


def measure_two_models(
    models: Sequence[prunus.CompiledModel], inputs: Arrays, arguments: argparse.Namespace
) -> dict[str, float]:
    """Two models called in turns by one thread, and by a thread each, against each alone."""
    first, second = (caller(model, inputs) for model in models)

    def in_turns() -> None:
        first()
        second()

    turns, shares = [], []
    for _ in range(arguments.rounds):
        alone = [rates([call], arguments.seconds)[0] for call in (first, second)]
        both = rates([in_turns], arguments.seconds)[0]
        turns.append((1 / both) / sum(1 / rate for rate in alone))
        at_once = rates([first, second], arguments.seconds)
        shares.append([rate / own for rate, own in zip(at_once, alone, strict=True)])
    middle = [statistics.median(column) for column in zip(*shares, strict=True)]
    return {
        "in_turns_to_alone": statistics.median(turns),
        "shares_of_two_threads": statistics.median(map(sum, shares)),
        "smaller_share": min(middle),
    }


def bits(model: prunus.CompiledModel, inputs: Arrays) -> bytes:
    """An answer, to the bit."""
    return b"".join(value.tobytes() for _, value in leaves(model(**inputs)))


def measure_callers(
    model: prunus.CompiledModel, cases: Sequence[Arrays], arguments: argparse.Namespace
) -> dict[str, float]:
    """One model called with different inputs by a thread each, against one thread."""
    wanted, wrong = [bits(model, inputs) for inputs in cases], [0] * len(cases)

    def check(i: int) -> None:
        wrong[i] += bits(model, cases[i]) != wanted[i]

    ratios, smallest = [], []
    for _ in range(arguments.rounds):
        alone = rates([partial(check, 0)], arguments.seconds)[0]
        found = rates([partial(check, i) for i in range(len(cases))], arguments.seconds)
        ratios.append(sum(found) / alone)
        smallest.append(min(found) / alone)
    return {
        "callers": len(cases),
        "together_to_one": statistics.median(ratios),
        "smallest_share": statistics.median(smallest),
        "wrong_answers": sum(wrong),
    }


def rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The table: what, how much, and what is wanted."""
    near, models, callers = found["neighbour"], found["two_models"], found["callers"]
    count = callers["callers"]
    return [
        ("median of a quiet call, ms", figure(near["quiet_median_ms"]), ""),
        ("beside a process that spins, ms", figure(near["loud_median_ms"]), ""),
        ("… in quiet medians", figure(near["loud_to_quiet"]), f"≤ {MOST_AT_MEDIAN}"),
        ("its worst call, in quiet medians", figure(near["loud_worst_to_quiet"]),
         f"< {MOST_AT_WORST}"),
        ("worst quiet call, in medians", figure(near["quiet_worst_to_median"]), ""),
        ("two models in turns ÷ each alone, time", figure(models["in_turns_to_alone"]), "1"),
        ("two models in two threads, sum of shares", figure(models["shares_of_two_threads"]), "1"),
        ("… the smaller share", figure(models["smaller_share"]), "1/2"),
        (f"{count} threads ÷ one thread, calls a second", figure(callers["together_to_one"]), "1"),
        ("… the smallest share", figure(callers["smallest_share"]), f"1/{count}"),
        ("… answers that differ in a bit", str(callers["wrong_answers"]), "0"),
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = make_parser(__doc__, rounds=9, seconds=1.0)
    parser.add_argument("--recipe", default="0.95", help="zeros of the first model")
    parser.add_argument("--other", default="0.9", help="zeros of the second model")
    parser.add_argument("--length", type=int, default=128, help="tokens of a call")
    arguments = parser.parse_args()
    models = [compiled_bert(recipe, arguments) for recipe in (arguments.recipe, arguments.other)]
    cases = [make_inputs(models[0], 1, arguments.length) for _ in range(CALLERS)]
    for i, inputs in enumerate(cases):  # as many answers as callers
        inputs["input_ids"] = (inputs["input_ids"] + i) % (models[0].vocabulary or 1)
    for model in models:
        model(**cases[0])
    say("beside a process that spins")
    found: dict[str, Any] = {"neighbour": measure_neighbour(models[0], cases[0], arguments)}
    say("two models")
    found["two_models"] = measure_two_models(models, cases[0], arguments)
    say(f"{CALLERS} threads")
    found["callers"] = measure_callers(models[0], cases, arguments)
    what = (
        f"BERT-{arguments.size} with {arguments.recipe} zeros (the second with {arguments.other}), "
        f"1×{arguments.length}"
    )
    print(header(what, arguments))
    print()
    print(table(("", "measured", "wanted"), rows(found)))
    write_json(found, arguments)


if __name__ == "__main__":
    main()
