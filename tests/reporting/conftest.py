"""The report of a tiny model, measured once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunus import from_pretrained
from prunus.kernels import peak
from prunus.reporting.findings import Findings
from prunus.reporting.measure import report

NAME = '<b>oak</b> & "elm" $1'
"""What a folder may be called."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with 90 % of its linear weights zero, in blocks of 4×1."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from prunus.sparsity import SparsityRecipe, simulate_weight

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=90, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=40,
    )  # fmt: skip
    model = transformers.BertModel(config).eval()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            pruned = simulate_weight(module.weight.detach().numpy(),
                                     SparsityRecipe(0.9, (4, 1)), seed=(len(name),))  # fmt: skip
            module.weight.data = torch.from_numpy(pruned)
    folder = tmp_path_factory.mktemp("checkpoints") / NAME
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def findings(checkpoint: Path) -> Findings:
    """All that a report says of it."""
    import transformers

    def load() -> Any:
        return transformers.AutoModel.from_pretrained(checkpoint).eval()

    quick = {"ROUNDS": 1, "TRIAL_ROUNDS": 1, "ROUND_SECONDS": 1e-4, "PAUSE": 0, "REPEATS": 1000}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quick.items():  # limits that are worth nothing
            patch.setattr(peak, name, value)
        return report(
            from_pretrained(checkpoint, threads=1), load_module=load, batch=2, sequence=9,
            engines=("prunus", "prunus-dense", "torch"), rounds=1, seconds=0.0,
            commands=(f"prunus report '{NAME}'",),
        )  # fmt: skip
