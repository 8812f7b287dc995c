"""Machine code and its cache: found again, made again where it is damaged."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from llvmlite.binding import orcjit

from prunus import cache
from prunus.kernels import compiler
from prunus.kernels.compiler import Linker, code_version
from prunus.kernels.elementwise import Elementwise
from prunus.kernels.emit import Emitter
from prunus.kernels.target import parse_target
from tests.kernels.harness import HASWELL
from tests.runtime.processes import run_python

KERNEL = Elementwise(16, "negate", ("tile",))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRUNUS_CACHE_DIR", str(tmp_path))
    return tmp_path / "code"


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The kernels that were emitted since the test began."""
    names: list[str] = []
    finish = Emitter.finish

    def record(self: Emitter) -> str:
        names.append(self.function.name)
        return finish(self)

    monkeypatch.setattr(Emitter, "finish", record)
    yield names


def link() -> int:
    """The kernel's address in a linker of its own, as in a process of its own."""
    target = parse_target()
    symbol = KERNEL.symbol
    linked = Linker(target).functions(repr(KERNEL), (symbol,), lambda: KERNEL.ir(target))
    return linked[symbol]


def test_code_is_emitted_once(own_cache: Path, emitted: list[str]) -> None:
    assert link() != 0
    assert emitted == [KERNEL.symbol]
    assert link() != 0
    assert emitted == [KERNEL.symbol]
    assert len(list(own_cache.iterdir())) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")
def test_code_that_others_can_have_written_is_not_executed(
    own_cache: Path, emitted: list[str]
) -> None:
    """The folder is this user's own again, but not what was left in it."""
    link()
    (entry,) = own_cache.iterdir()
    if os.geteuid() == 0:
        os.chown(entry, 12345, -1)
    else:
        entry.chmod(0o666)
    cache._said.discard("foreign")
    with pytest.warns(cache.CacheWarning, match="prunus cache clear"):
        assert link() != 0
    assert emitted == [KERNEL.symbol] * 2
    assert link() != 0
    assert emitted == [KERNEL.symbol] * 2


def test_damaged_code_is_made_again(own_cache: Path, emitted: list[str]) -> None:
    link()
    (entry,) = own_cache.iterdir()
    entry.write_bytes(entry.read_bytes()[:-1] + b"x")
    cache._said.discard("damaged")
    with pytest.warns(cache.CacheWarning, match="damaged"):
        link()
    assert len(emitted) == 2


def test_linking_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLVM takes the name of a library once, even where nobody got a handle to it."""
    target, symbol = parse_target(), KERNEL.symbol
    own = Linker(target)
    wanted = repr(KERNEL), (symbol,), lambda: KERNEL.ir(target)
    with monkeypatch.context() as patch:
        patch.setattr(orcjit, "ResourceTracker", fail)
        with pytest.raises(MemoryError):
            own.functions(*wanted)
    assert own.functions(*wanted)[symbol] != 0


def fail(*_: object) -> NoReturn:
    """As where memory is short."""
    raise MemoryError


def test_other_targets_and_versions_have_code_of_their_own(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link()
    monkeypatch.setattr(compiler, "code_version", lambda: "another")
    link()
    assert len(list(own_cache.iterdir())) == 2


def test_names_tell_kernels_apart() -> None:
    kernels = [
        Elementwise(width, op, ("tile",)) for width in (16, 64) for op in ("negate", "abs", "exp")
    ]
    assert len({kernel.symbol for kernel in kernels}) == len(kernels)
    assert "llvmlite" in code_version()


def test_haswell_code_has_no_avx512() -> None:
    text = Elementwise(64, "exp", ("tile",)).assembly(parse_target(HASWELL))
    assert "%ymm" in text
    assert "%zmm" not in text


@pytest.mark.skipif(sys.platform != "linux", reason="memory is scattered by Linux' mmap")
def test_code_is_linked_where_memory_is_in_small_pieces_far_apart(own_cache: Path) -> None:
    """Sections of one object that lay gigabytes apart ended the process."""
    ran = run_python("-m", "tests.kernels.scattered", seconds=120)
    assert ran.stdout == "the same\n", ran.stderr[-2000:]
