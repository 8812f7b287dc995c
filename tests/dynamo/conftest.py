"""Fixtures of the tests of `torch.compile(..., backend="prunus")`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from prunus import dynamo
from prunus.api import compile as compile_module
from prunus.dynamo import split
from prunus.dynamo.split import compile_part
from prunus.model import CompiledModel


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch.manual_seed(0)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[CompiledModel]:
    """What prunus compiles during the test, in order."""
    models: list[CompiledModel] = []

    def recorded(*args: Any, **kwargs: Any) -> CompiledModel:
        models.append(compile_module(*args, **kwargs))
        return models[-1]

    def recorded_part(*args: Any) -> CompiledModel:
        models.append(compile_part(*args))
        return models[-1]

    monkeypatch.setattr(dynamo, "compile_module", recorded)
    monkeypatch.setattr(split, "compile_part", recorded_part)
    return models
