"""Runs a script of `examples/` as a user would."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(name: str, *arguments: str, **environment: str) -> str:
    """What the script prints, in any stream; fails the test where it does not succeed."""
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout
