"""A size has a limit where a table is read by it, and only there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.export import Dim

from prunus.frontend.export import import_module
from tests.frontend.modules import run
from tests.models.encoders import SIZES, SMALL
from tests.models.encoders import tiny as plain
from tests.models.families import FAMILIES, POSITIONS


class Idle(transformers.BertPreTrainedModel):  # type: ignore[misc]
    """Cuts a table of positions to the length, as many models do, and does not read it.

    Args:
        config: The configuration.
        other_way: The length from which on it computes something else.
    """

    def __init__(self, config: Any, other_way: int | None = None) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, 8)
        self.position_embeddings = nn.Embedding(POSITIONS, 8)
        self.position_ids: Tensor
        self.register_buffer("position_ids", torch.arange(POSITIONS)[None], persistent=False)
        self.other_way = other_way
        self.post_init()

    def forward(self, input_ids: Tensor) -> Tensor:
        length = input_ids.shape[1]
        self.position_ids[:, :length].float()
        found: Tensor = self.words(input_ids)
        return found * 2 if self.other_way is not None and length >= self.other_way else found


def deberta(is_biased: bool) -> Any:
    options = {**FAMILIES["DebertaV2"].options, "position_biased_input": is_biased}
    torch.manual_seed(0)
    return transformers.DebertaV2Model(transformers.DebertaV2Config(**options)).eval()


@pytest.mark.parametrize("make", [lambda: deberta(False), lambda: Idle(config())])
def test_a_table_that_is_not_read_limits_nothing(make: Any) -> None:
    module = make()
    imported = import_module(module)
    assert imported.graph.limits == {}
    ids = torch.randint(3, 60, (2, 3 * POSITIONS))
    with torch.no_grad():
        expected = module(ids)[0]
    torch.testing.assert_close(run(imported, ids)[0], expected, rtol=1e-4, atol=1e-4)


def config() -> Any:
    return transformers.BertConfig(**SMALL, **SIZES)


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda: deberta(True), POSITIONS),
        (lambda: plain("Bert", "Model"), POSITIONS),
        (lambda: plain("Roberta", "Model"), POSITIONS - 2),
        # Beyond the table it is another model, which the graph is not.
        (lambda: Idle(config(), other_way=POSITIONS + 1), POSITIONS),
        (lambda: Idle(config(), other_way=POSITIONS + 20), POSITIONS),
    ],
)
def test_a_limit_that_is_real_stays(make: Any, limit: int) -> None:
    assert import_module(make()).graph.limits == {"seq": limit}


def test_a_limit_that_the_caller_sets_stays() -> None:
    ids = torch.ones(2, 7, dtype=torch.int64)
    shapes = {"input_ids": {0: Dim("batch"), 1: Dim("seq", max=20)}}
    imported = import_module(Idle(config()), {"input_ids": ids}, dynamic_shapes=shapes)
    assert imported.graph.limits == {"seq": 20}
