"""Attention against NumPy: lengths, widths, masks, causality, extreme logits, and its scratch."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prunus.ir import numeric
from prunus.kernels.attention import ROWS, Attention, Mask, pitch, scratch_bytes
from prunus.kernels.layout import FLOAT, QUANTUM, TILE
from tests.kernels.harness import Arguments, Guarded, Tiled, run_units, targets

# A specification is compiled once (0.3 s), so they come from a list.
WIDTHS = ((1, 1), (2, 5), (6, 6), (8, 7), (7, 13))
"""Features of a head's keys and of its values."""

LENGTHS = (1, 2, 5, 6, 7, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 130)
SMALLEST_NORMAL = np.finfo(np.float32).tiny


class Case(NamedTuple):
    """Sizes of an attention. `causal` and the mask's form follow the widths, to bound the number of
    kernels.
    """

    batch: int
    heads: int
    queries: int
    keys: int
    widths: tuple[int, int]
    mask: Mask
    seed: int = 0
    logits: float = 1.0
    """Magnitude of the scores."""

    @property
    def spec(self) -> Attention:
        causal = self.widths in ((2, 5), (7, 13))
        return Attention(TILE, *self.widths, self.widths[0] ** -0.5, self.mask, causal)


class Result(NamedTuple):
    """What came out, and what should have."""

    found: np.ndarray
    wanted: np.ndarray
    scratch: Guarded


@st.composite
def cases(draw: st.DrawFn) -> Case:
    queries = draw(st.sampled_from(LENGTHS))
    return Case(
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        queries,
        draw(st.sampled_from([queries, queries, draw(st.sampled_from(LENGTHS))])),
        draw(st.sampled_from(WIDTHS)),
        draw(st.sampled_from(["none", "key", "full"])),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.sampled_from([0.1, 1.0, 10.0])),
    )


def attend(case: Case, target: str, mask: np.ndarray | None = None) -> Result:
    """Run the kernel; `mask` holds numbers to add, by the form that the case names."""
    random = np.random.default_rng(case.seed)
    spec, (batch, heads) = case.spec, (case.batch, case.heads)
    key_width, value_width = case.widths

    def normal(tokens: int, width: int) -> np.ndarray:
        return random.standard_normal((batch * tokens, heads * width)).astype(np.float32)

    scale = np.float32(case.logits**0.5)
    q, k = normal(case.queries, key_width) * scale, normal(case.keys, key_width) * scale
    v = normal(case.keys, value_width)
    mask = drawn_mask(case) if mask is None else mask
    y = Tiled(batch * case.queries, heads * value_width, first=2)
    # Queries, keys and values are mostly slices of one wide activation.
    arguments: Arguments = {
        "q": Tiled.of(q, rows=3 * q.shape[1]), "k": Tiled.of(k, first=q.shape[1]),
        "v": Tiled.of(v, first=2 * q.shape[1]), "y": y, "heads": heads,
        "query_tokens": batch * case.queries, "key_tokens": batch * case.keys,
        "query_starts": np.arange(batch + 1) * case.queries,
        "key_starts": np.arange(batch + 1) * case.keys,
        **mask_arguments(case, mask),
    }  # fmt: skip
    size = scratch_bytes(
        queries=case.queries, keys=case.keys, key_width=key_width, value_width=value_width
    )
    scratch = Guarded(size // FLOAT)
    run_units(spec, target, batch * heads, arguments, scratch)
    split = [x.reshape(batch, -1, x.shape[1]).astype(np.float64) for x in (q, k, v)]
    with np.errstate(under="ignore"):
        wanted = numeric.attention(
            split[0], split[1], split[2], mask, heads=heads, scale=spec.scale, causal=spec.causal
        )
    return Result(y.array().reshape(wanted.shape), wanted, scratch)


def drawn_mask(case: Case) -> np.ndarray | None:
    """Numbers to add: mostly 0 or -inf, some of them finite; some queries see no key."""
    random = np.random.default_rng(case.seed + 1)
    if case.mask == "none":
        return None
    if case.mask == "key":
        shape: tuple[int, ...] = (case.batch, 1, 1, case.keys)
    else:
        heads = case.heads if case.seed % 2 else 1
        shape = (case.batch, heads, case.queries, case.keys)
    mask = np.where(random.random(shape) < 0.6, 0, -np.inf)
    mask = np.where(random.random(shape) < 0.1, -1.5, mask)
    mask[random.random(shape[:-1]) < 0.2] = -np.inf
    return mask.astype(np.float32)


def mask_arguments(case: Case, mask: np.ndarray | None) -> Arguments:
    if mask is None:
        return {}
    if case.mask == "key":
        return {"mask": mask, "mask.batch": case.keys}
    queries = -(-case.queries // QUANTUM) * QUANTUM
    turned = np.zeros((*mask.shape[:2], case.keys, queries), np.float32)
    turned[..., : case.queries] = mask.swapaxes(-1, -2)
    head = case.keys * queries
    per_head = mask.shape[1] > 1
    return {
        "mask": turned,
        "mask.batch": head * mask.shape[1],
        "mask.head": head if per_head else 0,
    }


def scores(case: Case, scratch: Guarded) -> np.ndarray:
    """The part of scratch that holds the powers [keys, queries of a chunk]."""
    key_width, value_width = case.widths
    start = (
        pitch(case.queries) * (key_width + value_width)
        + pitch(case.keys + ROWS) * (key_width + value_width + 1)
    )  # fmt: skip
    return scratch.floats[start : start + case.keys * TILE].reshape(case.keys, TILE)


@targets
@given(cases())
@example(Case(2, 2, 130, 65, (6, 6), "full"))
@example(Case(1, 1, 1, 130, (2, 5), "key"))
def test_attention(target: str, case: Case) -> None:
    found, wanted, _ = attend(case, target)
    # float32 scores of magnitude s are off by s · 2⁻²⁴, and a power of e by as much relatively.
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=3e-6 * max(case.logits, 1))


@targets
@given(
    st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=5),
    st.sampled_from(WIDTHS),
    st.sampled_from(["none", "key"]),
    st.integers(0, 2**32 - 1),
)
@example([130, 1, 63, 2], (6, 6), "key", 0)
def test_packed_sequences_are_what_each_is_alone(
    target: str, lengths: list[int], widths: tuple[int, int], form: Mask, seed: int
) -> None:
    random = np.random.default_rng(seed)
    spec, starts = Case(1, 2, 1, 1, widths, form).spec, np.concatenate(([0], np.cumsum(lengths)))
    q, k = random.standard_normal((2, sum(lengths), 2 * widths[0])).astype(np.float32)
    v = random.standard_normal((sum(lengths), 2 * widths[1])).astype(np.float32)
    mask = np.zeros((len(lengths), 1, 1, max(lengths)), np.float32)
    mask[random.random(mask.shape) < 0.3] = -np.inf

    def attended(span: slice, starts: np.ndarray, mask: np.ndarray) -> np.ndarray:
        y = Tiled(int(starts[-1]), v.shape[1])
        arguments: Arguments = {
            "q": Tiled.of(q[span]), "k": Tiled.of(k[span]), "v": Tiled.of(v[span]), "y": y,
            "heads": 2, "query_tokens": y.tokens, "key_tokens": y.tokens,
            "query_starts": starts, "key_starts": starts,
        }  # fmt: skip
        if form == "key":
            arguments |= {"mask": mask, "mask.batch": mask.shape[-1]}
        size = scratch_bytes(
            queries=max(lengths), keys=max(lengths), key_width=widths[0], value_width=widths[1]
        )
        scratch = Guarded(size // FLOAT)
        run_units(spec, target, 2 * (len(starts) - 1), arguments, scratch)
        return y.array()

    together = attended(slice(None), starts, mask)
    for i, length in enumerate(lengths):
        span = slice(starts[i], starts[i + 1])
        alone = attended(span, np.array([0, length]), np.ascontiguousarray(mask[i, ..., :length]))
        assert together[span].tobytes() == alone.tobytes()


@targets
@pytest.mark.parametrize("form", ["key", "full"])
def test_a_query_that_sees_nothing_gets_zeros(target: str, form: Mask) -> None:
    case = Case(2, 2, 17, 9, (6, 6), form)
    shape = (2, 1, 1, 9) if form == "key" else (2, 2, 17, 9)
    mask = np.zeros(shape, np.float32)
    mask[1] = -np.inf
    found, wanted, _ = attend(case, target, mask)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert (found[1] == 0).all()


@targets
def test_the_lowest_float_hides_like_minus_infinity(target: str) -> None:
    """Transformers masks with the lowest float32; a row of nothing but that is a plain mean."""
    case = Case(2, 1, 5, 9, (6, 6), "key")
    mask = np.zeros((2, 1, 1, 9), np.float32)
    mask[0, ..., 4:] = mask[1] = np.finfo(np.float32).min
    found, wanted, _ = attend(case, target, mask)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@targets
@pytest.mark.parametrize("form", ["none", "key"])
def test_large_logits_do_not_overflow(target: str, form: Mask) -> None:
    found, wanted, _ = attend(Case(1, 2, 33, 40, (8, 7), form, logits=1e4), target)
    assert np.isfinite(found).all()
    # Scores of 1e4 are off by 1e-3, and where two keys nearly tie so is the answer.
    assert np.abs(found - wanted).max() < 2e-2


@targets
@pytest.mark.parametrize(("form", "logits"), [("none", 300.0), ("key", 40.0), ("full", 300.0)])
def test_softmax_makes_no_denormal_numbers(target: str, form: Mask, logits: float) -> None:
    """They cost a hundred cycles each, and products with them make more."""
    case = Case(1, 1, 64, 100, (8, 7), form, seed=4, logits=logits)
    mask = drawn_mask(case)
    if mask is not None:  # soft masks reach the range in which e^x is denormal
        mask[..., ::3] = np.linspace(-110, -80, mask[..., ::3].size).reshape(mask[..., ::3].shape)
    powers = scores(case, attend(case, target, mask).scratch)
    powers = powers[~np.isnan(powers)]
    assert ((powers == 0) | (powers >= SMALLEST_NORMAL)).all()
    assert (powers == 0).any()
    assert powers.max() == 1.0
