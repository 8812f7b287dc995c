"""Rewrites of a graph, in the order in which they run: the compiler's table of contents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from prunus.errors import GraphError
from prunus.ir import Graph, verify
from prunus.passes.cancel_shapes import cancel_shapes
from prunus.passes.drop_empty import drop_empty
from prunus.passes.fold_constants import fold_constants
from prunus.passes.fold_scales import fold_scales
from prunus.passes.fold_transposes import fold_transposes
from prunus.passes.fuse_attention import fuse_attention
from prunus.passes.fuse_embeddings import fuse_embeddings
from prunus.passes.fuse_epilogues import fuse_epilogues
from prunus.passes.fuse_norms import fuse_norms
from prunus.passes.fuse_relative import fuse_relative
from prunus.passes.fuse_rotary import fuse_rotary
from prunus.passes.heads import HeadReport, head_report
from prunus.passes.merge_qkv import merge_qkv
from prunus.passes.rewrite import Notes
from prunus.passes.share_equal import share_equal
from prunus.passes.simplify_masks import simplify_masks
from prunus.passes.sink_permutes import sink_permutes
from prunus.passes.sparsify import sparsify

__all__ = ["PASSES", "HeadReport", "Notes", "Pass", "PassRecord", "head_report", "run_passes"]

Pass: TypeAlias = Callable[[Graph, Notes], Graph]
"""Returns the very graph that it was given where there is nothing to do."""

PASSES: tuple[Pass, ...] = (
    fold_constants,
    share_equal,
    fold_transposes,
    fold_scales,
    simplify_masks,
    fuse_embeddings,
    fuse_norms,
    fuse_rotary,
    fuse_attention,
    fuse_relative,
    sink_permutes,
    cancel_shapes,
    drop_empty,
    merge_qkv,
    fuse_epilogues,
    sparsify,
)

MAX_ROUNDS = 10
"""More rounds than passes ever need; two are usual, the second of which finds nothing to do."""


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did: the graph before and after it, and a sentence for each change."""

    name: str
    before: Graph
    after: Graph
    notes: tuple[str, ...]

    def __str__(self) -> str:
        changes = "".join(f"  {note}\n" for note in self.notes) or "  nothing to do\n"
        return f"{self.name}\n{changes}"


def run_passes(graph: Graph, *, log: list[PassRecord] | None = None) -> Graph:
    """The graph after all passes, run in rounds until a round changes nothing, and verified after
    each pass that changed it.

    Args:
        graph: A well-formed graph.
        log: Gets a record of each pass of the first round, and of each later one that changed
            something.

    Raises:
        GraphError: a pass left a graph that is not well formed, or the passes undo each other.
        InputError: a weight holds NaN or infinity.
    """
    for round in range(MAX_ROUNDS):
        before = graph
        for each in PASSES:
            after, notes = _run(each, graph)
            if log is not None and (round == 0 or after is not graph):
                log.append(PassRecord(each.__name__, graph, after, notes))
            graph = after
        if graph is before:
            return graph
    raise GraphError(f"passes still change the graph after {MAX_ROUNDS} rounds")


def _run(each: Pass, graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    notes: Notes = []
    after = each(graph, notes)
    if after is not graph:
        try:
            verify(after)
        except GraphError as error:
            raise GraphError(
                f"{each.__name__} left a graph that is not well formed: {error}"
            ) from error
    return after, tuple(notes)
