"""The report of a tiny model, measured once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunus import from_pretrained, simulate
from prunus.reporting.findings import Findings
from prunus.reporting.measure import report
from tests.quick_limits import measure_limits_quickly
from tests.small_bert import SMALL

NAME = '<b>oak</b> & "elm" $1'
"""What a folder may be called."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with 90 % of its linear weights zero, in blocks of 4×1."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    module = transformers.BertModel(transformers.BertConfig(**SMALL)).eval()
    folder = tmp_path_factory.mktemp("checkpoints") / NAME
    pruned: Any = simulate(module, "0.9@4x1")
    pruned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def findings(checkpoint: Path) -> Findings:
    """All that a report says of it."""
    import transformers

    def load() -> Any:
        return transformers.AutoModel.from_pretrained(checkpoint).eval()

    with pytest.MonkeyPatch.context() as patch:
        measure_limits_quickly(patch)
        return report(
            from_pretrained(checkpoint, threads=1), load_module=load, batch=2, sequence=9,
            engines=("prunus", "prunus-dense", "torch"), rounds=1, seconds=0.0,
            commands=(f"prunus report '{NAME}'",),
        )  # fmt: skip
