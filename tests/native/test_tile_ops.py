"""Random programs of the ops that have kernels, in any order: slices of slices, residuals from
views, constants everywhere, NumPy's steps between native ones.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prunus.ir import Graph, TensorType, interpret
from prunus.passes import run_passes
from tests.graphs import ACTIVATIONS, Arrays, GraphBuilder
from tests.native.decisions import Decisions, compiled, decisions, examples, run

UNARY = ("tanh", "erf", "abs", "negate", "sigmoid", "relu", "gelu", "exp")
BINARY = ("add", "subtract", "multiply")


class _Soup:
    """A program while it is drawn: `values` are what the next op may read."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self.b = draw, GraphBuilder()
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        width = self.choose([1, 3, 8, 20])
        self.values = [self.b.input("x", f"f32[batch, seq, {width}]"),
                       self.b.input("z", f"f32[batch, {width}]")]  # fmt: skip

    def choose(self, options: list[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def constant(self, *shape: int) -> str:
        value = self.random.uniform(-1, 1, shape).astype(np.float32)
        return self.b.constant(f"c{len(self.b.constants)}", value)

    def value(self) -> str:
        """Mostly one of the latest, so that programs grow long and not wide."""
        return str(self.choose([*self.values[-2:] * 3, *self.values]))

    def width(self, name: str) -> int:
        width = self.b.types[name].shape[-1]
        assert isinstance(width, int)
        return width

    def same(self, name: str) -> str:
        """A value of the same type, perhaps itself."""
        return str(self.choose([v for v in self.values if self.b.types[v] == self.b.types[name]]))


def linear(s: _Soup) -> str:
    x, outputs = s.value(), s.choose([1, 2, 7, 20])
    weight = s.random.standard_normal((outputs, s.width(x))) / np.sqrt(s.width(x))
    weight *= s.random.random(weight.shape) < s.choose([0.0, 0.3, 1.0])
    w = s.b.constant(f"w{len(s.b.constants)}", weight.astype(np.float32))
    result = TensorType("f32", (*s.b.types[x].shape[:-1], outputs))
    residual = s.choose([None, *(v for v in s.values if s.b.types[v] == result)])
    activation = s.choose(["none", *ACTIVATIONS])
    bias = s.choose([None, s.constant(outputs)])
    return s.b.add("linear", x, w, bias, residual, activation=activation)


def layer_norm(s: _Soup) -> str:
    x = s.value()
    return s.b.add("layer_norm", x, s.constant(s.width(x)), s.constant(s.width(x)), eps=1e-2)


def rms_norm(s: _Soup) -> str:
    x = s.value()
    return s.b.add("rms_norm", x, s.constant(s.width(x)), eps=1e-2)


def rotary(s: _Soup) -> str:
    """Angles that all sequences share, or each has its own."""
    x = s.value()
    heads = [h for h in (1, 2, 4) if s.width(x) % (2 * h) == 0]
    if not heads or s.b.types[x].rank < 2:
        return x
    chosen = s.choose(heads)
    tokens = s.b.types[x].shape[:-1]
    shape = s.choose([(1,), tokens])
    angles = s.b.add("full", shape=(*shape, s.width(x) // chosen), value=0.7, dtype="f32")
    return s.b.add("rotary", x, s.b.add("cos", angles), s.b.add("sin", angles), heads=chosen)


def unary(s: _Soup) -> str:
    # Bounded first, so that no chain of products overflows.
    return s.b.add(s.choose(list(UNARY)), s.b.add("tanh", s.value()))


def binary(s: _Soup) -> str:
    x = s.value()
    constants = [s.constant(s.width(x)), s.constant(1), s.constant(1, s.width(x)), s.constant()]
    operands = [x, s.choose([s.same(x), s.same(x), *constants])]
    if s.choose([True, False]):
        operands.reverse()
    return s.b.add(s.choose(list(BINARY)), *operands)


def features(s: _Soup) -> str:
    x = s.value()
    start = s.draw(st.integers(0, s.width(x) - 1))
    stop = s.draw(st.integers(start + 1, s.width(x)))
    return s.b.add("slice", x, axis=s.b.types[x].rank - 1, start=start, stop=stop, step=1)


def tokens(s: _Soup) -> str:
    x = s.value()
    if s.b.types[x].rank < 2:
        return x
    if s.b.types[x].rank < 3:
        return s.b.add("select", x, axis=0, index=s.choose([0, -1]))
    if s.choose([True, False]):
        return s.b.add("select", x, axis=s.choose([0, 1]), index=s.choose([0, -1]))
    return s.b.add("slice", x, axis=s.choose([0, 1]), start=0, stop=1, step=1)


def reshape(s: _Soup) -> str:
    x = s.value()
    shape = s.b.types[x].shape
    flat: Any = 1
    for dim in shape[:-1]:
        flat = dim * flat
    return s.b.reshape(x, *s.choose([(flat, shape[-1]), (1, *shape), (flat, 1, shape[-1])]))


def attention(s: _Soup) -> str:
    x = s.value()
    rank = s.b.types[x].rank
    if rank < 2:
        return x
    q, k, v = s.same(x), s.same(x), s.same(x)
    heads = s.choose([h for h in (1, 2, 4) if s.width(x) % h == 0])
    mask = s.choose([None, s.constant(1)])
    return s.b.add(
        "attention", q, k, v, mask, heads=heads, scale=0.5, causal=s.choose([True, False])
    )


def on_numpy(s: _Soup) -> str:
    x = s.value()
    if s.choose([True, False]):
        return s.b.add("softmax", x, axis=-1)
    return s.b.add("concat", x, s.same(x), axis=-1)


OPS: list[Callable[[_Soup], str]] = [
    linear, linear, layer_norm, rms_norm, rotary, unary, binary, binary, features, features, tokens,
    reshape, attention, on_numpy,
]  # fmt: skip


@st.composite
def programs(draw: st.DrawFn) -> Graph:
    """A graph of up to twelve ops with up to four outputs."""
    s = _Soup(draw)
    s.values.append(linear(s))  # brings it into tiles
    for _ in range(draw(st.integers(1, 12))):
        s.values.append(s.choose(OPS)(s))
    more = draw(st.lists(st.sampled_from(s.values), max_size=3))
    return s.b.graph(s.values[-1], *more)


@examples(1.0)
@given(programs(), decisions(), st.integers(1, 3), st.sampled_from([1, 5, 16, 17, 40]))
def test_any_order_of_ops(graph: Graph, decided: Decisions, batch: int, seq: int) -> None:
    after = run_passes(graph) if decided.passes is None else graph
    executable = compiled(after, decided)
    random = np.random.default_rng(0)
    sizes = {"batch": batch, "seq": seq}
    inputs: Arrays = {
        name: random.uniform(-1, 1, type.sizes(sizes)).astype(np.float32)
        for name, type in graph.inputs.items()
    }
    found, float32 = run(executable, inputs), interpret(graph, inputs)
    for one, other, wanted in zip(
        found, float32, interpret(graph, inputs, precise=True), strict=True
    ):
        assert one.shape == wanted.shape
        error = 1e-4 * np.maximum(1, np.abs(wanted)) + 10 * np.abs(other - wanted)
        np.testing.assert_array_less(np.abs(one - wanted), error)
