"""Attention with relative positions against NumPy: lengths, tables, any index, masks, scratch."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prunus.errors import GraphError
from prunus.ir import numeric
from prunus.kernels.attention import ROWS, Mask, scratch_bytes
from prunus.kernels.layout import FLOAT, QUANTUM, TILE
from prunus.kernels.relative import (
    RelativeAttention,
    chunk_of,
    pack_key_table,
    pack_query_table,
    places_of_keys,
    places_of_queries,
    positions_scratch_bytes,
)
from prunus.kernels.target import Target, parse_target
from tests.kernels.harness import Arguments, Guarded, Tiled, run_units, targets

LENGTHS = (1, 2, 5, 6, 7, 15, 16, 17, 33, 63, 64, 65, 100, 130)

# A specification is compiled once (0.5 s), so they come from a list: features of a head's keys and
# values, rows of the two tables, the mask, and whether it is causal.
SPECS: tuple[tuple[tuple[int, int], tuple[int, int], Mask, bool], ...] = (
    ((8, 7), (40, 23), "full", False),
    ((1, 6), (1, 0), "key", True),
    ((6, 1), (0, 90), "none", False),
)


class Case(NamedTuple):
    """Sizes of an attention; `form` says how positions follow from a query and a key."""

    spec: int
    batch: int
    heads: int
    queries: int
    keys: int
    form: str
    seed: int = 0

    @property
    def kernel(self) -> RelativeAttention:
        widths, positions, mask, causal = SPECS[self.spec]
        return RelativeAttention(TILE, *widths, widths[0] ** -0.5, mask, causal, *positions)

    def position(self, positions: int, random: np.random.Generator) -> np.ndarray:
        """[queries, keys]."""
        apart = np.arange(self.queries)[:, None] - np.arange(self.keys)
        match self.form:
            case "apart":
                return np.asarray(np.clip(apart + positions // 2, 0, positions - 1))
            case "turned":
                return np.asarray(np.clip(positions // 2 - apart, 0, positions - 1))
            case "last":
                return np.full(apart.shape, positions - 1)
        return random.integers(0, positions, apart.shape)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    queries = draw(st.sampled_from(LENGTHS))
    return Case(
        draw(st.integers(0, len(SPECS) - 1)),
        draw(st.integers(1, 2)),
        draw(st.integers(1, 3)),
        queries,
        draw(st.sampled_from([queries, queries, draw(st.sampled_from(LENGTHS))])),
        draw(st.sampled_from(["apart", "turned", "last", "any"])),
        draw(st.integers(0, 2**32 - 1)),
    )


def normal(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def positions(
    spec: RelativeAttention, target: Target, tables: list[np.ndarray], indices: list[np.ndarray]
) -> Arguments:
    """What the kernel gets of the two tables [heads, positions, width] and their indices."""
    queries, keys = indices[0].shape
    chunk = chunk_of(target)
    arguments: Arguments = {
        "place.queries": -(-queries // chunk) * chunk, "place.blocks": -(-keys // ROWS)
    }  # fmt: skip
    if spec.key_positions:
        places = places_of_queries(indices[0], spec.key_positions, **vectors_of(target))
        arguments["key.table"] = pack_key_table(tables[0])
        arguments |= {"key.offsets": places.offsets, "key.spans": places.spans}
    if spec.query_positions:
        places = places_of_keys(indices[1], spec.query_positions, **vectors_of(target))
        arguments["query.table"] = pack_query_table(tables[1])
        arguments |= {"query.offsets": places.offsets, "query.spans": places.spans}
    return arguments


def full_mask(mask: np.ndarray) -> np.ndarray:
    """[batch, 1, queries, keys] as the kernel reads it."""
    queries = -(-mask.shape[-2] // QUANTUM) * QUANTUM
    turned = np.zeros((len(mask), 1, mask.shape[-1], queries), np.float32)
    turned[..., : mask.shape[-2]] = mask.swapaxes(-1, -2)
    return turned


def mask_arguments(form: Mask, mask: np.ndarray | None) -> Arguments:
    if mask is None:
        return {}
    if form == "key":
        return {"mask": mask, "mask.batch": mask.shape[-1]}
    turned = full_mask(mask)
    return {"mask": turned, "mask.batch": turned[0].size, "mask.head": 0}


def vectors_of(target: Target) -> dict[str, int]:
    """How a target's kernel takes queries: so many at once, in vectors of so many."""
    return {"chunk": chunk_of(target), "lanes": target.lanes}


def guarded_scratch(spec: RelativeAttention, queries: int, keys: int) -> Guarded:
    size = scratch_bytes(
        queries=queries, keys=keys, key_width=spec.key_width, value_width=spec.value_width
    )
    size += positions_scratch_bytes(spec.key_positions, spec.query_positions)
    return Guarded(size // FLOAT)


@targets
@given(cases())
@example(Case(0, 2, 2, 130, 130, "apart"))
@example(Case(0, 1, 1, 65, 100, "any"))
@example(Case(2, 1, 2, 130, 7, "any"))
def test_relative_attention(target: str, case: Case) -> None:
    random = np.random.default_rng(case.seed)
    spec, (batch, heads) = case.kernel, (case.batch, case.heads)
    q = normal(random, batch * case.queries, heads * spec.key_width)
    k = normal(random, batch * case.keys, heads * spec.key_width)
    v = normal(random, batch * case.keys, heads * spec.value_width)
    sizes = (spec.key_positions, spec.query_positions)
    tables = [normal(random, heads, rows, spec.key_width) for rows in sizes]
    indices = [case.position(rows or 1, random) for rows in sizes]
    mask = None
    if spec.mask != "none":
        shape = (batch, 1, case.queries if spec.mask == "full" else 1, case.keys)
        mask = np.where(random.random(shape) < 0.7, 0, -np.inf).astype(np.float32)
    y = Tiled(batch * case.queries, heads * spec.value_width, first=2)
    arguments: Arguments = {
        "q": Tiled.of(q), "k": Tiled.of(k), "v": Tiled.of(v), "y": y, "heads": heads,
        "query_tokens": batch * case.queries, "key_tokens": batch * case.keys,
        "query_starts": np.arange(batch + 1) * case.queries,
        "key_starts": np.arange(batch + 1) * case.keys,
        **mask_arguments(spec.mask, mask),
        **positions(spec, parse_target(target), tables, indices),
    }  # fmt: skip
    scratch = guarded_scratch(spec, case.queries, case.keys)
    run_units(spec, target, batch * heads, arguments, scratch)
    split = [x.reshape(batch, -1, x.shape[1]).astype(np.float64) for x in (q, k, v)]
    wanted = numeric.attention(
        split[0], split[1], split[2], mask, heads=heads, scale=spec.scale, causal=spec.causal,
        key_positions=(tables[0], indices[0]) if sizes[0] else None,
        query_positions=(tables[1], indices[1]) if sizes[1] else None,
    )  # fmt: skip
    np.testing.assert_allclose(y.array().reshape(wanted.shape), wanted, rtol=2e-5, atol=1e-5)


@targets
@given(st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
@example([130, 1, 63, 2], 0)
def test_packed_sequences_read_the_places_of_the_longest(
    target: str, lengths: list[int], seed: int
) -> None:
    """Bit-equal, but for the positions of a longer sequence that are computed for nothing."""
    random = np.random.default_rng(seed)
    spec = RelativeAttention(TILE, 8, 7, 0.3, "none", False, 40, 23)
    starts, longest = np.concatenate(([0], np.cumsum(lengths))), max(lengths)
    q, k = normal(random, 2, sum(lengths), 16)
    v = normal(random, sum(lengths), 14)
    tables = [normal(random, 2, rows, 8) for rows in (40, 23)]
    indices = [random.integers(0, rows, (longest, longest)) for rows in (40, 23)]

    def attended(span: slice, starts: np.ndarray, length: int) -> np.ndarray:
        y = Tiled(int(starts[-1]), 14)
        cut = [np.ascontiguousarray(index[:length, :length]) for index in indices]
        arguments: Arguments = {
            "q": Tiled.of(q[span]), "k": Tiled.of(k[span]), "v": Tiled.of(v[span]), "y": y,
            "heads": 2, "query_tokens": y.tokens, "key_tokens": y.tokens,
            "query_starts": starts, "key_starts": starts,
            **positions(spec, parse_target(target), tables, cut),
        }  # fmt: skip
        run_units(
            spec, target, 2 * (len(starts) - 1), arguments, guarded_scratch(spec, length, length)
        )
        return y.array()

    together = attended(slice(None), starts, longest)
    for i, length in enumerate(lengths):
        span = slice(starts[i], starts[i + 1])
        assert together[span].tobytes() == attended(span, np.array([0, length]), length).tobytes()


@pytest.mark.parametrize("wrong", [-1, 9])
def test_a_position_outside_its_table_never_reaches_the_kernel(wrong: int) -> None:
    index = np.zeros((5, 7), np.int64)
    index[3, 2] = wrong
    for locate in (places_of_queries, places_of_keys):
        with pytest.raises(GraphError, match=f"position {wrong} is outside its table of 9"):
            locate(index, 9, **vectors_of(parse_target("native")))


def test_only_positions_that_occur_are_computed() -> None:
    target = parse_target("llvm -mcpu=znver4")
    apart = np.arange(128)[:, None] - np.arange(128) + 256
    places = places_of_keys(apart, 512, **vectors_of(target))
    assert places.spans.shape == (2, 22, 2)
    assert places.spans[0, 0].tolist() == [251, 5]  # 64 queries, 6 keys: 69 positions
    assert places_of_queries(apart, 512, **vectors_of(target)).spans.tolist() == [
        [129, 191],
        [193, 191],
    ]
