"""The processor's limits: that the kernels which measure them do what they say."""

import numpy as np
import pytest

from prunus.kernels import peak
from prunus.kernels.attention import ROWS, Attention
from prunus.kernels.layout import TILE
from prunus.kernels.normalize import LayerNorm
from prunus.kernels.panel import Panel
from prunus.kernels.row_stream import RowStream
from prunus.kernels.target import parse_target
from tests.kernels.harness import Guarded, targets
from tests.quick_limits import measure_limits_quickly


@targets
def test_all_of_a_buffer_is_loaded_as_often_as_asked(target: str) -> None:
    lanes = parse_target(target).lanes
    strides, repeats = 3, 5
    buffer, out = Guarded(strides * peak.LOADS * lanes), Guarded(peak.LOADS * lanes)
    buffer.floats[:] = np.arange(buffer.floats.size)
    kernel = peak.LoadStream(TILE)
    arguments = {"repeats": repeats, "buffer": buffer.address, "strides": strides}
    words = np.array(kernel.words({**arguments, "out": out.address}))
    kernel.function(parse_target(target))(words.ctypes.data, 0, None)
    np.testing.assert_array_equal(
        out.floats, repeats * buffer.floats.reshape(strides, -1).sum(axis=0)
    )
    out.check_guards()


@targets
def test_the_chains_of_fmas_are_all_run(target: str) -> None:
    lanes = parse_target(target).lanes
    out = Guarded(peak.CHAINS * lanes)
    out.floats[:] = 0.5
    kernel = peak.FmaPeak(TILE)
    words = np.array(kernel.words({"repeats": 3, "out": out.address}))
    kernel.function(parse_target(target))(words.ctypes.data, 0, None)
    for chain, total in enumerate(out.floats.reshape(peak.CHAINS, lanes)):
        # Three times t ↦ t/2 + 1/2, which has the fixed point 1.
        np.testing.assert_array_equal(total, 1 + (chain - 1) / 8)


def test_rates_are_amounts_by_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def fastest(kernel: object, arguments: list[dict[str, int]], *rest: object) -> float:
        ran.append((kernel, arguments))
        return peak.ROUND_SECONDS / 4 if len(ran) < 3 else 2 * peak.ROUND_SECONDS

    monkeypatch.setattr(peak, "_fastest", fastest)
    target = parse_target()
    stride = peak.LOADS * target.lanes * 4
    rate = peak.load_rate(2, 3 * stride + 1, target)
    repeats = [arguments[0]["repeats"] for _, arguments in ran]
    assert repeats == [1, 5, 25, 25]  # until it takes long enough, and then what counts
    assert all(len(arguments) == 2 for _, arguments in ran)
    assert rate == pytest.approx(25 * 3 * stride * 2 / (2 * peak.ROUND_SECONDS))
    flops = peak.fma_peak(2, target)
    assert flops == pytest.approx(
        2 * 2 * peak.REPEATS * peak.CHAINS * target.lanes / (2 * peak.ROUND_SECONDS)
    )


def test_both_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_limits_quickly(monkeypatch, rounds=2)
    assert 1e6 < peak.fma_peak(2) < 1e14
    assert 1e6 < peak.load_rate(2, 16 * 1024) < 1e14


def test_loads_for_each_fma() -> None:
    assert RowStream(64).loads_per_fma == 1
    assert Panel(64, 4).loads_per_fma == 1 / 4
    assert Attention(64).loads_per_fma == 1 / ROWS
    assert LayerNorm(64).loads_per_fma == 0
