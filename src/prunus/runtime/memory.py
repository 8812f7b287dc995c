"""How much memory a call may use."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import psutil

from prunus.runtime.threads import CGROUPS, MEMBERSHIP, cgroup_folders

SHARE = 4
"""A call may use a quarter of the memory for each of its values, and for its activations together.
What needs more is a mistake or an attack, which an error should end and not the system's
out-of-memory killer: BERT-base at batch 64 with 512 tokens needs 1.2 GB."""


@cache
def call_memory() -> int:
    """Bytes that one value of a call may have, and that all activations together may have."""
    return usable_memory() // SHARE


def usable_memory(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Bytes of memory of the machine, or of the smallest cgroup that this process is in."""
    limits = [_limit(folder) for folder in cgroup_folders("memory", root, membership)]
    total = int(psutil.virtual_memory().total)
    return min([total, *(limit for limit in limits if limit is not None)])


def _limit(folder: Path) -> int | None:
    """The bytes that a cgroup allows, of version 2 or 1; None where it sets no limit."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None
