"""Compare what this tree makes of every model with what another commit makes of it, bit by bit.

    python -m tests.replay --against HEAD~1

Both trees record on this machine, each with its own sources: the kernels of every target, and the
outputs of those that run here. What differs is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prunus.kernels.target import parse_target
from tests.replay.cases import MODELS, TARGETS, cases, compiled
from tests.replay.record import kernels, outputs

ROOT = Path(__file__).parents[2]


def record(models: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What this tree makes of models: kernels by target, and outputs where they run here."""
    made: dict[str, dict[str, Any]] = {}
    for case in cases(models):
        print(case.name, file=sys.stderr, flush=True)
        for name, model in compiled(case):
            for text in TARGETS:
                target = parse_target(text)
                entry = made[f"{name} {target.cpu}"] = {"kernels": kernels(model, target)}
                if target.native:
                    entry["outputs"] = outputs(model.recompile(target=text), case.calls)
    return made


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """A line for everything that is not the same."""
    for name in sorted({*old, *new}):
        if name not in old or name not in new:
            yield f"{name}: only in the {'new' if name in new else 'old'} record"
            continue
        before, after = old[name]["kernels"], new[name]["kernels"]
        if len(before) != len(after):
            yield f"{name}: {len(before)} native steps became {len(after)}"
        for number, (one, other) in enumerate(zip(before, after, strict=False)):
            if one != other:
                yield f"{name}: native step {number}: {one} became {other}"
        if old[name].get("outputs") != new[name].get("outputs"):
            yield f"{name}: other outputs"


def recorded_at(commit: str, models: tuple[str, ...]) -> dict[str, Any]:
    """The record that the sources of a commit make, in a work tree of their own."""
    with tempfile.TemporaryDirectory() as folder:
        tree, file = Path(folder) / "tree", Path(folder) / "record.json"
        run = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*run, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            subprocess.run(
                [sys.executable, "-m", "tests.replay", "--record", str(file), *models],
                cwd=tree, check=True, env={**os.environ, "PYTHONPATH": f"{tree / 'src'}:{tree}"},
            )  # fmt: skip
        finally:
            subprocess.run([*run, "remove", "--force", str(tree)], check=True)
        made: dict[str, Any] = json.loads(file.read_text())
        return made


def main() -> int:
    """Record, or compare; returns 1 where something differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.replay", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; default all")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--record", type=Path, metavar="FILE", help="write what this tree makes")
    task.add_argument("--against", metavar="COMMIT", help="compare with another commit")
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.models} - {*MODELS}):
        parser.error(f"unknown models {', '.join(unknown)}; known are {', '.join(MODELS)}")
    models = tuple(arguments.models)
    made = record(models)
    if arguments.record:
        arguments.record.write_text(json.dumps(made, indent=1) + "\n")
        return 0
    lines = list(differences(recorded_at(arguments.against, models), made))
    ran = sum("outputs" in entry for entry in made.values())
    print("\n".join(lines) or f"{len(made)} programs have the same kernels, {ran} that run here "
          "the same outputs")  # fmt: skip
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
