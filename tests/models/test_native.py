"""Compiled models against transformers: families, heads, masks, lengths, patterns, targets."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import prunus
from prunus.frontend.stand_in import minilm_pruned, prunebert_stand_in
from tests.models.encoders import CASES, VOCABULARY, inputs, tiny

TARGETS = ("native", "llvm -mcpu=haswell")
ATOL = 1e-4
OPTIONS: tuple[dict[str, Any], ...] = (
    {"sparse": False},
    {"threshold": 0.0},
    {"threshold": 0.0, "block": (4, 1)},
)


@cache
def pruned(family: str, head: str, activation: str) -> Any:
    return prunus.simulate(tiny(family, head, activation), 0.6, method="magnitude")


@cache
def compiled(case: tuple[str, str, str], option: int) -> prunus.CompiledModel:
    target = TARGETS[(CASES.index(case) + option) % 2]
    return prunus.compile(pruned(*case), target=target, **OPTIONS[option])


def compare(model: prunus.CompiledModel, module: Any, given: dict[str, torch.Tensor]) -> None:
    """The module's own structure, and its numbers."""
    with torch.no_grad():
        expected = module(**given)
    found = model(**given)
    assert type(found) is type(expected)
    assert list(found) == list(expected)
    for name in expected:
        shown = expected[name]
        mask = given.get("attention_mask")
        if mask is not None and shown.shape[:2] == mask.shape:
            seen = mask.bool()
            torch.testing.assert_close(found[name][seen], shown[seen], rtol=0, atol=ATOL)
        else:
            torch.testing.assert_close(found[name], shown, rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    "option", [1, pytest.param(0, marks=pytest.mark.wide), pytest.param(2, marks=pytest.mark.wide)]
)
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_compiled_models_answer_as_transformers_does(
    case: tuple[str, str, str], option: int
) -> None:
    model = compiled(case, option)
    assert model.explain().interpreted == (), "everything after the look-ups is native"
    longest = model.graph.limits["seq"]
    for batch, seq in ((1, 1), (3, 9), (2, 17), (2, longest)):
        for given in inputs(batch, seq, case[0]):
            compare(model, pruned(*case), given)


def test_minilm_at_every_length_around_a_tile() -> None:
    module, _ = minilm_pruned(0.9)
    model = prunus.compile(module)
    random = torch.Generator().manual_seed(0)
    for batch, seq in ((1, 1), (1, 15), (2, 16), (3, 63), (1, 64), (2, 65), (1, 130), (1, 512)):
        ids = torch.randint(0, 30522, (batch, seq), generator=random)
        mask = (torch.rand(batch, seq, generator=random) > 0.2).long()
        mask[:, 0] = 1
        compare(model, module, {"input_ids": ids, "attention_mask": mask})


def test_one_batch_equals_its_rows() -> None:
    model = prunus.compile(prunebert_stand_in(size="tiny"))
    ids = np.random.default_rng(0).integers(0, 1000, (5, 37))
    mask = np.tril(np.ones((5, 37), np.int64), 30)
    together = model(input_ids=ids, attention_mask=mask)
    for row in range(5):
        alone = model(input_ids=ids[row : row + 1], attention_mask=mask[row : row + 1])
        for name in together:
            np.testing.assert_array_equal(together[name][row], alone[name][0])


@cache
def question_answering() -> prunus.CompiledModel:
    return prunus.compile(tiny("Bert", "ForQuestionAnswering"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"input_ids": np.full((1, 4), VOCABULARY)}, f"input_ids holds the id {VOCABULARY}"),
        ({"input_ids": np.full((1, 4), -1)}, "input_ids holds the id -1"),
        ({"input_ids": np.ones((0, 4), np.int64)}, "'batch' of the inputs is 0"),
        ({"input_ids": np.ones((1, 0), np.int64)}, "'seq' of the inputs is 0"),
        ({"input_ids": np.ones((1, 41), np.int64)}, "seq is 41, but the model takes at most 40"),
        (
            {"input_ids": np.ones((1, 4), np.int64), "attention_mask": np.ones((1, 5), np.int64)},
            "attention_mask has the shape",
        ),
        ({"input_ids": np.ones((1, 4), np.int64), "mask": np.ones((1, 4))}, "mask"),
        ({}, "input_ids"),
        ({"input_ids": np.full((1, 4), 1.5)}, "input_ids"),
    ],
)
def test_bad_inputs(given: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(prunus.InputError, match=said):
        question_answering()(**given)


def test_nan_in_a_weight_names_it() -> None:
    module = torch.nn.Linear(3, 2)
    module.weight.data[1, 2] = float("nan")
    with pytest.raises(prunus.PrunusError, match=r"weight.*NaN"):
        prunus.compile(module, (torch.ones(1, 3),))


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (70_000, 3), (5, 200)])
@pytest.mark.parametrize("zero", [True, False])
def test_a_single_linear_layer(inputs: int, outputs: int, zero: bool) -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(inputs, outputs)
    if zero:
        torch.nn.init.zeros_(module.weight)
    for options in ({"sparse": False}, {"threshold": 0.0}):
        model = prunus.compile(module, (torch.ones(2, inputs),), **options)
        x = torch.randn(7, inputs)
        with torch.no_grad():
            torch.testing.assert_close(model(x), module(x), rtol=1e-5, atol=1e-5)


def test_a_saved_model_answers_without_torch(tmp_path: Path) -> None:
    model = prunus.compile(prunebert_stand_in(size="tiny"))
    ids = np.arange(20).reshape(2, 10)
    expected = model(input_ids=ids)
    model.save_pretrained(tmp_path / "saved")
    np.save(tmp_path / "expected.npy", expected["start_logits"])
    code = f"""
import sys, numpy as np, prunus
model = prunus.load({str(tmp_path / "saved")!r})
answer = model(input_ids=np.arange(20).reshape(2, 10))
assert "torch" not in sys.modules and "transformers" not in sys.modules
assert (answer.start_logits == np.load({str(tmp_path / "expected.npy")!r})).all()
assert "stand-in" in model.simulated
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_processes_compile_at_once(tmp_path: Path) -> None:
    """With an empty cache, both emit, race and write the same entries."""
    model = prunus.compile(prunebert_stand_in(size="tiny"))
    model.save_pretrained(tmp_path / "saved")
    code = f"""
import os, numpy as np
os.environ["PRUNUS_CACHE_DIR"] = {str(tmp_path / "cache")!r}
import prunus
model = prunus.load({str(tmp_path / "saved")!r})
print(model(input_ids=np.ones((1, 8), np.int64)).start_logits.tobytes())
"""
    both = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    answers = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1]
