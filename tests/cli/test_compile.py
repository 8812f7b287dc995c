"""`prunus compile` writes a folder that every command takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_it_saves_and_says_what_was_chosen(
    prunus: Any, pruned_folder: Path, tmp_path: Path
) -> None:
    ran = prunus("compile", pruned_folder, "-o", tmp_path / "saved", "-t", "1")
    assert ran.status == 0, ran.stderr
    assert (tmp_path / "saved" / "prunus.json").is_file()
    assert (tmp_path / "saved" / "config.json").is_file()
    assert "kernel and reason" in ran.stdout
    assert f"saved in {tmp_path / 'saved'}: " in ran.stdout
    again = prunus("run", tmp_path / "saved", "--random", "1x8", "-t", "1", "--json").json()
    assert again["outputs"].keys() == {"start_logits", "end_logits"}


def test_json_gives_the_sizes(prunus: Any, pruned_folder: Path, tmp_path: Path) -> None:
    data = prunus("compile", pruned_folder, "-o", tmp_path / "saved", "-t", "1", "--json").json()
    assert data["folder"] == str(tmp_path / "saved")
    assert data["bytes"] == sum(path.stat().st_size for path in (tmp_path / "saved").iterdir())
    assert data["files"]["model.safetensors"] < data["dense_weight_bytes"]
    assert data["explanation"]["linear_zeros"] == pytest.approx(0.9, abs=0.02)


def test_a_saved_model_is_replaced(prunus: Any, dense_folder: Path, tmp_path: Path) -> None:
    first = prunus("compile", dense_folder, "-o", tmp_path, "-t", "1", "--json").json()
    second = prunus(
        "compile", dense_folder, "-o", tmp_path, "-t", "1", "--simulate", "0.95", "--json"
    ).json()
    assert second["bytes"] < first["bytes"]
    assert "0.95" in second["explanation"]["simulated"]


def test_a_simulated_model_says_so(prunus: Any, dense_folder: Path, tmp_path: Path) -> None:
    ran = prunus("compile", dense_folder, "-o", tmp_path, "-t", "1", "--simulate", "0.9")
    assert ran.stdout.count("SIMULATED") >= 2
    assert "SIMULATED" in prunus("explain", tmp_path, "-t", "1").stdout


def test_a_foreign_folder_or_file_is_left_alone(prunus: Any, dense_folder: Path) -> None:
    before = sorted(dense_folder.iterdir())
    for output in (dense_folder, dense_folder / "config.json"):
        ran = prunus("compile", dense_folder, "-o", output)
        assert ran.status == 2
        assert "leaves as it is" in ran.stderr
    assert sorted(dense_folder.iterdir()) == before


def test_simulating_a_pruned_model_needs_force(
    prunus: Any, pruned_folder: Path, tmp_path: Path
) -> None:
    ran = prunus("compile", pruned_folder, "-o", tmp_path, "-t", "1", "--simulate", "0.8")
    assert ran.status == 2
    assert "--force" in ran.stderr
    assert not any(tmp_path.iterdir())
