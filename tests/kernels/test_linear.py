"""The row stream and the panels against NumPy: shapes, tails, patterns of zeros, epilogues."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prunus.ir import OPS, Attrs
from prunus.ir.attributes import ACTIVATIONS
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.panel import Panel, Panels, pack_blocks, pack_dense
from prunus.kernels.row_stream import MAX_INPUT_BLOCK, RowStream, RowStreams, pack_row_streams
from prunus.kernels.spec import Kernel
from prunus.sparsity import Block, BlockSparse
from tests.kernels.harness import Arguments, Tiled, run_tiles, targets

TOKENS = (1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 80, 100, 128, 130)
DENSITIES = (0.0, 0.02, 0.1, 0.3, 0.7, 1.0)
EPILOGUES = (Epilogue(), Epilogue("none", True), Epilogue("gelu", True))

Packed = RowStreams | Panels
Pack = Callable[[np.ndarray, int], Packed]


class Layer(NamedTuple):
    """One linear layer and what surrounds it."""

    tokens: int
    weight: np.ndarray
    groups: int
    epilogue: Epilogue
    first: int
    """Rows in front of each activation in its buffer."""

    @classmethod
    def of(cls, weight: np.ndarray, tokens: int = 17, **fields: Any) -> "Layer":
        """A layer with nothing special about it."""
        return cls(**{"tokens": tokens, "weight": weight, "groups": 2, "epilogue": Epilogue(),
                      "first": 0, **fields})  # fmt: skip

    def __repr__(self) -> str:
        outputs, inputs = self.weight.shape
        return (
            f"Layer({outputs}×{inputs}, {np.count_nonzero(self.weight)} nonzeros, "
            f"tokens={self.tokens}, groups={self.groups}, first={self.first}, {self.epilogue})"
        )


def pruned(outputs: int, inputs: int, density: float, block: Block, seed: int) -> np.ndarray:
    """A weight of which about `density` of the blocks are left; some rows keep far fewer."""
    random = np.random.default_rng(seed)
    r, c = block
    grid = (-(-outputs // r), -(-inputs // c))
    uneven = random.random((grid[0], 1)) ** (0.0 if density in (0.0, 1.0) else 0.5)
    left = np.kron(random.random(grid) < density * uneven, np.ones(block, bool))
    weight = random.standard_normal((outputs, inputs)) / np.sqrt(max(inputs * density, 1))
    return np.asarray(weight * left[:outputs, :inputs], np.float32)


@st.composite
def layers(draw: st.DrawFn, block: Block = (1, 1)) -> Layer:
    """A layer of any size, with zeros in blocks."""
    outputs = draw(st.sampled_from([1, 2, 3, 5, 6, 7, 12, 13, 31, 40]))
    inputs = draw(st.sampled_from([1, 2, 3, 5, 16, 17, 60, 131, 300]))
    density = draw(st.sampled_from(DENSITIES))
    return Layer(
        draw(st.sampled_from(TOKENS)),
        pruned(outputs, inputs, density, block, draw(st.integers(0, 2**32 - 1))),
        draw(st.integers(1, 5)),
        draw(st.sampled_from(EPILOGUES)),
        draw(st.sampled_from([0, 0, 3])),
    )


def check(
    layer: Layer, target: str, packed: Packed, make: Callable[[int, Epilogue], Kernel]
) -> None:
    """The kernel's result against float64."""
    outputs, inputs = layer.weight.shape
    random = np.random.default_rng(1)
    x = random.standard_normal((layer.tokens, inputs)).astype(np.float32)
    residual = random.standard_normal((layer.tokens, outputs)).astype(np.float32)
    bias = random.standard_normal((outputs,)).astype(np.float32)
    y = Tiled(layer.tokens, outputs, first=layer.first, rows=outputs + 2 * layer.first)
    arguments: Arguments = {
        "x": Tiled.of(x, first=layer.first),
        "y": y,
        "bias": bias,
        **packed.arguments(),
    }
    if layer.epilogue.residual:
        arguments["residual"] = Tiled.of(residual, first=layer.first)
    run_tiles(lambda width: make(width, layer.epilogue), target, layer.tokens, arguments,
              units=layer.groups)  # fmt: skip
    wanted = reference(x, layer.weight, bias, layer.epilogue.activation)
    if layer.epilogue.residual:
        wanted = wanted + residual
    np.testing.assert_allclose(y.array(), wanted, rtol=1e-5, atol=1e-5)
    assert np.isfinite(y.lanes()).all()


def reference(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: str) -> np.ndarray:
    """The layer in float64, without a residual."""
    wide = [np.asarray(each, np.float64) for each in (x, weight, bias)]
    return np.asarray(OPS["linear"].meaning(Attrs(activation=activation), *wide))


def stream(layer: Layer, target: str, input_block: int) -> None:
    packed = pack_row_streams(
        BlockSparse.from_dense(layer.weight), input_block=input_block, groups=layer.groups
    )
    check(layer, target, packed, lambda width, e: RowStream(width, input_block, e))
    check(layer, target, packed, lambda width, e: RowStream(width, input_block, e, far=True))


def dense(layer: Layer, target: str) -> None:
    packed = pack_dense(layer.weight, groups=layer.groups)
    check(layer, target, packed, lambda width, e: Panel(width, packed.rows, False, e))


def blocks(layer: Layer, target: str, block: Block) -> None:
    packed = pack_blocks(BlockSparse.from_dense(layer.weight, block), groups=layer.groups)
    check(layer, target, packed, lambda width, e: Panel(width, packed.rows, True, e))


@targets
@given(layers(), st.sampled_from([1, 32, 192]))
def test_row_stream(target: str, layer: Layer, input_block: int) -> None:
    stream(layer, target, input_block)


@targets
@given(layers())
def test_dense_panels(target: str, layer: Layer) -> None:
    dense(layer, target)


BLOCKS = st.sampled_from(
    [(1, 1), (4, 1), (1, 4), (7, 3), (16, 1), (13, 2), (5, 64), (16, 16), (64, 200)]
)


@targets
@given(BLOCKS.flatmap(lambda block: st.tuples(st.just(block), layers(block))))
@example(((4, 4), Layer.of(pruned(9, 10, 1.0, (1, 1), 0))))
def test_block_panels(target: str, drawn: tuple[Block, Layer]) -> None:
    block, layer = drawn
    blocks(layer, target, block)


@targets
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_epilogue(target: str, activation: str, residual: bool) -> None:
    weight = pruned(13, 70, 0.3, (1, 1), 2)
    layer = Layer.of(weight, 33, epilogue=Epilogue(activation, residual))
    stream(layer, target, 32)
    dense(layer, target)
    blocks(layer, target, (4, 1))


@targets
@pytest.mark.parametrize("epilogue", EPILOGUES, ids=str)
def test_a_weight_of_zeros_leaves_the_bias(target: str, epilogue: Epilogue) -> None:
    layer = Layer.of(np.zeros((13, 70), np.float32), 65, epilogue=epilogue)
    stream(layer, target, 32)
    dense(layer, target)
    blocks(layer, target, (7, 3))


@targets
def test_more_groups_than_rows_leave_some_empty(target: str) -> None:
    layer = Layer.of(pruned(3, 40, 0.5, (1, 1), 0), groups=9)
    stream(layer, target, 32)
    dense(layer, target)
    blocks(layer, target, (2, 2))


@targets
def test_one_full_row_among_empty_ones(target: str) -> None:
    weight = np.zeros((40, 131), np.float32)
    weight[17] = np.random.default_rng(0).standard_normal(131) / 12
    layer = Layer.of(weight, groups=4)
    stream(layer, target, 32)
    blocks(layer, target, (4, 1))


@targets
def test_seventy_thousand_inputs_exceed_16_bits_of_index(target: str) -> None:
    layer = Layer.of(pruned(2, 70_000, 0.01, (1, 1), 0), 16)
    stream(layer, target, MAX_INPUT_BLOCK)
    stream(layer, target, 192)
    blocks(layer, target, (1, 16))
    dense(layer, target)


@given(layers(), st.integers(1, MAX_INPUT_BLOCK))
def test_a_row_stream_holds_every_nonzero_once(layer: Layer, input_block: int) -> None:
    sparse = BlockSparse.from_dense(layer.weight)
    packed = pack_row_streams(sparse, input_block=input_block, groups=layer.groups)
    unpacked = np.zeros_like(layer.weight)
    visited = np.zeros(len(layer.weight), np.int64)
    for group, (run, entry, nonzero, low, high) in enumerate(packed.groups):
        for block, runs in enumerate(packed.blocks[group]):
            for count, rows in packed.runs[run : run + runs]:
                for row in packed.entries[entry : entry + rows]:
                    assert low <= row < high
                    visited[row] += block == 0
                    columns = packed.indices[nonzero : nonzero + count].astype(np.int64)
                    unpacked[row, block * input_block + columns] = packed.values[
                        nonzero : nonzero + count
                    ]
                    nonzero += count
                entry += rows
            run += runs
    assert (unpacked == layer.weight).all()
    assert (visited == 1).all(), "the first block starts every row's sum"
