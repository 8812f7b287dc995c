"""The zeros of a model: of each linear layer's matrix as the checkpoint has it, and of its heads.

A compiled graph holds what is left of the matrices: empty heads and features are gone, and queries,
keys and values are one matrix. Where the module is at hand, the matrices are its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunus.ir import Graph
from prunus.model import CompiledModel
from prunus.passes.heads import ROLES, layer_behind
from prunus.passes.merge_qkv import merged_names
from prunus.plan.profile import layer_of
from prunus.sparsity import Pattern, measure

Floats = NDArray[np.floating[Any]]

CELLS = 48
"""Cells of a heat map along the longer side, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """The weight of a linear layer.

    Attributes:
        name: As the module names it.
        pattern: What was measured of its zeros.
        cells: The share of nonzeros in equal rectangles of it, [at most 48, at most 48].
    """

    name: str
    pattern: Pattern
    cells: NDArray[np.float32]

    @property
    def layer(self) -> str:
        """The front of the name, up to the number of the layer."""
        return layer_of(self.name)

    @property
    def kind(self) -> str:
        """The rest of the name: what the matrix is in its layer."""
        return kind_of(self.name)

    @property
    def density(self) -> float:
        """The share of nonzeros."""
        return 1 - self.pattern.zeros

    def rows_of(self, cell: int) -> tuple[int, int]:
        """The first and the last row in a row of cells."""
        rows = self.pattern.shape[0]
        step = _step(rows)
        return cell * step, min((cell + 1) * step, rows) - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; without the heat map."""
        pattern = self.pattern
        return {
            "name": self.name,
            "rows": pattern.shape[0],
            "columns": pattern.shape[1],
            "zeros": pattern.zeros,
            "pattern": pattern.describe(),
            "kind": pattern.kind,
            "block": None if pattern.block is None else list(pattern.block),
            "n_of_m": None if pattern.n_of_m is None else list(pattern.n_of_m),
            "empty_rows": pattern.empty_rows,
            "empty_columns": pattern.empty_columns,
        }


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of one attention.

    Attributes:
        layer: Where it is.
        density: By role (query, key, value), the share of nonzeros in the rows of each head.
    """

    layer: str
    density: Mapping[str, tuple[float, ...]]

    @property
    def mean(self) -> tuple[float, ...]:
        """The share of nonzeros of each head, of all roles together."""
        return tuple(np.mean(tuple(self.density.values()), axis=0).tolist())

    @property
    def idle(self) -> tuple[int, ...]:
        """The heads whose values are all zero: they add nothing but a bias."""
        return tuple(i for i, share in enumerate(self.density.get("value", ())) if share == 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"layer": self.layer, "density": {k: list(v) for k, v in self.density.items()}}


def linear_matrices(model: CompiledModel, module: Any = None) -> tuple[Matrix, ...]:
    """The matrices of all linear layers, in the order of the program.

    Args:
        model: The compiled model.
        module: The `torch.nn.Module` that it was made from, if there is one.
    """
    weights = _Weights(model.graph, module)
    steps = dict.fromkeys(step.weight for step in model.program.native_steps if step.weight)

    def of_step(step: str) -> list[Matrix]:
        return [Matrix(name, measure(each), _pooled(each)) for name, each in weights.of(step)]

    with ThreadPoolExecutor(model.threads) as pool:  # no more weights at a time are made dense
        return tuple(chain.from_iterable(pool.map(of_step, steps)))


def attention_heads(model: CompiledModel, module: Any = None) -> tuple[Heads, ...]:
    """The heads of every attention whose queries, keys or values come from a linear layer; the
    arguments are those of `linear_matrices`.
    """
    graph = model.graph
    weights, producers = _Weights(graph, module), graph.producers()
    found = []
    for node in graph.nodes:
        if node.op != "attention":
            continue
        features = node.type.shape[-1]
        assert isinstance(features, int), "attention has a fixed number of features"
        width = features // node.attrs.heads
        density = {}
        for role in ROLES:
            layer = layer_behind(node[role], producers)
            if layer is None or layer[0]["weight"] not in graph.constants:
                continue
            rows = weights.rows(layer[0]["weight"], layer[1])
            if len(rows) % width == 0:
                density[role] = _head_densities(rows, width)
        if len({len(heads) for heads in density.values()}) == 1:
            found.append(Heads(layer_of(node.name), density))
    return tuple(found)


def kind_of(name: str) -> str:
    """What a weight is in its layer: `output.dense` of `encoder.layer.3.output.dense.weight`."""
    return name.removeprefix(f"{layer_of(name)}.").removesuffix(".weight")


class _Weights:
    """Matrices by the names of a graph's constants, from the module where it has them."""

    def __init__(self, graph: Graph, module: Any) -> None:
        self._graph = graph
        parameters = () if module is None else module.named_parameters()
        self._parameters = {name: each for name, each in parameters if each.ndim == 2}

    def of(self, name: str) -> Iterator[tuple[str, Floats]]:
        """The matrices that a constant was made of, each with its name."""
        parts = merged_names(name)
        if all(part in self._parameters for part in parts):
            yield from ((part, self._array(part)) for part in parts)
        else:
            yield name, self._graph.constants[name].dense()

    def rows(self, name: str, rows: slice) -> Floats:
        """Rows of a constant, or the matrix of the module that these were made of."""
        parts = merged_names(name)
        if not all(part in self._parameters for part in parts):
            part: Floats = self._graph.constants[name].dense()[rows]
            return part
        total = self._graph.constants[name].type.sizes({})[0]
        # The parts are of one size, and each slice takes one of them.
        return self._array(parts[(rows.start or 0) * len(parts) // total])

    def _array(self, name: str) -> Floats:
        array: Floats = self._parameters[name].detach().float().numpy()
        return array


def _pooled(weight: Floats) -> NDArray[np.float32]:
    """The share of nonzeros in rectangles of a matrix; those at the far edges may be smaller."""
    counts = (weight != 0).astype(np.float32)
    sizes = np.ones_like(counts[:1, :1])
    for axis, side in enumerate(weight.shape):
        starts = np.arange(0, side, _step(side))
        counts = np.add.reduceat(counts, starts, axis)
        lengths = np.diff(np.append(starts, side)).astype(np.float32)
        sizes = sizes * np.expand_dims(lengths, 1 - axis)
    return np.asarray(counts / sizes, np.float32)


def _step(side: int) -> int:
    """Rows or columns of a cell."""
    return max(1, -(-side // CELLS))


def _head_densities(rows: Floats, width: int) -> tuple[float, ...]:
    heads = np.count_nonzero(rows.reshape(-1, width * rows.shape[1]), axis=1)
    return tuple((heads / (width * max(1, rows.shape[1]))).tolist())
