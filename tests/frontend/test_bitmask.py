"""Files of compressed-tensors: both forms, both ways to name, and damaged ones.

That they are written here as compressed-tensors writes them was checked with its releases 0.5.0
(whole names) and 0.9.4 (without `.weight`).
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from safetensors.torch import save_file

from prunus.errors import CheckpointError
from prunus.frontend import checkpoint, hub, weights
from prunus.frontend.bitmask import expand_bitmasks

State = dict[str, torch.Tensor]

CONFIG = transformers.BertConfig(
    vocab_size=60,
    hidden_size=20,  # no multiple of 8: the last byte of a row has bits to spare
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=40,
)


def two_of_four(weight: torch.Tensor) -> torch.Tensor:
    groups = weight.reshape(-1, 4)
    kept = torch.zeros_like(groups, dtype=torch.bool)
    return kept.scatter_(1, groups.abs().topk(2, dim=1).indices, True).reshape(weight.shape)


def pack(mask: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.packbits(mask.numpy(), axis=-1, bitorder="little"))


def as_bitmask(name: str, weight: torch.Tensor) -> State:
    mask = weight != 0
    counts = mask.sum(dim=-1)
    return {
        f"{name}.shape": torch.tensor(weight.shape),
        f"{name}.compressed": weight[mask],
        f"{name}.bitmask": pack(mask),
        f"{name}.row_offsets": counts.cumsum(0) - counts,
    }


def as_two_of_four(name: str, weight: torch.Tensor) -> State:
    mask = two_of_four(weight)
    return {
        f"{name}.shape": torch.tensor(weight.shape)[:, None],
        f"{name}.compressed": weight[mask].reshape(len(weight), -1),
        f"{name}.bitmask": pack(mask),
    }


def every(state: State) -> State:
    """As the first releases did: all tensors, with their whole names."""
    return {key: part for name, t in state.items() for key, part in as_bitmask(name, t).items()}


def weights_only(state: State) -> State:
    """As later ones did: weights alone, without that word."""
    found: State = {}
    for name, tensor in state.items():
        is_weight = name.endswith(".weight")
        found |= as_bitmask(name.removesuffix(".weight"), tensor) if is_weight else {name: tensor}
    return found


def matrices_in_two_of_four(state: State) -> State:
    found: State = {}
    for name, t in state.items():
        found |= as_two_of_four(name.removesuffix(".weight"), t) if t.ndim == 2 else {name: t}
    return found


def pruned_model(dtype: torch.dtype, pattern: str) -> Any:
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(CONFIG).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                is_two = pattern == "2:4"
                kept = two_of_four(parameter) if is_two else torch.rand(parameter.shape) < 0.2
                parameter.mul_(kept)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("pattern", "compress"),
    [("any", every), ("any", weights_only), ("2:4", matrices_in_two_of_four)],
)
def test_models(
    dtype: torch.dtype, pattern: str, compress: Callable[[State], State], tmp_path: Path
) -> None:
    model = pruned_model(dtype, pattern)
    model.save_pretrained(tmp_path)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(compress(state), tmp_path / weights.SAFETENSORS, {"format": "pt"})
    assert hub.resolve(tmp_path).fingerprint()

    found = checkpoint.load_state(hub.resolve(tmp_path))
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], tensor), name
    loaded = checkpoint.load_module(hub.resolve(tmp_path)).state_dict()
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in state.items())


def test_parts_may_lie_in_different_shards(tmp_path: Path) -> None:
    model = pruned_model(torch.float32, "2:4")
    model.save_pretrained(tmp_path)
    (tmp_path / weights.SAFETENSORS).unlink()
    parts = matrices_in_two_of_four(dict(model.state_dict()))
    names = sorted(parts)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, members in shards.items():
        save_file({name: parts[name].clone() for name in members}, tmp_path / shard)
    weight_map = {name: shard for shard, members in shards.items() for name in members}
    (tmp_path / weights.INDICES[0]).write_text(json.dumps({"weight_map": weight_map}))
    loaded = checkpoint.load_module(hub.resolve(tmp_path)).state_dict()
    assert all(torch.equal(loaded[name], t) for name, t in model.state_dict().items())


@pytest.mark.parametrize("shape", [(1,), (9,), (3, 8), (2, 3, 5, 7)])
def test_shapes(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape) * (torch.rand(shape) < 0.5)
    state = as_bitmask("layer.weight", weight)
    expand_bitmasks(state, "it")
    assert state.keys() == {"layer.weight"}
    assert torch.equal(state["layer.weight"], weight)


def test_a_weight_without_any_value() -> None:
    state = as_bitmask("layer", torch.zeros(3, 5))
    expand_bitmasks(state, "it")
    assert torch.equal(state["layer.weight"], torch.zeros(3, 5))


def test_tensors_are_expanded_one_after_the_other() -> None:
    """Little more memory is needed than for the result."""
    state: State = {}
    for i in range(16):
        state |= as_bitmask(f"layer.{i}.weight", torch.eye(512))
    tracemalloc.start()
    expand_bitmasks(state, "it")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    result = sum(tensor.nbytes for tensor in state.values())
    assert result == 16 << 20
    assert peak < result + (1 << 20)


WEIGHT = torch.tensor([[0.0, 1.0, 2.0, 0.0], [3.0, 0.0, 0.0, 4.0]])
Change = Callable[[State], Any]


def put(part: str, tensor: Any) -> Change:
    return lambda state: state.update({f"layer.{part}": tensor})


def drop(part: str) -> Change:
    return lambda state: state.pop(f"layer.{part}")


DAMAGE: list[tuple[Change, str]] = [
    (drop("compressed"), r"layer\.compressed is missing"),
    (drop("bitmask"), r"layer\.bitmask is missing"),
    (drop("shape"), r"layer\.shape is missing"),
    (put("compressed", torch.ones(3)), r"float32 \[3\] .*expected the 4 that its bitmask has"),
    (put("compressed", torch.ones(5)), r"float32 \[5\] .*expected the 4 that its bitmask has"),
    (put("compressed", torch.ones(1).expand(4)), r"layer\.compressed .*odd layout"),
    (put("compressed", torch.ones(4).to_sparse()), r"layer\.compressed .*odd layout"),
    (
        put("compressed", torch.ones(4, dtype=torch.complex64)),
        r"layer\.compressed is torch\.complex64",
    ),
    (put("bitmask", torch.ones(2, 1)), r"layer\.bitmask is float32 .*expected uint8 \[2, 1\]"),
    (put("bitmask", torch.ones(2, 2).byte()), r"uint8 \[2, 2\].*expected uint8 \[2, 1\]"),
    (put("bitmask", torch.full((2, 1), 15).byte()), r"expected the 8 that its bitmask has"),
    (put("bitmask", torch.zeros(1).byte().expand(2, 1)), r"layer\.bitmask .*odd layout"),
    (put("shape", torch.tensor([2, 9])), r"bitmask is uint8 .*expected uint8 \[2, 2\]"),
    (put("shape", torch.tensor([2, 0])), r"layer\.shape is int64 .*\[2, 0\].*positive"),
    (put("shape", torch.tensor([-2, -4])), r"layer\.shape .*positive"),
    (put("shape", torch.tensor([1 << 62, 1 << 62])), r"layer\.bitmask is .* expected uint8 \[46"),
    (put("shape", torch.tensor([2.0, 4.0])), r"layer\.shape is float32"),
    (put("shape", torch.tensor([], dtype=torch.int64)), r"layer\.shape is int64 \[0\]"),
    (put("shape", torch.ones(65, dtype=torch.int64)), r"layer\.shape is int64 \[65\]"),
    (put("row_offsets", torch.tensor([0, 3])), r"layer\.row_offsets .*\[0, 3\].*sums of the bits"),
    (put("row_offsets", torch.tensor([0])), r"layer\.row_offsets .*sums of the bits"),
    (put("weight", WEIGHT), r"holds layer\.weight twice"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damaged_bitmasks(damage: Change, message: str) -> None:
    state = as_bitmask("layer", WEIGHT)
    damage(state)
    with pytest.raises(CheckpointError, match=message) as caught:
        expand_bitmasks(state, "owner/model")
    assert str(caught.value).startswith("owner/model")


def test_two_of_four_with_another_number_in_a_row() -> None:
    state = as_two_of_four("layer", WEIGHT)
    state["layer.bitmask"] = torch.tensor([[0b0111], [0b0001]], dtype=torch.uint8)
    with pytest.raises(CheckpointError, match=r"1 to 3 values in a row, expected 2 in each"):
        expand_bitmasks(state, "it")


def test_values_that_need_a_scale_are_refused(tmp_path: Path) -> None:
    """A bitmask of int8 values is quantised, whatever its names are."""
    (tmp_path / "config.json").write_text("{}")
    save_file(as_bitmask("layer", WEIGHT.to(torch.int8)), tmp_path / weights.SAFETENSORS)
    with pytest.raises(CheckpointError, match=r"stores layer\.weight as torch\.int8"):
        checkpoint.load_state(hub.resolve(tmp_path))
