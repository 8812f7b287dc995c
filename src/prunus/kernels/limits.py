"""The processor's roofline, measured once and remembered: no kernel does more FMAs a second, and
none loads its operands faster (Williams, Waterman and Patterson, "Roofline: An Insightful Visual
Performance Model for Multicore Architectures", 2009).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from prunus import cache
from prunus.kernels.compiler import code_version
from prunus.kernels.peak import fma_peak, load_rate
from prunus.kernels.processor import processor_name, read_caches
from prunus.kernels.target import Target

COMMON_CACHES = {"L1d": 32 * 1024, "L2": 512 * 1024, "L3": 32 * 1024**2}
"""What stands in for a cache whose size the system does not tell."""

LEVELS = ("L1", "L2", "memory")
"""What is loaded from. L3 is left out: how much of it one process has depends on its neighbours."""

LEAST_MEMORY, MOST_MEMORY = 64 * 1024**2, 512 * 1024**2
"""Bounds of the bytes that are read from memory, all threads together."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the processor reached, with so many threads together.

    Attributes:
        processor: Its name.
        threads: How many.
        fma: Floating-point operations a second, two for each FMA.
        loads: Bytes a second of vector loads, by where they come from: one of `LEVELS`.
        buffers: Bytes that each thread went through to measure that.
        assumed: The caches whose sizes the system does not tell, so that common ones were assumed.
        remembered: Whether all this was measured by an earlier process.
    """

    processor: str
    threads: int
    fma: float
    loads: Mapping[str, float]
    buffers: Mapping[str, int]
    assumed: tuple[str, ...] = ()
    remembered: bool = False


def measured_limits(threads: int, target: Target, *, anew: bool = False) -> Limits:
    """The limits for code of this target. They are measured in a few seconds, unless the cache has
    them; with `anew` they are measured in any case, and take the place of those in the cache.
    """
    known = read_caches()
    buffers = buffer_sizes({**COMMON_CACHES, **known}, threads)
    name = processor_name()
    machine = f"{name} {target.triple} {target.cpu} {target.features} {buffers}"
    key = f"{machine} {threads} {code_version()}"
    stored = None if anew else cache.read("limits", key)
    rates = None if stored is None else _checked(stored)
    remembered = rates is not None
    if rates is None:
        rates = {level: load_rate(threads, size, target) for level, size in buffers.items()}
        rates["fma"] = fma_peak(threads, target)
        cache.write("limits", key, json.dumps(rates).encode())
    loads = {level: rates[level] for level in LEVELS}
    assumed = tuple(level for level in COMMON_CACHES if level not in known)
    return Limits(name, threads, rates["fma"], loads, buffers, assumed, remembered)


def buffer_sizes(caches: Mapping[str, int], threads: int) -> dict[str, int]:
    """Bytes that each thread goes through for each of `LEVELS`: half of a cache, and several times
    what all caches hold.
    """
    memory = min(max(4 * max(caches.values()), LEAST_MEMORY), MOST_MEMORY)
    return {
        "L1": caches["L1d"] // 2,
        "L2": caches["L2"] // 2,
        "memory": max(memory // threads, 4 * caches["L2"]),
    }


def _checked(stored: bytes) -> dict[str, float] | None:
    """What a cache entry says, or None where it is not of the expected form."""
    try:
        data = json.loads(stored)
        rates = {name: float(data[name]) for name in (*LEVELS, "fma")}
    except (ValueError, KeyError, TypeError):
        return None
    return rates if all(0 < rate < math.inf for rate in rates.values()) else None
