"""How long the commands take that answer what pruning would buy, for a BERT-base on disk, and how
much memory: each in a new process, from its start to its end, on a warm disk cache.

`whatif` is asked for its usual grid without builds, once with nothing remembered, then with all of
it. `report` times whatever engines are installed; a first one, not counted, exports them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness import figure, header, make_bert, make_parser, say, table, write_json

from prunus import cache

MODEL, PAGE = "my-pruned-bert", "report.html"

# What the kernel counts for a parent would count a process from before its program began as well.
_COMMAND = """
import atexit, pathlib, runpy, sys

@atexit.register
def tell_peak():
    status = pathlib.Path("/proc/self/status").read_text()
    print(status.partition("VmHWM:")[2].split()[0], file=sys.stderr)

sys.argv[0] = "prunus"
runpy.run_module("prunus", run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one process took."""

    seconds: float
    peak_bytes: int


def run(*command: str, folder: Path) -> Run:
    """A process of the command line in a folder, with a cache there, and nothing else."""
    begin = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-c", _COMMAND, *command], cwd=folder, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
        env={**os.environ, cache.VARIABLE: str(folder / "cache")},
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    if process.returncode:
        sys.exit(f"prunus {command[0]} failed:\n{process.stderr}")
    return Run(seconds, 1024 * int(process.stderr.split()[-1]))


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Run]:
    """Every command's run; the median ones where several are asked for."""
    common = ("-t", str(arguments.threads))
    say("writing the checkpoint")
    make_bert(arguments.recipe, arguments.size).save_pretrained(folder / MODEL)

    def repeated(*command: str, warm_up: bool) -> Run:
        runs = []
        for number in range(arguments.rounds + warm_up):
            say(f"prunus {command[0]}, {number + 1} of {arguments.rounds + warm_up}")
            runs.append(run(*command, *common, folder=folder))
        counted = runs[warm_up:]
        return Run(
            statistics.median(each.seconds for each in counted),
            max(each.peak_bytes for each in counted),
        )

    grid = ("whatif", MODEL, "--pattern", arguments.patterns, "--build", "0")
    engines = () if arguments.engines is None else ("--engine", arguments.engines)
    say("prunus whatif, nothing remembered")
    return {
        "inspect": repeated("inspect", MODEL, warm_up=True),
        "whatif, nothing remembered": run(*grid, *common, folder=folder),
        "whatif, all remembered": repeated(*grid, warm_up=False),
        "report": repeated("report", MODEL, "-o", PAGE, "--force", *engines, warm_up=True),
    }


def main() -> None:
    """Print seconds and the peak of memory."""
    parser = make_parser(__doc__, rounds=3, seconds=None)
    parser.add_argument("--recipe", default="0.9", help="zeros of the checkpoint")
    parser.add_argument("--patterns", default="1x1,4x1,1x4,16x1,4x4,2:4", help="of the grid")
    parser.add_argument("--page", type=Path, metavar="FILE", help="keep the report's page there")
    parser.add_argument("--engines", help="of the report; all that are installed unless given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = measure(folder, arguments)
        size = sum(path.stat().st_size for path in folder.glob(f"{MODEL}/*.safetensors"))
        page = (folder / PAGE).stat().st_size
        if arguments.page is not None:
            shutil.copyfile(folder / PAGE, arguments.page)
    print(header(f"{arguments.size} size, {arguments.recipe} zeros", arguments) + "\n")
    cells = [
        (f"prunus {name}", figure(each.seconds), f"{each.peak_bytes / 1e6:.0f}")
        for name, each in runs.items()
    ]
    print(table(("command", "s", "peak MB"), cells))
    print(f"\nThe checkpoint has {size / 1e6:.0f} MB, the page of the report {page / 1e6:.2f} MB.")
    figures = {name: {"seconds": e.seconds, "peak_bytes": e.peak_bytes} for name, e in runs.items()}
    write_json({"bytes": size, "page_bytes": page, "runs": figures}, arguments)


if __name__ == "__main__":
    main()
