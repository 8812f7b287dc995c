"""Graphs for tests: a builder for those written by hand, and a strategy that draws random ones.

`graphs()` draws what encoders are made of, as a front end would import it: linear layers in every
spelling, activations written out or not, residuals, attention under every kind of mask, embeddings,
and weights with every pattern of zeros. Sizes are odd, widths start at 1, and masks have rows that
hide every key.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prunus.ir import (
    Attrs,
    Constant,
    Expr,
    Graph,
    Node,
    TensorType,
    infer,
    parse_type,
    symbol,
    verify,
)
from prunus.ir.dims import substitute

BATCH, SEQ = symbol("batch"), symbol("seq")
MAX_SEQ = 48
LOWEST = float(np.finfo(np.float32).min)
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "tanh", "sigmoid", "silu")

Arrays = dict[str, np.ndarray]


class Case(NamedTuple):
    """A graph and inputs for it, shown as text where a test fails."""

    graph: Graph
    inputs: Arrays

    def __repr__(self) -> str:
        shapes = {name: list(array.shape) for name, array in self.inputs.items()}
        return f"{self.graph}inputs {shapes}"


class GraphBuilder:
    """Builds a graph node by node; types are inferred and names are made up where none is given."""

    def __init__(self) -> None:
        self.inputs: dict[str, TensorType] = {}
        self.constants: dict[str, Constant] = {}
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}

    def input(self, name: str, type: str) -> str:
        """An input of a type such as `f32[batch, seq, 8]`."""
        self.inputs[name] = self.types[name] = parse_type(type)
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """A constant."""
        self.constants[name] = Constant(value)
        self.types[name] = self.constants[name].type
        return name

    def add(self, op: str, *operands: str | None, name: str | None = None, **attrs: Any) -> str:
        """A node, whose name is returned."""
        name = name or f"{op}_{len(self.nodes)}"
        if attrs.get("axis", 0) < 0:  # as a front end, which counts axes from the front
            attrs["axis"] += self.types[str(operands[0])].rank
        types = [None if each is None else self.types[each] for each in operands]
        node_attrs = Attrs(attrs)
        self.types[name] = infer(op, types, node_attrs)
        self.nodes.append(Node(name, op, operands, node_attrs, self.types[name]))
        return name

    def full(self, value: float, dtype: str = "f32", shape: tuple[int | Expr, ...] = ()) -> str:
        """A tensor of one number."""
        return self.add("full", shape=shape, value=value, dtype=dtype)

    def scaled(self, op: str, x: str, value: float) -> str:
        """A binary op with a number on its right."""
        return self.add(op, x, self.full(value, self.types[x].dtype))

    def reshape(self, x: str, *shape: int | Expr) -> str:
        """A reshape."""
        return self.add("reshape", x, shape=shape)

    def expand(self, x: str, *shape: int | Expr) -> str:
        """An expansion."""
        return self.add("expand", x, shape=shape)

    def permute(self, x: str, *axes: int) -> str:
        """A permutation."""
        return self.add("permute", x, axes=axes)

    def graph(self, *outputs: str, limits: dict[str, int] | None = None) -> Graph:
        """The graph, verified."""
        return verify(Graph(self.inputs, self.constants, tuple(self.nodes), outputs, limits or {}))


def of_visible(array: np.ndarray, inputs: Arrays) -> np.ndarray:
    """An output from each sequence's first token on: padding in front of it may see no key, and
    what is computed there means nothing.
    """
    mask = inputs.get("attention_mask")
    if mask is None:
        return array
    seen = np.cumsum(mask, axis=1) > 0
    return array[seen] if array.shape[:2] == mask.shape else array[seen[:, 0]]


# Activations, written out as transformers writes them.


def written_gelu(b: GraphBuilder, x: str) -> str:
    erf = b.add("erf", b.scaled("divide", x, math.sqrt(2)))
    return b.add("multiply", b.scaled("multiply", x, 0.5), b.scaled("add", erf, 1.0))


def written_gelu_tanh(b: GraphBuilder, x: str) -> str:
    cube = b.scaled("multiply", b.scaled("power", x, 3.0), 0.044715)
    inner = b.scaled("multiply", b.add("add", x, cube), math.sqrt(2 / math.pi))
    right = b.scaled("add", b.add("tanh", inner), 1.0)
    return b.add("multiply", b.scaled("multiply", x, 0.5), right)


def written_silu(b: GraphBuilder, x: str) -> str:
    return b.add("multiply", x, b.add("sigmoid", x))


# Masks: each gives what attention reads, `written` says whether it will be added to scores.


def imported_mask(b: GraphBuilder, padding: str, *, causal: bool = False) -> str:
    """`[batch, 1, seq, seq]` booleans, as transformers 5 makes them of a padding mask."""
    rows = b.reshape(b.add("arange", length=BATCH, dtype="i64"), BATCH, 1, 1, 1)
    queries = b.reshape(_positions(b), 1, 1, SEQ, 1)
    keys = b.reshape(_positions(b), 1, 1, 1, SEQ)
    seen = b.add("greater_equal", queries, b.full(0, "i64"))
    if causal:
        seen = b.add("and", seen, b.add("less_equal", keys, queries))
    seen = b.add("and", b.full(True, "bool"), b.add("cast", seen, dtype="bool"))
    known = b.add("index", b.add("cast", padding, dtype="bool"), rows, keys)
    seen = b.add("and", seen, b.add("cast", known, dtype="bool"))
    return b.expand(seen, BATCH, 1, SEQ, SEQ)


def _positions(b: GraphBuilder) -> str:
    return b.scaled("add", b.add("arange", length=SEQ, dtype="i64"), 0)


def short_mask(b: GraphBuilder, padding: str) -> str:
    """The padding mask at every query, as earlier releases of transformers make it."""
    return b.expand(b.reshape(b.add("cast", padding, dtype="bool"), BATCH, 1, 1, SEQ),
                    BATCH, 1, SEQ, SEQ)  # fmt: skip


def inverted_mask(b: GraphBuilder, padding: str) -> str:
    """(1 - mask) · lowest, to be added to scores."""
    mask = b.add("cast", b.reshape(padding, BATCH, 1, 1, SEQ), dtype="f32")
    return b.scaled("multiply", b.add("subtract", b.full(1.0), mask), LOWEST)


def chosen_mask(b: GraphBuilder, padding: str) -> str:
    """where(mask, 0, lowest), to be added to scores: eager attention of transformers 5."""
    return b.add("where", imported_mask(b, padding), b.full(0.0), b.full(LOWEST))


# Attention in the spellings of a front end.


def split_heads(b: GraphBuilder, x: str, heads: int) -> str:
    """`[batch, seq, heads · width]` as `[batch, heads, seq, width]`."""
    batch, seq, width = b.types[x].shape
    assert isinstance(width, int)
    return b.permute(b.reshape(x, batch, seq, heads, width // heads), 0, 2, 1, 3)


def join_heads(b: GraphBuilder, x: str) -> str:
    """The inverse of `split_heads`."""
    batch, heads, seq, width = b.types[x].shape
    return b.reshape(b.permute(x, 0, 2, 1, 3), batch, seq, heads * width)


def imported_attention(
    b: GraphBuilder, q: str, k: str, v: str, mask: str | None, heads: int, scale: float
) -> str:
    """`scaled_dot_product_attention` between a model's split and joined heads."""
    split = [split_heads(b, x, heads) for x in (q, k, v)]
    joined = [join_heads(b, x) for x in split]
    out = b.add("attention", *joined, mask, heads=heads, scale=scale, causal=False)
    return join_heads(b, split_heads(b, out, heads))


def eager_attention(
    b: GraphBuilder, q: str, k: str, v: str, mask: str | None, heads: int, scale: float
) -> str:
    """Attention written out; a boolean mask hides with -inf, another is added."""
    split_q, split_k, split_v = (split_heads(b, x, heads) for x in (q, k, v))
    scores = b.add("matmul", split_q, b.permute(split_k, 0, 1, 3, 2))
    scores = b.scaled("multiply", scores, scale)
    if mask is not None and b.types[mask].dtype == "bool":
        scores = b.add("where", mask, scores, b.full(float("-inf")))
    elif mask is not None:
        scores = b.add("add", scores, mask)
    return join_heads(b, b.add("matmul", b.add("softmax", scores, axis=-1), split_v))


# The strategy.


class _Drawn:
    """A graph while it is drawn: the builder, the inputs' arrays, and a source of numbers.

    `choose` returns one of its arguments: Hypothesis decides, or a random generator.
    """

    def __init__(self, choose: Callable[[Sequence[Any]], Any], seed: int) -> None:
        self._choose = choose
        self.builder = GraphBuilder()
        self.random = np.random.default_rng(seed)
        self.arrays: Arrays = {}
        self.batch = self.choose(1, 2, 3)
        self.seq = self.choose(1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 45)

    def choose(self, *options: Any) -> Any:
        """One of the options."""
        return self._choose(options)

    def normal(self, *shape: int) -> np.ndarray:
        """Numbers of magnitude one."""
        return self.random.standard_normal(shape).astype(np.float32)

    def padding(self) -> str:
        """The padding mask: full, padded at either end, with holes, or all hidden in a row."""
        if "attention_mask" in self.arrays:
            return "attention_mask"
        mask = np.ones((self.batch, self.seq), np.int64)
        kind = self.choose("full", "right", "left", "holes", "hidden row")
        for row in mask:
            count = int(self.random.integers(0, self.seq + 1))
            match kind:
                case "right":
                    row[count:] = 0
                case "left":
                    row[: self.seq - count] = 0
                case "holes":
                    row[:] = self.random.integers(0, 2, self.seq)
        if kind == "hidden row":
            mask[int(self.random.integers(0, self.batch))] = 0
        self.arrays["attention_mask"] = mask
        return self.builder.input("attention_mask", "i64[batch, seq]")

    def weight(self, rows: int, columns: int) -> np.ndarray:
        """A weight with one of the patterns of zeros."""
        weight = self.normal(rows, columns) / np.float32(math.sqrt(columns))
        kind = self.choose("dense", "unstructured", "blocks", "rows", "columns", "empty")
        share = float(self.choose(0.3, 0.6, 0.9, 0.97))
        if kind == "empty":
            return np.zeros_like(weight)
        if kind == "unstructured":
            weight[self.random.random(weight.shape) < share] = 0
        if kind == "rows":
            weight[self.random.random(rows) < share] = 0
        if kind == "columns":
            weight[:, self.random.random(columns) < share] = 0
        if kind == "blocks":
            r, c = self.choose((4, 1), (1, 4), (16, 1), (1, 16), (4, 4), (3, 5))
            empty = self.random.random((-(-rows // r), -(-columns // c))) < share
            weight[np.kron(empty, np.ones((r, c), bool))[:rows, :columns]] = 0
        return weight


def linear(g: _Drawn, x: str, outputs: int, *, activation: bool = False) -> str:
    """A linear layer in one of its spellings, perhaps with an activation after it."""
    b = g.builder
    inputs = b.types[x].shape[-1]
    assert isinstance(inputs, int)
    name = f"layer.{len(b.nodes)}"
    weight = g.weight(outputs, inputs)
    bias = b.constant(f"{name}.bias", g.normal(outputs)) if g.choose(True, True, False) else None
    match g.choose("linear", "linear", "transposed", "product"):
        case "linear":
            w = b.constant(f"{name}.weight", weight)
            y = b.add("linear", x, w, bias, activation="none")
        case "transposed":
            w = b.constant(f"{name}.weight", weight)
            y = b.add("matmul", x, b.permute(w, 1, 0))
            y = y if bias is None else b.add("add", y, bias)
        case _:
            w = b.constant(f"{name}.weight", np.ascontiguousarray(weight.T))
            y = b.add("matmul", x, w)
            y = y if bias is None else b.add("add", bias, y)
    return _activation(g, y) if activation else y


def _activation(g: _Drawn, x: str) -> str:
    written = (written_gelu, written_gelu_tanh, written_silu)
    chosen = g.choose(*ACTIVATIONS, *written)
    return g.builder.add(chosen, x) if isinstance(chosen, str) else str(chosen(g.builder, x))


def layer_norm(g: _Drawn, x: str) -> str:
    b = g.builder
    width = b.types[x].shape[-1]
    assert isinstance(width, int)
    name = f"norm.{len(b.nodes)}"
    gamma = b.constant(f"{name}.weight", 1 + g.normal(width) / 8)
    beta = b.constant(f"{name}.bias", g.normal(width) / 8)
    return b.add("layer_norm", x, gamma, beta, eps=g.choose(1e-5, 1e-3))


def layers(g: _Drawn, x: str) -> str:
    """One or two linear layers, perhaps with activations."""
    for _ in range(g.choose(1, 2)):
        x = linear(g, x, g.choose(1, 2, 3, 5, 16, 17, 33), activation=g.choose(True, False))
    return x


def feed_forward(g: _Drawn, x: str) -> str:
    """Out to an inner width, an activation, and back, with a residual."""
    width = g.builder.types[x].shape[-1]
    assert isinstance(width, int)
    y = linear(g, linear(g, x, g.choose(1, 5, 24, 40), activation=True), width)
    return _residual(g, y, x)


def _residual(g: _Drawn, y: str, x: str) -> str:
    operands = (y, x) if g.choose(True, False) else (x, y)
    return layer_norm(g, g.builder.add("add", *operands))


def attention(g: _Drawn, x: str) -> str:
    """Self-attention under some mask in some spelling, with its projections and a residual."""
    b = g.builder
    heads, head_width = g.choose(1, 2, 3, 4), g.choose(1, 2, 5, 8)
    width = heads * head_width
    outer = b.types[x].shape[-1]
    assert isinstance(outer, int)
    memory = x if g.choose(True, True, False) else layer_norm(g, x)
    q, k, v = (linear(g, each, width) for each in (x, memory, memory))
    spelling = g.choose(imported_attention, eager_attention)
    mask, scale = _mask(g, heads), g.choose(1 / math.sqrt(head_width), 0.5)
    mixed = spelling(b, q, k, v, mask, heads, scale)
    return _residual(g, linear(g, mixed, outer), x)


def _mask(g: _Drawn, heads: int) -> str | None:
    b = g.builder
    kind = g.choose(
        "none", "imported", "imported", "causal", "short", "inverted", "chosen", "pairs", "added"
    )
    match kind:
        case "none":
            return None
        case "imported":
            return imported_mask(b, g.padding())
        case "causal":
            return imported_mask(b, g.padding(), causal=True)
        case "short":
            return short_mask(b, g.padding())
        case "inverted":
            return inverted_mask(b, g.padding())
        case "chosen":
            return chosen_mask(b, g.padding())
        case "pairs":
            shape = (g.batch, 1, g.seq, g.seq)
            g.arrays["pairs"] = g.random.random(shape) < 0.6
            return b.input("pairs", "bool[batch, 1, seq, seq]")
    name = f"bias_{len(b.nodes)}"
    g.arrays[name] = g.normal(g.batch, heads, g.seq, g.seq)
    return b.input(name, f"f32[batch, {heads}, seq, seq]")


def embeddings(g: _Drawn) -> str:
    """A sum of word and perhaps token type and position embeddings, normalised."""
    b, width = g.builder, g.choose(1, 3, 8, 12, 24)
    g.arrays["input_ids"] = g.random.integers(0, 11, (g.batch, g.seq))
    table = b.constant("words", g.weight(11, width))
    x = b.add("embedding", table, b.input("input_ids", "i64[batch, seq]"))
    if g.choose(True, False):
        g.arrays["token_type_ids"] = g.random.integers(0, 2, (g.batch, g.seq))
        types = b.constant("token_types", g.normal(2, width))
        ids = b.input("token_type_ids", "i64[batch, seq]")
        x = b.add("add", x, b.add("embedding", types, ids))
    if g.choose(True, False):
        positions = b.constant("position_ids", np.arange(MAX_SEQ)[np.newaxis])
        ids = b.add("slice", positions, axis=1, start=0, stop=SEQ, step=1)
        table = b.constant("positions", g.normal(MAX_SEQ, width))
        x = b.add("add", x, b.add("embedding", table, ids))
    return layer_norm(g, x)


def _start(g: _Drawn) -> str:
    kind = g.choose("embeddings", "embeddings", "sequence", "vector")
    if kind == "embeddings":
        return embeddings(g)
    width = g.choose(1, 2, 7, 16, 24)
    if kind == "vector":
        g.arrays["x"] = g.normal(g.batch, width)
        return g.builder.input("x", f"f32[batch, {width}]")
    g.arrays["x"] = g.normal(g.batch, g.seq, width)
    return g.builder.input("x", f"f32[batch, seq, {width}]")


def _outputs(g: _Drawn, x: str) -> list[str]:
    """The last value, its first token through a pooler, or two columns as span logits."""
    b = g.builder
    rank = b.types[x].rank
    match g.choose("last", "pooler", "span"):
        case "pooler" if rank == 3:
            first = b.add("select", x, axis=1, index=0)
            return [x, b.add("tanh", linear(g, first, g.choose(1, 4)))]
        case "span" if rank == 3:
            logits = linear(g, x, 2)
            parts = [
                b.add("slice", logits, axis=2, start=start, stop=start + 1, step=1)
                for start in (0, 1)
            ]
            return [b.reshape(part, BATCH, SEQ) for part in parts]
    return [x]


@st.composite
def graphs(draw: st.DrawFn, *, max_blocks: int = 3) -> Case:
    """A random graph and inputs for it."""
    seed = draw(st.integers(0, 2**32 - 1))
    return _case(_Drawn(lambda options: draw(st.sampled_from(options)), seed), max_blocks)


def random_case(seed: int, *, max_blocks: int = 3) -> Case:
    """The random graph of a seed, and inputs for it."""
    source = random.Random(seed)
    return _case(_Drawn(source.choice, seed), max_blocks)


def _case(g: _Drawn, max_blocks: int) -> Case:
    x = _start(g)
    blocks: Sequence[Callable[[_Drawn, str], str]] = (layers, feed_forward, attention, attention)
    for _ in range(g.choose(*range(max_blocks + 1))):
        block = g.choose(*(blocks if g.builder.types[x].rank == 3 else blocks[:2]))
        x = block(g, x)
    outputs = _outputs(g, x)
    graph = g.builder.graph(*outputs, limits={"seq": MAX_SEQ})
    return Case(
        renamed(graph, dict(zip(("batch", "seq"), g.choose(*NAMES), strict=True))), g.arrays
    )


NAMES = (
    ("batch", "seq"), ("tokens", "batch"), ("seq", "tokens"), ("lambda", "None"), ("heads", "x"),
    ("s0", "_"), ("größe", "weight"), ("dim__", "inf"),
)  # fmt: skip
"""What a user may call the batch and the length: also as prunus calls something, or as Python."""


def renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with other names for its symbols."""
    values = {old: symbol(new) for old, new in names.items()}

    def of_value(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(of_value, value))
        return substitute(value, values) if isinstance(value, Expr) else value

    def of_type(type: TensorType) -> TensorType:
        return TensorType(type.dtype, of_value(type.shape))

    nodes = tuple(
        replace(
            node,
            attrs=Attrs({key: of_value(value) for key, value in node.attrs.items()}),
            type=of_type(node.type),
        )
        for node in graph.nodes
    )
    inputs = {name: of_type(type) for name, type in graph.inputs.items()}
    limits = {names.get(name, name): size for name, size in graph.limits.items()}
    return verify(replace(graph, inputs=inputs, nodes=nodes, limits=limits))
