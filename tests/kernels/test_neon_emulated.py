"""Code for Arm, run: kernels on small shapes with tails, in a program under user-mode emulation."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from prunus.ir import OPS, Attrs, numeric
from prunus.kernels.attention import Attention, Mask, scratch_bytes
from prunus.kernels.elementwise import UNARY, Elementwise
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.layout import FLOAT, TILE
from prunus.kernels.normalize import LayerNorm
from prunus.kernels.panel import Panel, Panels, pack_blocks, pack_dense
from prunus.kernels.row_stream import RowStream, RowStreams, pack_row_streams
from prunus.kernels.spec import Kernel
from prunus.kernels.target import NEON
from prunus.kernels.tokens import Embed, TakeTokens, Unpack
from prunus.sparsity import Block, BlockSparse
from tests.kernels.emulator import NEOVERSE, Program, require_emulator
from tests.kernels.harness import Arguments, Guarded, Tiled

TOKENS = (1, 17, 48, 100, 128)
"""Every width of the last tile, alone and behind another, full and not."""

VECTORS = TILE // NEON.lanes
EPILOGUES = (Epilogue(), Epilogue("none", True), Epilogue("gelu", True))
TARGETS = [NEOVERSE, *(NEOVERSE.replace("neoverse-n1", cpu) for cpu in ("generic", "apple-m1"))]


@pytest.fixture
def program(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    require_emulator(tmp_path_factory.getbasetemp().parent / "emulator.lock")
    return Program(tmp_path)


def normal(*shape: int) -> np.ndarray:
    random = np.random.default_rng(sum(shape))
    return random.standard_normal(shape).astype(np.float32)


def pruned(outputs: int, inputs: int, density: float, block: Block = (1, 1)) -> np.ndarray:
    """A weight of which about `density` of the blocks are left."""
    grid = (-(-outputs // block[0]), -(-inputs // block[1]))
    left = np.kron(np.random.default_rng(0).random(grid) < density, np.ones(block, bool))
    weight: np.ndarray = normal(outputs, inputs) * left[:outputs, :inputs] / 4
    return weight


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: str) -> np.ndarray:
    """The layer in float64."""
    wide = [np.asarray(each, np.float64) for each in (x, weight, bias)]
    return np.asarray(OPS["linear"].meaning(Attrs(activation=activation), *wide))


def check_linear(
    program: Program,
    weight: np.ndarray,
    packed: RowStreams | Panels,
    make: Callable[[Epilogue], Callable[[int], Kernel]],
    groups: int,
) -> None:
    """The layer with every epilogue on every number of tokens, all in one program."""
    outputs, inputs = weight.shape
    bias = normal(outputs)
    results: list[tuple[Tiled, np.ndarray]] = []
    for epilogue in EPILOGUES:
        for tokens in TOKENS:
            x, residual = normal(tokens, inputs), normal(tokens, outputs)
            y = Tiled(tokens, outputs, first=2, rows=outputs + 3)
            arguments: Arguments = {"x": Tiled.of(x, first=1), "y": y, "bias": bias}
            wanted = linear(x, weight, bias, epilogue.activation)
            if epilogue.residual:
                arguments["residual"] = Tiled.of(residual)
                wanted = wanted + residual
            program.add_tiles(make(epilogue), tokens, arguments, units=groups, weight=packed)
            results.append((y, wanted))
    program.run()
    for y, wanted in results:
        np.testing.assert_allclose(y.array(), wanted, rtol=1e-5, atol=1e-5)
        y.check()


def test_row_stream(program: Program) -> None:
    weight = pruned(13, 37, 0.3)
    packed = pack_row_streams(BlockSparse.from_dense(weight), input_block=16, groups=2)
    check_linear(
        program, weight, packed, lambda e: partial(RowStream, input_block=16, epilogue=e), groups=2
    )


def test_dense_panels(program: Program) -> None:
    weight = pruned(13, 37, 1.0)
    packed = pack_dense(weight, groups=2)
    check_linear(
        program, weight, packed, lambda e: partial(Panel, rows=packed.rows, epilogue=e), groups=2
    )


@pytest.mark.parametrize("block", [(4, 1), (7, 3)])
def test_block_panels(program: Program, block: Block) -> None:
    weight = pruned(18, 40, 0.4, block)
    packed = pack_blocks(BlockSparse.from_dense(weight, block), groups=3)
    make = partial(Panel, rows=packed.rows, indexed=True)
    check_linear(program, weight, packed, lambda e: partial(make, epilogue=e), groups=3)


def test_layer_norm(program: Program) -> None:
    results = []
    for tokens in TOKENS:
        x, gamma, beta = normal(tokens, 37) + 2, normal(37), normal(37)
        y = Tiled(tokens, 37, first=1, rows=40)
        arguments: Arguments = {
            "x": Tiled.of(x), "y": y, "gamma": gamma, "beta": beta, "features": 37,
            "vectors": VECTORS,
        }  # fmt: skip
        program.add_tiles(LayerNorm, tokens, arguments, units=VECTORS)
        wide = (each.astype(np.float64) for each in (x, gamma, beta))
        results.append((y, OPS["layer_norm"].meaning(Attrs(eps=1e-12), *wide)))
    program.run()
    for y, wanted in results:
        np.testing.assert_allclose(y.array(), wanted, rtol=1e-5, atol=1e-5)
        y.check()


def test_unary_ops(program: Program) -> None:
    results = []
    for op in UNARY:
        x = np.abs(normal(17, 5)) + 0.1 if "sqrt" in op else 3 * normal(17, 5)
        y = Tiled(17, 5)
        arguments: Arguments = {"a": Tiled.of(x), "y": y, "row_groups": 3, "features": 5}
        make = partial(Elementwise, op=op, operands=("tile",))
        program.add_tiles(make, 17, arguments, units=3)
        results.append((y, OPS[op].meaning(Attrs(), x.astype(np.float64))))
    program.run()
    for op, (y, wanted) in zip(UNARY, results, strict=True):
        np.testing.assert_allclose(y.array(), wanted, rtol=1e-6, atol=1e-6, err_msg=op)
        y.check()


@pytest.mark.parametrize(
    ("form", "causal", "lengths"),
    [("none", True, (17, 1, 70)), ("key", False, (5, 40)), ("full", False, (21, 21))],
)
def test_attention(program: Program, form: Mask, causal: bool, lengths: tuple[int, ...]) -> None:
    heads, (key_width, value_width), count = 2, (6, 7), sum(lengths)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    q, k, v = (normal(count, heads * width) for width in (key_width, key_width, value_width))
    y, longest = Tiled(count, heads * value_width), max(lengths)
    arguments: Arguments = {
        "q": Tiled.of(q), "k": Tiled.of(k), "v": Tiled.of(v), "y": y, "heads": heads,
        "query_tokens": count, "key_tokens": count, "query_starts": starts, "key_starts": starts,
    }  # fmt: skip
    queries = longest if form == "full" else 1
    random = np.random.default_rng(0).random((len(lengths), 1, queries, longest))
    mask = np.where(random < 0.7, 0, -np.inf).astype(np.float32)
    if form == "key":
        arguments |= {"mask": mask, "mask.batch": longest}
    if form == "full":  # [batch, head, key, query], queries in whole quanta
        turned = np.pad(mask.swapaxes(-1, -2), [(0, 0)] * 3 + [(0, -queries % 16)])
        turned = np.ascontiguousarray(turned)
        arguments |= {"mask": turned, "mask.batch": turned[0].size, "mask.head": 0}
    spec = Attention(TILE, key_width, value_width, 0.4, form, causal)
    size = scratch_bytes(
        queries=longest, keys=longest, key_width=key_width, value_width=value_width
    )
    scratch = Guarded(size // FLOAT)
    program.add_units([spec] * (heads * len(lengths)), arguments, scratch=scratch)
    program.run()
    for i, length in enumerate(lengths):
        span = slice(starts[i], starts[i + 1])
        alone = [each[np.newaxis, span].astype(np.float64) for each in (q, k, v)]
        own = None if form == "none" else mask[i : i + 1, ..., :length]
        wanted = numeric.attention(
            alone[0], alone[1], alone[2], own, heads=heads, scale=0.4, causal=causal
        )
        np.testing.assert_allclose(y.array()[span], wanted[0], rtol=1e-5, atol=1e-5)
    y.check()
    scratch.check_guards()


@pytest.mark.parametrize("target", TARGETS)
def test_a_small_model(program: Program, target: str) -> None:
    """Look-up, a sparse layer, normalisation, a dense layer with a residual, chosen tokens, an
    array: each step reads what the one before has written.
    """
    program.target = target
    tokens, width, inner, chosen = 70, 10, 24, np.array([0, 64, 69, 3])
    table, ids = normal(9, width), np.arange(tokens) % 9
    sparse, dense = pruned(inner, width, 0.4), normal(width, inner) / 4
    bias, gamma, beta, ones = normal(inner), normal(inner + 1)[1:], normal(inner), normal(width)
    x, up, norm, down = (Tiled(tokens, features) for features in (width, inner, inner, width))
    taken, out = Tiled(len(chosen), width), Guarded(len(chosen) * width)
    stream = pack_row_streams(BlockSparse.from_dense(sparse), input_block=7, groups=2)
    panels = pack_dense(dense, groups=1)

    embed: Arguments = {
        "y": x, "features": width, "tokens": tokens, "table0": table, "ids0": ids,
    }  # fmt: skip
    program.add_tiles(Embed, tokens, embed)
    program.add_tiles(
        partial(RowStream, input_block=7, epilogue=Epilogue("gelu")), tokens,
        {"x": x, "y": up, "bias": bias}, units=2, weight=stream,
    )  # fmt: skip
    normalize: Arguments = {
        "x": up, "y": norm, "gamma": gamma, "beta": beta, "features": inner, "vectors": VECTORS,
    }  # fmt: skip
    program.add_tiles(LayerNorm, tokens, normalize, units=VECTORS)
    program.add_tiles(
        partial(Panel, rows=panels.rows, epilogue=Epilogue("none", True)), tokens,
        {"x": norm, "y": down, "bias": ones, "residual": x}, weight=panels,
    )  # fmt: skip
    take: Arguments = {
        "x": down, "y": taken, "features": width, "tokens": len(chosen), "positions": chosen,
        "x_tokens": tokens,
    }  # fmt: skip
    program.add_tiles(TakeTokens, len(chosen), take)
    unpack: Arguments = {
        "x": taken, "features": width, "tokens": len(chosen), "out": out,
        "rows": np.arange(len(chosen)),
    }  # fmt: skip
    program.add_tiles(Unpack, len(chosen), unpack)
    program.run()

    hidden = linear(table[ids], sparse, bias, "gelu")
    hidden = OPS["layer_norm"].meaning(Attrs(eps=1e-12), hidden, gamma, beta)
    wanted = (linear(hidden, dense, ones, "none") + table[ids])[chosen]
    np.testing.assert_allclose(out.floats.reshape(wanted.shape), wanted, rtol=1e-5, atol=1e-5)
    for each in (x, up, norm, down, taken):
        each.check()
    out.check_guards()
