"""The models that are recorded: every family with and without zeros, for two instruction sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers

import prunus
from prunus.prediction.pruned import pruned_model
from prunus.sparsity import SparsityRecipe
from tests.models.families import CASES, FAMILIES, inputs, tiny
from tests.models.test_hybrid_pruned import hybrid_pruned

TARGETS = ("llvm -mcpu=skylake-avx512", "llvm -mcpu=haswell")

ZEROS: Mapping[str, tuple[SparsityRecipe | None, dict[str, Any]]] = {
    "dense": (None, {"sparse": False}),
    "1x1": (SparsityRecipe.parse("0.7"), {"threshold": 0.0}),
    "4x1": (SparsityRecipe.parse("0.7@4x1"), {"threshold": 0.0}),
    "cost": (SparsityRecipe.parse("0.95@4x1"), {}),
}
"""What each model's linear layers have, and how it is compiled. With a threshold of 0 every layer
is sparse, however small it is; else the cost model decides."""

SHAPES = ((1, 5), (3, 17), (2, 38))


@dataclass(frozen=True)
class Case:
    """A model: its name, its module, and example calls."""

    name: str
    module: Any
    calls: tuple[Mapping[str, Any], ...]


def cases(names: tuple[str, ...] = ()) -> Iterator[Case]:
    """All models, or those whose names are given, made one at a time."""
    for name in names or MODELS:
        yield _case(name)


def compiled(case: Case) -> Iterator[tuple[str, prunus.CompiledModel]]:
    """The model with every kind of zeros, each with a name. It is imported once."""
    model = prunus.compile(case.module, threads=2, tune="cost")
    for zeros, (recipe, options) in ZEROS.items():
        made = pruned_model(model, recipe) if recipe else model
        yield f"{case.name} {zeros}", made.recompile(**options)


def _wide_bert() -> Any:
    """One layer of a BERT-base: its layers are large enough for the largest kernels."""
    torch.manual_seed(0)
    config = transformers.BertConfig(num_hidden_layers=1, vocab_size=60, max_position_embeddings=40)
    return transformers.BertForQuestionAnswering(config).eval()


FIRST_HEADS = {name: head for name, head in reversed(CASES)}
MODELS = (*FIRST_HEADS, "HybridBert", "WideBert")


def _case(name: str) -> Case:
    family, head = (name, FIRST_HEADS[name]) if name in FAMILIES else ("Bert", "Model")
    makers = {"HybridBert": hybrid_pruned, "WideBert": _wide_bert}
    module = makers[name]() if name in makers else tiny(family, head)
    return Case(name, module, tuple(inputs(family, head, *shape) for shape in SHAPES))
