"""`prunus env` and `prunus cache`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from prunus import __version__, cache
from prunus.errors import TargetError
from prunus.kernels.limits import Limits
from prunus.kernels.target import Target
from tests.quick_limits import measure_limits_quickly


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache with two models and one choice in it."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    for kind, key in (("models", "a"), ("models", "b"), ("choices", "a")):
        assert cache.write(kind, key, b"x" * 100)
    return tmp_path / "cache"


def test_env(prunus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunus.kernels.limits.measured_limits", made_up_limits)
    data = prunus("env", "--json").json()
    assert data["prunus"] == __version__
    assert data["versions"]["typer" if "typer" in data["versions"] else "numpy"]
    assert data["threads"]["default"] <= data["threads"]["affinity"]
    assert data["target"]["fma_peak_gflops"]["1"] == 100
    level = {"gigabytes_per_second": 40, "buffer_bytes": 512}
    assert data["target"]["loads"]["1"]["L2"] == level
    assert data["target"]["limits_remembered"] is True
    assert data["cache"]["folder"] == os.environ[cache.VARIABLE]
    text = prunus("env").stdout
    assert "100 GFLOP/s with 1 thread" in text
    assert "L2 loads" in text and "40 GB/s with 1 thread" in text
    assert "by default: the least of" in text
    assert "measured earlier; --measure does it anew" in text
    assert "a common size was assumed of L3" in text
    assert prunus("env", "--measure", "--json").json()["target"]["limits_remembered"] is False


def made_up_limits(threads: int, target: Target, *, anew: bool = False) -> Limits:
    """Limits that grow with the threads."""
    rates = {level: threads * rate for level, rate in (("L1", 8e10), ("L2", 4e10), ("memory", 1e9))}
    sizes = {"L1": 64, "L2": 512, "memory": 4096}
    return Limits("a processor", threads, threads * 1e11, rates, sizes, ("L3",), not anew)


def test_env_measures_once_and_when_asked_to(
    prunus: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    measure_limits_quickly(monkeypatch)
    first = prunus("env", "--json").json()["target"]
    assert all(rate > 0 for rate in first["fma_peak_gflops"].values())
    for loads in first["loads"].values():
        assert all(level["gigabytes_per_second"] > 0 for level in loads.values())
    again = prunus("env", "--json").json()["target"]
    assert (first["limits_remembered"], again["limits_remembered"]) == (False, True)
    assert again["loads"] == first["loads"]
    anew = prunus("env", "--measure", "--json").json()["target"]
    assert not anew["limits_remembered"] and anew["loads"] != first["loads"]


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


def test_cache_and_env_without_a_place_for_a_cache(
    prunus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunus.cache.cache_folder", lambda: None)
    monkeypatch.setattr("prunus.kernels.limits.measured_limits", made_up_limits)
    assert prunus("cache").stdout.startswith("there is no cache, as this user has no home folder")
    assert prunus("cache", "--json").json() == {"folder": None, "bytes": 0, "kinds": []}
    assert prunus("cache", "clear").stdout == "0 entries removed, 0 bytes\n"
    path = prunus("cache", "path")
    assert path.status == 2
    assert cache.VARIABLE in path.stderr
    assert prunus("env", "--json").json()["cache"]["folder"] is None
    assert "none, as this user has no home folder" in prunus("env").stdout
