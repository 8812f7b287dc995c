"""`SentenceTransformer.compile(backend="prunus")`: PyTorch's own line, without `prunus.st`."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if importlib.util.find_spec("sentence_transformers") is None:
    pytest.skip("sentence-transformers is not installed", allow_module_level=True)

import torch

from prunus import dynamo
from prunus.api import compile as compile_module
from prunus.dynamo import split
from prunus.dynamo.split import compile_part
from prunus.model import CompiledModel

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SENTENCES = [
    "Why would anybody prune a tree?",
    "It rained.",
    "Pruning takes away the branches that bear no fruit, so that light reaches the others.",
    "El ciruelo florece en marzo.",
]
LINEAR_LAYERS = 6 * 4
"""Of MiniLM: queries, keys and values in one, the output of attention, up and down."""


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[CompiledModel]]:
    """What prunus compiles during the test, in order."""
    models: list[CompiledModel] = []

    def recorded(function: Callable[..., CompiledModel]) -> Callable[..., CompiledModel]:
        def call(*args: Any, **kwargs: Any) -> CompiledModel:
            models.append(function(*args, **kwargs))
            return models[-1]

        return call

    torch.compiler.reset()
    monkeypatch.setattr(dynamo, "compile_module", recorded(compile_module))
    monkeypatch.setattr(split, "compile_part", recorded(compile_part))
    yield models
    torch.compiler.reset()


@pytest.fixture
def minilm(minilm_folder: Path) -> SentenceTransformer:
    """MiniLM with its pooling and its normalization."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm_folder), device="cpu")


def count(models: list[CompiledModel], op: str) -> list[int]:
    return [sum(node.op == op for node in model.graph.nodes) for model in models]


def test_minilm_is_one_graph_with_its_normalization(
    minilm: SentenceTransformer, compiled: list[CompiledModel]
) -> None:
    expected = minilm.encode(SENTENCES)
    minilm.compile(backend="prunus", options={"threads": 1, "tune": "cost"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = minilm.encode(SENTENCES)
        other = minilm.encode(SENTENCES[:3])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(other, expected[:3], atol=1e-5)
    assert len(compiled) == 2, "for the first sizes, and for all others"
    assert count(compiled, "linear") == [LINEAR_LAYERS] * 2
    assert count(compiled, "attention") == [6] * 2
    explanation = compiled[-1].explain()
    assert sum(layer.op == "linear" for layer in explanation.layers) == LINEAR_LAYERS
    assert not any(step.op == "linear" for step in explanation.interpreted)


def test_an_unknown_operator_behind_the_encoder_costs_only_itself(
    minilm: SentenceTransformer, compiled: list[CompiledModel]
) -> None:
    class Spectrum(torch.nn.Module):
        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            vectors = features["sentence_embedding"]
            return {**features, "sentence_embedding": torch.fft.fft(vectors).real}

    minilm.append(Spectrum())
    expected = minilm.encode(SENTENCES)
    minilm.compile(backend="prunus", dynamic=True, options={"threads": 1, "tune": "cost"})
    with pytest.warns(UserWarning, match=r"prunus leaves operators .* to PyTorch.*aten\.fft_fft"):
        found = minilm.encode(SENTENCES)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(minilm.encode(SENTENCES[:3]), expected[:3], atol=1e-4)
    assert count(compiled, "linear") == [LINEAR_LAYERS]
    assert count(compiled, "attention") == [6]
