"""An explanation's numbers and words."""

import json

import numpy as np
import pytest

from prunus.ir import Graph
from prunus.passes import run_passes
from prunus.plan import make_options, make_plan
from prunus.plan.explain import Explanation, explain
from tests.graphs import GraphBuilder
from tests.native.encoder import encoder


def explained(graph: Graph, simulated: str | None = None) -> Explanation:
    options = make_options(tune="cost", threads=1)
    program = make_plan(graph, options)
    return explain(
        program, graph, model="tiny", simulated=simulated, target=str(options.target), threads=1
    )


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    return explained(encoder(density=0.1))


def test_shares_of_work_and_bytes_sum_to_one(explanation: Explanation) -> None:
    decisions = explanation.layers + explanation.others
    assert sum(each.work for each in decisions) == pytest.approx(1)
    assert sum(each.byte_share for each in decisions) == pytest.approx(1)
    assert all(0 <= each.work <= 1 and 0 <= each.byte_share <= 1 for each in decisions)
    assert all(each.work > 0 and each.bytes > 0 for each in explanation.layers)


def test_every_layer_says_what_was_measured_and_decided(explanation: Explanation) -> None:
    graph = encoder(density=0.1)
    weights = {node.inputs[1] for node in graph.nodes if node.op == "linear"}
    assert {each.name for each in explanation.layers} == weights
    for each in explanation.layers:
        dense = graph.constants[each.name].dense()
        assert each.shape == dense.shape
        assert each.zeros == pytest.approx((dense == 0).mean())
        assert each.reason.startswith(each.kernel)
        assert each.pattern is not None
        assert each.pattern in each.reason
        if each.kernel.startswith("row stream"):
            assert each.skipped == pytest.approx(each.zeros)


def test_zeros_of_all_weights(explanation: Explanation) -> None:
    graph = encoder(density=0.1)
    assert graph.removed > 0  # empty columns with what fed them: they count as zeros
    linear = [graph.constants[str(n.inputs[1])].dense() for n in graph.nodes if n.op == "linear"]
    zeros = sum(np.count_nonzero(weight == 0) for weight in linear)
    wanted = (zeros + graph.removed) / (sum(w.size for w in linear) + graph.removed)
    assert explanation.linear_zeros == pytest.approx(wanted)
    assert 0 < explanation.model_zeros < explanation.linear_zeros


def test_an_encoder_runs_natively_but_for_its_mask_and_views(explanation: Explanation) -> None:
    assert explanation.interpreted == ()
    assert {each.op for each in explanation.prologue} <= {"cast"}
    assert {each.op for each in explanation.views} <= {"reshape", "slice", "expand"}
    assert {"attention", "layer norm", "embedding"} <= {each.kernel for each in explanation.others}


def test_what_runs_on_numpy_is_named_with_its_reason() -> None:
    b = GraphBuilder()
    x = b.input("x", "f32[batch, 8]")
    weight = b.constant("weight", np.ones((4, 8), np.float32))
    layer = b.add("linear", x, weight, activation="none")
    found = explained(run_passes(b.graph(b.add("log", layer, name="logarithm"))))
    (step,) = found.interpreted
    assert (step.name, step.kernel, step.reason) == ("logarithm", "NumPy", "no kernel for this op")
    assert found.prologue == ()
    assert "log logarithm: no kernel for this op" in str(found)


def test_the_text_groups_equal_layers(explanation: Explanation) -> None:
    text = str(explanation)
    assert text.startswith("tiny: ")
    assert "1 thread\n" in text
    assert "2 × layer.*.q+k+v.weight" in text
    assert "without a kernel, on NumPy among the native steps: none" in text
    assert "SIMULATED" not in text


def test_simulated_zeros_are_said_to_be() -> None:
    assert "SIMULATED zeros, not a trained model: 0.9" in str(explained(encoder(layers=1), "0.9"))


def test_plain_data_for_json(explanation: Explanation) -> None:
    data = json.loads(json.dumps(explanation.to_dict()))
    assert data["model"] == "tiny"
    assert len(data["layers"]) == len(explanation.layers)
