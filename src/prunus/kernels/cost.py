"""What a linear layer costs, estimated: which candidates are worth a race, and the choice where
none is run.

The unit is one FMA of a vector at the processor's peak, for one vector of tokens; so a dense weight
costs its elements divided by the share of peak that its kernel reaches. The shares were measured on
BERT-base's layers at 64 tokens a tile (Zen 4, one core).
"""

from __future__ import annotations

DENSE_SHARE = 0.93
STREAM_SHARE = 0.58
"""Of the row stream at 80–95 % zeros: each FMA loads its own lanes, and each nonzero its index and
value."""

ROW_VISIT = 1.5
"""What visiting a row in a block of inputs costs the row stream: the load and the store of its
sums."""


def panel_share(rows: int) -> float:
    """Of panels that share each load of lanes between so many rows."""
    return 0.95 * rows / (rows + 0.55)


def dense_cost(outputs: int, inputs: int) -> float:
    """Of the dense panels."""
    return outputs * inputs / DENSE_SHARE


def stream_cost(outputs: int, inputs: int, nnz: int, input_block: int) -> float:
    """Of the row stream."""
    visits = min(outputs * -(-inputs // input_block), nnz + outputs)
    return nnz / STREAM_SHARE + visits * ROW_VISIT


def block_cost(stored: int, rows: int) -> float:
    """Of block panels of so many rows."""
    return stored / panel_share(rows)
