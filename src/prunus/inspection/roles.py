"""What a tensor of a checkpoint is, by its name and shape and those beside it.

No module is built, so these are rules, all of them here:

- A matrix `X.weight` or `X.in_proj_weight` is the weight of a linear layer, if `X.bias` (or
  `X.in_proj_bias`) lies beside it or `X` has not the name of an embedding table. A convolution of
  one tap, [outputs, inputs, 1] or [outputs, inputs, 1, 1], is one too.
- Where that bias fits the second dimension alone, the layer is a Conv1D as in GPT-2, which stores
  [inputs, outputs]; so is a square one whose module has the name of such a layer.
- A table is what is called one: `word_embeddings.weight`, `wte.weight`, `position_embeddings`.
- All else is neither: biases, norms, buffers, convolutions of several taps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["linear", "embedding", "other"]

_TABLE = re.compile(
    r"(?:^|[._])(embeddings?|embed|embed_(tokens|positions)|wte|wpe|shared"
    r"|relative_attention_bias|relative_position_bias_table)$"
)
_LINEAR = re.compile(r"(?:(?P<module>.*)\.)?(?P<prefix>in_proj_)?weight")

_HEAD_COUNTS = ("num_attention_heads", "n_heads", "n_head", "num_heads")
_QUERY = re.compile(r"(?:^|\.)(query|q)(_proj|_lin)?$")
_KEY_OR_VALUE = re.compile(r"(?:^|\.)(key|value|k|v)(_proj|_lin)?$")
_ALL_OF_THREE = re.compile(r"(?:^|\.)(Wqkv|qkv|qkv_proj|c_attn|in_proj)$")
_HEAD_BY_HEAD = re.compile(r"(?:^|\.)query_key_value$")  # a head's query, key and value together
_OUTPUT = re.compile(
    r"att(n|ention)\.(output\.dense|dense|proj|c_proj|out_proj|o_proj|out_lin|Wo|o)$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Place:
    """What a tensor is.

    Attributes:
        role: Whether it is the weight of a linear layer, a table, or something else.
        matrix: [outputs, inputs] of a linear weight, [rows, features] of a table; else None.
        transposed: Whether it is stored as [inputs, outputs].
    """

    role: Role
    matrix: tuple[int, int] | None
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Heads:
    """How the heads of an attention lie in one of its projections [outputs, inputs].

    Attributes:
        axis: 0 for rows (query, key, value), 1 for columns (the output projection).
        count: Heads.
        parts: Matrices one below the other that each have all heads: 3 where queries, keys and
            values are one layer.
    """

    axis: Literal[0, 1]
    count: int
    parts: int = 1


def places(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Place]:
    """What each tensor of a checkpoint is, from the shapes of all of them."""
    transposed = {
        _module(name).rpartition(".")[2]
        for name, shape in shapes.items()
        if len(shape) == 2 and _bias(name, shapes) == shape[1:] != shape[:1]
    }
    return {name: _place(name, shape, shapes, transposed) for name, shape in shapes.items()}


def heads_in(name: str, matrix: tuple[int, int], config: Mapping[str, Any]) -> Heads | None:
    """How heads lie in a linear weight; None where it is no projection of an attention, or where
    the configuration does not say how many heads there are.
    """
    module = _module(name)
    axis: Literal[0, 1] = 1 if _OUTPUT.search(module) else 0
    parts = 3 if _ALL_OF_THREE.search(module) else 1
    is_shared = _KEY_OR_VALUE.search(module) is not None
    is_rows = is_shared or _QUERY.search(module) or _HEAD_BY_HEAD.search(module)
    if not (axis == 1 or parts == 3 or is_rows):
        return None
    # Several queries may share a key and a value.
    fields = ("num_key_value_heads", *_HEAD_COUNTS) if is_shared else _HEAD_COUNTS
    counts = (config.get(field) for field in fields)
    count = next((each for each in counts if type(each) is int and each > 0), None)
    if count is None or matrix[axis] % (count * parts):
        return None
    return Heads(axis, count, parts)


def _place(
    name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]], transposed: set[str]
) -> Place:
    match, bias = _LINEAR.fullmatch(name), _bias(name, shapes)
    is_matrix = len(shape) == 2 or (len(shape) in (3, 4) and set(shape[2:]) == {1})
    is_table = _TABLE.search(_module(name) if match else name) is not None
    if match and is_matrix and (bias is not None or not is_table):
        module = _module(name).rpartition(".")[2]
        fits_rows_alone = bias is not None and bias == shape[:1] != shape[1:2]
        if len(shape) == 2 and module in transposed and not fits_rows_alone:
            return Place("linear", (shape[1], shape[0]), transposed=True)
        return Place("linear", (shape[0], shape[1]))
    if is_table and len(shape) >= 2 and not (match and len(shape) > 2):
        return Place("embedding", (math.prod(shape[:-1]), shape[-1]))
    return Place("other", None)


def _module(name: str) -> str:
    """The name of the module of a weight; `in_proj_weight` counts as a module of its own."""
    match = _LINEAR.fullmatch(name)
    if match is None:
        return name
    module = match["module"] or ""
    return f"{module}.in_proj" if match["prefix"] else module


def _bias(name: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape of the bias beside a weight."""
    return shapes.get(f"{name.removesuffix('weight')}bias") if name.endswith("weight") else None
