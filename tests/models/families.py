"""Tiny models of every family that is neither a plain BERT nor one of its close relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers

VOCABULARY, POSITIONS, LIMIT = 60, 40, 38
IMAGE = 16
_SIZES = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48,
}  # fmt: skip
_TEXT = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, **_SIZES}
_IMAGE = {"image_size": IMAGE, "patch_size": 4, **_SIZES}
_MARKS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

TEXT_HEADS = (
    "Model", "EncoderModel", "TextModel", "TextModelWithProjection", "ForQuestionAnswering",
    "ForSequenceClassification", "ForTokenClassification", "ForMaskedLM", "ForMultipleChoice",
    "ForNextSentencePrediction",
)  # fmt: skip
IMAGE_HEADS = ("Model", "VisionModel", "VisionModelWithProjection", "ForImageClassification")


@dataclass(frozen=True)
class Family:
    """A family: what its classes begin with, its configuration, and what it consists of.

    Attributes:
        config: The name of the configuration class.
        options: Of the configuration.
        heads: Suffixes of its classes that are tried.
        is_plain: Whether a layer is attention and a feed-forward network, all of it native.
    """

    config: str
    options: dict[str, Any]
    heads: tuple[str, ...] = TEXT_HEADS
    is_plain: bool = True


FAMILIES: dict[str, Family] = {
    "Bert": Family("BertConfig", _TEXT),
    "XLMRoberta": Family("XLMRobertaConfig", _TEXT),
    "Camembert": Family("CamembertConfig", _TEXT),
    "Albert": Family("AlbertConfig", {**_TEXT, "embedding_size": 16}),
    "MPNet": Family("MPNetConfig", _TEXT),
    "DebertaV2": Family(
        "DebertaV2Config",
        {**_TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"],
         "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_buckets": 16,
         "position_biased_input": False, "type_vocab_size": 0},
        is_plain=False,
    ),
    "MobileBert": Family(
        "MobileBertConfig", {**_TEXT, "embedding_size": 16, "intra_bottleneck_size": 32}
    ),
    "SqueezeBert": Family("SqueezeBertConfig", {**_TEXT, "embedding_size": 32}),
    "ModernBert": Family(
        "ModernBertConfig",
        {**_TEXT, **_MARKS, "num_hidden_layers": 2, "local_attention": 8,
         "global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "NomicBert": Family("NomicBertConfig", _TEXT),
    "ConvBert": Family(
        "ConvBertConfig",
        {**_TEXT, "embedding_size": 32, "conv_kernel_size": 3, "head_ratio": 2},
        is_plain=False,
    ),
    "LayoutLM": Family("LayoutLMConfig", _TEXT),
    "Lilt": Family("LiltConfig", {**_TEXT, "hidden_size": 48}, is_plain=False),
    "T5": Family(
        "T5Config",
        {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1,
         "num_heads": 4},
        ("EncoderModel", "ForTokenClassification"),
    ),
    "CLIPText": Family(
        "CLIPTextConfig", {**_TEXT, **_MARKS}, ("Model", "ModelWithProjection")
    ),
    "ViT": Family("ViTConfig", _IMAGE, IMAGE_HEADS),
    "DeiT": Family("DeiTConfig", _IMAGE, IMAGE_HEADS),
    "Dinov2": Family(
        "Dinov2Config",
        {"image_size": IMAGE, "patch_size": 4, "hidden_size": 32, "num_hidden_layers": 1,
         "num_attention_heads": 4, "mlp_ratio": 2},
        IMAGE_HEADS,
    ),
    "Beit": Family("BeitConfig", {**_IMAGE, "use_relative_position_bias": True}, IMAGE_HEADS),
    "CLIPVision": Family("CLIPVisionConfig", _IMAGE, ("Model", "ModelWithProjection")),
    "SiglipVision": Family("SiglipVisionConfig", _IMAGE, ("Model",)),
    "Swin": Family(
        "SwinConfig",
        {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 2],
         "num_heads": [2, 4], "window_size": 4, "mlp_ratio": 2.0},
        IMAGE_HEADS,
        is_plain=False,
    ),
}  # fmt: skip

CASES = [
    (name, head)
    for name, family in FAMILIES.items()
    for head in family.heads
    if hasattr(transformers, name + head)
]


def tiny(name: str, head: str) -> Any:
    """A model whose weights are large enough that everything matters."""
    family = FAMILIES[name]
    model_class = getattr(transformers, name + head)
    config = getattr(transformers, family.config)(**family.options)
    torch.manual_seed(0)
    attention = "sdpa" if model_class._supports_sdpa else "eager"
    model = model_class._from_config(config, attn_implementation=attention)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.15)
    return model.eval()


MASKS = ("behind", "in front", "holes")


def inputs(
    name: str, head: str, batch: int, seq: int, hidden: str = "behind"
) -> dict[str, torch.Tensor]:
    """Images, or ids of texts of different lengths, with padding in one of the places `MASKS`."""
    random = torch.Generator().manual_seed(batch * seq)
    family = FAMILIES[name]
    if "image_size" in family.options:
        size = family.options["image_size"]
        return {"pixel_values": torch.randn(batch, 3, size, size, generator=random)}
    shape = (batch, 2, seq) if head == "ForMultipleChoice" else (batch, seq)
    ids = torch.randint(3, VOCABULARY, shape, generator=random)
    mask = torch.ones_like(ids)
    if name == "CLIPText":
        ids[:, -1] = 2  # where the pooled answer is read
    else:
        for row in range(batch):
            real = max(1, seq - 3 * row)
            if hidden == "behind":
                mask[row, ..., real:] = 0
            elif hidden == "in front":
                mask[row, ..., : seq - real] = 0
            else:
                mask[row, ..., 1::3] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    if name in ("LayoutLM", "Lilt"):
        given["bbox"] = torch.randint(0, 100, (*shape, 4), generator=random).cumsum(-1)
    return given
