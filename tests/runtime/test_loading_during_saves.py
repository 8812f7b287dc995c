"""Loading a folder to which others save: one whole model, never a mixture, never `damaged`."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from prunus.errors import SavedModelError
from prunus.ir import Constant, Graph
from prunus.runtime import mapped_file, saved
from prunus.runtime.saved import load_model
from prunus.runtime.saved_description import DESCRIPTION, WEIGHTS
from tests.runtime.test_saved import save, small_graph

ROUNDS = 300
STAGING = ".prunus-save-0123456789abcdef"


def graph_of(name: str) -> Graph:
    """One that tells by a bias whose it is."""
    return small_graph(**{"layer.0.bias": Constant(np.full(9, ord(name), np.float32))})


def mix(folder: Path) -> Path:
    """Make a folder of which a save has replaced the weights alone; its description follows."""
    save(folder, graph_of("a"), source="a")
    other = save(folder.with_name("other"), graph_of("b"), source="b")
    os.replace(other / WEIGHTS, folder / WEIGHTS)
    return other / DESCRIPTION


def test_loading_during_saves_gives_one_whole_model(tmp_path: Path) -> None:
    graphs = {name: graph_of(name) for name in "ab"}
    folder = save(tmp_path / "model", graphs["a"], source="a")
    stop = threading.Event()

    def save_all(names: str) -> None:
        while not stop.is_set():
            for name in names:
                save(folder, graphs[name], source=name)

    with ThreadPoolExecutor(2) as pool:
        savers = [pool.submit(save_all, names) for names in ("ab", "ba")]
        try:
            found = [load_model(folder) for _ in range(ROUNDS)]
        finally:
            stop.set()
        for saver in savers:
            saver.result()
    assert {each.source for each in found} == {"a", "b"}
    for each in found:
        bias = each.graph.constants["layer.0.bias"].dense()
        assert (bias == ord(each.source)).all()


def test_a_reader_waits_for_the_description(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    description = mix(folder)
    (folder / STAGING).mkdir()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load_model, folder)
        time.sleep(0.1)
        assert not loading.done()
        os.replace(description, folder / DESCRIPTION)
        assert loading.result().source == "b"


def test_a_save_that_broke_off_is_waited_for_with_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    mix(folder)
    (folder / STAGING).mkdir()
    monkeypatch.setattr(saved, "_MAX_WAIT", 0.2)
    begin = time.monotonic()
    with pytest.raises(SavedModelError, match="save the model again"):
        load_model(folder)
    assert time.monotonic() - begin >= 0.2


def test_damage_is_told_at_once_where_nobody_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(_: float) -> None:
        pytest.fail("nobody saves, so there is nothing to wait for")

    folder = tmp_path / "model"
    mix(folder)
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(SavedModelError, match="save the model again"):
        load_model(folder)


def test_the_digest_is_that_of_the_mapped_file(tmp_path: Path) -> None:
    """Also where another file lies at its path by now: what is mapped must be what was checked."""
    folder = save(tmp_path / "model", graph_of("a"))
    mapped = mapped_file.MappedFile(folder / WEIGHTS)
    first = mapped.digest
    save(folder, graph_of("b"))
    assert mapped.digest == first != mapped_file.MappedFile(folder / WEIGHTS).digest
    mapped.check()


def test_the_first_file_that_is_replaced_tells_of_a_save_that_broke_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    given = {"companions": [tmp_path / "config.json"]}
    folder = save(tmp_path / "model", graph_of("a"), **given)
    replaced: list[str] = []
    replace = os.replace

    def once(source: Path, target: Path) -> None:
        if replaced:
            raise OSError(5, "Input/output error")
        replace(source, target)
        replaced.append(target.name)

    with monkeypatch.context() as patch, pytest.raises(SavedModelError, match="Input/output"):
        patch.setattr(os, "replace", once)
        save(folder, graph_of("b"), **given)
    assert replaced == [WEIGHTS]
    with pytest.raises(SavedModelError, match="save the model again"):
        load_model(folder)
