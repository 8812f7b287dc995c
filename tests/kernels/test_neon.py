"""Code for Arm, read as assembly: the kernels of the same emitters, with nothing lost to registers,
loads or calls. `test_neon_emulated.py` runs it.
"""

import re
from typing import NamedTuple

import pytest

from prunus.kernels.attention import Attention
from prunus.kernels.elementwise import Elementwise
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.layout import TILE
from prunus.kernels.normalize import LayerNorm
from prunus.kernels.panel import Panel, register_vectors
from prunus.kernels.row_stream import RowStream
from prunus.kernels.spec import Kernel
from prunus.kernels.target import NEON, parse_target
from prunus.kernels.tokens import Embed, TakeTokens, Unpack
from tests.kernels.emulator import NEOVERSE as TARGET

WIDTHS = (16, 32, 48, 64)
GELU = Epilogue("gelu", True)
EPILOGUES = (Epilogue(), GELU)

# `fmla v22.4s, v26.4s, v24.s[0]` or `fmla v19.4s, v10.4s, v11.4s`
FMLA = re.compile(r"fmla\s+v\d+\.4s, v\d+\.4s, v\d+\.(4s|s\[\d\])")
CALL = re.compile(r"(bl|blr)\s+(\S+)")
# What a load fills: `ldp q5, q6, [x19]`, `ld1r { v11.4s }, [x2], #4`, `ldrh w19, [x13, x7, lsl #1]`
LOAD = re.compile(r"(ld\w+)\s+([^\[]+)\[")
LABEL = re.compile(r"(\.?\w+):")


def assembly(kernel: Kernel) -> list[str]:
    return [line.strip() for line in kernel.assembly(parse_target(TARGET)).splitlines()]


def innermost_loops(lines: list[str]) -> list[list[str]]:
    """The instructions of each loop that is one block: from a label to the branch back to it."""
    loops: list[list[str]] = []
    label, block = "", list[str]()
    for line in lines:
        found = LABEL.match(line)
        if found:
            label, block = found[1], []
        elif line and not line.startswith("."):
            block.append(line)
            if label and line.startswith(("b", "cb", "tb")) and line.split()[-1] == label:
                loops.append(block)
                label, block = "", []  # what follows belongs to no loop
    return loops


def sums(kernel: Kernel) -> list[list[str]]:
    """The loops that do the kernel's work: those with FMAs, but for an epilogue's, which has
    divisions.
    """
    loops = innermost_loops(assembly(kernel))
    return [
        loop
        for loop in loops
        if any(map(FMLA.match, loop)) and not any(line.startswith("fdiv") for line in loop)
    ]


class Loads(NamedTuple):
    """What a loop loads: vectors of activations, single weights, indices."""

    vectors: int
    weights: int
    indices: int


def loads(loop: list[str]) -> Loads:
    """A pair of registers counts as two loads; a load that fills all lanes with one float is a
    weight.
    """
    counts = dict.fromkeys(Loads._fields, 0)
    for name, filled in (found.groups() for line in loop if (found := LOAD.match(line))):
        for register in re.findall(r"\b([a-z])\d+", filled):
            if name == "ld1r" or register in "sd":
                counts["weights"] += 1
            else:
                counts["vectors" if register in "qv" else "indices"] += 1
    return Loads(**counts)


def check_sums(kernel: Kernel, *, fmlas: int, needed: Loads) -> None:
    """Every loop of sums holds exactly the FMAs and the loads that it must, of activations at most
    one an FMA, and no register is spilled in it.
    """
    assert needed.vectors <= fmlas
    loops = sums(kernel)
    assert loops
    for loop in loops:
        assert sum(bool(FMLA.match(line)) for line in loop) == fmlas
        assert loads(loop) == needed
        assert not [line for line in loop if "[sp" in line or CALL.match(line)]


def test_the_target_is_neon() -> None:
    target = parse_target(TARGET)
    assert target.isa is NEON
    assert str(target) == "neoverse-n1 (NEON)"


@pytest.mark.parametrize("epilogue", EPILOGUES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_row_stream_keeps_its_sums_in_registers(width: int, epilogue: Epilogue) -> None:
    vectors = width // 4
    check_sums(RowStream(width, 192, epilogue), fmlas=vectors, needed=Loads(vectors, 1, 1))


@pytest.mark.parametrize(("width", "epilogue"), [*((w, Epilogue()) for w in WIDTHS), (64, GELU)])
@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 6])
def test_panel_keeps_its_sums_in_registers(
    width: int, rows: int, indexed: bool, epilogue: Epilogue
) -> None:
    vectors = register_vectors(parse_target(TARGET))
    kernel = Panel(width, rows, indexed, epilogue)
    check_sums(kernel, fmlas=rows * vectors, needed=Loads(vectors, rows, int(indexed)))


@pytest.mark.parametrize("mask", ["none", "key", "full"])
def test_attention_keeps_its_sums_in_registers(mask: str) -> None:
    kernel = Attention(TILE, 64, 64, 0.125, mask, True)  # type: ignore[arg-type]
    counts = [sum(bool(FMLA.match(line)) for line in loop) for loop in sums(kernel)]
    assert counts.count(6 * 4) == 2, "scores, and the values of six features at a time"
    assert not [line for loop in sums(kernel) for line in loop if "[sp" in line]


KERNELS = (
    RowStream(TILE, 192, Epilogue("gelu", True)),
    Panel(TILE, 6, False, Epilogue("tanh")),
    Panel(TILE, 6, True, Epilogue("silu")),
    Attention(TILE, 8, 8, 0.3, "full", True),
    LayerNorm(TILE),
    Elementwise(TILE, "erf", ("tile",)),
    Elementwise(TILE, "multiply", ("tile", "feature")),
    Embed(TILE, 2),
    Unpack(TILE),
    TakeTokens(TILE),
)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_every_kernel_is_vector_code_without_calls(kernel: Kernel) -> None:
    lines = assembly(kernel)
    calls = {found[2] for line in lines if (found := CALL.match(line))}
    # Zeroing lanes without a token is a memset to LLVM, once a tile.
    assert calls <= {"memset"}
    if not isinstance(kernel, Embed | Unpack | TakeTokens):
        assert any(re.match(r"f(mla|mul)\s+v\d+\.4s", line) for line in lines)
