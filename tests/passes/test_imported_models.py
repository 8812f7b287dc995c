"""What is left of real models, imported and rewritten: one small layer of each family."""

import numpy as np
import pytest

from prunus.ir import interpret
from prunus.passes import run_passes

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from prunus.frontend.export import import_module  # noqa: E402

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
    "vocab_size": 50, "max_position_embeddings": 40,
}  # fmt: skip
DISTILBERT = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24}

LAYER = ["linear", "slice", "slice", "slice", "attention", "linear", "layer_norm", "linear",
         "linear", "layer_norm"]  # fmt: skip
MASK = ["cast", "reshape"]
EAGER_MASK = [*MASK, "where"]
SPAN = ["linear", "slice", "slice", "reshape", "reshape"]
COUNTED_POSITIONS = ["not_equal", "cast", "cast", "cumsum", "cast", "multiply", "cast", "add"]


@pytest.mark.parametrize(
    ("family", "head", "attention", "start", "mask", "end"),
    [
        ("Bert", "QuestionAnswering", "sdpa", ["slice"], MASK, SPAN),
        ("Bert", "MaskedLM", "eager", ["slice"], EAGER_MASK, ["linear", "layer_norm", "linear"]),
        ("Roberta", "SequenceClassification", "sdpa", COUNTED_POSITIONS, MASK,
         ["select", "linear", "linear"]),
        ("DistilBert", "TokenClassification", "sdpa", ["slice"], MASK, ["linear"]),
    ],
)  # fmt: skip
def test_nothing_is_left_but_kernels_and_integers(
    family: str, head: str, attention: str, start: list[str], mask: list[str], end: list[str]
) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **DISTILBERT)
    build = getattr(transformers, f"{family}For{head}")._from_config
    module = build(config, attn_implementation=attention).eval()
    imported = import_module(module).graph
    graph = run_passes(imported)
    ops = [node.op for node in graph.nodes]
    embedding = ops.index("embedding")
    assert ops[:embedding] == start
    assert ops[embedding:] == ["embedding", "layer_norm", *mask, *LAYER, *end]

    random = np.random.default_rng(0)
    ids = random.integers(2, 50, (2, 9))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}
    inputs["attention_mask"][0, 5:] = 0
    inputs = {name: inputs[name] for name in graph.inputs}
    expected = module(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    found = interpret(graph, inputs)
    for one, other in zip(found, expected.to_tuple(), strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), atol=1e-5)
    assert run_passes(graph) is graph
