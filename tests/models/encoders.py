"""Tiny encoders of every family and head, and inputs under masks of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import transformers

VOCABULARY, POSITIONS, PADDING = 60, 40, {"Roberta": 1}
SMALL = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS}
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "Bert": {**SMALL, **SIZES},
    "Roberta": {**SMALL, **SIZES, "type_vocab_size": 2},
    "Electra": {**SMALL, **SIZES, "embedding_size": 16},
    "DistilBert": {**SMALL, "dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 48},
}
HEADS = (
    "Model",
    "ForQuestionAnswering",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForMaskedLM",
)
ACTIVATIONS = ("gelu", "gelu_new", "relu")

# Each family meets each activation, and each head too.
CASES = [
    (family, head, ACTIVATIONS[(i + j) % 3])
    for i, family in enumerate(FAMILIES)
    for j, head in enumerate(HEADS)
]


def tiny(family: str, head: str, activation: str = "gelu", attention: str = "sdpa") -> Any:
    """A model whose weights are large enough that everything matters."""
    key = "activation" if family == "DistilBert" else "hidden_act"
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family], **{key: activation})
    torch.manual_seed(0)
    model = getattr(transformers, family + head)._from_config(config, attn_implementation=attention)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.15)
    return model.eval()


def inputs(batch: int, seq: int, family: str) -> Iterator[dict[str, torch.Tensor]]:
    """Ids under masks of every kind: full, padded at either end, with holes, one row hidden."""
    random = torch.Generator().manual_seed(batch * seq)
    ids = torch.randint(3, VOCABULARY, (batch, seq), generator=random)
    full = torch.ones_like(ids)
    right, left, hidden = full.clone(), full.clone(), full.clone()
    for row in range(batch):
        right[row, max(1, seq - row * seq // 2) :] = 0
        left[row, : min(seq - 1, row * seq // 2)] = 0
    hidden[0] = 0
    holes = (torch.rand(batch, seq, generator=random) > 0.4).long()
    yield {"input_ids": ids}
    for mask in (full, right, left, holes, hidden):
        padded = torch.where(mask == 1, ids, PADDING.get(family, 0))
        yield {"input_ids": padded, "attention_mask": mask}
    if family != "DistilBert":
        types = torch.arange(seq).expand(batch, seq) // 3 % 2
        yield {"input_ids": ids, "attention_mask": right, "token_type_ids": types}
