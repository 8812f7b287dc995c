"""How many threads to use: what this process may use, not what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from prunus.errors import InputError


def usable_processors() -> int:
    """The logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """The least of affinity, physical cores, and the cgroup's quota rounded down; at least 1."""
    physical = psutil.cpu_count(logical=False) or usable_processors()
    return max(1, min(usable_processors(), physical, cgroup_quota() or physical))


def check_threads(threads: object) -> int:
    """`threads`, or the default for None.

    Raises:
        InputError: fewer than 1 or more than the processors that this process may use.
    """
    if threads is None:
        return default_threads()
    usable = usable_processors()
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= usable:
        raise InputError(
            f"threads={threads!r}: this process may use {usable} processors; "
            f"pass a number from 1 to {usable}, or None for {default_threads()}"
        )
    return threads


CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cgroup_quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """The whole processors that this process's cgroup and those around it allow, None where none of
    them sets a quota.

    Reads version 2 (`cpu.max`) and version 1 (`cpu.cfs_quota_us`). `membership` says which cgroup
    of each hierarchy the process is in; a container sees its own one as the root.
    """
    quotas = [_quota(folder) for folder in cgroup_folders("cpu", root, membership)]
    return min((quota for quota in quotas if quota is not None), default=None)


def cgroup_folders(controller: str, root: Path, membership: Path) -> list[Path]:
    """The folders of the process's cgroups for a controller, and those around them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    folders = [root, root / controller]
    for line in lines:  # such as "0::/system.slice/app.service" and "4:cpu,cpuacct:/docker/ab12"
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers or controller in controllers.split(","):
            folder = root / controller if controllers else root
            for part in Path(path.lstrip("/")).parts:
                folder /= part
                folders.append(folder)
    return folders


def _quota(folder: Path) -> int | None:
    """The whole processors that one cgroup allows, at least 1; None where it sets no quota."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return max(1, int(quota) // int(period))
