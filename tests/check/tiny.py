"""Tiny checkpoints with a real vocabulary, and models that are wrong on purpose."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

import prunus
from prunus.frontend import stand_in
from prunus.ir import Constant

LIMIT = 66
SIZES = {
    "vocab_size": 90,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": LIMIT,
}
REAL_VOCABULARY = 30522
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def bert(head: str = "Model", **config: Any) -> Any:
    """A BERT whose weights are large enough that everything matters, in evaluation mode."""
    torch.manual_seed(0)
    sizes = transformers.BertConfig(**{**SIZES, **config})
    module = getattr(transformers, f"Bert{head}")(sizes)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return module.eval()


def save(module: Any, folder: Path) -> Path:
    """The checkpoint of a module, with the tokenizer of MiniLM."""
    module.save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(stand_in.minilm_folder() / name, folder / name)
    return folder


def perturbed(
    model: prunus.CompiledModel, by: float = 0.5, weight: str = "intermediate.dense.weight"
) -> prunus.CompiledModel:
    """The same model with one number of one weight changed."""
    graph = model.graph
    name = next(name for name in graph.constants if name.endswith(weight))
    wrong = graph.constants[name].dense().copy()
    wrong.flat[0] += by
    constants = {**graph.constants, name: Constant(wrong)}
    changed = dataclasses.replace(graph, constants=constants)
    return prunus.CompiledModel(changed, model.signature, model.options, model.source)
