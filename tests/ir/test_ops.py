"""Each op's type rule against its meaning: what the one says, the other must give."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import GraphError
from prunus.ir import DTYPES, OPS, Attrs, Node, TensorType, infer, run_node, symbol

BATCH, SEQ = symbol("batch"), symbol("seq")
SIZES = st.fixed_dictionaries({"batch": st.integers(1, 3), "seq": st.integers(1, 5)})

Example = tuple[list[TensorType | None], dict[str, Any]]


def f32(*shape: Any) -> TensorType:
    return TensorType("f32", shape)


def i64(*shape: Any) -> TensorType:
    return TensorType("i64", shape)


def boolean(*shape: Any) -> TensorType:
    return TensorType("bool", shape)


X = f32(BATCH, SEQ, 4)
UNARY: Example = ([X], {})
BINARY: Example = ([X, f32(SEQ, 1)], {})

EXAMPLES: dict[str, list[Example]] = {
    **{name: [UNARY, ([f32()], {})] for name in (
        "gelu", "gelu_tanh", "relu", "tanh", "sigmoid", "silu", "erf", "exp", "log", "sqrt",
        "rsqrt", "cos", "sin", "ceil", "floor", "sign", "negate", "abs")},
    "not": [([boolean(BATCH)], {})],
    **{name: [BINARY, ([i64(3), i64()], {})] for name in (
        "add", "subtract", "multiply", "divide", "power", "minimum", "maximum", "equal",
        "not_equal", "less", "less_equal", "greater", "greater_equal")},
    **{name: [([boolean(BATCH, 1), boolean(SEQ)], {})] for name in ("and", "or")},
    "where": [([boolean(SEQ, 1), X, f32()], {}), ([boolean(), i64(2), i64(3, 1)], {})],
    "cast": [([X], {"dtype": dtype}) for dtype in DTYPES],
    "arange": [([], {"length": SEQ * 2, "dtype": "i64"}), ([], {"length": 3, "dtype": "f32"})],
    "full": [([], {"shape": (BATCH, 1, 2), "value": math.inf, "dtype": "f32"}),
             ([], {"shape": (), "value": True, "dtype": "bool"})],
    "reshape": [([X], {"shape": (BATCH * SEQ, 2, 2)}), ([f32(6)], {"shape": (2, 3)})],
    "expand": [([f32(SEQ, 1)], {"shape": (BATCH, SEQ, 4)}), ([f32()], {"shape": (BATCH,)})],
    "permute": [([X], {"axes": (2, 0, 1)}), ([f32()], {"axes": ()})],
    "slice": [([X], {"axis": axis, "start": 1, "stop": stop, "step": step})
              for axis, stop, step in ((2, 4, 1), (2, 4, 2), (2, 4, 3), (1, SEQ, 1))],
    "select": [([X], {"axis": 1, "index": 0}), ([X], {"axis": 2, "index": 3})],
    "concat": [([X, f32(BATCH, 2, 4)], {"axis": 1}), ([X, X, X], {"axis": 2}), ([X], {"axis": 0})],
    "index": [([X, i64(SEQ, 1), i64(2)], {}), ([X, i64()], {}), ([f32(9), i64(BATCH)], {})],
    "gather": [([f32(BATCH, 9), i64(BATCH, SEQ)], {"axis": 1})],
    "embedding": [([f32(9, 4), i64(BATCH, SEQ)], {}),
                  ([f32(9, 4), i64(BATCH, SEQ), f32(2, 4), i64(1, SEQ)], {})],
    **{name: [([X], {"axes": axes, "keep": keep}) for axes in ((1,), (0, 2), (0, 1, 2))
              for keep in (True, False)] for name in ("sum", "mean", "max")},
    "argmax": [([X], {"axis": 1}), ([i64(BATCH, SEQ)], {"axis": 1})],
    "cumsum": [([X], {"axis": 1}), ([i64(BATCH, SEQ)], {"axis": 1})],
    "softmax": [([X], {"axis": 2}), ([X], {"axis": 1})],
    "matmul": [([X, f32(4, 3)], {}), ([X, f32(BATCH, 4, SEQ)], {}), ([f32(5, 1, 2, SEQ), X], {})],
    "linear": [([X, f32(3, 4)], {"activation": "none"}),
               ([X, f32(3, 4), f32(3)], {"activation": "gelu"}),
               ([f32(4), f32(3, 4), None, f32(3)], {"activation": "tanh"}),
               ([X, f32(3, 4), f32(3), f32(BATCH, SEQ, 3)], {"activation": "relu"})],
    "layer_norm": [([X, f32(4), f32(4)], {"eps": 1e-5})],
    "rms_norm": [([X, f32(4)], {"eps": 1e-5})],
    "rotary": [([X, f32(1, SEQ, 4), f32(1, SEQ, 4)], {"heads": 1}),
               ([X, f32(BATCH, SEQ, 2), f32(BATCH, SEQ, 2)], {"heads": 2})],
    "attention": [([X, X, X], {"heads": 2, "scale": 0.5, "causal": False}),
                  ([X, X, f32(BATCH, SEQ, 6), boolean(BATCH, 1, 1, SEQ)],
                   {"heads": 2, "scale": 1.0, "causal": True}),
                  ([f32(BATCH, 3, 4), X, X, f32(BATCH, 4, 3, SEQ)],
                   {"heads": 4, "scale": 1.0, "causal": False})],
}  # fmt: skip


def operand(type: TensorType, sizes: dict[str, int], random: np.random.Generator) -> np.ndarray:
    shape = type.sizes(sizes)
    if type.dtype == "bool":
        return random.random(shape) < 0.5
    if type.dtype == "i64":
        return random.integers(0, 1, shape)
    return random.uniform(0.5, 2, shape).astype(DTYPES[type.dtype])


def test_every_op_has_an_example() -> None:
    assert set(EXAMPLES) == set(OPS)


@pytest.mark.parametrize("op", sorted(EXAMPLES))
@given(sizes=SIZES, seed=st.integers(0, 99))
def test_the_result_has_the_type_of_the_rule(op: str, sizes: dict[str, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    for types, attributes in EXAMPLES[op]:
        attrs = Attrs(attributes)
        node = Node("y", op, ("x",) * len(types), attrs, infer(op, types, attrs))
        operands = [None if type is None else operand(type, sizes, random) for type in types]
        if op == "slice" and attrs.stop == SEQ and sizes["seq"] < 1:
            continue
        before = [None if each is None else each.copy() for each in operands]
        result = run_node(node, operands, sizes)
        assert result.shape == node.type.sizes(sizes)
        assert result.dtype == DTYPES[node.type.dtype]
        for each, copy in zip(operands, before, strict=True):
            np.testing.assert_array_equal(each, copy)  # no op writes into its operands


@pytest.mark.parametrize(
    ("op", "types", "attrs"),
    [
        ("relu", [i64(3)], {}),
        ("softmax", [i64(3)], {"axis": 0}),
        ("add", [f32(3), i64(3)], {}),
        ("add", [f32(BATCH), f32(SEQ)], {}),
        ("where", [boolean(2), f32(3), f32(3)], {}),
        ("reshape", [f32(BATCH, 4)], {"shape": (BATCH, 5)}),
        ("expand", [f32(BATCH, 4)], {"shape": (4,)}),
        ("expand", [f32(2)], {"shape": (3,)}),
        ("permute", [X], {"axes": (0, 1, 1)}),
        ("permute", [X], {"axes": (0, 1)}),
        ("slice", [X], {"axis": 3, "start": 0, "stop": 1, "step": 1}),
        ("slice", [X], {"axis": 2, "start": 3, "stop": 1, "step": 1}),
        ("select", [X], {"axis": 3, "index": 0}),
        ("select", [X], {"axis": 2, "index": 4}),
        ("select", [X], {"axis": 2, "index": -5}),
        ("concat", [X, f32(BATCH, SEQ, 5)], {"axis": 0}),
        ("concat", [X, i64(BATCH, SEQ, 4)], {"axis": 0}),
        ("concat", [], {"axis": 0}),
        ("index", [f32(3), i64(2), i64(2)], {}),
        ("gather", [f32(BATCH, 9), i64(SEQ)], {"axis": 0}),
        ("gather", [f32(BATCH, 9), i64(SEQ, 9)], {"axis": 1}),
        ("embedding", [f32(9, 4)], {}),
        ("embedding", [f32(9, 4), i64(2), f32(9, 5), i64(2)], {}),
        ("embedding", [f32(9), i64(2)], {}),
        ("sum", [X], {"axes": (3,), "keep": False}),
        ("matmul", [X, f32(3, 4)], {}),
        ("matmul", [X, f32(4)], {}),
        ("linear", [X, f32(3, 5)], {"activation": "none"}),
        ("linear", [X, f32(3, 4, 1)], {"activation": "none"}),
        ("linear", [X, f32(3, 4), f32(4)], {"activation": "none"}),
        ("linear", [X, f32(3, 4), f32(3), f32(1, SEQ, 3)], {"activation": "none"}),
        ("linear", [f32(), f32(3, 4)], {"activation": "none"}),
        ("layer_norm", [X, f32(4), f32(3)], {"eps": 1e-5}),
        ("attention", [X, X, X], {"heads": 3, "scale": 1.0, "causal": False}),
        ("attention", [X, f32(BATCH, SEQ, 8), X], {"heads": 2, "scale": 1.0, "causal": False}),
        ("attention", [X, X, X, boolean(BATCH, 3, 1, SEQ)],
         {"heads": 2, "scale": 1.0, "causal": False}),
    ],
)  # fmt: skip
def test_operands_that_do_not_fit_are_an_error(
    op: str, types: list[TensorType | None], attrs: dict[str, Any]
) -> None:
    with pytest.raises(GraphError):
        infer(op, types, Attrs(attrs))


def run(op: str, *operands: Any, **attrs: Any) -> np.ndarray:
    """An op on arrays, its type inferred from them."""
    arrays = [None if each is None else np.asarray(each) for each in operands]
    names = {dtype: name for name, dtype in DTYPES.items()}
    types = [None if a is None else TensorType(names[a.dtype], a.shape) for a in arrays]
    type = infer(op, types, Attrs(attrs))
    return run_node(Node("y", op, ("x",) * len(arrays), Attrs(attrs), type), arrays, {})


@given(
    st.integers(0, 6), st.integers(0, 6), st.integers(1, 4), st.integers(0, 2)
)  # fmt: skip
def test_slices_are_those_of_numpy(start: int, stop: int, step: int, axis: int) -> None:
    x = np.arange(216).reshape(6, 6, 6)
    if start > stop:
        return
    expected = x.swapaxes(0, axis)[start:stop:step].swapaxes(0, axis)
    np.testing.assert_array_equal(
        run("slice", x, axis=axis, start=start, stop=stop, step=step), expected
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: run("embedding", np.zeros((4, 2)), np.array([4])),
        lambda: run("embedding", np.zeros((4, 2)), np.array([-1])),
        lambda: run("index", np.zeros(4), np.array([4])),
        lambda: run("gather", np.zeros((2, 4)), np.array([[0], [4]]), axis=1),
        lambda: OPS["select"].meaning(Attrs(axis=0, index=4), np.zeros(4)),
        lambda: run("slice", np.zeros(4), axis=0, start=2, stop=5, step=1),
        lambda: run("slice", np.zeros(4), axis=0, start=-2, stop=-1, step=1),
    ],
)
def test_an_index_outside_is_an_error(call: Callable[[], np.ndarray]) -> None:
    with pytest.raises(GraphError):
        call()


def test_a_linear_layer_adds_its_residual_after_the_activation() -> None:
    x, weight = np.array([[1.0, 2.0]]), np.array([[1.0, 1.0], [-1.0, -1.0]])
    bias, residual = np.array([0.5, 0.5]), np.array([[10.0, 20.0]])
    np.testing.assert_array_equal(
        run("linear", x, weight, bias, residual, activation="relu"), [[13.5, 20.0]]
    )
    np.testing.assert_array_equal(run("linear", x, weight, activation="none"), [[3, -3]])


def test_an_embedding_adds_rows_and_broadcasts_its_ids() -> None:
    words, positions = np.arange(8.0).reshape(4, 2), np.array([[100.0, 200.0], [300.0, 400.0]])
    found = run("embedding", words, np.array([[3, 1], [0, 0]]), positions, np.array([[0, 1]]))
    np.testing.assert_array_equal(found, [[[106, 207], [302, 403]], [[100, 201], [300, 401]]])


def test_a_sum_of_no_elements_and_a_maximum_of_none() -> None:
    assert run("sum", np.zeros((0, 3)), axes=(0,), keep=False).tolist() == [0, 0, 0]
    assert run("softmax", np.zeros((2, 0)), axis=1).shape == (2, 0)


def test_attention_needs_every_batch_of_keys_and_queries() -> None:
    with pytest.raises(GraphError, match="do not fit"):
        infer("attention", [f32(2, 3, 4), f32(5, 3, 4), f32(5, 3, 4)],
              Attrs(heads=1, scale=1.0, causal=False))  # fmt: skip
