"""LLVM IR → machine code: optimised, cached on disk as objects, linked into this process.

Machine code is keyed by everything that decides it: the kernel's specification, the target, LLVM's
version and the text of the emitters.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from prunus import cache as disk
from prunus.errors import PrunusError
from prunus.kernels.target import Target
from prunus.versions import source_digest

_lock = threading.RLock()
"""Held by the thread that is inside LLVM."""

_ending = False


def _end() -> None:
    """Wait for the thread that is inside LLVM, and let none in any more: it would crash where the
    ending process has torn down what LLVM needs (20 of 30 processes did).
    """
    global _ending
    with _lock:
        _ending = True


def _check_not_ending() -> None:
    if _ending:
        raise PrunusError("no more code is compiled, as this process is ending")


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    # A fork waits until no thread is inside LLVM. What one holds there (llvmlite has a lock of its
    # own) would never be released in the child.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


@cache
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    # Without a parser, inline assembly (`pause`) aborts the process.
    llvm.initialize_native_asmparser()


@cache
def _machine(target: Target) -> llvm.TargetMachine:
    _initialize()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small"
    )


def _optimized(text: str, target: Target) -> llvm.ModuleRef:
    module = llvm.parse_assembly(text)
    # An invalid module would end the process inside LLVM.
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    # The emitters vectorise and unroll themselves; LLVM's own unrolling of short data-driven loops
    # only costs code.
    options.loop_vectorization = options.slp_vectorization = False
    options.loop_unrolling = options.loop_interleaving = False
    builder = llvm.create_pass_builder(_machine(target), options)
    builder.getModulePassManager().run(module, builder)
    return module


def assembly(text: str, target: Target) -> str:
    """The assembly that LLVM makes of IR `text`: for reading, and for tests of what cannot run
    here.
    """
    with _lock:
        _check_not_ending()
        return str(_machine(target).emit_assembly(_optimized(text, target)))


@cache
def code_version() -> str:
    """The versions of LLVM and of this folder's sources: changed emitters never find old code."""
    return f"llvmlite {llvmlite.__version__}, kernels {source_digest('kernels')}"


class Linker:
    """The machine code of one target in this process; `functions` links what is not linked yet."""

    def __init__(self, target: Target) -> None:
        if not target.native:
            raise PrunusError(
                f"code for {target} cannot run on this processor; use it to read the assembly, "
                "or choose target='native'"
            )
        _check_not_ending()
        _initialize()
        self.target = target
        self._jit = llvm.create_lljit_compiler(_machine(target), use_jit_link=False)
        self._trackers: dict[str, Any] = {}

    def functions(
        self, identity: str, symbols: tuple[str, ...], emit: Callable[[], str]
    ) -> dict[str, int]:
        """The addresses of functions of the module that `emit` writes as LLVM IR.

        `identity` names the module: same identity, same code. `emit` is called only where neither
        this process nor the cache has it.
        """
        with _lock:
            tracker = self._trackers.get(identity)
            if tracker is None:
                _check_not_ending()
                tracker = self._trackers[identity] = self._link(identity, symbols, emit)
            return {symbol: int(tracker[symbol]) for symbol in symbols}

    def _link(self, identity: str, symbols: tuple[str, ...], emit: Callable[[], str]) -> Any:
        target = self.target
        key = "\n".join((identity, target.triple, target.cpu, target.features, code_version()))
        code = disk.read("code", key)
        if code is None:
            code = bytes(_machine(target).emit_object(_optimized(emit(), target)))
            disk.write("code", key, code)
        library = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        for symbol in symbols:
            library.export_symbol(symbol)
        return library.link(self._jit, f"prunus {len(self._trackers)} {symbols[0]}")


_linkers: dict[Target, Linker] = {}


def linker(target: Target) -> Linker:
    """The one linker of a target in this process.

    Raises:
        PrunusError: code for the target cannot run here, or this process is ending.
    """
    with _lock:
        if target not in _linkers:
            _linkers[target] = Linker(target)
        return _linkers[target]
