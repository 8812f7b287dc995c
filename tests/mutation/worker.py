"""A child process that runs seeds as they are handed to it, a line of JSON each."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext

from tests.mutation.guard import guarded_arrays
from tests.mutation.trial import run_trial


def main() -> None:
    """Read `seed native` lines until the end, answer each with its outcome."""
    for line in sys.stdin:
        seed, native = map(int, line.split())
        begin = time.perf_counter()
        with guarded_arrays() if native else nullcontext():
            outcome = run_trial(seed, native=bool(native)).to_json()
        outcome["seconds"] = time.perf_counter() - begin
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
