"""What the operating system says of the processor: its name and the sizes of its caches."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def processor_name() -> str:
    """The name of the processor that this process runs on."""
    fields = read_cpuinfo(read_text(CPUINFO))
    return fields.get("name") or platform.processor() or platform.machine()


def read_cpuinfo(text: str) -> dict[str, str]:
    """Find `name`, `family` and `model` of the first processor in the text of /proc/cpuinfo.

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


def read_caches(folder: Path = CACHES) -> dict[str, int]:
    """Bytes of the data and unified caches in a Linux `cpu0/cache` folder, as `L1d`, `L2` and so
    on; empty where nothing is said.
    """
    caches = {}
    for index in sorted(folder.glob("index*")):
        kind, level, size = (read_text(index / name).strip() for name in ("type", "level", "size"))
        if kind in ("Data", "Unified") and size[:-1].isdigit() and size[-1:] in "KM":
            scale = 1024 if size.endswith("K") else 1024**2
            caches[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size[:-1]) * scale
    return caches


def read_text(path: Path) -> str:
    """The text of a file of the system, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
