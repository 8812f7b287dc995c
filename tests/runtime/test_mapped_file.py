"""A loaded folder that is changed in place is noticed before a call reads the file."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import prunus
from prunus.errors import SavedModelError
from prunus.model import CompiledModel, Source
from prunus.plan import make_options
from prunus.runtime import mapped_file
from prunus.runtime.saved_description import WEIGHTS
from tests.native.encoder import SIGNATURE, encoder, sentences

INPUTS = sentences(3, 9)


def new_model() -> CompiledModel:
    graph = encoder(density=0.3, vocabulary=20_000)  # a table of 1.9 MB, which is mapped
    options = make_options(threads=1, tune="cost")
    return CompiledModel(graph, SIGNATURE, options, Source("encoder"))


def answer(model: CompiledModel) -> bytes:
    return b"".join(part.tobytes() for part in model(**INPUTS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    new_model().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> CompiledModel:
    """A loaded model each of whose calls looks at the file."""
    monkeypatch.setattr(mapped_file, "INTERVAL", 0.0)
    model = prunus.load(folder, threads=1, tune="cost")
    answer(model)
    return model


def truncate(weights: Path) -> None:
    os.truncate(weights, 4096)


def append(weights: Path) -> None:
    with weights.open("ab") as file:
        file.write(b"more")


def overwrite(weights: Path) -> None:
    with weights.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(bytes(1000))


@pytest.mark.parametrize("change", [truncate, append, overwrite])
@pytest.mark.parametrize(
    "use",
    [
        answer,
        lambda model: model.recompile(sparse=False),
        lambda model: model.save_pretrained("copy"),
    ],
    ids=["call", "recompile", "save"],
)
def test_a_file_that_is_changed_in_place_is_noticed(
    folder: Path,
    loaded: CompiledModel,
    change: Callable[[Path], None],
    use: Callable[[CompiledModel], object],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    change(folder / WEIGHTS)
    for _ in range(2):
        with pytest.raises(SavedModelError, match="was changed after it was loaded"):
            use(loaded)


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def rename(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def touch(folder: Path) -> None:
    os.utime(folder / WEIGHTS)


def replace(folder: Path) -> None:
    shutil.copy(folder / WEIGHTS, folder / "new")
    overwrite(folder / "new")
    os.replace(folder / "new", folder / WEIGHTS)


@pytest.mark.parametrize(
    "change", [remove, rename, touch, replace, lambda folder: new_model().save_pretrained(folder)]
)
def test_what_leaves_the_mapped_file_as_it_is_may_be_done(
    folder: Path, loaded: CompiledModel, change: Callable[[Path], None]
) -> None:
    before = answer(loaded)
    change(folder)
    assert answer(loaded) == before == answer(loaded)


def test_a_look_at_the_file_takes_microseconds(folder: Path) -> None:
    file = mapped_file.MappedFile(folder / WEIGHTS)
    file.check()

    def seconds() -> float:
        begin = time.perf_counter()
        for _ in range(1000):
            file.check()
        return (time.perf_counter() - begin) / 1000

    assert min(seconds() for _ in range(5)) < 20e-6
