"""What a time was measured on: processor, cores, caches, versions. Nothing heavy is imported."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor as the operating system describes it, ``family`` and ``model`` as printed there.

    ``cores`` counts the physical cores of the machine, ``usable`` the logical processors that this
    process may run on; ``caches`` maps ``L1d``, ``L2`` and so on to the bytes of one cache.
    """

    name: str
    family: str
    model: str
    cores: int
    usable: int
    caches: dict[str, int]
    system: str

    def describe(self) -> str:
        """One line: ``AMD EPYC (family 25, model 17), 2 cores, L1d 32 KB, L2 1 MB, …``."""
        kind = f" (family {self.family}, model {self.model})" if self.family else ""
        cores = f"{self.cores} core{'' if self.cores == 1 else 's'}"
        caches = [f"{level} {_size(size)}" for level, size in self.caches.items()]
        usable = f"{self.usable} usable here"
        return ", ".join([f"{self.name}{kind}", cores, usable, *caches, self.system])


def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    fields = read_cpuinfo(_text(Path("/proc/cpuinfo")))
    return Machine(
        name=fields.get("name") or platform.processor() or platform.machine(),
        family=fields.get("family", ""),
        model=fields.get("model", ""),
        cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        usable=_usable(),
        caches=read_caches(Path("/sys/devices/system/cpu/cpu0/cache")),
        system=f"{platform.system()} {platform.machine()}",
    )


def read_cpuinfo(text: str) -> dict[str, str]:
    """Find ``name``, ``family`` and ``model`` of the first processor in the text of /proc/cpuinfo.

    An Arm kernel prints no name but the implementer and part numbers; these stand in for all three.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip(), value.strip())
    if "model name" in fields:
        named = {"name": "model name", "family": "cpu family", "model": "model"}
        return {ours: fields[theirs] for ours, theirs in named.items() if theirs in fields}
    if "CPU part" in fields:
        implementer, part = fields.get("CPU implementer", "?"), fields["CPU part"]
        family = fields.get("CPU architecture", "?")
        return {"name": f"Arm {implementer}:{part}", "family": family, "model": part}
    return {}


def read_caches(folder: Path) -> dict[str, int]:
    """Bytes of the data and unified caches in a Linux ``cpu0/cache`` folder, if there is one."""
    caches = {}
    for index in sorted(folder.glob("index*")):
        kind, level = _text(index / "type").strip(), _text(index / "level").strip()
        size = _text(index / "size").strip()
        if kind in ("Data", "Unified") and size[:-1].isdigit() and size[-1:] in "KM":
            scale = 1024 if size.endswith("K") else 1024**2
            caches[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size[:-1]) * scale
    return caches


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those of the named distributions that are installed, without importing them."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def python_version() -> dict[str, str]:
    """The running interpreter, in the form of `package_versions`."""
    return {"python": platform.python_version()}


def _usable() -> int:
    # sched_getaffinity exists on Linux alone.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _size(size: int) -> str:
    return f"{size // 1024**2} MB" if size >= 1024**2 else f"{size // 1024} KB"
