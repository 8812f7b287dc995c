"""What the hardware is: vector width, registers, features. One line a processor; `native` asks
LLVM.

A target is written as LLVM's tools write it: `llvm -mcpu=skylake-avx512`, `llvm
-mtriple=aarch64-linux-gnu -mcpu=neoverse-n1`.
"""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from prunus.errors import TargetError
from prunus.kernels.llvm_access import in_llvm


@dataclass(frozen=True, slots=True)
class Isa:
    """An instruction set that kernels are emitted for.

    Attributes:
        name: As people call it.
        arch: The first word of an LLVM triple.
        lanes: float32 values in a vector register.
        registers: Vector registers.
    """

    name: str
    arch: str
    lanes: int
    registers: int


AVX512 = Isa("AVX-512", "x86_64", 16, 32)
AVX2 = Isa("AVX2", "x86_64", 8, 16)
NEON = Isa("NEON", "aarch64", 4, 32)

# Names that LLVM 22 knows. It takes an unknown one with a warning and emits code for the oldest
# processor of the architecture, so the name is checked here.
CPUS: dict[str, Isa] = {
    **dict.fromkeys(
        ("haswell", "broadwell", "skylake", "alderlake", "raptorlake", "meteorlake", "arrowlake",
         "lunarlake", "gracemont", "sierraforest", "znver1", "znver2", "znver3", "x86-64-v3"),
        AVX2,
    ),
    **dict.fromkeys(
        ("skylake-avx512", "cascadelake", "cooperlake", "cannonlake", "icelake-client",
         "icelake-server", "tigerlake", "rocketlake", "sapphirerapids", "emeraldrapids",
         "graniterapids", "znver4", "znver5", "x86-64-v4"),
        AVX512,
    ),
    **dict.fromkeys(
        ("cortex-a72", "cortex-a76", "cortex-a78", "cortex-x1", "neoverse-n1", "neoverse-n2",
         "neoverse-v1", "neoverse-v2", "neoverse-512tvb", "a64fx", "ampere1", "apple-m1",
         "apple-m2", "apple-m3", "apple-m4", "generic"),
        NEON,
    ),
}  # fmt: skip

_TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}


@dataclass(frozen=True, slots=True)
class Target:
    """A processor to emit code for.

    Attributes:
        text: How the user wrote it.
        triple: LLVM's triple.
        cpu: LLVM's name of the processor.
        features: LLVM's feature string, or empty.
        isa: The instruction set.
        native: Whether code for it runs here.
    """

    text: str
    triple: str
    cpu: str
    features: str
    isa: Isa
    native: bool

    @property
    def lanes(self) -> int:
        """float32 values in a vector register."""
        return self.isa.lanes

    @property
    def registers(self) -> int:
        """Vector registers."""
        return self.isa.registers

    def __str__(self) -> str:
        return f"{self.cpu} ({self.isa.name})"


@cache
def parse_target(text: str = "native") -> Target:
    """The target that `text` names: `native`, or `llvm` with `-mcpu=`, `-mtriple=`, `-mattr=`.

    Raises:
        TargetError: LLVM knows no such processor, or kernels cannot be emitted for it.
    """
    if text in ("native", "llvm"):
        return _native(text)
    options = _options(text)
    triple = options.get("mtriple", "")
    cpu = options.get("mcpu", "generic" if triple.startswith("aarch64") else "")
    if cpu in ("", "native"):
        return _native(text)
    if cpu not in CPUS:
        raise TargetError(
            f"LLVM knows no processor {cpu!r} that prunus emits code for; known are native, "
            f"{', '.join(CPUS)}"
        )
    isa = CPUS[cpu]
    triple = triple or _TRIPLES[isa.arch]
    if not triple.startswith(isa.arch):
        raise TargetError(f"the processor {cpu!r} is {isa.arch}, the triple says {triple!r}")
    runs_here = _runs_here(isa)
    features = _features(options.get("mattr", ""), runs_here)
    return Target(text, triple, cpu, features, isa, runs_here)


def _options(text: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError as error:  # a quotation without an end
        raise TargetError(f"cannot read the target {text!r}: {error}") from error
    if not words or words[0] != "llvm":
        raise TargetError(
            f"a target is 'native' or starts with 'llvm', found {text!r}; "
            "write e.g. 'llvm -mcpu=haswell'"
        )
    options: dict[str, str] = {}
    for word in words[1:]:
        key, _, value = word.lstrip("-").partition("=")
        if key not in ("mcpu", "mtriple", "mattr") or not value:
            raise TargetError(
                f"cannot read {word!r} in the target {text!r}; "
                "known are -mcpu=NAME, -mtriple=TRIPLE and -mattr=FEATURES"
            )
        options[key] = value
    return options


def _features(wanted: str, runs_here: bool) -> str:
    """LLVM's feature string: what the user wants, without anything that this processor lacks.

    So code for a newer processor of the same instruction set runs here too, and never traps.
    """
    if not runs_here:
        if wanted:
            raise TargetError("-mattr can only be checked for the architecture of this machine")
        return ""
    host = _host().features
    names = [word.strip() for word in wanted.split(",") if word.strip()]
    unknown = [name for name in names if name[0] not in "+-" or name[1:] not in host]
    if unknown:
        raise TargetError(
            f"LLVM knows no feature {unknown[0]!r}; write e.g. -mattr=+avx512vnni,-avx512fp16"
        )
    return ",".join([*names, *(f"-{name}" for name, has in host.items() if not has)])


@dataclass(frozen=True, slots=True)
class _Host:
    """What LLVM says about this processor."""

    triple: str
    cpu: str
    features: Mapping[str, bool]


@cache
def _host() -> _Host:
    import llvmlite.binding as llvm

    return in_llvm(
        lambda: _Host(
            llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
        )
    )


def _native(text: str) -> Target:
    host, isa = _host(), _host_isa()
    if isa is None:
        raise TargetError(
            f"this processor ({host.cpu}) has none of AVX-512, AVX2 with FMA, and NEON, which the "
            "kernels need"
        )
    features = ",".join(
        f"{'+' if has else '-'}{name}" for name, has in sorted(host.features.items())
    )
    return Target(text, host.triple, host.cpu, features, isa, True)


@cache
def _host_isa() -> Isa | None:
    """The widest instruction set of this processor."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return NEON
    has = _host().features
    if all(has.get(name) for name in ("avx512f", "avx512vl", "avx512bw", "avx512dq")):
        return AVX512
    return AVX2 if has.get("avx2") and has.get("fma") else None


def _runs_here(isa: Isa) -> bool:
    host = _host_isa()
    return host is not None and host.arch == isa.arch and isa.lanes <= host.lanes
