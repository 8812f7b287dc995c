"""Many mutated graphs in child processes, resumable; prints what came how far, by op.

    python -m tests.mutation.campaign --seeds 0:100000 --native-every 4 --results results.jsonl

A child that crashes, or twice takes longer than 5 s for a graph, is a failure; another takes its
place.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

LIMIT = 5.0
"""Seconds that a graph may take once its kernels are compiled."""

START = 60.0
"""Seconds that it may take besides, in a new child: to import prunus and compile kernels."""

ROOT = Path(__file__).parents[2]
WORKER = (sys.executable, "-m", "tests.mutation.worker")


class Child:
    """A worker process, started when it is first needed and again after it has ended."""

    def __init__(self, command: Sequence[str] = WORKER) -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def run(self, seed: int, *, native: bool) -> dict[str, Any]:
        """The outcome of a seed; what takes too long is tried again alone, with its kernels in the
        cache.
        """
        is_new = self._process is None
        outcome = self._ask(seed, native, START if is_new else LIMIT)
        if outcome is None and not is_new:
            outcome = self._ask(seed, native, START)
        if outcome is None:
            return _failure(seed, f"no answer within {START} s")
        if not is_new and outcome["seconds"] > LIMIT:
            return _failure(seed, f"took {outcome['seconds']:.1f} s")
        return outcome

    def _ask(self, seed: int, native: bool, limit: float) -> dict[str, Any] | None:
        """The outcome of a seed, None if it does not come in time."""
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(f"{seed} {int(native)}\n")
            process.stdin.flush()
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            self.stop()
            return None
        except BrokenPipeError:
            line = ""
        if line:
            outcome: dict[str, Any] = json.loads(line)
            return outcome
        code = process.wait()
        self.stop()
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return _failure(seed, f"the process ended: {name}")

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()
            self._reader.join()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with suppress(BrokenPipeError):
                    stream.close()

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            self._command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)
            lines.put("")

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()
        self._process, self._lines = process, lines
        return process


def _failure(seed: int, error: str) -> dict[str, Any]:
    return {
        "seed": seed, "stage": "failed", "ops": {}, "native": {}, "compared": 0, "seconds": 0.0,
        "error": error,
    }  # fmt: skip


def run_seeds(
    seeds: Iterable[int], *, native_every: int, children: int, seconds: float = float("inf"),
    results: Path | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The outcomes of seeds, of which every so many-th runs natively; new ones are appended to a
    file as they come.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for seed in seeds:
        waiting.put(seed)
    outcomes: list[dict[str, Any]] = []
    lock, end = threading.Lock(), time.monotonic() + seconds

    def work() -> None:
        child = Child()
        try:
            while time.monotonic() < end:
                try:
                    seed = waiting.get_nowait()
                except queue.Empty:
                    break
                outcome = child.run(seed, native=seed % native_every == 0)
                with lock:
                    outcomes.append(outcome)
                    if results is not None:
                        with results.open("a") as file:
                            file.write(json.dumps(outcome) + "\n")
        finally:
            child.stop()

    threads = [threading.Thread(target=work) for _ in range(children)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def report(outcomes: Sequence[dict[str, Any]]) -> str:
    """How many graphs came how far, and by op how many passed the verifier and ran natively."""
    stages = Counter(outcome["stage"] for outcome in outcomes)
    verified, native = Counter[str](), Counter[str]()
    for outcome in outcomes:
        verified.update(outcome["ops"].keys())
        native.update(outcome["native"].keys())
    compared = sum(outcome["compared"] for outcome in outcomes)
    lines = [f"{len(outcomes)} graphs, {compared} elements compared with the interpreter's"]
    lines += [f"  {stage:16} {count:7}" for stage, count in stages.most_common()]
    lines += ["", f"  {'op':16} {'verified':>8} {'native':>8}"]
    lines += [f"  {op:16} {count:8} {native[op]:8}" for op, count in sorted(verified.items())]
    failed = [outcome for outcome in outcomes if outcome["stage"] == "failed"]
    lines += [f"\nseed {outcome['seed']}: {outcome['error']}" for outcome in failed[:20]]
    return "\n".join(lines)


def main() -> int:
    """Run the seeds that have no outcome yet, and report on all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:1000", help="first:behind-last")
    parser.add_argument("--native-every", type=int, default=1, help="run every n-th seed natively")
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after that long")
    parser.add_argument("--results", type=Path, help="JSON lines; seeds in it are not run again")
    options = parser.parse_args()
    first, last = map(int, options.seeds.split(":"))
    done: list[dict[str, Any]] = []
    if options.results is not None and options.results.exists():
        done = [json.loads(line) for line in options.results.read_text().splitlines()]
    known = {outcome["seed"] for outcome in done}
    done += run_seeds(
        (seed for seed in range(first, last) if seed not in known),
        native_every=options.native_every, children=options.children, seconds=options.seconds,
        results=options.results,
    )  # fmt: skip
    print(report(done))
    return int(any(outcome["stage"] == "failed" for outcome in done))


if __name__ == "__main__":
    sys.exit(main())
