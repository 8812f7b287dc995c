"""Targets as users write them, and what is said to those that cannot be."""

import pytest

from prunus.errors import PrunusError, TargetError
from prunus.kernels.compiler import linker
from prunus.kernels.target import AVX2, AVX512, CPUS, NEON, parse_target


@pytest.mark.parametrize(
    ("text", "isa", "triple"),
    [
        ("llvm -mcpu=haswell", AVX2, "x86_64-unknown-linux-gnu"),
        ("llvm -mcpu=skylake-avx512", AVX512, "x86_64-unknown-linux-gnu"),
        ("llvm -mtriple=aarch64-linux-gnu -mcpu=neoverse-n1", NEON, "aarch64-linux-gnu"),
        ("llvm -mtriple=aarch64-linux-gnu", NEON, "aarch64-linux-gnu"),
        ("llvm  --mcpu=apple-m1", NEON, "aarch64-unknown-linux-gnu"),
    ],
)
def test_targets_of_llvm(text: str, isa: object, triple: str) -> None:
    target = parse_target(text)
    assert (target.isa, target.triple, target.text) == (isa, triple, text)


def test_native_is_this_processor() -> None:
    assert parse_target().native
    assert parse_target("llvm").cpu == parse_target("llvm -mcpu=native").cpu == parse_target().cpu


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llvm -mcpu=pentium", "LLVM knows no processor 'pentium'.*native, haswell"),
        ("llvm -mcpu=", "cannot read '-mcpu='"),
        ("llvm -march=x86", "cannot read '-march=x86'.*-mcpu=NAME"),
        ("cuda", "starts with 'llvm', found 'cuda'"),
        ("", "starts with 'llvm', found ''"),
        ("llvm -mcpu='haswell", "cannot read .*quotation"),
        ("llvm -mtriple=aarch64-linux-gnu -mcpu=haswell", "'haswell' is x86_64.*aarch64-linux"),
    ],
)
def test_targets_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        parse_target(text)


@pytest.mark.parametrize("cpu", CPUS)
def test_llvm_knows_every_processor_of_the_list(
    cpu: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """LLVM only warns of one that it does not know, and emits code for the oldest."""
    import llvmlite.binding as llvm

    target = parse_target(f"llvm -mcpu={cpu}")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(cpu=cpu)
    module = llvm.parse_assembly(
        f'target triple = "{target.triple}"\ndefine void @f() {{ ret void }}'
    )
    machine.emit_assembly(module)
    assert capfd.readouterr().err == ""


def test_foreign_code_is_for_reading_only() -> None:
    foreign = NEON if parse_target().isa.arch == "x86_64" else AVX2
    name = next(cpu for cpu, isa in CPUS.items() if isa is foreign)
    with pytest.raises(PrunusError, match=r"cannot run on this processor.*target='native'"):
        linker(parse_target(f"llvm -mcpu={name}"))
