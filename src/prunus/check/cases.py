"""The calls in which two engines are compared: lengths around the edges of a tile, and masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunus.check.engines import Arrays
from prunus.errors import InputError
from prunus.ir import DTYPES
from prunus.ir.dims import symbols

if TYPE_CHECKING:
    from prunus.ir.types import TensorType
    from prunus.model import CompiledModel

Integers = NDArray[np.int64]

LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 256)
"""In tokens: on either side of a vector (16) and of one and two tiles (64); the limit is added."""

LONGEST = 512
"""The longest text for a model without a limit."""

BATCHES = (1, 3, 8)

MASKS = ("none", "full", "right padding", "left padding", "holes", "one row hidden")
"""What is masked. With "none", inputs that have a default are left out."""

SYMBOL_SIZE = 2
"""The size of a dimension that is neither the batch nor the length: the choices of a question."""

CONFIGURED = {"input_ids": "vocab_size", "token_type_ids": "type_vocab_size"}
"""Where a configuration says how many ids there are, for a graph that reshapes them first."""

LAYOUT_LIMIT = 1000
"""LayoutLM's boxes have coordinates from 0 to this."""


@dataclass(frozen=True, slots=True)
class Case:
    """One call.

    Attributes:
        batch: Texts or images.
        length: In tokens, padding included; None for images.
        mask: One of `MASKS`, "none" for images.
    """

    batch: int
    length: int | None
    mask: str

    @property
    def size(self) -> str:
        """How large the call is, in words."""
        if self.length is None:
            return f"{self.batch} image{'s' * (self.batch > 1)}"
        return f"{self.length} token{'s' * (self.length > 1)}"

    def __str__(self) -> str:
        return self.size if self.length is None else f"{self.batch}x{self.length}, {self.mask}"


class Calls:
    """The cases of a model, and the inputs of each.

    Args:
        model: The compiled model, whose graph says what it takes.
        config: Of the module; numbers of ids and the padding id are read from it.
        seed: Of the random numbers.
    """

    def __init__(self, model: CompiledModel, config: Any = None, seed: int = 0) -> None:
        self._graph, self._types = model.graph, model.graph.inputs
        self._longest = model.longest
        self._optional = {each.name for each in model.signature.inputs if each.default is not None}
        self._config = config
        self._seed = seed
        self._main = self._main_input()

    def cases(
        self, lengths: Sequence[int] | None, batches: Sequence[int] | None
    ) -> tuple[Case, ...]:
        """All calls, the shortest first; None for `BATCHES`, and `LENGTHS` up to the limit.

        Every length meets every mask, and the batches take turns.

        Raises:
            InputError: a size below 1 or one that the model does not take, or lengths for images.
        """
        chosen = self._batches(batches)
        if self._main.is_float:
            if lengths is not None:
                raise InputError("lengths are given, but the model takes images; leave them out")
            return tuple(Case(batch, None, "none") for batch in chosen)
        return tuple(
            case
            for turn, length in enumerate(self._lengths(lengths))
            for case in self._masked(length, chosen, turn)
        )

    def inputs(self, case: Case) -> Arrays:
        """The arrays of a case, the same whenever it is asked for."""
        seed = (self._seed, case.batch, case.length or 0, MASKS.index(case.mask))
        random = np.random.default_rng(seed)
        sizes = self._sizes(case)
        arrays = {
            name: self._values(name, type.sizes(sizes), random)
            for name, type in self._types.items()
            if case.mask != "none" or name not in self._optional
        }
        if "attention_mask" in arrays:
            mask = make_mask(case.mask, arrays["attention_mask"].shape, random)
            arrays["attention_mask"] = mask.astype(DTYPES[self._types["attention_mask"].dtype])
            ids = arrays.get("input_ids")
            if ids is not None and ids.shape == mask.shape:
                padding = getattr(self._config, "pad_token_id", None)
                arrays["input_ids"] = np.where(mask, ids, padding or 0)
        return arrays

    def _main_input(self) -> TensorType:
        for name in ("input_ids", "pixel_values"):
            if name in self._types:
                return self._types[name]
        raise InputError(
            f"the model takes {', '.join(self._types)}; parity is checked of models that take "
            "input_ids or pixel_values"
        )

    def _batches(self, wanted: Sequence[int] | None) -> tuple[int, ...]:
        fixed = self._main.shape[0]
        if wanted is None:
            return (fixed,) if isinstance(fixed, int) else BATCHES
        return _checked("batch", wanted, fixed if isinstance(fixed, int) else None)

    def _lengths(self, wanted: Sequence[int] | None) -> tuple[int, ...]:
        fixed, limit = self._main.shape[-1], self._longest
        if wanted is None:
            longest = limit or LONGEST
            shorter = () if isinstance(fixed, int) else LENGTHS
            return (*(each for each in shorter if each < longest), longest)
        lengths = _checked("length", wanted, fixed if isinstance(fixed, int) else None)
        if limit and max(lengths) > limit:
            raise InputError(
                f"the length {max(lengths)} is beyond the model's limit of {limit} tokens; give "
                "shorter ones"
            )
        return lengths

    def _masked(self, length: int, batches: tuple[int, ...], turn: int) -> Iterator[Case]:
        masks = MASKS if "attention_mask" in self._types else MASKS[:2]
        for place, mask in enumerate(masks):
            choice = batches[(turn + place) % len(batches)]
            if mask == "one row hidden":
                # Of a hidden row nothing can be compared, so there must be another beside it.
                choice = next((each for each in (choice, *batches) if each > 1), 0)
            if choice and (length > 1 or mask not in ("right padding", "left padding", "holes")):
                yield Case(choice, length, mask)

    def _sizes(self, case: Case) -> dict[str, int]:
        sizes = dict.fromkeys(
            frozenset().union(*(type.symbols() for type in self._types.values())), SYMBOL_SIZE
        )
        if case.length is not None:
            sizes.update(dict.fromkeys(symbols(self._main.shape[-1]), case.length))
        for type in self._types.values():
            sizes.update(dict.fromkeys(symbols(type.shape[0]), case.batch))
        return sizes

    def _values(
        self, name: str, shape: tuple[int, ...], random: np.random.Generator
    ) -> NDArray[Any]:
        type = self._types[name]
        if type.is_float:
            return random.standard_normal(shape).astype(DTYPES[type.dtype])
        if name == "attention_mask":
            return np.ones(shape, DTYPES[type.dtype])
        if name == "position_ids":
            return np.broadcast_to(np.arange(shape[-1]), shape).astype(DTYPES[type.dtype])
        if name == "bbox":
            return _boxes(shape, random)
        rows = self._graph.table_rows(name) or getattr(self._config, CONFIGURED.get(name, ""), None)
        if rows is None:
            raise InputError(
                f"no values can be made up for the input {name!r}, as the model looks up nothing "
                "by it; compare it on your own inputs with `prunus run --check`"
            )
        if name == "token_type_ids":  # first one text, then the other
            return (np.broadcast_to(np.arange(shape[-1]), shape) * rows) // shape[-1]
        return random.integers(0, rows, shape)


def make_mask(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.bool_]:
    """A mask of [rows…, length], one of `MASKS`. Rows are of unequal length, and none but one that
    is meant to be is wholly hidden.
    """
    length, rows = shape[-1], int(np.prod(shape[:-1]))
    places = np.arange(length)
    kept = random.integers(1, length, (rows, 1), endpoint=True)
    mask = np.ones((rows, length), np.bool_)
    if kind in ("right padding", "one row hidden"):
        mask = places < kept
    elif kind == "left padding":
        mask = places >= length - kept
    elif kind == "holes":
        mask = random.random((rows, length)) < 0.6
        mask[np.arange(rows), kept[:, 0] - 1] = True
    if kind == "one row hidden":
        mask[random.integers(rows)] = False
    return mask.reshape(shape)


def _checked(what: str, wanted: Sequence[int], fixed: int | None) -> tuple[int, ...]:
    """The sizes, each once and in order; `fixed` is the only one that the model takes, if any."""
    sizes = tuple(sorted(set(wanted)))
    if not sizes or sizes[0] < 1:
        raise InputError(f"a {what} is one of {list(wanted)}; give sizes of at least 1")
    if fixed is not None and sizes != (fixed,):
        raise InputError(f"a {what} is one of {list(wanted)}, but the model takes {fixed} only")
    return sizes


def _boxes(shape: tuple[int, ...], random: np.random.Generator) -> Integers:
    """Left, top, right, bottom: the latter two not before the former."""
    corners = random.integers(0, LAYOUT_LIMIT, (*shape[:-1], 2, 2), endpoint=True)
    boxes: Integers = np.sort(corners, axis=-2).reshape(shape)
    return boxes
