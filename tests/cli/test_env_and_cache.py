"""`prunus env` and `prunus cache`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from prunus import __version__, cache
from prunus.errors import TargetError


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache with two models and one choice in it."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    for kind, key in (("models", "a"), ("models", "b"), ("choices", "a")):
        assert cache.write(kind, key, b"x" * 100)
    return tmp_path / "cache"


def test_env(prunus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunus.kernels.peak.fma_peak", lambda threads, target: threads * 1e11)
    data = prunus("env", "--json").json()
    assert data["prunus"] == __version__
    assert data["versions"]["typer" if "typer" in data["versions"] else "numpy"]
    assert data["threads"]["default"] <= data["threads"]["affinity"]
    assert data["target"]["fma_peak_gflops"]["1"] == 100
    assert data["cache"]["folder"] == os.environ[cache.VARIABLE]
    text = prunus("env").stdout
    assert "100 GFLOP/s with 1 thread" in text
    assert "by default: the least of" in text


def test_env_measures_the_peak(prunus: Any) -> None:
    peaks = prunus("env", "--json").json()["target"]["fma_peak_gflops"]
    assert all(peak > 0.1 for peak in peaks.values())


def test_env_on_a_processor_that_prunus_does_not_know(
    prunus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(text: str) -> None:
        raise TargetError("this processor is too old")

    monkeypatch.setattr("prunus.kernels.target.parse_target", fail)
    ran = prunus("env")
    assert ran.status == 0
    assert "this processor is too old" in ran.stdout


def test_cache_shows_its_kinds(prunus: Any, own_cache: Path) -> None:
    data = prunus("cache", "--json").json()
    assert data["folder"] == str(own_cache)
    assert [(kind["kind"], kind["entries"]) for kind in data["kinds"]] == [
        ("choices", 1),
        ("models", 2),
    ]
    assert data == prunus("cache", "show", "--json").json()
    lines = prunus("cache").stdout.splitlines()
    assert lines[0] == str(own_cache)
    assert lines[-1].split()[:2] == ["total", "3"]


def test_cache_path(prunus: Any, own_cache: Path) -> None:
    assert prunus("cache", "path").stdout == f"{own_cache}\n"
    assert prunus("cache", "path", "--json").json() == {"folder": str(own_cache)}


def test_cache_clear(prunus: Any, own_cache: Path) -> None:
    unknown = prunus("cache", "clear", "modles")
    assert unknown.status == 2
    assert "choices, models" in unknown.stderr
    assert prunus("cache", "clear", "choices").stdout.startswith("1 entry removed, ")
    assert prunus("cache", "clear", "--json").json()["removed"] == 2
    assert prunus("cache").stdout.splitlines()[1] == "empty"
    assert prunus("cache", "clear").stdout == "0 entries removed, 0 bytes\n"
