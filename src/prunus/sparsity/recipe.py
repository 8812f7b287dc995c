"""The one way to write a sparsity: `0.9`, `0.85@16x1`, `0.5@2:4`."""

import math
import re
from dataclasses import dataclass
from numbers import Real

from prunus.errors import InputError
from prunus.sparsity.blocks import Block, check_block

EXPECTED = (
    "write a share of zeros from 0 up to but not including 1, alone (0.9), in blocks of rows x "
    "columns (0.85@16x1), or as N kept of every M inputs (0.5@2:4)"
)

_RECIPE = re.compile(
    r"(?P<sparsity>[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)"
    r"(?:@(?:(?P<rows>[0-9]{1,9})x(?P<columns>[0-9]{1,9})|(?P<n>[0-9]{1,9}):(?P<m>[0-9]{1,9})))?"
)

_ROUNDING = 0.005
"""How far a written sparsity may lie from 1 - N/M: 1:3 is written 0.67."""


@dataclass(frozen=True, slots=True)
class SparsityRecipe:
    """How many weights are zero, and in which pattern.

    Attributes:
        sparsity: Share of zeros, 0 <= sparsity < 1. 0 is allowed: it keeps everything, which makes
            a control. 1 is not: a model without weights measures nothing.
        block: Rows and columns of the blocks that are zero or kept as a whole; None is 1×1.
        n_of_m: N and M of N:M sparsity: at most N nonzeros in M neighbouring inputs of one output.
            The sparsity must then be 1 - N/M to within 0.005; N and M decide.

    Raises:
        InputError: a value outside these ranges, or both a block and N:M.
    """

    sparsity: float
    block: Block | None = None
    n_of_m: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.sparsity):
            raise InputError(f"a sparsity is a number, found {self.sparsity!r}; {EXPECTED}")
        if not 0 <= self.sparsity < 1:
            raise InputError(f"a sparsity of {self.sparsity} is out of range; {EXPECTED}")
        if self.block is not None and self.n_of_m is not None:
            raise InputError(f"a recipe has either a block or N:M, found both; {EXPECTED}")
        if self.block is not None:
            _check_block(self.block)
        if self.n_of_m is not None:
            _check_n_of_m(self.n_of_m, self.sparsity)

    @classmethod
    def parse(cls, recipe: "str | float | SparsityRecipe") -> "SparsityRecipe":
        """Read a recipe from a text or a number; a recipe is returned as it is.

        Raises:
            InputError: anything else, with what was found and the forms that are understood.
        """
        if isinstance(recipe, SparsityRecipe):
            return recipe
        if not isinstance(recipe, str):
            return cls(float(recipe) if _is_number(recipe) else recipe)
        match = _RECIPE.fullmatch(recipe.strip())
        if match is None:
            raise InputError(f"sparsity {recipe!r} is not understood; {EXPECTED}")
        try:
            return cls(
                float(match["sparsity"]),
                (int(match["rows"]), int(match["columns"])) if match["rows"] else None,
                (int(match["n"]), int(match["m"])) if match["n"] else None,
            )
        except InputError as error:
            raise InputError(f"sparsity {recipe!r}: {error}") from None

    def __str__(self) -> str:
        """The text that `parse` reads back to an equal recipe."""
        if self.block is not None:
            return f"{self.sparsity}@{self.block[0]}x{self.block[1]}"
        if self.n_of_m is not None:
            return f"{self.sparsity}@{self.n_of_m[0]}:{self.n_of_m[1]}"
        return f"{self.sparsity}"


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_block(block: Block) -> None:
    try:
        check_block(block)
    except InputError as error:
        raise InputError(f"{error}; {EXPECTED}") from None


def _check_n_of_m(n_of_m: tuple[int, int], sparsity: float) -> None:
    kept, group = n_of_m
    if not (type(kept) is int and type(group) is int and 1 <= kept < group):
        raise InputError(f"N:M needs 1 <= N < M, found {kept}:{group}; {EXPECTED}")
    if not math.isclose(sparsity, 1 - kept / group, rel_tol=0, abs_tol=_ROUNDING):
        raise InputError(
            f"{kept}:{group} keeps {kept} of {group} weights, which is a sparsity of "
            f"{1 - kept / group:.4g}, found {sparsity}; {EXPECTED}"
        )
