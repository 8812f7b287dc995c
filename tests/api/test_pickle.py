"""A pickled model is a reference: small, equal for equal models, and checked where it arrives."""

import copy
import gc
import hashlib
import importlib.util
import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import prunus
from prunus import cache
from prunus import model as model_module
from prunus.errors import SavedModelError
from prunus.model import CompiledModel, Source
from prunus.plan import make_options
from tests.native.encoder import SIGNATURE, VOCABULARY, encoder, sentences
from tests.runtime.processes import in_a_child, needs_fork, run_python

INPUTS = sentences(3, 9)
MOST_BYTES = 10_000

without_datasets = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="datasets is not installed"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds nothing yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(cache.VARIABLE, str(folder))
    return folder


@pytest.fixture
def model() -> CompiledModel:
    """A model that was never saved."""
    return new_model()


@pytest.fixture
def folder(model: CompiledModel, tmp_path: Path) -> Path:
    """A folder that it was saved in."""
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def new_model(
    *, density: float = 0.3, vocabulary: int = VOCABULARY, **options: object
) -> CompiledModel:
    chosen = make_options(**{"threads": 1, "tune": "cost", **options})  # type: ignore[arg-type]
    graph = encoder(density=density, vocabulary=vocabulary)
    return CompiledModel(graph, SIGNATURE, chosen, Source("encoder"))


def answer(model: CompiledModel) -> bytes:
    """The bits of an answer."""
    return b"".join(part.tobytes() for part in model(**INPUTS))


def saved_models() -> int:
    return sum(usage.entries for usage in cache.usage() if usage.kind == "models")


def arrive(data: bytes) -> CompiledModel:
    """Unpickle as a process does that has no such model."""
    gc.collect()
    model_module._pickled.clear()
    arrived = pickle.loads(data)
    assert isinstance(arrived, CompiledModel)
    return arrived


# The reference


def test_a_model_that_was_never_saved_travels_through_the_cache(model: CompiledModel) -> None:
    wanted, data = answer(model), pickle.dumps(model)
    assert len(data) < MOST_BYTES and saved_models() == 1
    assert pickle.dumps(model) == data and saved_models() == 1
    arrived = arrive(data)
    assert arrived is not model and answer(arrived) == wanted
    assert pickle.dumps(arrived) == data


def test_a_model_that_was_saved_travels_by_its_folder(model: CompiledModel, folder: Path) -> None:
    for each in (model, prunus.load(folder, threads=1, tune="cost")):
        data = pickle.dumps(each)
        assert str(folder).encode() in data and len(data) < MOST_BYTES
        assert answer(arrive(data)) == answer(model)
    assert saved_models() == 0


def test_a_relative_folder_is_found_from_elsewhere(
    model: CompiledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("here")
    data = pickle.dumps(model)
    monkeypatch.chdir("/")
    assert answer(arrive(data)) == answer(model)


def test_a_checkpoint_travels_by_its_import(tmp_path: Path) -> None:
    stand_in = pytest.importorskip("prunus.frontend.stand_in")
    pytest.importorskip("transformers")
    stand_in.random_bert(sparsity=0.8, size="tiny").save_pretrained(tmp_path / "bert")
    first = prunus.from_pretrained(tmp_path / "bert", threads=1, tune="cost")
    second = prunus.from_pretrained(tmp_path / "bert", threads=1, tune="cost")
    assert pickle.dumps(first) == pickle.dumps(second)
    assert saved_models() == 1, "that of the import, and no second one"
    assert arrive(pickle.dumps(first)).source == first.source


@pytest.mark.parametrize(
    "options",
    [{"sparse": False}, {"block": (4, 2)}, {"threshold": 0.5}, {"target": "llvm"}, {"threads": 2}],
    ids=str,
)
def test_options_travel(model: CompiledModel, options: dict[str, object]) -> None:
    chosen = model.recompile(**options)
    assert chosen.options != model.options
    assert arrive(pickle.dumps(chosen)).options == chosen.options
    assert pickle.dumps(chosen) != pickle.dumps(model)
    assert saved_models() == 1, "both are the same graph"


def test_no_more_threads_than_a_process_may_use(
    model: CompiledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pickle.dumps(model.recompile(threads=2))
    monkeypatch.setattr("prunus.model.usable_processors", lambda: 1)
    arrived = arrive(data)
    assert arrived.threads == 1 and answer(arrived) == answer(model)


def test_where_it_came_from_travels(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    made = new_model()
    made.source = Source("a name", "made up", (tmp_path / "config.json", tmp_path / "gone.json"))
    arrived = arrive(pickle.dumps(made))
    assert arrived.source == Source("a name", "made up", (tmp_path / "config.json",))
    arrived.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "config.json").is_file()


# Equal models


def test_equal_models_give_equal_bytes() -> None:
    first, second, other = new_model(), new_model(), new_model(density=0.2)
    assert pickle.dumps(first) == pickle.dumps(second) != pickle.dumps(other)
    assert saved_models() == 2


def test_equal_models_give_equal_bytes_in_another_process(model: CompiledModel) -> None:
    code = """
import hashlib, pickle
from tests.api.test_pickle import new_model
print(hashlib.sha256(pickle.dumps(new_model())).hexdigest())
"""
    shown = run_python("-c", code)
    assert shown.stdout.strip() == hashlib.sha256(pickle.dumps(model)).hexdigest(), shown.stderr


@pytest.mark.parametrize("name", ["dill", "cloudpickle"])
def test_a_function_that_holds_a_model(name: str, model: CompiledModel) -> None:
    library = pytest.importorskip(name)

    def work() -> bytes:
        return answer(model)

    data = library.dumps(work)
    assert len(data) < MOST_BYTES
    arrived: Callable[[], bytes] = library.loads(data)
    assert arrived() == work()


# One model a process


def test_a_process_keeps_one_of_each(model: CompiledModel) -> None:
    assert pickle.loads(pickle.dumps(model)) is model
    assert copy.deepcopy(model) is model


def test_nothing_is_kept_that_nobody_uses(model: CompiledModel) -> None:
    data, wanted = pickle.dumps(model), answer(model)
    first = arrive(data)
    kept = weakref.ref(first)
    del first
    gc.collect()
    assert kept() is None
    assert answer(arrive(data)) == wanted


@needs_fork
def test_a_forked_child_uses_the_model_of_its_parent(model: CompiledModel) -> None:
    data, wanted = pickle.dumps(model), answer(model)

    def child() -> bytes:
        arrived = pickle.loads(data)
        return answer(arrived) if arrived is model else b"another one"

    assert in_a_child(child) == wanted


# What can go wrong


def test_a_folder_that_is_gone(model: CompiledModel, folder: Path) -> None:
    data = pickle.dumps(model)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(SavedModelError, match=r"holds no saved model.*save_pretrained"):
        arrive(data)


def test_a_folder_that_holds_another_model_by_now(model: CompiledModel, folder: Path) -> None:
    data = pickle.dumps(model)
    new_model(density=0.2).save_pretrained(folder)
    with pytest.raises(SavedModelError, match=r"another model by now.*pickle it again"):
        arrive(data)


def test_a_folder_that_was_damaged(model: CompiledModel, folder: Path) -> None:
    data = pickle.dumps(model)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(SavedModelError, match="damaged"):
        arrive(data)


def test_a_model_outlives_its_folder_where_it_is_pickled(
    model: CompiledModel, folder: Path
) -> None:
    before = pickle.dumps(model)
    new_model(density=0.2).save_pretrained(folder)
    data = pickle.dumps(model)
    assert data != before and saved_models() == 1
    assert answer(arrive(data)) == answer(model)


def test_a_cache_that_cannot_be_used(model: CompiledModel, own_cache: Path) -> None:
    own_cache.write_text("not a folder")
    cache._said.clear()
    with (
        pytest.warns(cache.CacheWarning),
        pytest.raises(SavedModelError, match=r"cannot be pickled.*save_pretrained\(folder\)"),
    ):
        pickle.dumps(model)


# Other processes

POOL = """
import multiprocessing, pathlib, sys
import numpy as np
from tests.api.test_pickle import answer, new_model

def call(model):
    mapped = "model.safetensors" in pathlib.Path("/proc/self/maps").read_text()
    return answer(model), mapped, model.threads

if __name__ == "__main__":
    model = new_model(vocabulary=20_000)  # a table of 1.9 MB, which is mapped
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as processes:
        for bits, mapped, threads in processes.map(call, [model] * 4, chunksize=1):
            assert bits == answer(model) and mapped and threads == 1
    print("right")
"""


@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=needs_fork)])
def test_a_pool_of_processes(method: str, tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    done = run_python(str(script), method, seconds=120)
    assert (done.stdout, done.returncode) == ("right\n", 0), done.stderr


@pytest.fixture
def quiet_datasets() -> Iterator[None]:
    import datasets

    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@without_datasets
@needs_fork
@pytest.mark.usefixtures("quiet_datasets")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_datasets_map_with_two_processes_and_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    table = {name: list(value) for name, value in sentences(8, 9).items()}
    datasets.Dataset.from_dict(table).save_to_disk(tmp_path / "rows")

    def mapped(model: CompiledModel) -> datasets.Dataset:
        def predict(batch: dict[str, list[list[int]]]) -> dict[str, np.ndarray]:
            start, end = model(**{name: np.array(rows) for name, rows in batch.items()})
            return {"start": start, "end": end}

        rows = datasets.load_from_disk(tmp_path / "rows")
        return rows.map(predict, batched=True, batch_size=2, num_proc=2)

    model = new_model()
    first = mapped(model)
    start, end = model(**sentences(8, 9))
    np.testing.assert_array_equal(np.array(first["start"][:]), start)
    np.testing.assert_array_equal(np.array(first["end"][:]), end)

    files = {each["filename"] for each in first.cache_files}
    again = mapped(new_model())
    assert {each["filename"] for each in again.cache_files} == files, "an equal model"
    other = mapped(model.recompile(sparse=False))
    assert not files & {each["filename"] for each in other.cache_files}
