"""Saved graphs that would lead native code out of its memory, or into endless work: each is refused
when it is loaded or called, with an error of prunus, and in no time.
"""

import hashlib
import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from prunus.errors import GraphError, InputError, SavedModelError
from prunus.ir import Constant, bind_sizes, interpret
from prunus.plan import make_options
from prunus.runtime import weights
from prunus.runtime.saved import load_model
from prunus.runtime.saved_constants import split_constants, write_tensors
from prunus.runtime.saved_description import (
    DESCRIPTION,
    WEIGHTS,
    Description,
    description_text,
)
from prunus.sparsity import BlockSparse
from tests.graphs import Arrays
from tests.planned import planned

QUICK = 5.0
"""Seconds in which a small hostile folder must be refused, on a slow and busy machine."""

WEIGHT = Constant(np.ones((8, 8), np.float32))
X = "input x: f32[batch, seq, 8]"
LAYER = 'h = linear(x, w) {activation="none"}: f32[batch, seq, 8]'


def write_folder(folder: Path, *lines: str, **constants: Constant) -> Path:
    """A folder with a graph that nobody has checked."""
    folder.mkdir()
    tensors, stored = split_constants(constants)
    write_tensors(folder / WEIGHTS, tensors)
    named = [f"constant {name}: {constant.type}" for name, constant in constants.items()]
    description = Description(
        source="hostile",
        simulated=None,
        companions=(),
        weights=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        signature={},
        graph=("graph", *lines[0].splitlines(), *named, *lines[1:]),
        constants=stored,
    )
    (folder / DESCRIPTION).write_text(description_text(description))
    return folder


def run(folder: Path, inputs: Arrays) -> list[np.ndarray]:
    options = make_options(threads=1, tune="cost")
    graph = load_model(folder).graph
    executable = planned(graph, options)
    return executable.run(inputs, bind_sizes(graph.inputs, inputs))


ATTENTION = "{causal=False, heads=%s, scale=0.5}"


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("slice(h) {axis=2, start=1000, step=1, stop=1004}: f32[batch, seq, 4]", "not inside"),
        ("slice(h) {axis=2, start=6, step=1, stop=2}: f32[batch, seq, 4]", "not inside"),
        ("slice(h) {axis=2, start=0, step=0, stop=4}: f32[batch, seq, 4]", "step"),
        ("slice(h) {axis=2, start=0, step=-1, stop=4}: f32[batch, seq, 4]", "step"),
        ("slice(h) {axis=-1, start=0, step=1, stop=4}: f32[batch, seq, 4]", "axis"),
        ("slice(h) {axis=2, start=0.5, step=1, stop=4}: f32[batch, seq, 4]", "start"),
        ("select(h) {axis=-2, index=0}: f32[batch, 8]", "axis"),
        ("select(h) {axis=7, index=0}: f32[batch, 8]", "out of range"),
        ("index(h, flag): f32[batch, seq, 8]", "indices of dtype"),
        ("index(h, h): f32[batch, seq, 8]", "indices of dtype"),
        (f"attention(h, h, h) {ATTENTION % -2}: f32[batch, seq, 8]", "heads"),
        (f"attention(h, h, h) {ATTENTION % 0}: f32[batch, seq, 8]", "heads"),
        (f"attention(h, h, h) {ATTENTION % 2.0}: f32[batch, seq, 8]", "heads"),
        ("rotary(h, h, h) {heads=-2}: f32[batch, seq, 8]", "heads"),
        ('layer_norm(h, b, b) {eps="x"}: f32[batch, seq, 8]', "eps"),
        ("layer_norm(h, b, b) {eps=nan}: f32[batch, seq, 8]", "eps"),
        ("cumsum(h) {axis=9}: f32[batch, seq, 8]", "out of range"),
        ("softmax(h) {axis=3}: f32[batch, seq, 8]", "out of range"),
        ("reshape(h) {shape=(<batch>, <seq>, -8)}: f32[batch, seq, 8]", "shape"),
        ("expand(h) {shape=(2.0,)}: f32[batch, seq, 8]", "shape"),
        ("add(h, flag): f32[batch, seq, 8]", "one dtype"),
        ('full() {dtype="u8", shape=(1,), value=-1}: u8[1]', "cannot hold"),
        ('full() {dtype="i64", shape=(1,), value=inf}: i64[1]', "cannot hold"),
    ],
)
def test_a_node_that_no_rule_allows_is_refused(tmp_path: Path, node: str, message: str) -> None:
    used = f"u = index(b, i): f32[1]\n  v = not(flag): bool[8]\n  y = {node}"
    folder = write_folder(
        tmp_path / "model",
        X,
        LAYER,
        *used.splitlines(),
        "return y, u, v",
        w=WEIGHT,
        b=Constant(np.ones(8, np.float32)),
        i=Constant(np.zeros(1, np.int64)),
        flag=Constant(np.ones(8, bool)),
    )
    with pytest.raises(SavedModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            (
                LAYER,
                "r = reshape(h) {shape=(<-1*batch>, <-1*seq>, 8)}: f32[-1*batch, -1*seq, 8]",
                f"y = attention(r, r, r) {ATTENTION % 2}: f32[-1*batch, -1*seq, 8]",
            ),
            "would have the shape",
        ),
        (
            (LAYER, "y = slice(h) {axis=1, start=0, step=1, stop=<4*seq>}: f32[batch, 4*seq, 8]"),
            "not inside an axis",
        ),
        (
            (LAYER, "y = select(h) {axis=1, index=5}: f32[batch, 8]"),
            "outside an axis",
        ),
        (
            (
                LAYER,
                "c = select(x) {axis=2, index=0}: f32[batch, seq]",
                "r = reshape(c) {shape=(<batch>, <seq>, 1)}: f32[batch, seq, 1]",
                "e = expand(r) {shape=(4000000000, <batch>, <seq>, 1)}: "
                "f32[4000000000, batch, seq, 1]",
                'z = linear(e, v) {activation="none"}: f32[4000000000, batch, seq, 8]',
                "y = select(z) {axis=0, index=0}: f32[batch, seq, 8]",
            ),
            "GB",
        ),
    ],
)
def test_sizes_that_cannot_be_computed_are_refused_at_the_call(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    constants = {"w": WEIGHT}
    if any("v)" in line for line in lines):
        constants = {"w": WEIGHT, "v": Constant(np.ones((8, 1), np.float32))}
    folder = write_folder(tmp_path / "model", X, *lines, "return y, h", **constants)
    begin = time.monotonic()
    with pytest.raises(InputError, match=message):
        run(folder, {"x": np.ones((2, 3, 8), np.float32)})
    assert time.monotonic() - begin < 10 * QUICK


def nested_division(depth: int) -> str:
    dim = "seq"
    for _ in range(depth):
        dim = f"(({dim})//2+({dim})//3)" if len(dim) < 400 else f"(({dim})//2)"
    return dim


@pytest.mark.parametrize(
    "dim",
    [
        "(" * 5000 + "seq" + ")" * 5000,
        "-" * 9000 + "1",
        "*".join(["(batch+seq+1)"] * 200),
        "*".join(["99999999999"] * 100),
        "9" * 400,
        "seq//0",
        "__import__('os')",
    ],
)
def test_a_dimension_that_takes_long_is_refused_soon(tmp_path: Path, dim: str) -> None:
    folder = write_folder(
        tmp_path / "model",
        X,
        f'y = full() {{dtype="f32", shape=(<{dim}>,), value=0}}: f32[{dim}]',
        "return y",
    )
    begin = time.monotonic()
    with pytest.raises(SavedModelError, match="dimension"):
        load_model(folder)
    assert time.monotonic() - begin < QUICK


def test_a_nested_dimension_is_read_in_linear_time(tmp_path: Path) -> None:
    dim = nested_division(30)
    node = f'y = full() {{dtype="f32", shape=(<{dim}>,), value=0}}: f32[{dim}]'
    folder = write_folder(tmp_path / "model", X, node, "return y")
    begin = time.monotonic()
    load_model(folder)
    assert time.monotonic() - begin < QUICK


def test_a_file_of_weights_larger_than_described_is_not_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", X, LAYER, "return h", w=WEIGHT)
    os.truncate(folder / WEIGHTS, 1 << 42)  # sparse: it takes no room on the disk
    begin = time.monotonic()
    with pytest.raises(SavedModelError, match=f"{1 << 42} bytes, expected at most"):
        load_model(folder)
    assert time.monotonic() - begin < QUICK


EMPTY = "s = slice(h) {axis=1, start=1, step=1, stop=<seq>}: f32[batch, seq + -1, 8]"
POSITIONS = (
    'i = full() {dtype="i64", shape=(<seq + -1>, <seq + -1>), value=0}: i64[seq + -1, seq + -1]'
)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("operands", ["s, s, s", "s, h, h", "h, s, s", "s, s, s, _, t, i"])
def test_attention_of_no_tokens_is_what_the_interpreter_says(
    tmp_path: Path, operands: str, causal: bool
) -> None:
    rows = "seq" if operands.startswith("h") else "seq + -1"
    attrs = f"{{causal={causal}, heads=2, scale=0.5}}"
    table = {"t": Constant(np.ones((2, 3, 4), np.float32))} if "t" in operands else {}
    lines = (LAYER, EMPTY, *([POSITIONS] if table else []),
             f"y = attention({operands}) {attrs}: f32[batch, {rows}, 8]", "return y")  # fmt: skip
    folder = write_folder(tmp_path / "model", X, *lines, w=WEIGHT, **table)
    graph = load_model(folder).graph
    for seq in (1, 2, 20):
        inputs = {"x": np.random.default_rng(0).standard_normal((3, seq, 8)).astype(np.float32)}
        (found,), (wanted,) = run(folder, inputs), interpret(graph, inputs)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "node",
    [
        'full() {dtype="f32", shape=(4000000000000,), value=0}: f32[4000000000000]',
        'arange() {dtype="i64", length=4000000000000}: i64[4000000000000]',
        'full() {dtype="f32", shape=(4000000000000, <seq + -1>), value=0}: '
        "f32[4000000000000, seq + -1]",
    ],
)
def test_a_value_beyond_the_memory_is_refused_at_the_call(tmp_path: Path, node: str) -> None:
    folder = write_folder(tmp_path / "model", X, f"y = {node}", "return y, x")
    with pytest.raises(InputError, match="GB"):
        run(folder, {"x": np.ones((2, 1, 8), np.float32)})


def test_a_shape_of_more_elements_than_numbers_is_refused(tmp_path: Path) -> None:
    shape = ", ".join(["4611686018427387903"] * 9)
    node = f"y = reshape(w) {{shape=({shape})}}: f32[{shape}]"
    folder = write_folder(tmp_path / "model", X, node, "return y", w=WEIGHT)
    with pytest.raises(SavedModelError, match="64 bits"):
        load_model(folder)


def test_a_sparse_weight_whose_blocks_overhang_the_memory_is_refused(tmp_path: Path) -> None:
    block = (1 << 20, 1)
    empty = BlockSparse(
        (1 << 18, 1 << 18), block, np.zeros((0, *block), np.float32), np.zeros(0, np.int32),
        np.zeros(2, np.int64),
    )  # fmt: skip
    folder = write_folder(tmp_path / "model", X, "return w, x", w=Constant(empty))
    with pytest.raises(SavedModelError, match="memory"):
        load_model(folder)


def test_a_failed_large_call_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    lines = (
        LAYER,
        f"y = attention(h, h, h) {ATTENTION % 1}: f32[batch, seq, 8]",
    )
    folder = write_folder(tmp_path / "model", X, *lines, "return y", w=WEIGHT)
    options = make_options(threads=1, tune="cost")
    graph = load_model(folder).graph
    executable = planned(graph, options)
    small = {"x": np.ones((2, 3, 8), np.float32)}
    (before,) = executable.run(small, bind_sizes(graph.inputs, small))
    huge = {"x": np.broadcast_to(np.float32(1), (1 << 20, 1 << 20, 8))}
    with pytest.raises(InputError, match="GB"):
        executable.run(huge, bind_sizes(graph.inputs, huge))
    (after,) = executable.run(small, bind_sizes(graph.inputs, small))
    np.testing.assert_array_equal(before, after)


def relu_chain(count: int) -> list[str]:
    """A chain of that many steps."""
    names = ["h", *(f"a{i}" for i in range(count))]
    nodes = [f"{y} = relu({x}): f32[batch, seq, 8]" for x, y in pairwise(names)]
    return [*nodes, f"return {names[-1]}"]


def wide_sum(count: int) -> list[str]:
    """That many values alive at once, and their sum."""
    nodes = [f"a{i} = relu(h): f32[batch, seq, 8]" for i in range(count)]
    sums = ["a0", *(f"s{i}" for i in range(1, count))]
    nodes += [
        f"{y} = add({x}, a{i}): f32[batch, seq, 8]"
        for i, (x, y) in enumerate(pairwise(sums), start=1)
    ]
    return [*nodes, f"return {sums[-1]}"]


@pytest.mark.parametrize("nodes", [relu_chain(4000), wide_sum(2000)], ids=["long", "wide"])
def test_a_graph_of_thousands_of_steps_is_loaded_and_called_soon(
    tmp_path: Path, nodes: list[str]
) -> None:
    folder = write_folder(tmp_path / "model", X, LAYER, *nodes, w=WEIGHT)
    begin = time.monotonic()
    run(folder, {"x": np.ones((2, 3, 8), np.float32)})
    assert time.monotonic() - begin < QUICK


def one_block(shape: tuple[int, int], block: tuple[int, int]) -> Constant:
    """A weight of which a single block is stored."""
    indptr = np.ones(-(-shape[0] // block[0]) + 1, np.int64)
    indptr[0] = 0
    data = np.ones((1, *block), np.float32)
    return Constant(BlockSparse(shape, block, data, np.zeros(1, np.int32), indptr))


def test_rows_for_which_nothing_is_stored_are_limited(tmp_path: Path) -> None:
    weights = {f"w{i}": one_block((1 << 20, 8), (1 << 12, 1)) for i in range(8)}
    folder = write_folder(tmp_path / "model", X, f"return x, {', '.join(weights)}", **weights)
    begin = time.monotonic()
    with pytest.raises(SavedModelError, match="rows for which nothing is stored"):
        load_model(folder)
    assert time.monotonic() - begin < QUICK


def test_sparse_constants_are_expanded_once_and_within_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = [f"y{i} = matmul(x, v): f32[batch, seq, 1024]" for i in range(20)]
    folder = write_folder(
        tmp_path / "model", X, *sums, "return " + ", ".join(f"y{i}" for i in range(20)),
        v=one_block((8, 1024), (8, 1)),
    )  # fmt: skip
    nbytes = 4 * 8 * 1024
    monkeypatch.setattr(weights, "call_memory", lambda: nbytes)
    found = run(folder, {"x": np.ones((2, 1, 8), np.float32)})
    assert [float(each.sum()) for each in found] == [16.0] * 20
    monkeypatch.setattr(weights, "call_memory", lambda: nbytes - 1)
    with pytest.raises(GraphError, match="sparse constant 'v'"):
        run(folder, {"x": np.ones((2, 1, 8), np.float32)})


def test_a_mask_of_sums_of_itself_is_planned_soon(tmp_path: Path) -> None:
    names = ["m", *(f"m{i}" for i in range(60))]  # 2^60 paths lead back to the input
    sums = [f"{y} = add({x}, {x}): f32[batch, 1, 1, seq]" for x, y in pairwise(names)]
    attention = f"y = attention(h, h, h, {names[-1]}) {ATTENTION % 2}: f32[batch, seq, 8]"
    lines = ("input m: f32[batch, 1, 1, seq]", X)
    folder = write_folder(
        tmp_path / "model", "\n".join(lines), LAYER, *sums, attention, "return y", w=WEIGHT
    )
    begin = time.monotonic()
    run(folder, {"m": np.zeros((2, 1, 1, 3), np.float32), "x": np.ones((2, 3, 8), np.float32)})
    assert time.monotonic() - begin < QUICK
