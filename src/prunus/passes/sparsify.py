"""Measures the zeros of every linear layer's weight and stores weights without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prunus.errors import InputError
from prunus.ir import Constant, Graph
from prunus.passes.rewrite import Notes
from prunus.sparsity import BlockSparse, measure

STORE_FROM = 0.5
"""Share of zeros from which a weight is stored without them: an index costs as much as a value."""


def sparsify(graph: Graph, notes: Notes) -> Graph:
    """Attach what is measured to every weight, and store what is at least half zeros sparsely.

    How a weight is stored says nothing about the kernel that will read it: that is the plan's
    choice. A weight that is measured already is left as it is.

    Raises:
        InputError: a weight holds NaN or infinity, with its name.
    """
    weights = {
        node["weight"]
        for node in graph.nodes
        if node.op == "linear" and node["weight"] in graph.constants
    }
    read_otherwise = set(graph.outputs) | {
        name
        for node in graph.nodes
        for position, name in enumerate(node.inputs)
        if (node.op, position) != ("linear", 1)
    }
    measured: dict[str, Constant] = {}
    for name, constant in graph.constants.items():
        if name in weights and constant.pattern is None:
            measured[name], note = _measured(name, constant, name in read_otherwise)
            notes.append(note)
    return replace(graph, constants={**graph.constants, **measured}) if measured else graph


def _measured(name: str, constant: Constant, is_read_otherwise: bool) -> tuple[Constant, str]:
    dense = constant.dense()
    try:
        pattern = measure(dense)
    except InputError as error:
        raise InputError(f"the weight {name}: {error}") from error
    known = Constant(constant.value, pattern)
    note = f"{name}: {pattern.describe()}"
    if isinstance(constant.value, BlockSparse):
        return known, f"{note}; it is stored in blocks already"
    if pattern.zeros < STORE_FROM or not dense.size:
        return known, f"{note}; stored densely, as fewer than half of its elements are zero"
    if is_read_otherwise:
        return known, f"{note}; stored densely, as other ops read it too"
    if dense.dtype != np.float32:
        return known, f"{note}; stored densely, as only float32 is stored in blocks"
    block = pattern.block or (1, 1)
    sparse = BlockSparse.from_dense(np.asarray(dense, np.float32), block)
    return Constant(sparse, pattern), f"{note}; stored in {block[0]}×{block[1]} blocks"
