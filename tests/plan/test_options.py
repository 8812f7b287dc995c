"""What a user may ask for, and what is said to the rest."""

from typing import Any

import pytest

from prunus.errors import InputError, PrunusError, TargetError
from prunus.plan import make_options
from prunus.runtime.threads import default_threads, usable_processors


def test_defaults() -> None:
    options = make_options()
    assert (options.sparse, options.block, options.threshold) == (True, "auto", "auto")
    assert (options.threads, options.tune) == (default_threads(), "race")
    assert options.target.native


@pytest.mark.parametrize("block", [(4, 1), [4, 1], "4x1", "4X1"])
def test_spellings_of_a_block(block: Any) -> None:
    assert make_options(block=block).block == (4, 1)


@pytest.mark.parametrize("threshold", [0, 0.0, 0.5, 1, 1.0, "0.5"])
def test_thresholds(threshold: Any) -> None:
    assert make_options(threshold=threshold).threshold == float(threshold)


WRONG: list[tuple[str, Any, str]] = [
    ("sparse", 1, "sparse=1: expected True or False"),
    ("sparse", "yes", "sparse='yes'"),
    ("block", (0, 1), r"positive integers .*found \(0, 1\)"),
    ("block", (4, -1), r"found \(4, -1\)"),
    ("block", (4.0, 1), r"found \(4.0, 1\)"),
    ("block", (4,), r"block=\(4,\): expected 'auto', \(rows, columns\)"),
    ("block", (4, 1, 1), "expected 'auto'"),
    ("block", "4", "expected 'auto'"),
    ("block", "4xa", "found .*'a'"),
    ("block", "x", "found"),
    ("block", None, "block=None"),
    ("block", 4, "block=4: expected"),
    ("block", (2048, 1024), "at most 1048576 elements"),
    ("threshold", 1.5, "threshold=1.5: expected 'auto' or a share from 0 to 1"),
    ("threshold", -0.1, "threshold=-0.1"),
    ("threshold", float("nan"), "threshold=nan"),
    ("threshold", "most", "threshold='most'"),
    ("threshold", None, "threshold=None"),
    ("tune", "fast", "tune='fast': expected 'race' or 'cost'"),
    ("tune", None, "tune=None"),
    ("threads", 0, "threads=0: this process may use"),
    ("threads", -1, "threads=-1"),
    ("threads", True, "threads=True"),
    ("threads", "2", "threads='2'"),
    ("threads", 1.0, "threads=1.0"),
    ("threads", 100_000, f"pass a number from 1 to {usable_processors()}, or None for"),
    ("target", None, "target=None: expected 'native'"),
    ("target", ["native"], "target="),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_wrong_values_say_what_was_expected(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_options(**{name: value})


def test_an_unknown_target() -> None:
    with pytest.raises(TargetError, match=r"LLVM knows no processor 'i386'.*native, haswell"):
        make_options(target="llvm -mcpu=i386")


def test_a_target_of_another_processor() -> None:
    with pytest.raises(PrunusError, match="cannot run"):
        make_options(target="llvm -mtriple=aarch64-linux-gnu" if _is_x86() else "llvm -mcpu=znver4")


def _is_x86() -> bool:
    return make_options().target.isa.arch == "x86_64"
