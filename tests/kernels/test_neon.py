"""Code for Arm, read as assembly: the kernels of the same emitters, with nothing lost to registers
or calls.
"""

import re

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

TARGET = "llvm -mtriple=aarch64-unknown-linux-gnu -mcpu=neoverse-n1"
WIDTHS = (16, 32, 48, 64)
EPILOGUES = (Epilogue(), Epilogue("gelu", True))

# `fmla v22.4s, v26.4s, v24.s[0]` or `fmla v19.4s, v10.4s, v11.4s`
FMLA = re.compile(r"fmla\s+v\d+\.4s, v\d+\.4s, v\d+\.(4s|s\[\d\])")
CALL = re.compile(r"(bl|blr)\s+(\S+)")
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


def check_sums(kernel: Kernel, fmlas: int) -> None:
    """Every loop of sums holds exactly the FMAs that it must, and no register is spilled in it."""
    loops = sums(kernel)
    assert loops
    for loop in loops:
        assert sum(bool(FMLA.match(line)) for line in loop) == fmlas
        assert not [line for line in loop if "[sp" in line or CALL.match(line)]


def test_the_target_is_neon() -> None:
    target = parse_target(TARGET)
    assert target.isa is NEON
    assert str(target) == "neoverse-n1 (NEON)"


@pytest.mark.parametrize("epilogue", EPILOGUES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_row_stream_keeps_its_sums_in_registers(width: int, epilogue: Epilogue) -> None:
    check_sums(RowStream(width, 192, epilogue), width // 4)


@pytest.mark.parametrize("epilogue", EPILOGUES, ids=str)
@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 6])
@pytest.mark.parametrize("width", [16, 64])
def test_panel_keeps_its_sums_in_registers(
    width: int, rows: int, indexed: bool, epilogue: Epilogue
) -> None:
    check_sums(Panel(width, rows, indexed, epilogue), rows * register_vectors(parse_target(TARGET)))


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
