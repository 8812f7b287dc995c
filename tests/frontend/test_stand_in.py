"""The stand-ins have the zeros that they promise, and answer as models do."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from prunus.errors import InputError
from prunus.frontend.stand_in import (
    Size,
    encoder_weights,
    minilm_pruned,
    prunebert_stand_in,
    random_bert,
)

Weights = dict[str, npt.NDArray[np.float32]]


def zeros(weight: npt.NDArray[np.float32]) -> float:
    return 1 - np.count_nonzero(weight) / weight.size


def zeros_together(weights: Weights) -> float:
    nonzeros = sum(np.count_nonzero(weight) for weight in weights.values())
    return 1 - nonzeros / sum(weight.size for weight in weights.values())


@pytest.fixture(scope="module")
def stand_in() -> Weights:
    model = prunebert_stand_in()
    assert not model.training
    assert model.config._attn_implementation == "sdpa"
    return encoder_weights(model)


def test_stand_in_is_94_percent_zero_together(stand_in: Weights) -> None:
    assert len(stand_in) == 72
    assert sum(weight.size for weight in stand_in.values()) == 84_934_656
    assert zeros_together(stand_in) == pytest.approx(0.94, abs=0.0002)


def test_stand_in_is_uneven_within_85_and_98_percent(stand_in: Weights) -> None:
    shares = [zeros(weight) for weight in stand_in.values()]
    assert min(shares) >= 0.85
    assert max(shares) <= 0.98
    assert max(shares) - min(shares) > 0.05


def test_stand_in_has_empty_heads_in_every_layer(stand_in: Weights) -> None:
    for layer in range(12):
        empty = [
            ~stand_in[f"{layer}.attention.self.{role}"].reshape(12, -1).any(1)
            for role in ("query", "key", "value")
        ]
        output = stand_in[f"{layer}.attention.output.dense"]
        empty.append(~output.reshape(768, 12, 64).any((0, 2)))
        assert 1 <= empty[0].sum() <= 4
        assert all(np.array_equal(empty[0], other) for other in empty[1:])


def test_stand_in_has_empty_feed_forward_rows(stand_in: Weights) -> None:
    for layer in range(12):
        rows = ~stand_in[f"{layer}.intermediate.dense"].any(1)
        columns = ~stand_in[f"{layer}.output.dense"].any(0)
        assert 0.15 < rows.mean() < 0.55
        assert 0.05 < columns.mean() < 0.4
        assert (rows & ~columns).any(), "an empty row whose bias still reaches the next layer"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sparsity", [0.8, 0.94, 0.99])
def test_tiny_stand_in_reaches_its_sparsity(sparsity: float, seed: int) -> None:
    weights = encoder_weights(prunebert_stand_in(sparsity=sparsity, seed=seed, size="tiny"))
    assert len(weights) == 12
    assert zeros_together(weights) == pytest.approx(sparsity, abs=0.01)


def test_only_the_encoder_is_pruned() -> None:
    model = prunebert_stand_in(size="tiny")
    pruned = {id(module.weight) for module in model.bert.encoder.modules() if linear(module)}
    others = [parameter for parameter in model.parameters() if id(parameter) not in pruned]
    assert len(pruned) == 12
    assert all(torch.count_nonzero(parameter) == parameter.numel() for parameter in others)


def linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear)


def test_same_seed_gives_the_same_model() -> None:
    first, again = (prunebert_stand_in(seed=3, size="tiny").state_dict() for _ in range(2))
    other = prunebert_stand_in(seed=4, size="tiny").state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_random_bert_is_uniformly_sparse(sparsity: float) -> None:
    weights = encoder_weights(random_bert(sparsity=sparsity, size="tiny", seed=1))
    for weight in weights.values():
        assert zeros(weight) == pytest.approx(sparsity, abs=0.04)


@pytest.mark.parametrize("block", [(16, 1), (1, 16), (4, 4), (5, 7), (100, 1)])
def test_random_bert_has_whole_blocks(block: tuple[int, int]) -> None:
    weights = encoder_weights(random_bert(sparsity=0.85, block=block, size="tiny"))
    rows, columns = block
    for weight in weights.values():
        height, width = -weight.shape[0] % rows, -weight.shape[1] % columns
        kept = np.pad(weight != 0, ((0, height), (0, width)), mode="edge")
        blocks = kept.reshape(kept.shape[0] // rows, rows, -1, columns).mean((1, 3))
        assert np.isin(blocks, (0, 1)).all()
        assert (blocks == 0).mean() > 0.5


@pytest.mark.parametrize(
    ("sparsity", "size"), [(0.0, "base"), (0.94, "base"), (0.0, "tiny"), (0.94, "tiny")]
)
def test_tokens_and_logits_differ(sparsity: float, size: Size) -> None:
    model = random_bert(sparsity=sparsity, size=size)
    ids = torch.randint(0, 1000, (1, 32), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        answer = model(input_ids=ids, output_hidden_states=True)
    states = torch.nn.functional.normalize(answer.hidden_states[-1][0], dim=1)
    between_tokens = (states @ states.T)[~torch.eye(32, dtype=torch.bool)]
    assert between_tokens.mean() < 0.97
    assert 0.2 < answer.start_logits.std() < 3


def test_minilm_is_pruned_by_magnitude(minilm_folder: object) -> None:
    from transformers import BertModel

    dense = encoder_weights(BertModel.from_pretrained(minilm_folder))
    model, folder = minilm_pruned(0.9)
    assert folder == minilm_folder
    assert (folder / "tokenizer.json").is_file()
    assert not model.training
    weights = encoder_weights(model)
    assert len(weights) == 36
    for name, weight in weights.items():
        assert np.count_nonzero(weight) == weight.size - round(0.9 * weight.size)
        kept = weight != 0
        assert np.array_equal(weight[kept], dense[name][kept])
        assert np.abs(dense[name][~kept]).max() <= np.abs(weight[kept]).min()


def test_minilm_can_be_left_dense(minilm_folder: object) -> None:
    model, _ = minilm_pruned(0.0)
    assert zeros_together(encoder_weights(model)) < 0.001


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(InputError, match=r"sparsity of 0\.5 .* at least 0\.8"):
        prunebert_stand_in(sparsity=0.5)
    with pytest.raises(InputError, match="sparsity is 1"):
        random_bert(sparsity=1)
    with pytest.raises(InputError, match=r"block is \(0, 1\)"):
        random_bert(sparsity=0.5, block=(0, 1), size="tiny")
    with pytest.raises(InputError, match="size is 'huge': give one of base, tiny"):
        random_bert(sparsity=0.5, size="huge")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"sparsity is 1\.5"):
        minilm_pruned(1.5)
