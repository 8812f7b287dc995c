"""Kernels that move tokens: rows of tables into tiles, tiles into plain arrays, tokens between
tiles.
"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prunus.kernels.tokens import Embed, TakeTokens, Unpack
from tests.kernels.harness import Arguments, Guarded, Tiled, run_tiles, targets

TOKENS = st.sampled_from([1, 7, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 130])
FEATURES = st.sampled_from([1, 2, 3, 4, 7, 8, 15, 16, 17, 40, 67])
SEEDS = st.integers(0, 2**32 - 1)


@targets
@given(TOKENS, FEATURES, st.integers(1, 3), SEEDS)
def test_embed_adds_rows_of_tables(
    target: str, tokens: int, features: int, tables: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((tables, 9, features)).astype(np.float32)
    ids = random.integers(0, 9, (tables, tokens))
    y = Tiled(tokens, features)
    arguments: Arguments = {"y": y, "features": features, "tokens": tokens}
    for i in range(tables):
        arguments |= {f"table{i}": rows[i], f"ids{i}": ids[i]}
    run_tiles(lambda width: Embed(width, tables), target, tokens, arguments)
    wanted = rows[0][ids[0]]
    for i in range(1, tables):
        wanted = wanted + rows[i][ids[i]]
    assert (y.array() == wanted).all()
    assert np.isfinite(y.lanes()).all()


@targets
@given(TOKENS, FEATURES, st.sampled_from([0, 5]), SEEDS)
def test_unpack_writes_rows_of_a_plain_array(
    target: str, tokens: int, features: int, first: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((tokens, features)).astype(np.float32)
    rows = np.sort(random.choice(2 * tokens, tokens, replace=False))
    out = Guarded(2 * tokens * features)
    out.floats[:] = 0
    arguments: Arguments = {"x": Tiled.of(x, first=first, rows=first + features + 2),
                 "features": features, "tokens": tokens, "out": out, "rows": rows}  # fmt: skip
    run_tiles(Unpack, target, tokens, arguments)
    wanted = np.zeros((2 * tokens, features), np.float32)
    wanted[rows] = x
    assert (out.floats.reshape(wanted.shape) == wanted).all()


@targets
@given(TOKENS, TOKENS, FEATURES, st.sampled_from([0, 5]), SEEDS)
def test_take_tokens_copies_any_tokens(
    target: str, tokens: int, x_tokens: int, features: int, first: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((x_tokens, features)).astype(np.float32)
    positions = random.integers(0, x_tokens, tokens)
    y = Tiled(tokens, features)
    arguments: Arguments = {"x": Tiled.of(x, first=first, rows=first + features + 1), "y": y,
                 "features": features, "tokens": tokens, "positions": positions,
                 "x_tokens": x_tokens}  # fmt: skip
    run_tiles(TakeTokens, target, tokens, arguments)
    assert (y.array() == x[positions]).all()
    assert np.isfinite(y.lanes()).all()
