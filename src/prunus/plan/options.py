"""What a user may decide about a compilation, checked."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Literal

from prunus.errors import InputError, TargetError
from prunus.kernels.target import Target, parse_target
from prunus.runtime.threads import check_threads
from prunus.sparsity import Block, check_block

Tune = Literal["race", "cost"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to compile.

    Attributes:
        sparse: Whether zeros may be skipped; False is the dense baseline.
        block: The block shape of sparse weights, or "auto" for the measured one.
        threshold: "auto" weighs the costs; a number means sparse exactly where at least that share
            of the blocks is empty, the rule of TVM's tutorial.
        target: The processor.
        threads: Workers.
        tune: "race" times the closest candidates on the real weights, "cost" trusts the estimates.
        may_pack: Whether padding may be left out. It may not where values of padding are read by
            something that prunus does not see; no user decides it.
    """

    sparse: bool = True
    block: Block | Literal["auto"] = "auto"
    threshold: float | Literal["auto"] = "auto"
    target: Target = field(default_factory=parse_target)
    threads: int = 1
    tune: Tune = "race"
    may_pack: bool = True


def make_options(
    *,
    sparse: bool = True,
    block: Block | str = "auto",
    threshold: float | str = "auto",
    target: str = "native",
    threads: int | None = None,
    tune: str = "race",
) -> Options:
    """Options from what a user wrote.

    Raises:
        InputError: a value that is none of those allowed.
        TargetError: an unknown target.
    """
    if not isinstance(sparse, bool):
        raise InputError(f"sparse={sparse!r}: expected True or False")
    if tune not in ("race", "cost"):
        raise InputError(f"tune={tune!r}: expected 'race' or 'cost'")
    if not isinstance(target, str):
        raise InputError(f"target={target!r}: expected 'native' or e.g. 'llvm -mcpu=haswell'")
    return Options(
        sparse,
        _block(block),
        _threshold(threshold),
        _runnable(target),
        check_threads(threads),
        "race" if tune == "race" else "cost",
    )


def _runnable(text: str) -> Target:
    target = parse_target(text)
    if not target.native:
        raise TargetError(
            f"code for {target} cannot run on this processor; choose target='native', or look at "
            "its assembly with `prunus.kernels`"
        )
    return target


def option_names() -> tuple[str, ...]:
    """The names of the options that `make_options` takes."""
    return tuple(inspect.signature(make_options).parameters)


def _block(block: object) -> Block | Literal["auto"]:
    if block == "auto":
        return "auto"
    if isinstance(block, str):
        sides = block.lower().split("x")
        block = tuple(int(side) if side.isdigit() else side for side in sides)
    if not (isinstance(block, tuple | list) and len(block) == 2):
        raise InputError(f"block={block!r}: expected 'auto', (rows, columns), or e.g. '4x1'")
    rows, columns = block
    check_block((rows, columns))
    return rows, columns


def _threshold(threshold: object) -> float | Literal["auto"]:
    if threshold == "auto":
        return "auto"
    try:
        value = -1.0 if isinstance(threshold, bool) else float(threshold)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"threshold={threshold!r}: expected 'auto' or a share from 0 to 1")
    return value
