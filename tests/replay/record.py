"""What prunus makes of a model, as digests: the code of every kernel, and the output bits.

A change that is to leave both alone, such as a refactoring, is checked by comparing two records.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

import prunus
from prunus.kernels.spec import Kernel
from prunus.kernels.target import Target
from prunus.plan import make_plan

WIDTHS = (16, 32, 48, 64)
"""Every width of a tile that a kernel may be made for."""

_NAMES = re.compile(r'%"[^"]*"|^(?:"[^"]*"|[\w.]+):', re.MULTILINE)


def kernels(model: prunus.CompiledModel, target: Target) -> list[str]:
    """Each native step of the model for a target, which need not run here: its label and a digest
    of its kernel at every width.
    """
    program = make_plan(model.graph, replace(model.options, target=target))
    return [
        f"{step.label} {_digest(''.join(_code(step.kernel.at(width), target) for width in WIDTHS))}"
        for step in program.native_steps
    ]


def outputs(model: prunus.CompiledModel, calls: tuple[Mapping[str, Any], ...]) -> str:
    """A digest of every bit of the answers to these calls."""
    digest = hashlib.sha256()
    for call in calls:
        for name, array in _arrays(model(**call)):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def normalized(ir: str, symbol: str) -> str:
    """LLVM IR in which the names of module, function and values say nothing but their order."""
    order: dict[str, str] = {}

    def rename(found: re.Match[str]) -> str:
        name = found[0].lstrip("%").rstrip(":").strip('"')
        number = order.setdefault(name, f"{len(order)}")
        return f"%{number}" if found[0].startswith("%") else f"{number}:"

    return _NAMES.sub(rename, ir.replace(symbol, "kernel"))


@cache
def _code(kernel: Kernel, target: Target) -> str:
    return _digest(normalized(kernel.ir(target), kernel.symbol))


def _arrays(answer: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(answer, Mapping):
        for key, value in answer.items():
            yield from _arrays(value, f"{name}.{key}")
    elif isinstance(answer, list | tuple):
        for number, value in enumerate(answer):
            yield from _arrays(value, f"{name}.{number}")
    elif answer is not None:
        yield name, np.asarray(answer)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
