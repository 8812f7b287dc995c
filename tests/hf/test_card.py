"""The card of a pushed model says what it is, how its zeros lie, and what they were worth."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

import prunus
from prunus.hf import PrunusModel, PrunusModelForQuestionAnswering
from prunus.hf.card import Timing, measure, model_card
from tests.models.encoders import tiny

TIMINGS = (Timing(1, 128, 0.002, 0.01), Timing(8, 128, 0.016, 0.06))


def fields(card: str) -> dict[str, Any]:
    """What the hub reads at the top of a card."""
    read: Any = ModelCard(card).data
    return dict(read.to_dict())


@pytest.fixture(scope="module")
def pruned() -> PrunusModel:
    module = tiny("Bert", "ForQuestionAnswering")
    compiled = prunus.compile(prunus.simulate(module, 0.75, (4, 1)), threads=1)
    return PrunusModelForQuestionAnswering(compiled, module.config)


def test_the_fields_that_the_hub_reads(pruned: PrunusModel) -> None:
    data = fields(model_card(pruned, "owner/plums", TIMINGS))
    assert data["library_name"] == "prunus" and data["pipeline_tag"] == "question-answering"
    assert {"prunus", "pruned", "bert"} <= set(data["tags"])
    assert "base_model" not in data  # it was made from a module


def test_the_model_on_the_hub_that_it_was_made_from(
    pruned: PrunusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pruned.compiled.source
    monkeypatch.setattr(pruned.compiled, "source", dataclasses.replace(source, name="me/orchard"))
    text = model_card(pruned, "owner/plums", ())
    assert fields(text)["base_model"] == "me/orchard" and "`me/orchard`" in text
    monkeypatch.setattr(
        pruned.compiled, "source", dataclasses.replace(source, name=str(tmp_path / "orchard"))
    )
    text = model_card(pruned, "owner/plums", ())
    assert str(tmp_path) not in text and "`orchard`" in text  # paths are nobody's business


def test_zeros_and_times(pruned: PrunusModel) -> None:
    text = model_card(pruned, "owner/plums", TIMINGS)
    density = re.search(r"Density: ([\d.]+) % of the weights of the linear layers", text)
    assert density is not None and abs(float(density[1]) - 100 * pruned.compiled.density) < 0.06
    assert re.search(r"^\| 4×1 blocks \| \d+ \| 7\d\.\d % \|$", text, re.MULTILINE)
    assert "| 1 × 128 | 2.00 ms | 10.00 ms | 5.0× |\n| 8 × 128 | 16.00 ms | 60.00 ms |" in text
    assert "with 1 thread by prunus" in text
    assert "**Simulated, not a trained model:**" in text
    assert "## Speed" not in model_card(pruned, "owner/plums", ())


def test_its_program_runs(pruned: PrunusModel, tmp_path: Path) -> None:
    pruned.save_pretrained(tmp_path)
    program = re.search(r"```python\n(.*?)```", model_card(pruned, str(tmp_path), ()), re.DOTALL)
    assert program is not None
    names: dict[str, Any] = {"inputs": {"input_ids": torch.tensor([[5, 6]])}}
    exec(program[1], names)
    assert names["answer"]["start_logits"].shape == (1, 2)


def test_what_is_measured(pruned: PrunusModel) -> None:
    timings = measure(pruned.compiled, ((2, 16), (1, 41)))
    assert [(each.batch, each.tokens) for each in timings] == [(2, 16)]  # it has 40 positions
    assert timings[0].sparse > 0 and timings[0].dense > 0
    compiled = prunus.compile(torch.nn.Linear(4, 4), [torch.ones(2, 4)])
    assert measure(compiled) == ()
