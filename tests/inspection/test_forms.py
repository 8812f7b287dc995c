"""The forms that tensors lie in on disk: each is measured as the dense tensor it stands for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunus.errors import CheckpointError
from prunus.inspection import inspect
from prunus.sparsity import count as counting
from prunus.sparsity import measure
from tests.inspection.checkpoints import Arrays, weight, write, write_shards

WEIGHT = weight(24, 20, 0.7)


def as_bitmask(name: str, dense: np.ndarray) -> Arrays:
    mask = dense != 0
    counts = mask.sum(axis=-1)
    return {
        f"{name}.compressed": dense[mask],
        f"{name}.bitmask": np.packbits(mask, axis=-1, bitorder="little"),
        f"{name}.shape": np.array(dense.shape),
        f"{name}.row_offsets": np.cumsum(counts) - counts,
    }


def as_two_of_four(name: str, dense: np.ndarray) -> Arrays:
    """The first two columns of each four, zeros among them included."""
    mask = np.zeros(dense.shape, bool)
    mask[:, 0::4] = mask[:, 1::4] = True
    return {
        f"{name}.compressed": dense[mask].reshape(len(dense), -1),
        f"{name}.bitmask": np.packbits(mask, axis=-1, bitorder="little"),
        f"{name}.shape": np.array(dense.shape)[:, np.newaxis],
    }


@pytest.fixture(autouse=True)
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of 32 rows, so that a tensor has several."""
    monkeypatch.setattr(counting, "BAND_ELEMENTS", 1)


@pytest.mark.parametrize("rows", [24, 70])
@pytest.mark.parametrize("name", ["dense.weight", "dense"])
def test_bitmasks(tmp_path: Path, name: str, rows: int) -> None:
    dense = weight(rows, 20, 0.7)
    arrays = as_bitmask(name, dense)
    (found,) = inspect(write(tmp_path, arrays)).tensors
    assert (found.name, found.shape, found.role) == ("dense.weight", dense.shape, "linear")
    assert found.pattern == measure(dense)
    assert found.bytes == sum(array.nbytes for array in arrays.values())


def test_two_of_four_counts_stored_zeros(tmp_path: Path) -> None:
    dense = weight(70, 20, 0.3)
    dense[:, 2::4] = dense[:, 3::4] = 0
    (found,) = inspect(write(tmp_path, as_two_of_four("dense", dense))).tensors
    assert found.pattern == measure(dense)


def test_parts_of_a_bitmask_in_different_shards(tmp_path: Path) -> None:
    arrays = as_bitmask("dense", WEIGHT)
    names = list(arrays)
    shards = ({n: arrays[n] for n in names[:1]}, {n: arrays[n] for n in names[1:]})
    (found,) = inspect(write_shards(tmp_path, *shards)).tensors
    assert found.pattern == measure(WEIGHT)


Change = Callable[[Arrays], Any]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("dense.bitmask"), "dense.bitmask is missing"),
        (lambda a: a.pop("dense.shape"), "dense.shape is missing"),
        (lambda a: a.update({"dense.shape": np.array([24, 90])}), "bitmask is uint8"),
        (lambda a: a.update({"dense.shape": np.array([0, 20])}), "a positive integer"),
        (lambda a: a.update({"dense.shape": np.array([24.0, 20.0])}), "a positive integer"),
        (lambda a: a.update({"dense.compressed": a["dense.compressed"][1:]}), "its bitmask has"),
        (lambda a: a.update({"dense.compressed": np.ones(480, "f4")}), "its bitmask has"),
        (lambda a: a.update({"dense.row_offsets": a["dense.row_offsets"] + 1}), "the sums of"),
        (lambda a: a.update({"dense.row_offsets": a["dense.row_offsets"][1:]}), "the sums of"),
        (lambda a: a.update({"dense.weight": WEIGHT}), "twice"),
    ],
)
def test_damaged_bitmasks(tmp_path: Path, change: Change, message: str) -> None:
    arrays = as_bitmask("dense", WEIGHT)
    change(arrays)
    with pytest.raises(CheckpointError, match=message):
        inspect(write(tmp_path, arrays))


def test_another_number_of_values_in_a_row(tmp_path: Path) -> None:
    dense = weight(24, 20)
    arrays = as_two_of_four("dense", dense)
    bits = np.unpackbits(arrays["dense.bitmask"], axis=-1, count=20, bitorder="little")
    bits[0, 2], bits[1, 0] = 1, 0
    arrays["dense.bitmask"] = np.packbits(bits, axis=-1, bitorder="little")
    with pytest.raises(CheckpointError, match="a mask of 9 to 11 values in a row"):
        inspect(write(tmp_path, arrays))


@pytest.mark.parametrize("mask_dtype", [np.float32, np.uint8])
def test_masks_left_by_torch_are_folded(tmp_path: Path, mask_dtype: Any) -> None:
    original, mask = weight(70, 20), weight(70, 20, 0.8, seed=1) != 0
    arrays = {
        "dense.bias": np.ones(70, np.float32),
        "dense.weight_orig": original,
        "dense.weight_mask": mask.astype(mask_dtype),
    }
    bias, found = inspect(write(tmp_path, arrays)).tensors
    assert (bias.name, found.name, found.role) == ("dense.bias", "dense.weight", "linear")
    assert found.pattern == measure(original * mask)
    assert found.bytes == original.nbytes + arrays["dense.weight_mask"].nbytes
    for broken in (None, np.ones((70, 19), np.float32)):
        arrays.pop("dense.weight_mask", None)
        arrays.update({} if broken is None else {"dense.weight_mask": broken})
        with pytest.raises(CheckpointError, match=r"prune\.remove"):
            inspect(write(tmp_path, arrays))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(tmp_path: Path, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    stored = torch.from_numpy(WEIGHT).to(getattr(torch, dtype))
    stored[0, 0] = 2.0**-126 if dtype == "bfloat16" else 2.0**-24
    write(tmp_path, {})
    save_file({"dense.weight": stored}, tmp_path / "model.safetensors")
    (found,) = inspect(tmp_path).tensors
    assert (found.dtype, found.bytes) == (dtype, stored.numel() * stored.element_size())
    assert found.pattern == measure(stored.double().numpy())
    assert found.compressed_bytes < 4 * 480
    stored[3, 3] = float("nan")
    save_file({"dense.weight": stored}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="NaN"):
        inspect(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    table = torch.from_numpy(weight(70, 20, 0.5))
    state = {
        "word_embeddings.weight": table,
        "dense.weight": torch.from_numpy(WEIGHT.T.copy()).T.bfloat16(),
        "decoder.weight": table,
        "position_ids": torch.arange(20),
    }
    write(tmp_path, {})
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    found = {each.name: each for each in inspect(tmp_path).tensors}
    assert found.keys() == {"word_embeddings.weight", "dense.weight", "position_ids"}
    assert found["dense.weight"].pattern == measure(WEIGHT)
    assert found["word_embeddings.weight"].role == "embedding"
    torch.save({"step": 3}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="only tensors"):
        inspect(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"dense.mask_scores": WEIGHT}, "unfinished movement pruning"),
        ({"dense.weight": np.ones((8, 8), np.int8)}, "as int8, a sign of quantised"),
        ({"dense.qweight": np.ones((8, 8), np.int32)}, "a sign of quantised"),
    ],
)
def test_forms_that_only_their_tool_can_undo(tmp_path: Path, arrays: Arrays, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        inspect(write(tmp_path, arrays))


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_truncated_files(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path, {"dense.weight": WEIGHT}) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        inspect(tmp_path)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no folder"):
        inspect(tmp_path / "missing")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        inspect(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has no weights"):
        inspect(tmp_path)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        inspect(tmp_path)


def test_shards(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, {"a.weight": WEIGHT}, {"b.weight": weight(8, 8)})
    assert [each.name for each in inspect(folder).tensors] == ["a.weight", "b.weight"]
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["c.weight"] = "model-1.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"lacks the tensor c\.weight"):
        inspect(folder)
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match="which is missing"):
        inspect(folder)
