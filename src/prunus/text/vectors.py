"""From the vectors of tokens to that of a text, by the modules of sentence-transformers, and how
similar two texts are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from prunus.errors import InputError

Array = np.ndarray[Any, Any]

Pooling = Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
"""How the vectors of tokens become the one of a text: the mean, the first, the maximum, the sum
over the square root of the length, the mean weighted by the position from 1, or the last.
"""

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]

SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)


def check_pooling(pooling: Any) -> tuple[Pooling, ...]:
    """One kind of pooling or several as a tuple.

    Raises:
        InputError: none, or an unknown one.
    """
    modes = tuple(pooling) if isinstance(pooling, tuple | list) else (pooling,)
    if not modes or any(each not in POOLINGS for each in modes):
        raise InputError(
            f"pooling is {pooling!r:.60}, expected one or several of {', '.join(POOLINGS)}"
        )
    return modes


def pooled(hidden: Array, modes: Sequence[Pooling], skipped: int = 0) -> Array:
    """One vector for the tokens `[tokens, features]` of a text: those of all modes, one after the
    other.

    Args:
        hidden: The model's vectors, without padding.
        modes: Kinds of pooling.
        skipped: Tokens at the beginning, those of a prompt, that are left out.

    Raises:
        InputError: no token is left.
    """
    tokens = hidden[skipped:]
    if len(tokens) == 0:
        raise InputError(
            f"the prompt takes all {len(hidden)} tokens of a text, and this model leaves the "
            "prompt out of its vectors: pass a shorter prompt"
        )
    return np.concatenate([_pooled(tokens, mode, skipped) for mode in modes])


def _pooled(tokens: Array, mode: Pooling, skipped: int) -> Array:
    if mode == "cls":
        vector: Array = tokens[0]
    elif mode == "lasttoken":
        vector = tokens[-1]
    elif mode == "max":
        vector = tokens.max(axis=0)
    elif mode == "weightedmean":
        positions = np.arange(skipped + 1, skipped + len(tokens) + 1, dtype=np.float32)
        vector = positions @ tokens / positions.sum()
    else:
        divisor = len(tokens) if mode == "mean" else math.sqrt(len(tokens))
        vector = tokens.sum(axis=0) / np.float32(divisor)
    return vector


def normalized(vectors: Array) -> Array:
    """The vectors `[texts, features]`, each of length 1."""
    lengths: Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Array = vectors / np.maximum(lengths, 1e-12)
    return found


@dataclass(frozen=True, slots=True)
class Normalize:
    """The module that gives each vector length 1."""

    def __call__(self, vectors: Array) -> Array:
        """The vectors `[texts, features]` with length 1."""
        return normalized(vectors)


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """The module that is a linear layer and an activation.

    Attributes:
        weight: `[outputs, inputs]`, float32.
        bias: `[outputs]`, or None.
        activation: The name of a class of torch, of `ACTIVATIONS`.
    """

    weight: Array
    bias: Array | None
    activation: str

    def __call__(self, vectors: Array) -> Array:
        """The projected vectors, `[texts, outputs]` for `[texts, inputs]`."""
        projected = vectors @ self.weight.T
        if self.bias is not None:
            projected = projected + self.bias
        return ACTIVATIONS[self.activation](projected)


def _identity(values: Array) -> Array:
    return values


def _tanh(values: Array) -> Array:
    found: Array = np.tanh(values)
    return found


def _relu(values: Array) -> Array:
    found: Array = np.maximum(values, 0)
    return found


def _sigmoid(values: Array) -> Array:
    with np.errstate(over="ignore"):  # 1 / inf is 0, as it should be
        found: Array = 1 / (1 + np.exp(-values))
    return found


def _silu(values: Array) -> Array:
    return values * _sigmoid(values)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "torch.nn.modules.linear.Identity": _identity,
    "torch.nn.modules.activation.Tanh": _tanh,
    "torch.nn.modules.activation.ReLU": _relu,
    "torch.nn.modules.activation.Sigmoid": _sigmoid,
    "torch.nn.modules.activation.SiLU": _silu,
}
"""The activations of a `Dense`, by the names that sentence-transformers writes."""


def similarities(kind: Similarity, ones: Array, others: Array) -> Array:
    """How similar each of some vectors is to each of others; larger is more similar.

    Args:
        kind: The cosine, the dot product, or the distance (Euclidean or Manhattan) times -1.
        ones: `[n, features]`, or one vector `[features]`.
        others: `[m, features]`, or one vector `[features]`.

    Returns:
        float32 `[n, m]`.

    Raises:
        InputError: vectors of different lengths, or arrays of another rank.
    """
    first, second = (np.atleast_2d(np.asarray(each, np.float32)) for each in (ones, others))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise InputError(
            f"the vectors have the shapes {first.shape} and {second.shape}, expected [n, features] "
            "and [m, features]"
        )
    if kind == "cosine":
        first, second = normalized(first), normalized(second)
    if kind in ("cosine", "dot"):
        product: Array = first @ second.T
        return product
    order = 1 if kind == "manhattan" else 2
    found = np.empty((len(first), len(second)), np.float32)
    for row, vector in zip(found, first, strict=True):
        row[:] = -np.linalg.norm(second - vector, ord=order, axis=1)
    return found
