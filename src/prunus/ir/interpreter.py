"""Runs a graph op by op in NumPy: the oracle of every test, and at run time the home of ops without
a kernel.

With `precise=True` all floating-point numbers are float64, which gives the reference that float32
results are held to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from prunus.errors import GraphError, InputError
from prunus.ir.dims import Expr, evaluate
from prunus.ir.graph import Graph, Node
from prunus.ir.ops import OPS, evaluate_attrs
from prunus.ir.size_check import SizeCheck
from prunus.ir.text import node_text
from prunus.ir.types import DTYPES, TensorType


def interpret(
    graph: Graph, inputs: Mapping[str, np.ndarray], *, precise: bool = False
) -> tuple[np.ndarray, ...]:
    """The graph's outputs for the given inputs.

    Raises:
        InputError: an input is missing, or its dtype or shape does not fit the graph.
    """
    sizes = bind_sizes(graph.inputs, inputs)
    SizeCheck.of(graph).check(sizes)
    values = {name: _widen(np.asarray(inputs[name]), precise) for name in graph.inputs}
    for name, constant in graph.constants.items():
        values[name] = _widen(constant.dense(), precise)
    for node in graph.nodes:
        operands = [None if name is None else values[name] for name in node.inputs]
        values[node.name] = run_node(node, operands, sizes, precise=precise)
    return tuple(values[name] for name in graph.outputs)


def run_node(
    node: Node,
    operands: list[np.ndarray | None],
    sizes: dict[str, int],
    *,
    precise: bool = False,
) -> np.ndarray:
    """One op on arrays, with symbolic dimensions in its attributes taken from `sizes`."""
    return bind_node(node, sizes, precise=precise)(operands)


def bind_node(
    node: Node, sizes: Mapping[str, int], *, precise: bool = False
) -> Callable[[Sequence[np.ndarray | None]], np.ndarray]:
    """One op as a function of its operands, its attributes evaluated for `sizes` once.

    The result has the node's shape and dtype: kernels that read it rely on that. Calling the
    function raises GraphError where the op cannot be computed for these operands or sizes.
    """
    attrs = evaluate_attrs(node.attrs, sizes)
    meaning = OPS[node.op].meaning
    shape = node.type.sizes(sizes)
    dtype = DTYPES["f64" if precise and node.type.dtype == "f32" else node.type.dtype]

    def call(operands: Sequence[np.ndarray | None]) -> np.ndarray:
        try:
            with np.errstate(all="ignore"):
                result = np.asarray(meaning(attrs, *operands))
                result = result if result.dtype == dtype else result.astype(dtype)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise GraphError(f"{error}: {node_text(node)}") from error
        if result.shape != shape:
            raise GraphError(f"found the shape {list(result.shape)}: {node_text(node)}")
        return result

    return call


def bind_sizes(types: Mapping[str, TensorType], inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The sizes of all symbols, read off the shapes of the inputs.

    Raises:
        InputError: an input is missing or has another dtype or shape than its type allows.
    """
    sizes: dict[str, int] = {}
    for name, type in types.items():
        if name not in inputs:
            raise InputError(f"the input {name!r} ({type}) is missing")
        array = inputs[name]
        if array.dtype != DTYPES[type.dtype] or array.ndim != type.rank:
            raise InputError(f"{name} is {array.dtype}{list(array.shape)}, expected {type}")
        for dim, size in zip(type.shape, array.shape, strict=True):
            expected = _expected(dim, size, sizes)
            if expected != size:
                note = (
                    f": the size {dim} was fixed when the model was compiled; compile it again "
                    "with this size in the example inputs, or as dynamic_shapes"
                    if isinstance(dim, int)
                    else f" with {dim} = {expected}"
                )
                raise InputError(f"{name} has the shape {list(array.shape)}, expected {type}{note}")
    return sizes


def _expected(dim: int | Expr, size: int, sizes: dict[str, int]) -> int:
    if isinstance(dim, Expr) and dim.is_symbol:
        return sizes.setdefault(str(dim), size)
    return evaluate(dim, sizes)


def _widen(array: np.ndarray, precise: bool) -> np.ndarray:
    return array.astype(np.float64) if precise and array.dtype == np.float32 else array
