"""Every family and head against transformers: sparse and dense, over lengths and padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import prunus
from prunus.runtime.program import NativeStep, NumpyStep
from tests.models.families import CASES, FAMILIES, LIMIT, MASKS, inputs, tiny

OPTIONS: tuple[dict[str, Any], ...] = (
    {"sparse": True, "threshold": 0.0, "target": "native"},
    {"sparse": False, "threshold": "auto", "target": "llvm -mcpu=haswell"},
)
TOLERANCE = 1e-4
SHAPES: tuple[tuple[int, int, str], ...] = (
    (1, 1, "behind"),
    (2, LIMIT, "behind"),
    *((3, 17, hidden) for hidden in MASKS),
)
FIRST_HEADS = {name: head for name, head in reversed(CASES)}
FIRST_THEN_OTHERS = [
    pytest.param(case, marks=() if FIRST_HEADS[case[0]] == case[1] else pytest.mark.wide)
    for case in CASES
]


def largest_difference(found: Any, expected: Any, mask: torch.Tensor | None) -> float:
    """Over all tensors of an answer, relative to the largest number where that exceeds 1; what is
    made of padding does not count.
    """
    assert type(found) is type(expected) and list(found) == list(expected)
    worst = 0.0
    for name, wanted in expected.items():
        own = found[name]
        assert own.shape == wanted.shape and own.dtype == wanted.dtype
        if mask is not None and wanted.shape[: mask.ndim] == mask.shape:
            own, wanted = own[mask.bool()], wanted[mask.bool()]
        scale = max(1.0, float(wanted.abs().max()))
        worst = max(worst, float((own - wanted).abs().max()) / scale)
    return worst


@pytest.mark.parametrize("case", FIRST_THEN_OTHERS, ids="".join)
def test_a_family_answers_as_transformers_does(case: tuple[str, str]) -> None:
    module = prunus.simulate(tiny(*case), 0.6, method="magnitude")
    # Both for the first head of a family, and one for each other.
    is_first = FIRST_HEADS[case[0]] == case[1]
    model = prunus.compile(module, threads=1, tune="cost", **OPTIONS[CASES.index(case) % 2])
    models = [model]
    if is_first:
        models.append(model.recompile(**OPTIONS[(CASES.index(case) + 1) % 2]))
    for batch, seq, hidden in SHAPES:
        given = inputs(*case, batch, seq, hidden)
        with torch.no_grad():
            expected = module(**given)
        for each in models:
            difference = largest_difference(each(**given), expected, given.get("attention_mask"))
            assert difference <= TOLERANCE, (batch, seq, hidden)


@pytest.mark.wide
@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.is_plain])
def test_no_layer_has_a_step_on_the_interpreter(name: str) -> None:
    head = next(head for family, head in CASES if family == name)
    module = tiny(name, head)
    config = module.config
    for field in ("num_hidden_layers", "num_layers"):
        if hasattr(config, field):
            setattr(config, field, 2)
    model = prunus.compile(type(module)(config).eval(), threads=1, tune="cost")
    steps = model.program.steps
    attentions = [
        i for i, step in enumerate(steps) if isinstance(step, NativeStep) and step.op == "attention"
    ]
    assert len(attentions) >= 2
    inside = steps[attentions[0] : attentions[1]]  # from one layer to the next
    assert [step.node.name for step in inside if isinstance(step, NumpyStep)] == []
