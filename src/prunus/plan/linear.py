"""Which kernel for a linear layer, and why: candidates by their estimated cost, the closest settled
by a race.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prunus.ir import Constant
from prunus.kernels import cost
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.layout import TILE
from prunus.kernels.panel import MAX_ROWS, Panel, Panels, panel_rows
from prunus.kernels.row_stream import RowStream, RowStreams
from prunus.plan.options import Options
from prunus.plan.race import Choices, race
from prunus.runtime.weights import BlockPanels, DensePanels, LinearForm, NonzeroStreams, Source
from prunus.sparsity import Block, BlockSparse, Pattern, block_grid

INPUT_BLOCKS = (128, 192, 256)
"""Inputs per block of the row stream: 64 tokens by 128 features are the 32 KB of a small L1 cache;
more inputs mean longer rows."""

ROWS_PER_GROUP = 768
"""Outputs of a unit of work, at most: fine enough for two workers to end together, coarse enough
for long runs."""

NEAR_INPUTS = 1024
"""Inputs of a tile, 64 tokens each, that stay in a second cache of 1 MB beside the weights: 256 KB.
Fetching more of them ahead takes 16 % off a large batch and adds 2 % to a small one."""

RACE_WITHIN = 2.0
"""Candidates that are estimated to take more than this many times the best are not raced."""

DENSE_FAVOUR = 0.97
"""A sparse kernel must be this much faster than the dense one: a gain below the noise is not worth
a sparse weight."""

Packed = RowStreams | Panels


@dataclass(frozen=True)
class Candidate:
    """One way to compute a linear layer.

    Attributes:
        key: A name that a remembered choice is stored under.
        label: For people.
        sparse: Whether it skips zeros.
        cost: Estimated, in the unit of `kernels.cost`.
        values: Weights that it multiplies by.
        empty: The share of the blocks that hold no nonzero.
        form: How the weight lies in memory, for one group of rows.
        kernel: For full tiles, without an epilogue.
    """

    key: str
    label: str
    sparse: bool
    cost: float
    values: int
    empty: float
    form: LinearForm
    kernel: Panel | RowStream


@dataclass(frozen=True)
class LinearChoice:
    """The chosen kernel of a layer.

    Attributes:
        candidate: The choice.
        form: How its weight lies in memory.
        packed: The weight in this form.
        reason: As a sentence.
    """

    candidate: Candidate
    form: LinearForm
    packed: Packed
    reason: str


@dataclass(frozen=True)
class Estimate:
    """What a layer would get by its estimated costs alone.

    Attributes:
        label: The kernel, for people.
        reason: Why, as a sentence.
        speedup: How many times as fast as the dense kernel; 1 where that is the choice.
    """

    label: str
    reason: str
    speedup: float


def row_groups(outputs: int, threads: int) -> int:
    """Groups that a tile's rows are split into: a multiple of the workers, each of at most 768
    rows.
    """
    wanted = max(threads, -(-outputs // ROWS_PER_GROUP))
    wanted = -(-wanted // threads) * threads
    return max(1, min(wanted, outputs // MAX_ROWS))


def choose(weight: Constant, options: Options, choices: Choices) -> LinearChoice:
    """The kernel for a weight [outputs, inputs], with the reason as a sentence."""
    source = Source(weight)
    candidates = _candidates(source, options)
    raced = _raced(source, candidates, options, choices)
    best, reason = _decide(weight, candidates, options, raced)
    form = replace(best.form, groups=row_groups(weight.type.sizes({})[0], options.threads))
    return LinearChoice(best, form, form.pack(source), reason)


def estimate(pattern: Pattern, options: Options) -> Estimate:
    """What `choose` would decide for a weight of this pattern, which has elements, without a race.

    Nothing is packed, so that the pattern is enough where its block shape was measured.
    """
    # Only packing looks at the values: a view of one number stands for all of them.
    weight = Constant(np.broadcast_to(np.float32(0), pattern.shape), pattern)
    candidates = _candidates(Source(weight), options)
    best, reason = _decide(weight, candidates, options, {})
    return Estimate(best.label, reason, candidates[0].cost / best.cost)


def _raced(
    source: Source, candidates: Sequence[Candidate], options: Options, choices: Choices
) -> Mapping[str, float]:
    """The seconds of the close candidates, where a race between several is wanted."""
    weight = source.constant
    cheapest = min(c.cost for c in candidates)
    close = [c for c in candidates if c.cost <= cheapest * RACE_WITHIN]
    if len(close) == 1 or options.tune != "race" or options.threshold != "auto":
        return {}
    return choices.remembered(
        _identity(weight, close, options),
        [c.key for c in close],
        lambda: race(
            [(c.key, c.kernel, c.form.pack(source)) for c in close],
            weight.type.sizes({}),
            options.target,
        ),
    )


def _decide(
    weight: Constant,
    candidates: Sequence[Candidate],
    options: Options,
    raced: Mapping[str, float],
) -> tuple[Candidate, str]:
    """The best candidate and the reason as a sentence."""
    found = _pattern(weight)
    if len(candidates) == 1:
        reason = found if options.sparse else "asked for: sparse=False"
        return candidates[0], f"dense: {reason}"
    if options.threshold != "auto":
        return _by_threshold(options.threshold, candidates)
    times = raced or {c.key: c.cost for c in candidates}
    best = _fastest([c for c in candidates if c.key in times], times)
    return best, f"{best.label}: {found}; {_verdict(best, candidates, raced)}"


def _fastest(candidates: Sequence[Candidate], times: Mapping[str, float]) -> Candidate:
    """The fastest; a dense one wins a near tie."""
    return min(candidates, key=lambda c: times[c.key] * (1.0 if c.sparse else DENSE_FAVOUR))


def _verdict(best: Candidate, candidates: Sequence[Candidate], raced: Mapping[str, float]) -> str:
    """How the chosen kernel compares with the best of the other kind, raced or estimated."""
    rivals = [c for c in candidates if c.sparse != best.sparse]
    in_race = [c for c in rivals if c.key in raced]
    times = raced if in_race else {c.key: c.cost for c in candidates}
    rival = _fastest(in_race or rivals, times)
    ratio, how = times[rival.key] / times[best.key], "raced" if in_race else "estimated"
    if best.sparse:
        return f"{ratio:.1f} times as fast as dense ({how})"
    return f"{rival.label} would take {ratio:.1f}× ({how})"


def _by_threshold(threshold: float, candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
    """The tutorial's rule: sparse exactly where enough blocks are empty."""
    sparse = min((c for c in candidates if c.sparse), key=lambda c: c.cost)
    best = sparse if sparse.empty >= threshold else candidates[0]
    relation = "at least" if best.sparse else "less than"
    return best, (
        f"{best.label}: {100 * sparse.empty:.1f} % of the blocks are empty, {relation} the "
        f"threshold of {100 * threshold:g} %"
    )


def _candidates(source: Source, options: Options) -> list[Candidate]:
    """Dense first; then, where zeros may be skipped and there are some, the sparse kernels that fit
    them.
    """
    weight = source.constant
    outputs, inputs = weight.type.sizes({})
    rows = max(1, min(MAX_ROWS, outputs))
    dense = Candidate(
        "dense",
        "dense",
        False,
        cost.dense_cost(outputs, inputs),
        outputs * inputs,
        0.0,
        DensePanels(1),
        Panel(TILE, rows, False, Epilogue()),
    )
    if not options.sparse or not _has_zeros(weight, options):
        return [dense]
    block = _block(weight, options)
    grid = block_grid((outputs, inputs), block)
    blocks = max(grid[0] * grid[1], 1)
    nonzeros, occupied = _counts(source, block)
    # Not 1 - occupied / all: the threshold may be this very fraction, which rounding would miss.
    empty = (blocks - occupied) / blocks
    streams = _streams((outputs, inputs), nonzeros, empty)
    if block[0] == 1:
        return [dense, *streams]
    values = occupied * block[0] * block[1]
    panels = Candidate(
        f"panels {block[0]}x{block[1]}",
        f"{block[0]}×{block[1]} blocks",
        True,
        # Never 0, even for a weight without a nonzero: costs are divided by each other.
        cost.block_cost(max(values, 1), panel_rows(block[0])),
        values,
        empty,
        BlockPanels(block, 1),
        Panel(TILE, panel_rows(block[0]), True, Epilogue()),
    )
    return [dense, panels, *(streams if options.block == "auto" else ())]


def _counts(source: Source, block: Block) -> tuple[int, int]:
    """The nonzeros, and the blocks that hold one: as measured, or counted where that is unknown."""
    pattern = source.constant.pattern
    known = pattern is not None and block in {(1, 1), *(m.block for m in pattern.blocks)}
    if pattern is None or not known or isinstance(source.constant.value, BlockSparse):
        stored = source.in_blocks(block)
        return stored.nnz, len(stored.indices)
    rows, columns = block_grid(pattern.shape, block)
    elements = pattern.shape[0] * pattern.shape[1]
    return (
        round((1 - pattern.zeros) * elements),
        round((1 - pattern.of(block).empty) * rows * columns),
    )


def _streams(shape: tuple[int, int], nonzeros: int, empty: float) -> list[Candidate]:
    """The row stream with each size of block; one is enough where the inputs fit into it."""
    outputs, inputs = shape
    sizes = [size for size in INPUT_BLOCKS if size < inputs] or [max(1, min(inputs, 256))]

    def candidate(size: int) -> Candidate:
        return Candidate(
            f"stream {size}",
            f"row stream, {size} inputs at a time",
            True,
            cost.stream_cost(outputs, inputs, nonzeros, size),
            nonzeros,
            empty,
            NonzeroStreams(size, 1),
            RowStream(TILE, size, Epilogue(), far=inputs > NEAR_INPUTS),
        )

    return [candidate(size) for size in sizes]


def _has_zeros(weight: Constant, options: Options) -> bool:
    if isinstance(weight.value, BlockSparse) or options.threshold != "auto":
        return True
    return weight.pattern is not None and weight.pattern.zeros > 0.3


def _block(weight: Constant, options: Options) -> Block:
    if options.block != "auto":
        return options.block
    if isinstance(weight.value, BlockSparse):
        return weight.value.block
    pattern = weight.pattern
    return pattern.block if pattern is not None and pattern.block is not None else (1, 1)


def _pattern(weight: Constant) -> str:
    return weight.pattern.describe() if weight.pattern is not None else "not measured"


def _identity(weight: Constant, candidates: Sequence[Candidate], options: Options) -> str:
    """What a race's result depends on. Counts within 3 % of each other share one."""
    counts = {c.key: int(np.log(max(c.values, 1)) / 0.03) for c in candidates}
    return json.dumps([list(weight.type.sizes({})), counts, str(options.target)])
