"""Checks of a graph's sizes at a call, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping

from prunus.errors import InputError
from prunus.ir.graph import Graph
from prunus.ir.types import DTYPES, TensorType


class SizeCheck:
    """The types of a graph's values, each with the first value of it, to be checked for the sizes
    of a call.

    A dimension such as `seq - 4` is valid for some sizes only, and no rule can tell before them.
    """

    def __init__(self, names: Mapping[TensorType, str]) -> None:
        self._names = names

    @staticmethod
    def of(graph: Graph) -> SizeCheck:
        """The check of a graph's values."""
        return SizeCheck(first_of_each_type(graph))

    def check(self, sizes: Mapping[str, int], *, max_bytes: int | None = None) -> None:
        """Check that all dimensions are at least 0, and no value larger than `max_bytes`.

        Raises:
            InputError: with the value that has such a shape.
        """
        for type, name in self._names.items():
            shape = type.sizes(sizes)
            if min(shape, default=0) < 0:
                raise InputError(
                    f"{name} would have the shape {list(shape)}{_given(type, sizes)}: "
                    "the model does not take inputs of these sizes"
                )
            # An axis without elements counts as one: others of its length may be made on the way.
            nbytes = math.prod(max(size, 1) for size in shape) * DTYPES[type.dtype].itemsize
            if max_bytes is not None and nbytes > max_bytes:
                raise memory_error(f"{name} = {type}{_given(type, sizes)}", nbytes, max_bytes)


def first_of_each_type(graph: Graph) -> dict[TensorType, str]:
    """Each type that a graph computes, with the first value of it."""
    names: dict[TensorType, str] = {}
    for node in graph.nodes:
        names.setdefault(node.type, node.name)
    return names


def _given(type: TensorType, sizes: Mapping[str, int]) -> str:
    """The sizes that decided a shape, for an error about it."""
    given = ", ".join(f"{symbol} = {sizes[symbol]}" for symbol in sorted(type.symbols()))
    return f" for {given}" if given else ""


def memory_error(what: str, nbytes: int, max_bytes: int) -> InputError:
    """The error for a call that needs more memory than it may."""
    return InputError(
        f"{what} needs {nbytes / 1e9:.1f} GB, and a call may use {max_bytes / 1e9:.1f} GB of "
        "this machine's memory; use a smaller batch or shorter inputs"
    )
