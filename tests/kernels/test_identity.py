"""Names and keys of kernels: the same text always, even after an interrupt."""

import pytest

from prunus.identity import identity
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.normalize import LayerNorm
from prunus.kernels.panel import Panel
from prunus.kernels.spec import Kernel
from tests.runtime.interrupts import Stop, count_points, stop_at

KERNELS: tuple[Kernel, ...] = (
    Panel(64, 2, True, Epilogue("gelu", True)),
    LayerNorm(16, 1e-12, True),
)


@pytest.mark.parametrize("value", [*KERNELS, (1,), (), [KERNELS], {"a": KERNELS}, 0.5, "x", None])
def test_an_identity_reads_as_repr_does(value: object) -> None:
    assert identity(value) == repr(value)


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_interrupt_leaves_no_kernel_without_its_name(kernel: Kernel) -> None:
    """After one within `repr`, which guards itself against recursion, it would be "..."."""
    wanted = kernel.symbol
    for point in range(count_points(lambda: kernel.symbol)):
        stop_at(point, Stop, lambda: kernel.symbol)
        assert kernel.symbol == wanted
