"""What tensors are by name and shape: those of real models, and how heads lie in them."""

from __future__ import annotations

import pytest

from prunus.inspection.roles import Heads, Place, heads_in, places

CONFIG = {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("name", "shape", "beside", "role"),
    [
        ("bert.encoder.layer.0.output.dense.weight", (8, 16), True, "linear"),
        ("bert.embeddings.word_embeddings.weight", (90, 8), False, "embedding"),
        ("bert.embeddings.LayerNorm.weight", (8,), True, "other"),
        ("bert.embeddings.position_ids", (1, 40), False, "other"),
        ("electra.embeddings_project.weight", (16, 8), True, "linear"),
        ("mobilebert.embeddings.embedding_transformation.weight", (16, 24), True, "linear"),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (32, 4), False,
         "embedding"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", (8, 8), False, "linear"),
        ("shared.weight", (90, 8), False, "embedding"),
        ("transformer.wte.weight", (90, 8), False, "embedding"),
        ("transformer.wpe.weight", (40, 8), False, "embedding"),
        ("model.embed_tokens.weight", (90, 8), False, "embedding"),
        ("lm_head.weight", (90, 8), False, "linear"),
        ("model.embeddings.tok_embeddings.weight", (90, 8), False, "embedding"),
        ("deberta.encoder.rel_embeddings.weight", (64, 8), False, "embedding"),
        ("cls.predictions.decoder.weight", (90, 8), True, "linear"),
        ("vit.embeddings.position_embeddings", (1, 17, 8), False, "embedding"),
        ("vit.embeddings.cls_token", (1, 1, 8), False, "other"),
        ("vit.embeddings.patch_embeddings.projection.weight", (8, 3, 4, 4), True, "other"),
        ("clip.embeddings.patch_embedding.weight", (8, 3, 4, 4), False, "other"),
        ("transformer.encoder.layers.0.attention.query.weight", (8, 8, 1), True, "linear"),
        ("attn.in_proj_weight", (24, 8), False, "linear"),
        ("weight", (8, 8), False, "linear"),
        ("dense.bias", (8,), False, "other"),
    ],
)  # fmt: skip
def test_roles(name: str, shape: tuple[int, ...], beside: bool, role: str) -> None:
    shapes = {name: shape}
    if beside:
        shapes[f"{name.removesuffix('weight')}bias"] = shape[:1]
    assert places(shapes)[name].role == role


def test_matrices() -> None:
    found = places({"a.weight": (8, 6, 1, 1), "t.position_embeddings": (1, 17, 8)})
    assert found["a.weight"] == Place("linear", (8, 6))
    assert found["t.position_embeddings"] == Place("embedding", (17, 8))


def test_a_bias_tells_how_a_weight_is_stored() -> None:
    shapes = {"a.c_fc.weight": (8, 32), "a.c_fc.bias": (32,), "b.weight": (8, 8), "b.bias": (8,)}
    assert places(shapes)["a.c_fc.weight"] == Place("linear", (32, 8), transposed=True)
    assert places(shapes)["b.weight"] == Place("linear", (8, 8))
    ordinary = {"c_fc.weight": (32, 8), "c_fc.bias": (32,)}
    assert places(ordinary)["c_fc.weight"] == Place("linear", (32, 8))


@pytest.mark.parametrize(
    ("module", "matrix", "heads"),
    [
        ("layer.0.attention.self.query", (16, 8), Heads(0, 4)),
        ("layer.0.attention.self.key", (8, 8), Heads(0, 2)),
        ("layers.0.self_attn.v_proj", (8, 8), Heads(0, 2)),
        ("layers.0.self_attn.o_proj", (8, 16), Heads(1, 4)),
        ("layer.0.attention.output.dense", (8, 16), Heads(1, 4)),
        ("layer.0.attention.out_lin", (8, 16), Heads(1, 4)),
        ("block.0.layer.0.SelfAttention.o", (8, 16), Heads(1, 4)),
        ("layers.0.attn.Wqkv", (24, 8), Heads(0, 4, 3)),
        ("layers.0.attention.query_key_value", (24, 8), Heads(0, 4)),
        ("layer.0.output.dense", (8, 16), None),
        ("layer.0.intermediate.dense", (16, 8), None),
        ("classifier.out_proj", (2, 16), None),
        ("layer.0.attention.self.query", (15, 8), None),
    ],
)
def test_heads(module: str, matrix: tuple[int, int], heads: Heads | None) -> None:
    assert heads_in(f"{module}.weight", matrix, CONFIG) == heads
    assert heads_in(f"{module}.weight", matrix, {}) is None
