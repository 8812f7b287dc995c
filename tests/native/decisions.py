"""Takes the planner's decisions from it, so that tests meet every kernel and not only those that
win races.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from prunus.ir import Graph, bind_sizes, verify
from prunus.kernels.target import parse_target
from prunus.passes import PASSES, run_passes
from prunus.plan import Options, linear, make_options
from prunus.runtime.executable import Executable
from prunus.runtime.weights import Source
from tests.graphs import Arrays
from tests.planned import planned

BLOCKS = ((1, 1), (4, 1), (1, 4), (7, 3), (16, 1), (2, 8))
HASWELL = "llvm -mcpu=haswell"


class Decisions(NamedTuple):
    """What is decided about a compilation.

    Attributes:
        seed: Of the kernel, and its block, of each linear layer.
        target: The processor.
        threads: Workers.
        rows_per_group: Outputs of a unit of work, at most.
        input_blocks: Inputs per block of the row stream.
        passes: The passes to run once, or None for all of them until nothing changes.
    """

    seed: int = 0
    target: str = "native"
    threads: int = 1
    rows_per_group: int = 16
    input_blocks: tuple[int, ...] = (5, 192)
    passes: tuple[bool, ...] | None = None


def decisions() -> st.SearchStrategy[Decisions]:
    """Any decisions."""
    targets = [text for text in ("native", HASWELL) if parse_target(text).native]
    subset = st.tuples(*[st.booleans()] * len(PASSES))
    return st.builds(
        Decisions,
        seed=st.integers(0, 2**16),
        target=st.sampled_from(targets),
        threads=st.sampled_from([1, 2]),
        rows_per_group=st.sampled_from([4, 16, 768]),
        input_blocks=st.sampled_from([(1,), (5, 192)]),
        passes=st.one_of(st.none(), subset),
    )


def examples(share: float) -> settings:
    """So large a share of the profile's examples, for a test that compiles much in each."""
    return settings(max_examples=round(settings().max_examples * share))


def rewritten(graph: Graph, decided: Decisions) -> Graph:
    """The graph after the decided passes."""
    if decided.passes is None:
        return run_passes(graph)
    for each, wanted in zip(PASSES, decided.passes, strict=True):
        graph = verify(each(graph, [])) if wanted else graph
    return graph


def compiled(graph: Graph, decided: Decisions) -> Executable:
    """The graph, planned as decided."""
    options = make_options(target=decided.target, threads=decided.threads)
    with _forced(decided):
        return planned(graph, options)


def run(executable: Executable, inputs: Arrays) -> list[np.ndarray]:
    """One call."""
    sizes = bind_sizes(executable.program.inputs, inputs)
    return executable.run(dict(inputs), sizes)


@contextmanager
def _forced(decided: Decisions) -> Iterator[None]:
    random, offered = np.random.default_rng(decided.seed), linear._candidates

    def one(source: Source, options: Options) -> Sequence[linear.Candidate]:
        block = BLOCKS[random.integers(len(BLOCKS))]
        candidates = offered(source, replace(options, block=block, threshold=0.0))
        return [candidates[random.integers(len(candidates))]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "_candidates", one)
        patch.setattr(linear, "ROWS_PER_GROUP", decided.rows_per_group)
        patch.setattr(linear, "INPUT_BLOCKS", decided.input_blocks)
        yield
