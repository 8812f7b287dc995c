"""How many threads a process may use."""

import os
from pathlib import Path

import psutil
import pytest

from prunus.errors import InputError
from prunus.runtime import threads
from prunus.runtime.threads import (
    cgroup_quota,
    check_threads,
    default_threads,
    usable_processors,
)


def version_2(root: Path, text: str) -> Path:
    (root / "cpu.max").write_text(text)
    return root


def version_1(root: Path, quota: str, period: str | None) -> Path:
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    if period is not None:
        (root / "cpu" / "cpu.cfs_period_us").write_text(period)
    return root


@pytest.mark.parametrize(
    ("text", "processors"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 1),
        ("50000 100000\n", 1),
        ("350000 50000\n", 7),
        ("max 100000\n", None),
        ("", None),
        ("100000\n", None),
        ("100000 0\n", None),
        ("-1 100000\n", None),
        ("1e5 100000\n", None),
    ],
)
def test_quota_of_version_2(tmp_path: Path, text: str, processors: int | None) -> None:
    assert cgroup_quota(version_2(tmp_path, text)) == processors


@pytest.mark.parametrize(
    ("quota", "period", "processors"),
    [
        ("400000\n", "100000\n", 4),
        ("10000\n", "100000\n", 1),
        ("-1\n", "100000\n", None),
        ("400000\n", "0\n", None),
        ("400000\n", "", None),
        ("400000\n", None, None),
    ],
)
def test_quota_of_version_1(
    tmp_path: Path, quota: str, period: str | None, processors: int | None
) -> None:
    assert cgroup_quota(version_1(tmp_path, quota, period)) == processors


def test_no_cgroup_sets_no_quota(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path) is None
    assert cgroup_quota(tmp_path, tmp_path / "missing") is None


def member(root: Path, lines: str, quotas: dict[str, int]) -> int | None:
    """The quota of a process whose /proc/self/cgroup has these lines, where some cgroups have
    quotas, in processors.
    """
    for name, processors in quotas.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        if name.startswith("cpu"):
            (folder / "cpu.cfs_quota_us").write_text(f"{100_000 * processors}\n")
            (folder / "cpu.cfs_period_us").write_text("100000\n")
        else:
            (folder / "cpu.max").write_text(f"{100_000 * processors} 100000\n")
    (root / "membership").write_text(lines)
    return cgroup_quota(root, root / "membership")


@pytest.mark.parametrize(
    ("lines", "quotas", "processors"),
    [
        ("0::/slice/app\n", {"slice/app": 3}, 3),
        ("0::/slice/app\n", {"slice": 2, "slice/app": 3}, 2),
        ("0::/slice/app\n", {"slice": 5, "slice/app": 3, "slice/other": 1}, 3),
        ("0::/\n", {"slice": 2}, None),
        ("0::/../other\n", {"slice": 2}, None),
        ("4:cpu,cpuacct:/docker/ab\n", {"cpu/docker/ab": 2}, 2),
        ("4:cpu,cpuacct:/docker/ab\n", {"cpu": 2, "docker/ab": 1}, 2),
        ("3:cpuset:/docker/ab\n", {"cpu/docker/ab": 1}, None),
        ("1:cpu:/ab\n0::/slice\n", {"cpu/ab": 4, "slice": 3}, 3),
        ("nonsense\n", {"slice": 1}, None),
    ],
)
def test_quota_of_the_processs_own_cgroup(
    tmp_path: Path, lines: str, quotas: dict[str, int], processors: int | None
) -> None:
    assert member(tmp_path, lines, quotas) == processors


@pytest.mark.parametrize(
    ("usable", "physical", "quota", "expected"),
    [
        (8, 4, None, 4),
        (2, 4, None, 2),
        (8, 4, 3, 3),
        (8, 4, 16, 4),
        (8, None, None, 8),
        (1, 1, 1, 1),
    ],
)
def test_the_default_is_the_least_of_all_limits(
    monkeypatch: pytest.MonkeyPatch,
    usable: int,
    physical: int | None,
    quota: int | None,
    expected: int,
) -> None:
    monkeypatch.setattr(threads, "usable_processors", lambda: usable)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: quota)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: physical)
    assert default_threads() == expected


def test_the_default_may_be_used() -> None:
    assert check_threads(None) == default_threads()
    assert 1 <= default_threads() <= usable_processors()
    assert check_threads(usable_processors()) == usable_processors()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_affinity_is_respected() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_processors() == default_threads() == 1
        with pytest.raises(InputError, match="threads=2: this process may use 1 processors"):
            check_threads(2)
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("wrong", [0, -3, True, "4", 2.0, 10**6])
def test_other_numbers_are_refused(wrong: object) -> None:
    with pytest.raises(InputError, match="this process may use"):
        check_threads(wrong)
