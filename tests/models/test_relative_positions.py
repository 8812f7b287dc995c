"""DeBERTa's attention becomes one op with terms for relative positions, whichever it has."""

import numpy as np
import pytest
import torch
import transformers

import prunus
from prunus.runtime.program import NumpyStep

pytestmark = pytest.mark.wide


def make_deberta(**options: object) -> transformers.DebertaV2Model:
    torch.manual_seed(0)
    config = transformers.DebertaV2Config(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=140, relative_attention=True,
        position_biased_input=False, type_vocab_size=0, **options,
    )  # fmt: skip
    return transformers.DebertaV2Model(config).eval()


def padded_inputs(length: int) -> dict[str, torch.Tensor]:
    """Three texts: one whole, one short, one with holes."""
    generator = np.random.default_rng(length)
    mask = np.ones((3, length), np.int64)
    mask[1, max(length // 2, 1) :] = 0
    mask[2, 1:] = generator.integers(0, 2, length - 1)
    ids = generator.integers(0, 60, (3, length))
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({"pos_att_type": ["c2p", "p2c"], "share_att_key": True, "position_buckets": 8}, 2),
        ({"pos_att_type": ["c2p", "p2c"], "share_att_key": False, "position_buckets": -1}, 2),
        ({"pos_att_type": ["c2p"], "share_att_key": True, "norm_rel_ebd": "layer_norm"}, 1),
        ({"pos_att_type": ["p2c"], "share_att_key": False, "position_buckets": 8}, 1),
    ],
)
def test_whichever_terms_it_has_attention_is_native(options: dict[str, object], terms: int) -> None:
    module = make_deberta(**options)
    model = prunus.compile(module)
    attention = [node for node in model.graph.nodes if node.op == "attention"]
    assert [sum(name is not None for name in n.inputs[4:]) for n in attention] == [2 * terms] * 2
    products = {"matmul", "softmax", "gather"}
    steps = (step for step in model.program.steps if isinstance(step, NumpyStep))
    assert not products & {step.node.op for step in steps}
    for length in (1, 7, 65, 130):
        inputs = padded_inputs(length)
        with torch.inference_mode():
            expected = module(**inputs).last_hidden_state
        found = model(**inputs).last_hidden_state
        seen = inputs["attention_mask"].bool()
        difference = (found - expected)[seen].abs().max()
        assert difference <= 1e-4 * max(1, float(expected.abs().max()))
