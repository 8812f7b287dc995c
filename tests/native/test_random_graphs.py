"""Random graphs, two oracles, forced choices: a wrong pass and a wrong kernel are told apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prunus.ir import Expr, Graph, interpret
from tests.graphs import Arrays, Case, graphs, of_visible
from tests.native.decisions import Decisions, compiled, decisions, examples, rewritten, run


def check_close(found: np.ndarray, wanted: np.ndarray, float32: np.ndarray) -> None:
    """Within 1e-4 of the float64 answer, or ten times as far as NumPy's float32 is from it: two
    features that are nearly equal lose their digits in a layer norm, whoever computes it.
    """
    assert found.shape == wanted.shape
    assert found.dtype == float32.dtype
    error = 1e-4 * np.maximum(1, np.abs(wanted)) + 10 * np.abs(float32 - wanted)
    np.testing.assert_array_less(np.abs(found - wanted), error)


@examples(0.8)
@given(graphs(), decisions(), st.integers(1, 3), st.sampled_from([1, 2, 16, 17, 48]))
def test_passes_and_kernels_keep_the_meaning(
    case: Case, decided: Decisions, batch: int, seq: int
) -> None:
    graph, inputs = case
    after = rewritten(graph, decided)
    executable = compiled(after, decided)
    others = resized(graph, inputs, batch, seq)
    answers: list[bytes] = []
    for each in (inputs, others, inputs):
        imported, exact = interpret(graph, each), interpret(graph, each, precise=True)
        passed, exactly_passed = interpret(after, each), interpret(after, each, precise=True)
        native = run(executable, each)
        for i, wanted in enumerate(exactly_passed):
            check_close(*(of_visible(array[i], each) for array in (passed, exact, imported)))
            check_close(with_padding(native[i], wanted, each), wanted, passed[i])
        answers.append(b"".join(array.tobytes() for array in native))
    assert answers[0] == answers[2], "calls with the same inputs differ"


def with_padding(found: np.ndarray, wanted: np.ndarray, inputs: Arrays) -> np.ndarray:
    """What was found, with the wanted numbers where padding was left out."""
    mask = inputs.get("attention_mask")
    if mask is None or found.shape[:2] != mask.shape:
        return found
    left_out = (mask == 0).reshape(*mask.shape, *(1,) * (found.ndim - 2)) & (found == 0)
    return np.where(left_out, wanted, found).astype(found.dtype)


def resized(graph: Graph, inputs: Arrays, batch: int, seq: int) -> Arrays:
    """The inputs' numbers, repeated or left out to fill other sizes."""
    sizes = {
        str(dim): seq if axis else batch  # whatever the two are called
        for type in graph.inputs.values()
        for axis, dim in enumerate(type.shape)
        if isinstance(dim, Expr)
    }
    return {name: np.resize(inputs[name], type.sizes(sizes)) for name, type in graph.inputs.items()}
