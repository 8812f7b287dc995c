"""Limits are measured once, remembered, and measured anew when asked to."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunus import cache
from prunus.kernels import limits as limits_module
from prunus.kernels import processor
from prunus.kernels.limits import COMMON_CACHES, LEVELS, buffer_sizes, measured_limits
from prunus.kernels.target import parse_target

CACHES = {"L1d": 48 * 1024, "L2": 2 * 1024**2, "L3": 64 * 1024**2}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[object]]:
    """What was measured, in a machine of known caches and an empty cache of prunus."""
    runs: list[object] = []

    def rate(threads: int, nbytes: int, target: object) -> float:
        runs.append(nbytes)
        return 1e15 / nbytes + len(runs)

    def peak(threads: int, target: object) -> float:
        runs.append("fma")
        return 1e11 * threads

    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    monkeypatch.setattr(limits_module, "load_rate", rate)
    monkeypatch.setattr(limits_module, "fma_peak", peak)
    monkeypatch.setattr(limits_module, "read_caches", lambda: dict(CACHES))
    yield runs


def test_they_are_measured_once(measured: list[object]) -> None:
    first = measured_limits(2, parse_target())
    assert measured == [24 * 1024, 1024**2, 128 * 1024**2, "fma"]
    assert first.fma == 2e11
    assert tuple(first.loads) == LEVELS == tuple(first.buffers)
    assert first.loads["L1"] > first.loads["L2"] > first.loads["memory"]
    assert (first.threads, first.assumed, first.remembered) == (2, (), False)
    second = measured_limits(2, parse_target())
    assert len(measured) == 4
    assert second.remembered
    assert (second.fma, second.loads) == (first.fma, first.loads)


@pytest.mark.parametrize("change", ["threads", "target", "processor", "caches"])
def test_other_circumstances_have_limits_of_their_own(
    measured: list[object], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    measured_limits(2, parse_target())
    threads, target = 2, parse_target()
    if change == "threads":
        threads = 1
        monkeypatch.setattr(limits_module, "buffer_sizes", lambda *_: buffer_sizes(CACHES, 2))
    elif change == "target":
        target = parse_target("llvm -mcpu=haswell")
    elif change == "processor":
        monkeypatch.setattr(limits_module, "processor_name", lambda: "another one")
    else:
        monkeypatch.setattr(limits_module, "read_caches", lambda: {**CACHES, "L2": 2**19})
    assert not measured_limits(threads, target).remembered
    assert len(measured) == 8


def test_measured_anew_they_take_the_place_of_the_old_ones(measured: list[object]) -> None:
    old = measured_limits(1, parse_target())
    new = measured_limits(1, parse_target(), anew=True)
    assert not new.remembered and new.loads != old.loads
    assert measured_limits(1, parse_target()).loads == new.loads


@pytest.mark.parametrize(
    "entry",
    [
        "no JSON",
        "[]",
        "null",
        json.dumps({"L1": 1.0}),
        json.dumps(dict.fromkeys((*LEVELS, "fma"), 0.0)),
        json.dumps(dict.fromkeys((*LEVELS, "fma"), float("nan"))),
        json.dumps(dict.fromkeys((*LEVELS, "fma"), "fast")),
    ],
)
def test_an_entry_that_says_nothing_is_measured_again(
    measured: list[object], monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.setattr(cache, "read", lambda kind, key: entry.encode())
    assert not measured_limits(1, parse_target()).remembered
    assert len(measured) == 4


def test_caches_of_unknown_size_are_said_to_be_assumed(
    measured: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_module, "read_caches", lambda: {"L1d": 2**16})
    found = measured_limits(1, parse_target())
    assert found.assumed == ("L2", "L3")
    assert found.buffers["L1"] == 2**15
    assert found.buffers["L2"] == COMMON_CACHES["L2"] // 2


@pytest.mark.parametrize("threads", [1, 3, 64])
def test_memory_is_read_far_beyond_the_caches(threads: int) -> None:
    sizes = buffer_sizes(CACHES, threads)
    assert sizes["L1"] < CACHES["L1d"] < sizes["L2"] < CACHES["L2"] < sizes["memory"]
    assert sizes["memory"] * threads >= 4 * CACHES["L3"] - threads
    assert buffer_sizes({**CACHES, "L3": 2**30}, 1)["memory"] == limits_module.MOST_MEMORY
    assert buffer_sizes({"L1d": 1024, "L2": 4096}, 1)["memory"] == limits_module.LEAST_MEMORY


X86 = """processor	: 0
cpu family	: 26
model		: 2
model name	: AMD EPYC 9B45

processor	: 1
model name	: another one
"""
ARM = "processor	: 0\nCPU implementer	: 0x41\nCPU part	: 0xd4f\n"


@pytest.mark.parametrize(("text", "name"), [(X86, "AMD EPYC 9B45"), (ARM, "Arm 0x41:0xd4f")])
def test_the_name_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, name: str
) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    assert processor.processor_name()
    (tmp_path / "cpuinfo").write_text(text)
    assert processor.processor_name() == name
