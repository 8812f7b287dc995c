"""LLVM IR → machine code: optimised, cached on disk as objects, linked into this process.

Machine code is keyed by everything that decides it: the kernel's specification, the target, LLVM's
version and the text of the emitters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from prunus import cache as disk
from prunus.errors import PrunusError
from prunus.kernels.llvm_access import check_not_ending, in_llvm
from prunus.kernels.target import Target
from prunus.versions import source_digest


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
    return in_llvm(lambda: str(_machine(target).emit_assembly(_optimized(text, target))))


def _object_code(text: str, target: Target) -> bytes:
    return bytes(_machine(target).emit_object(_optimized(text, target)))


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
        self.target = target
        # LLVM's older linker maps each section by itself. Code reaches its constants within 2 GiB
        # only, so where memory is in small pieces far apart, that linker ends the process.
        self._jit = in_llvm(lambda: llvm.create_lljit_compiler(_machine(target), use_jit_link=True))
        self._linked: dict[str, Any] = {}
        self._attempts = count()

    def functions(
        self, identity: str, symbols: tuple[str, ...], emit: Callable[[], str]
    ) -> dict[str, int]:
        """The addresses of functions of the module that `emit` writes as LLVM IR.

        `identity` names the module: same identity, same code. `emit` is called only where neither
        this process nor the cache has it. Interrupted anywhere, it may be called again: a step
        ends wholly or leaves nothing.
        """
        linked = self._linked.get(identity)
        if linked is None:
            check_not_ending()
            code = self._code(identity, emit)
            linked = in_llvm(lambda: self._link(identity, symbols, code))
        return {symbol: int(linked[symbol]) for symbol in symbols}

    def _code(self, identity: str, emit: Callable[[], str]) -> bytes:
        """The module as an object file, from the cache or made now."""
        target = self.target
        key = "\n".join((identity, target.triple, target.cpu, target.features, code_version()))
        code = disk.read("code", key)
        if code is None:
            text = emit()
            code = in_llvm(lambda: _object_code(text, target))
            disk.write("code", key, code)
        return code

    def _link(self, identity: str, symbols: tuple[str, ...], code: bytes) -> Any:
        """The module in this process; that of another thread which was faster."""
        if identity not in self._linked:
            library = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
            for symbol in symbols:
                library.export_symbol(symbol)
            # A name serves once, even where linking fails.
            name = f"prunus {next(self._attempts)} {symbols[0]}"
            self._linked[identity] = library.link(self._jit, name)
        return self._linked[identity]


_linkers: dict[Target, Linker] = {}


def linker(target: Target) -> Linker:
    """The one linker of a target in this process.

    Raises:
        PrunusError: code for the target cannot run here, or this process is ending.
    """
    found = _linkers.get(target)
    if found is None:
        found = in_llvm(lambda: _linkers.get(target) or _linkers.setdefault(target, Linker(target)))
    return found
