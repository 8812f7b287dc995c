"""Parity: the right model passes, a wrong one does not, and masked tokens do not count."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import prunus
from prunus.check import check_parity
from prunus.check import parity as parity_module
from prunus.check.cases import Case
from prunus.check.engines import prunus_engine
from prunus.check.parity import BAR, Comparison, ParityReport, _compare
from tests.check.tiny import bert, perturbed
from tests.models.encoders import tiny

SIZES: dict[str, Any] = {"lengths": (1, 9, 17), "batches": (1, 3)}


@cache
def both(head: str = "Model") -> tuple[Any, prunus.CompiledModel]:
    module = bert(head)
    return module, prunus.compile(module, tune="cost")


@pytest.mark.parametrize(
    ("family", "head"),
    [("Bert", "ForSequenceClassification"), ("Roberta", "Model")],
)
def test_a_right_model_is_the_same_everywhere(family: str, head: str) -> None:
    module = tiny(family, head)
    said: list[str] = []
    report = check_parity(prunus.compile(module, tune="cost"), module, progress=said.append)
    assert report.same and not report.failures
    assert len(report.comparisons) > 25
    assert 0 < report.worst.difference < report.worst.bar
    assert said[0].endswith(f"0 of {len(report.comparisons)}") and len(said) <= 21
    assert {each.case.mask for each in report.comparisons} >= {"holes", "one row hidden"}


def test_one_wrong_weight_is_found() -> None:
    module, model = both()
    report = check_parity(perturbed(model), module, **SIZES)
    assert not report.same
    assert report.worst.difference > report.worst.bar
    assert report.worst in report.failures
    data = json.loads(json.dumps(report.to_dict()))
    assert data["same"] is False and data["failures"] == len(report.failures)
    assert data["worst"]["output"] == report.worst.output
    assert len(data["calls"]) == len(report.comparisons)


def test_an_answer_that_is_no_number_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    module, model = both()
    engine = prunus_engine

    def spoiled(model: prunus.CompiledModel) -> Any:
        def answer(inputs: Any) -> Any:
            outputs = {name: np.array(value) for name, value in engine(model)(inputs).items()}
            outputs["pooler_output"][0, 0] = np.nan
            return outputs

        return answer

    monkeypatch.setattr(parity_module, "prunus_engine", spoiled)
    report = check_parity(model, module, lengths=(4,), batches=(2,))
    # All but the case in which the first row may be the hidden one.
    assert len(report.failures) >= len(report.comparisons) - 1
    assert math.isnan(report.worst.difference) and not report.worst.same


@pytest.mark.parametrize(("place", "same"), [((0, 1), True), ((0, 0), False), ((1, 0), True)])
def test_masked_tokens_do_not_count(place: tuple[int, int], same: bool) -> None:
    mask = np.array([[1, 0, 1], [0, 0, 0]])
    tokens, pooled = np.zeros((2, 3, 4)), np.zeros((2, 3))
    wrong = tokens.copy()
    wrong[place] = 1
    shared = {"tokens": 2, "pooled": 1}
    compared = _compare(
        Case(2, 3, "holes"),
        {"attention_mask": mask},
        lambda _: {"tokens": wrong, "pooled": pooled},
        lambda _: {"tokens": tokens, "pooled": pooled},
        shared,
    )
    assert compared.same is same


@pytest.mark.parametrize(("row", "same"), [(0, False), (1, True)])
def test_a_row_without_a_token_does_not_count(row: int, same: bool) -> None:
    # As many labels as tokens: what a label is must not be told by sizes.
    labels = np.zeros((2, 3))
    wrong = labels.copy()
    wrong[row, 1] = 1
    compared = _compare(
        Case(2, 3, "one row hidden"),
        {"attention_mask": np.array([[1, 0, 0], [0, 0, 0]])},
        lambda _: {"logits": wrong},
        lambda _: {"logits": labels},
        {"logits": 1},
    )
    assert compared.same is same


def test_outputs_know_whether_they_are_of_tokens() -> None:
    shared = parity_module._axes_shared_with_mask(both()[1])
    assert shared == {"last_hidden_state": 2, "pooler_output": 1}
    assert parity_module._axes_shared_with_mask(both("ForTokenClassification")[1]) == {"logits": 2}


def test_the_bar_grows_with_the_reference() -> None:
    large = np.array([[1000.0, 1.0]])

    def compare(difference: float) -> Comparison:
        found = {"x": large + difference}
        return _compare(Case(1, 1, "none"), {}, lambda _: found, lambda _: {"x": large}, {"x": 0})

    assert compare(0.09).same and not compare(0.11).same
    assert compare(0).bar == pytest.approx(1000 * BAR)


def test_the_worst_call_is_the_one_nearest_to_its_bar() -> None:
    case = Case(1, 1, "none")
    calls = [Comparison(case, "a", 0.5, 1.0), Comparison(case, "b", 0.2, 0.1)]
    assert ParityReport(tuple(calls)).worst.output == "b"
    calls.append(Comparison(case, "c", math.nan, 1.0))
    assert ParityReport(tuple(calls)).worst.output == "c"


def test_another_model_is_an_error() -> None:
    _, model = both()
    for other in (bert("ForTokenClassification"), bert(vocab_size=9), tiny("Roberta", "Model")):
        with pytest.raises(prunus.InputError, match="checkpoint that the model was compiled from"):
            check_parity(model, other, lengths=(40,), batches=(2,))


def test_the_module_is_not_changed() -> None:
    module = bert().bfloat16().train()
    model = prunus.compile(module, tune="cost")
    assert check_parity(model, module, **SIZES).same
    assert module.training and module.dtype is torch.bfloat16


def test_options_of_forward_are_repeated() -> None:
    module = bert()
    ids = np.ones((1, 4), np.int64)
    example = {"input_ids": ids, "attention_mask": ids, "output_hidden_states": True}
    model = prunus.compile(module, example, tune="cost")
    report = check_parity(model, module, **SIZES)
    assert report.same
    names = parity_module._axes_shared_with_mask(model)
    assert names["hidden_states.0"] == 2
