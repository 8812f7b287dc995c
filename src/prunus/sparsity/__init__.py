"""Zeros of weights: measured, stored, and made.

`measure` tells what pattern a weight's zeros follow, `BlockSparse` stores a weight without them,
`simulate_weight` makes a weight of any pattern, and a `SparsityRecipe` is how one is written
(`0.9`, `0.85@16x1`, `0.5@2:4`). Everywhere a weight is a matrix [outputs, inputs], a block is
(rows, columns) of it, and blocks may overhang its far edges. NumPy alone is used here.
"""

from prunus.sparsity.block_sparse import BlockSparse
from prunus.sparsity.blocks import MAX_BLOCK_ELEMENTS, Block, block_grid, check_block
from prunus.sparsity.count import BlockMeasure, ZeroCounts
from prunus.sparsity.measure import (
    CANDIDATE_BLOCKS,
    Kind,
    Pattern,
    empty_heads,
    explain_zeros,
    lines_by_head,
    measure,
)
from prunus.sparsity.recipe import SparsityRecipe
from prunus.sparsity.simulate import Method, layer_seed, simulate_weight

__all__ = [
    "CANDIDATE_BLOCKS",
    "MAX_BLOCK_ELEMENTS",
    "Block",
    "BlockMeasure",
    "BlockSparse",
    "Kind",
    "Method",
    "Pattern",
    "SparsityRecipe",
    "ZeroCounts",
    "block_grid",
    "check_block",
    "empty_heads",
    "explain_zeros",
    "layer_seed",
    "lines_by_head",
    "measure",
    "simulate_weight",
]
