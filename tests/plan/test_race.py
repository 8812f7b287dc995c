"""Races on real weights, and the memory of their results."""

import json
from pathlib import Path

import numpy as np
import pytest

from prunus import cache
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.panel import Panel, pack_dense
from prunus.kernels.row_stream import RowStream, pack_row_streams
from prunus.kernels.target import parse_target
from prunus.plan.race import Choices, race
from prunus.sparsity import BlockSparse
from tests.kernels.harness import HASWELL

SECONDS = {"dense 6": 2.0, "stream 192": 1.0}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNUS_CACHE_DIR", str(tmp_path))


def never() -> dict[str, float]:
    raise AssertionError("the race was run again")


def choices(target: str = "native") -> Choices:
    return Choices(parse_target(target))


def test_a_race_times_every_entrant() -> None:
    weight = np.random.default_rng(0).standard_normal((12, 40)).astype(np.float32)
    dense = pack_dense(weight, groups=1)
    stream = pack_row_streams(BlockSparse.from_dense(weight), input_block=16, groups=1)
    seconds = race(
        [
            ("dense", Panel(64, dense.rows, False, Epilogue()), dense),
            ("stream", RowStream(64, 16, Epilogue()), stream),
        ],
        weight.shape,
        parse_target(),
    )
    assert seconds.keys() == {"dense", "stream"}
    assert all(0 < each < 1 for each in seconds.values())


def test_results_are_remembered_by_the_processor() -> None:
    first = choices()
    assert first.remembered("layer", SECONDS, lambda: SECONDS) == SECONDS
    assert first.remembered("layer", SECONDS, never) == SECONDS
    first.save()
    assert choices().remembered("layer", SECONDS, never) == SECONDS
    other = {"dense 6": 5.0, "stream 192": 6.0}
    assert choices(HASWELL).remembered("layer", SECONDS, lambda: other) == other


def test_a_process_keeps_what_another_saved_meanwhile() -> None:
    first, second = choices(), choices()
    first.remembered("a", SECONDS, lambda: SECONDS)
    second.remembered("b", SECONDS, lambda: SECONDS)
    first.save()
    second.save()
    later = choices()
    assert later.remembered("a", SECONDS, never) == later.remembered("b", SECONDS, never)


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b'"layer"',
        b'{"layer": 3}',
        b'{"layer": [1, 2]}',
        b'{"layer": {"dense 6": "fast", "stream 192": 1}}',
        b'{"layer": {"dense 6": null, "stream 192": 1}}',
        b'{"layer": {}}',
        b'{"layer": {"dense 6": 2.0}}',
        json.dumps({"other": SECONDS}).encode(),
    ],
)
def test_an_entry_that_makes_no_sense_is_not_used(entry: bytes) -> None:
    assert cache.write("choices", choices()._key, entry)
    found = choices()
    assert found.remembered("layer", SECONDS, lambda: SECONDS) == SECONDS
    found.save()
    assert choices().remembered("layer", SECONDS, never) == SECONDS


def test_a_damaged_entry_is_not_used(tmp_path: Path) -> None:
    first = choices()
    first.remembered("layer", SECONDS, lambda: SECONDS)
    first.save()
    (entry,) = (tmp_path / "choices").iterdir()
    entry.write_bytes(entry.read_bytes()[:-3])
    cache._said.discard("damaged")
    with pytest.warns(cache.CacheWarning, match="damaged"):
        again = choices()
    assert again.remembered("layer", SECONDS, lambda: SECONDS) == SECONDS
