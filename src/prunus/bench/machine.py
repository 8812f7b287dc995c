"""What a time was measured on: processor, cores, caches. Nothing heavy is imported."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import psutil

from prunus.kernels.processor import CPUINFO, processor_name, read_caches, read_cpuinfo, read_text
from prunus.runtime.threads import usable_processors


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
    fields = read_cpuinfo(read_text(CPUINFO))
    return Machine(
        name=processor_name(),
        family=fields.get("family", ""),
        model=fields.get("model", ""),
        cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        usable=usable_processors(),
        caches=read_caches(),
        system=f"{platform.system()} {platform.machine()}",
    )


def python_version() -> dict[str, str]:
    """The running interpreter, in the form of `package_versions`."""
    return {"python": platform.python_version()}


def _size(size: int) -> str:
    return f"{size // 1024**2} MB" if size >= 1024**2 else f"{size // 1024} KB"
