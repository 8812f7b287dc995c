"""Whether prunus runs for long without an error, a wrong answer or growth: MiniLM from several
threads, with texts and ids of random lengths and batch sizes.

A case is drawn from its number, so it can be drawn again: its output must have the very bits that
it had the first time, whichever thread asks. Half of the cases are texts, half are padded ids. Each
minute is a row of what was seen. The exit status is 1 after an error, another output, or where
memory, open files or threads have grown since the first minute.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from harness import header, say, table, write_json

import prunus
from prunus.frontend.stand_in import minilm_folder
from prunus.runtime.threads import default_threads
from prunus.text import TextModel, load

WORDS = ("plum", "tree", "prune", "branch", "bears", "fruit", "winter", "light", "garden", "saw")
GROWTH = 0.05, 32e6
"""A share of the memory after the first minute, and bytes, that are no growth: MiniLM holds 14 MB
more once it has met all cases, as each new size is bound once and allocators keep what they had."""
WARM_UP = 8
"""Cases that run before the first minute: they compile the kernels, which takes seconds."""
KEPT_ERRORS = 5
"""Messages that are shown; the rest are only counted."""


@dataclass(frozen=True)
class Minute:
    """What was seen in one minute.

    Attributes:
        calls: That ended in it.
        errors: Exceptions and other outputs among them.
        memory: Bytes that are resident at its end.
        handles: Open files and sockets, by the system's count.
        threads: Of the process.
        median: Of the calls' seconds.
        high: Their 99th percentile.
    """

    calls: int
    errors: int
    memory: int
    handles: int
    threads: int
    median: float
    high: float


@dataclass
class Log:
    """What the callers note; `seconds` and `errors` are of the current minute."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    messages: list[str] = field(default_factory=list)
    digests: dict[int, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, case: int, seconds: float, digest: str, error: str = "") -> None:
        """One call: the digest of its output, or its error."""
        with self.lock:
            if not error and self.digests.setdefault(case, digest) != digest:
                error = f"case {case} has another output than the first time"
            self.seconds.append(seconds)
            self.errors += bool(error)
            if error and len(self.messages) < KEPT_ERRORS:
                self.messages.append(error)

    def take(self) -> tuple[list[float], int]:
        """The seconds and errors since the last time."""
        with self.lock:
            taken = self.seconds, self.errors
            self.seconds, self.errors = [], 0
        return taken


def draw_call(model: TextModel, case: int, batch: int, length: int) -> Callable[[], Any]:
    """The call of a case: up to `batch` texts or rows of ids, of up to `length` words or tokens."""
    random = np.random.default_rng(case)
    lengths = random.integers(1, length, random.integers(1, batch, endpoint=True), endpoint=True)
    if case % 2:
        texts = [" ".join(random.choice(WORDS, words)) for words in lengths]
        return lambda: model.embed(texts)
    shape = len(lengths), int(lengths.max())
    ids = random.integers(1, model.model.vocabulary or 2, shape)
    mask = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
    return lambda: model.model(input_ids=ids * mask, attention_mask=mask)


def digest_of(output: Any) -> str:
    """A digest of all bits of an output: arrays, or what consists of them."""
    arrays = output.values() if hasattr(output, "values") else [output]
    digest = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def run_case(model: TextModel, log: Log, arguments: argparse.Namespace, case: int) -> None:
    """Run a case and note its output or its error."""
    call = draw_call(model, case, arguments.batch, arguments.length)
    begin = time.perf_counter()
    try:
        output = call()
    except Exception as error:  # an error of any kind is what this looks for
        log.add(case, time.perf_counter() - begin, "", f"case {case}: {error!r}")
    else:
        log.add(case, time.perf_counter() - begin, digest_of(output))


def call_until(
    model: TextModel, log: Log, arguments: argparse.Namespace, seed: int, end: float
) -> None:
    """Run random cases until a time of `time.monotonic`."""
    random = np.random.default_rng(seed)
    while time.monotonic() < end:
        run_case(model, log, arguments, int(random.integers(arguments.cases)))


def soak(model: TextModel, arguments: argparse.Namespace, log: Log) -> Iterator[Minute]:
    """The minutes; where the whole run is shorter than three, thirds of it."""
    for case in range(min(WARM_UP, arguments.cases)):
        run_case(model, log, arguments, case)
    log.take()
    begin, seconds = time.monotonic(), 60 * arguments.minutes
    span = min(60.0, seconds / 3)
    end = begin + seconds
    callers = [
        threading.Thread(target=call_until, args=(model, log, arguments, seed, end))
        for seed in range(arguments.callers)
    ]
    for caller in callers:
        caller.start()
    process = psutil.Process()
    for minute in range(1, round(seconds / span) + 1):
        time.sleep(max(0.0, begin + minute * span - 0.1 - time.monotonic()))
        calls, errors = log.take()
        median, high = np.percentile(calls or [0.0], [50, 99])
        yield Minute(
            len(calls),
            errors,
            process.memory_info().rss,
            process.num_fds(),
            process.num_threads(),
            float(median),
            float(high),
        )
    for caller in callers:
        caller.join()


def problems(minutes: Sequence[Minute], log: Log) -> list[str]:
    """What the exit status tells, as sentences."""
    found = list(log.messages)
    first, last = minutes[0], minutes[-1]
    share, least = GROWTH
    if last.memory > first.memory * (1 + share) + least:
        found.append(f"memory grew from {first.memory / 1e6:.0f} to {last.memory / 1e6:.0f} MB")
    for what in ("handles", "threads"):
        before, after = getattr(first, what), getattr(last, what)
        if after > before:
            found.append(f"{what} grew from {before} to {after}")
    if not last.calls:
        found.append("no call ended in the last minute")
    return found


def main() -> None:
    """Print a row for each minute, and what went wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=15, help="length of the run")
    parser.add_argument("--callers", type=int, default=4, help="threads that call")
    parser.add_argument("--cases", type=int, default=400, help="different calls")
    parser.add_argument("--batch", type=int, default=8, help="most texts of a call")
    parser.add_argument("--length", type=int, default=100, help="most words of a text")
    parser.add_argument("--threads", type=int, default=default_threads(), help="workers of a call")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    log, minutes = Log(), list[Minute]()
    sizes = f"{arguments.batch} × {arguments.length}"
    what = f"MiniLM, {arguments.cases} cases of up to {sizes}, {arguments.callers} callers"
    print(header(what, arguments, taken="all calls") + "\n")
    with tempfile.TemporaryDirectory() as folder:
        say("compiling MiniLM")
        prunus.from_pretrained(minilm_folder()).save_pretrained(folder)
        model = load(folder, threads=arguments.threads)
        for minute in soak(model, arguments, log):
            minutes.append(minute)
            say(f"minute {len(minutes)}: {minute}")
    titles = ("minute", "calls", "errors", "memory MB", "handles", "threads", "p50 ms", "p99 ms")
    rows = [
        (
            str(number),
            str(each.calls),
            str(each.errors),
            f"{each.memory / 1e6:.1f}",
            str(each.handles),
            str(each.threads),
            f"{1e3 * each.median:.2f}",
            f"{1e3 * each.high:.2f}",
        )
        for number, each in enumerate(minutes, 1)
    ]
    print(table(titles, rows))
    found = problems(minutes, log)
    print("\n" + ("\n".join(found) or "No error, no other output, no growth."))
    write_json({"minutes": [asdict(each) for each in minutes], "problems": found}, arguments)
    if found:
        sys.exit(1)


if __name__ == "__main__":
    main()
