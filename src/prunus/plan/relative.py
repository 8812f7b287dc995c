"""The arguments of attention with relative positions: packed tables, and where scores find their
products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prunus.ir import Attrs, Node, round_up
from prunus.ir.dims import floor_div
from prunus.kernels.attention import ROWS, Attention, Mask
from prunus.kernels.relative import (
    Places,
    RelativeAttention,
    chunk_of,
    positions_scratch_bytes,
)
from prunus.plan.planner import Planner
from prunus.runtime.program import BoundArgument, Feed, Stored
from prunus.runtime.weights import KeyTable, QueryTable


@dataclass(frozen=True, slots=True)
class Relative:
    """The relative positions of one attention.

    Attributes:
        key_positions: Rows of the table that queries meet, or 0.
        query_positions: Rows of the table that keys meet, or 0.
        arguments: Those that the kernel has besides.
    """

    key_positions: int
    query_positions: int
    arguments: Mapping[str, BoundArgument]

    @property
    def terms(self) -> int:
        """How many of the tables there are."""
        return bool(self.key_positions) + bool(self.query_positions)

    @property
    def scratch_bytes(self) -> int:
        """Scratch beyond that of attention without positions."""
        if not self.terms:
            return 0
        return positions_scratch_bytes(self.key_positions, self.query_positions)

    @property
    def described(self) -> str:
        """The end of the reason."""
        return f", {self.terms} terms for relative positions" if self.terms else ""

    def kernel(
        self, width: int, key_width: int, value_width: int, scale: float, mask: Mask, causal: bool
    ) -> Attention:
        """The kernel with these positions."""
        own = (width, key_width, value_width, scale, mask, causal)
        if not self.terms:
            return Attention(*own)
        return RelativeAttention(*own, self.key_positions, self.query_positions)


def relative_positions(p: Planner, node: Node) -> Relative | str:
    """What the tables and indices of an attention come to, or why no kernel takes them."""
    key_table, key_index = node.get("key_table"), node.get("key_index")
    query_table, query_index = node.get("query_table"), node.get("query_index")
    tables = {key_table, query_table} - {None}
    if not tables <= p.graph.constants.keys():
        return "a table of relative positions is computed, not constant"
    arguments: dict[str, BoundArgument] = {}
    rows = [0, 0]
    if key_table is not None and key_index is not None:
        rows[0] = p.types[key_table].sizes({})[1]
        arguments["key.table"] = Stored(key_table, KeyTable())
        arguments |= _places(p, "key", key_index, rows[0])
    if query_table is not None and query_index is not None:
        rows[1] = p.types[query_table].sizes({})[1]
        arguments["query.table"] = Stored(query_table, QueryTable())
        arguments |= _places(p, "query", query_index, rows[1])
    return Relative(rows[0], rows[1], arguments)


def _places(p: Planner, term: str, index: str, positions: int) -> dict[str, BoundArgument]:
    """The arrays of `Places` for a term, and how many queries and keys they are for."""
    p.plain(index)
    target, (queries, keys) = p.options.target, p.types[index].shape
    # The queries look for rows of the key table, and the keys for those of the other.
    seekers = "queries" if term == "key" else "keys"
    chunk = chunk_of(target)
    attrs = Attrs(positions=positions, chunk=chunk, lanes=target.lanes)
    return {
        **{
            f"{term}.{name}": Feed(f"{name} of {seekers}", (index,), attrs)
            for name in Places._fields
        },
        "place.queries": round_up(queries, chunk),
        "place.blocks": floor_div(round_up(keys, ROWS), ROWS),
    }
