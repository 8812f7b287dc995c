"""`prunus run`: inputs from anywhere, outputs summed up, written and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunus.cli import run as run_module
from prunus.cli.inputs import read_inputs
from prunus.errors import InputError

IDS = [[3, 4, 5, 0], [6, 7, 0, 0]]
MASK = [[1, 1, 1, 0], [1, 1, 0, 0]]


def test_random_inputs_are_summed_up(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("run", pruned_folder, "--random", "2x9", "-t", "1")
    assert ran.status == 0, ran.stderr
    assert "start_logits  float32 [2, 9]  min " in ran.stdout
    data = prunus("run", pruned_folder, "--random", "2x9", "-t", "1", "--json").json()
    assert data["outputs"]["end_logits"]["shape"] == [2, 9]
    assert data["largest_difference"] is None and data["written_to"] is None


def test_files_in_and_out(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    arrays = {"input_ids": np.array(IDS), "attention_mask": np.array(MASK)}
    np.savez(tmp_path / "in.npz", allow_pickle=False, **arrays)
    (tmp_path / "in.json").write_text(json.dumps({"input_ids": IDS, "attention_mask": MASK}))
    written = []
    for name in ("in.npz", "in.json"):
        output = tmp_path / f"{name}.out.npz"
        ran = prunus("run", pruned_folder, "--inputs", tmp_path / name, "-o", output, "-t", "1")
        assert ran.status == 0, ran.stderr
        assert f"written to {output}" in ran.stdout
        written.append(read_inputs(output))
    assert written[0].keys() == {"start_logits", "end_logits"}
    for name, array in written[0].items():
        np.testing.assert_array_equal(array, written[1][name])


def test_check_agrees_with_transformers(prunus: Any, pruned_folder: Path) -> None:
    arguments = ("run", pruned_folder, "--random", "2x9", "-t", "1", "--check")
    data = prunus(*arguments, "--json").json()
    assert 0 <= data["largest_difference"] <= 1e-4


@pytest.mark.parametrize("difference", [0.01, float("nan")])
def test_check_fails_on_a_difference(
    prunus: Any, pruned_folder: Path, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    monkeypatch.setattr(run_module, "_difference", lambda *arguments: difference)
    ran = prunus("run", pruned_folder, "--random", "1x4", "-t", "1", "--check")
    assert ran.status == 1
    assert "NOT the same answer" in ran.stdout


def test_a_saved_folder_cannot_be_checked(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    assert prunus("compile", pruned_folder, "-o", tmp_path, "-t", "1").status == 0
    ran = prunus("run", tmp_path, "--random", "1x4", "-t", "1", "--check")
    assert ran.status == 2
    assert "give the checkpoint" in ran.stderr


def test_a_simulated_model_says_so(prunus: Any, dense_folder: Path) -> None:
    arguments = ("run", dense_folder, "--random", "1x4", "-t", "1", "--simulate", "0.9")
    assert "SIMULATED" in prunus(*arguments).stdout
    assert prunus(*arguments, "--json").json()["simulated"].startswith("0.9 of all")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"input_ids": [[1, 999]]}, "999"),
        ({"input_ids": [[1] * 50]}, "at most 40"),
        ({"input_ids": [[]]}, "is 0: nothing to compute"),
        ({"input_idz": [[1]]}, "input_idz"),
    ],
    ids=["unknown id", "too long", "empty", "unknown name"],
)
def test_inputs_that_do_not_fit(
    prunus: Any, pruned_folder: Path, tmp_path: Path, inputs: Any, says: str
) -> None:
    path = tmp_path / "in.json"
    path.write_text(json.dumps(inputs))
    ran = prunus("run", pruned_folder, "--inputs", path, "-t", "1")
    assert ran.status == 2
    assert says in ran.stderr


def test_random_takes_one_shape(prunus: Any, pruned_folder: Path) -> None:
    ran = prunus("run", pruned_folder, "--random", "1x4,2x4", "-t", "1")
    assert ran.status == 2
    assert "one shape" in ran.stderr


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("in.txt", b"1 2", "neither"),
        ("in.json", b"{", "cannot be read"),
        ("in.json", b"\xff\xfe", "cannot be read"),
        ("in.json", b"[" * 100_000, "cannot be read"),
        ("in.json", b"[1]", "expected an object"),
        ("in.json", b'{"x": [[1], [1, 2]]}', "unequal length"),
        ("in.json", b'{"x": ["a"]}', "expected numbers"),
        ("in.npz", b"not a zip", "cannot be read"),
        ("in.npz", b"PK\x03\x04", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_inputs(tmp_path / name)


def test_an_array_without_a_name(tmp_path: Path) -> None:
    with (tmp_path / "in.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(InputError, match="without a name"):
        read_inputs(tmp_path / "in.npz")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        read_inputs(tmp_path / "in.npz")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz cannot be read"):
        read_inputs(tmp_path / "none.npz")


def test_outputs_that_cannot_be_written(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "no" / "such" / "folder.npz"
    ran = prunus("run", pruned_folder, "--random", "1x4", "-t", "1", "-o", output)
    assert ran.status == 2
    assert "cannot be written" in ran.stderr
