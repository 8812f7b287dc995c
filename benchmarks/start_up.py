"""How long until the first answer, how much memory, how large on disk: each in a process of its
own.

Prints for BERT-base at 95 % random zeros: module to first answer without and with the caches, a
saved folder to its first answer in a new process without and with them, that process's peak memory,
the folder's size, `import prunus`, and one thread against two.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_MODULE = """
import time; begin = time.perf_counter()
import prunus
from prunus.frontend.stand_in import random_bert
module = random_bert(sparsity=0.95)
start = time.perf_counter()
import numpy as np
model = prunus.compile(module)
model(input_ids=np.ones((1, 128), np.int64))
print(time.perf_counter() - start)
if {folder!r}: model.save_pretrained({folder!r})
"""

_FOLDER = """
import time; begin = time.perf_counter()
import resource, sys
import numpy as np
import prunus
model = prunus.load({folder!r})
model(input_ids=np.ones((1, 128), np.int64))
assert "torch" not in sys.modules and "transformers" not in sys.modules
print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

_IMPORT = "import time; t = time.perf_counter(); import prunus; print(time.perf_counter() - t)"

_THREADS = """
import numpy as np, prunus, statistics, time
one, two = prunus.load({folder!r}, threads=1), prunus.load({folder!r}, threads=2)
ids = np.ones((1, 128), np.int64)
times = {{one: [], two: []}}
for _ in range(100):
    for model in times:
        model(input_ids=ids)
        begin = time.perf_counter()
        for _ in range(3): model(input_ids=ids)
        times[model].append(time.perf_counter() - begin)
print(statistics.median(times[one]) / statistics.median(times[two]))
"""


def run(code: str, cache: Path, **values: object) -> list[float]:
    """The numbers that a new interpreter prints for `code`."""
    environment = {**os.environ, "PRUNUS_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code.format(**values)],
        env=environment, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    """Print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        cache, cold, folder = (Path(temporary) / n for n in ("cache", "cold", "folder"))
        figures["import prunus, s"] = min(run(_IMPORT, cache)[0] for _ in range(5))
        figures["module to first answer, caches empty, s"] = run(
            _MODULE, cache, folder=str(folder)
        )[0]
        figures["module to first answer, caches warm, s"] = run(_MODULE, cache, folder="")[0]
        seconds, _ = run(_FOLDER, cold, folder=str(folder))
        figures["saved folder to first answer, new process, caches empty, s"] = seconds
        seconds, memory = run(_FOLDER, cache, folder=str(folder))
        figures["saved folder to first answer, new process, caches warm, s"] = seconds
        figures["peak memory of that process, MB"] = memory
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        figures["saved folder, MB"] = size / 1e6
        if len(os.sched_getaffinity(0)) > 1:
            figures["one thread ÷ two threads, time"] = run(_THREADS, cache, folder=str(folder))[0]
    for name, value in figures.items():
        print(f"{name:62} {value:8.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
