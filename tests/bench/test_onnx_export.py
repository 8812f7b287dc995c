"""Exports for rival engines, as far as they are kept in the cache."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from prunus import cache
from prunus.bench.engines.contract import Job
from prunus.bench.engines.onnx_export import Exports
from prunus.ownership import UNFINISHED


class Loader:
    """Loads nothing, but has the key by which exports are kept."""

    key = "a module"

    def __call__(self) -> None:
        raise AssertionError("the module is not needed")


@contextlib.contextmanager
def exports(folder: Path) -> Iterator[Exports]:
    with contextlib.closing(
        Exports(Job(Loader(), {"x": np.zeros((2, 2), np.float32)}, 1, folder))
    ) as made:
        yield made


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")
def test_exports_that_others_can_have_written_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_said", set())
    before = os.umask(0)
    try:
        with exports(tmp_path) as made:
            made.remember("facts", {"a": 1})
    finally:
        os.umask(before)
    with exports(tmp_path) as made:
        assert made.recall("facts") == {"a": 1}
        assert made.note == ""
    (kept,) = (tmp_path / "onnx").iterdir()
    (kept / "facts.json").chmod(0o666)
    with pytest.warns(cache.CacheWarning, match="prunus cache clear"), exports(tmp_path) as made:
        assert made.recall("facts") is None
        assert "others may have written to" in made.note


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")
def test_what_another_process_is_writing_does_not_matter(tmp_path: Path) -> None:
    with exports(tmp_path) as made:
        made.remember("facts", {"a": 1})
    (kept,) = (tmp_path / "onnx").iterdir()
    (kept / f"{UNFINISHED}work").mkdir()
    (kept / f"{UNFINISHED}work").chmod(0o777)
    with exports(tmp_path) as made:
        assert made.recall("facts") == {"a": 1}
