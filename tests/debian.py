"""Tools that some tests need, installed from Debian's packages where that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import filelock
import pytest


def require_tools(tools: Sequence[str], packages: Sequence[str], lock: Path) -> None:
    """Skip the test if a tool is missing. In CI, root installs the packages first, one of the
    processes that run tests at a time.
    """
    command = ("apt-get", "install", "-y", "--no-install-recommends", *packages)
    failure = ""
    if _missing(tools) and os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        with filelock.FileLock(lock):
            if _missing(tools):
                for each in (("apt-get", "update"), command):
                    done = subprocess.run(each, capture_output=True, text=True, timeout=300)
                    failure = done.stderr.strip()[-300:]
    if missing := _missing(tools):
        install = f"apt-get install {' '.join(packages)}"
        pytest.skip(f"found no {', '.join(missing)}: run `{install}` {failure}")


def _missing(tools: Sequence[str]) -> list[str]:
    return [name for name in tools if shutil.which(name) is None]
