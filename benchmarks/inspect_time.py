"""How long `prunus inspect` takes for a BERT-base on disk, and how much memory: each time in a new
process, from its start to its end, on a warm disk cache.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import figure, header, make_bert, make_parser, say, table, write_json


def main() -> None:
    """Print seconds and the peak of memory."""
    parser = make_parser(__doc__, rounds=5, seconds=None)
    parser.add_argument("--recipe", default="0.9", help="zeros")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "prunus", "inspect", "-t", str(arguments.threads), "--json"]
    with tempfile.TemporaryDirectory() as folder:
        say("writing the checkpoint")
        make_bert(arguments.recipe, arguments.size).save_pretrained(folder)
        size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        seconds = []
        for _ in range(arguments.rounds + 1):
            begin = time.perf_counter()
            subprocess.run([*command, folder], check=True, capture_output=True)
            seconds.append(time.perf_counter() - begin)
    # Of all child processes, and there were no others.
    peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    median = statistics.median(seconds[1:])  # the first fills the disk cache
    print(header(f"{arguments.size} size, {arguments.recipe} zeros", arguments) + "\n")
    cells = [(f"{size / 1e6:.0f} MB", figure(median), f"{peak / 1e6:.0f}")]
    print(table(("checkpoint", "s", "peak MB"), cells))
    write_json({"bytes": size, "seconds": median, "peak_bytes": peak}, arguments)


if __name__ == "__main__":
    main()
