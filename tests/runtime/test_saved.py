"""Saved models: round trips, damage of every kind, hostile folders, folders that must survive."""

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from prunus import cache
from prunus.errors import InputError, SavedModelError
from prunus.ir import Attrs, Constant, Graph, Node, interpret, parse_type, print_graph, verify
from prunus.runtime.saved import SavedModel, load_model, save_model
from prunus.sparsity import BlockSparse, Pattern, SparsityRecipe, measure, simulate_weight

SIGNATURE = {"inputs": ["ids"], "output": {"kind": "tensor", "scale": 0.1}, "none": None}
WEIGHTS, DESCRIPTION = "model.safetensors", "prunus.json"


def sparse(shape: tuple[int, int], recipe: str, block: tuple[int, int]) -> Constant:
    weight = simulate_weight(np.zeros(shape, np.float32), SparsityRecipe.parse(recipe), seed=1)
    return Constant(BlockSparse.from_dense(weight, block), measure(weight))


def small_graph(**more: Constant) -> Graph:
    """An embedding and two sparse layers, with constants of every dtype and odd shapes."""
    random = np.random.default_rng(0)
    table = random.standard_normal((11, 6)).astype(np.float32)
    constants = {
        "table": Constant(table, measure(table)),
        "layer.0.weight": sparse((9, 6), "0.5@4x1", (4, 1)),
        "layer.0.bias": Constant(np.linspace(-1, 1, 9, dtype=np.float32)),
        "layer.1.weight": sparse((3, 9), "0.9", (1, 1)),
        "scale": Constant(np.array(0.5, np.float32)),
        "double": Constant(np.array([1e-300, -math.inf])),
        "order": Constant(np.array([2, 0, 1])),
        "small": Constant(np.array([[7], [8]], np.int32)),
        "flags": Constant(np.array([True, False, True])),
        "bytes": Constant(np.array([0, 255], np.uint8)),
        "none": Constant(np.zeros((0, 4), np.float32)),
        **more,
    }
    nodes = (
        node("e", "embedding", "table ids", "f32[batch, seq, 6]"),
        node("h", "linear", "e layer.0.weight layer.0.bias", "f32[batch, seq, 9]", "gelu"),
        node("y", "linear", "h layer.1.weight", "f32[batch, seq, 3]", "none"),
        node("z", "multiply", "y scale", "f32[batch, seq, 3]"),
    )
    inputs = {"ids": parse_type("i64[batch, seq]")}
    return verify(Graph(inputs, constants, nodes, ("z", "e"), {"seq": 16}))


def node(name: str, op: str, inputs: str, type: str, activation: str | None = None) -> Node:
    attrs = Attrs() if activation is None else Attrs(activation=activation)
    return Node(name, op, tuple(inputs.split()), attrs, parse_type(type))


def save(folder: Path, graph: Graph | None = None, **changes: Any) -> Path:
    given: dict[str, Any] = {"signature": SIGNATURE, "source": "a model", "simulated": None}
    save_model(folder, graph=graph or small_graph(), **(given | changes))
    return folder


def assert_equal(loaded: Graph, graph: Graph) -> None:
    assert print_graph(loaded) == print_graph(graph)
    assert list(loaded.constants) == list(graph.constants)
    assert loaded.limits == graph.limits
    for name, constant in graph.constants.items():
        other = loaded.constants[name]
        assert other.type == constant.type
        assert other.pattern == constant.pattern
        assert type(other.value) is type(constant.value)
        np.testing.assert_array_equal(other.dense(), constant.dense())
        if isinstance(constant.value, BlockSparse) and isinstance(other.value, BlockSparse):
            assert other.value.block == constant.value.block
            other.value.validate()


def sign(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a description as one would who knows about its digest."""
    document = json.loads((folder / DESCRIPTION).read_text())
    del document["digest"]
    change(document)
    text = json.dumps(document, sort_keys=True)
    document["digest"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / DESCRIPTION).write_text(json.dumps(document))


def sign_weights(folder: Path) -> None:
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    sign(folder, lambda document: document["model"].update(weights=digest))


def change_tensors(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    tensors = {name: tensor.copy() for name, tensor in load_file(folder / WEIGHTS).items()}
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    sign_weights(folder)


def change_graph(folder: Path, old: str, new: str) -> None:
    def change(document: dict[str, Any]) -> None:
        lines = document["model"]["graph"]
        assert any(old in line for line in lines)
        document["model"]["graph"] = [line.replace(old, new) for line in lines]

    sign(folder, change)


# Round trips


def test_round_trip(tmp_path: Path) -> None:
    graph = small_graph()
    folder = save(tmp_path / "deep" / "model", graph, source="org/model", simulated="0.9 at random")
    loaded = load_model(folder)
    assert_equal(loaded.graph, graph)
    assert loaded.signature == SIGNATURE
    assert (loaded.source, loaded.simulated) == ("org/model", "0.9 at random")
    assert loaded.folder == folder
    ids = {"ids": np.array([[1, 10, 3]])}
    for before, after in zip(interpret(graph, ids), interpret(loaded.graph, ids), strict=True):
        np.testing.assert_array_equal(before, after)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_loaded_model_can_be_saved_again_in_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    folder = save(tmp_path / "model", companions=[tmp_path / "config.json"])
    loaded = load_model(folder)
    save(folder, loaded.graph, companions=loaded.companions)
    assert (folder / "config.json").read_text() == "{}"
    assert_equal(load_model(folder).graph, small_graph())
    assert_equal(loaded.graph, small_graph())


def test_a_graph_without_constants(tmp_path: Path) -> None:
    graph = Graph({"x": parse_type("f32[n]")}, {}, (node("y", "relu", "x", "f32[n]"),), ("y",))
    assert_equal(load_model(save(tmp_path / "model", graph)).graph, graph)


@given(
    rows=st.integers(0, 20),
    columns=st.integers(0, 20),
    block=st.sampled_from([(1, 1), (1, 4), (4, 1), (3, 5), (32, 32)]),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_sparse_weights_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    columns: int,
    block: tuple[int, int],
    density: float,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    weight = random.standard_normal((rows, columns)).astype(np.float32)
    weight[random.random(weight.shape) >= density] = 0
    constant = Constant(BlockSparse.from_dense(weight, block), measure(weight))
    graph = small_graph(extra=constant)
    folder = save(tmp_path_factory.mktemp("sparse") / "model", graph)
    assert_equal(load_model(folder).graph, graph)


def test_columns_beyond_16_bits(tmp_path: Path) -> None:
    weight = np.zeros((2, 70_000), np.float32)
    weight[0, [5, 69_999]] = weight[1, 65_536] = 1
    graph = small_graph(wide=Constant(BlockSparse.from_dense(weight), measure(weight)))
    folder = save(tmp_path / "model", graph)
    assert_equal(load_model(folder).graph, graph)
    tensors = load_file(folder / WEIGHTS)
    assert tensors["wide.indices"].dtype == np.int32
    assert tensors["layer.0.weight.indices"].dtype == np.uint16


def test_only_large_dense_floats_stay_mapped(tmp_path: Path) -> None:
    large = Constant(np.ones((512, 512), np.float32))
    graph = load_model(save(tmp_path / "model", small_graph(large=large))).graph
    for name, constant in graph.constants.items():
        value = constant.value
        parts = [value.data, value.indices] if isinstance(value, BlockSparse) else [value]
        for array in parts:
            assert not array.flags.writeable
            assert (not array.flags.owndata) == (name == "large"), name


def test_a_file_that_is_overwritten_in_place_changes_nothing_small(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    loaded = load_model(folder).graph
    with (folder / WEIGHTS).open("r+b") as file:
        file.write(bytes((folder / WEIGHTS).stat().st_size))
        file.truncate(1)
    assert_equal(loaded, small_graph())


def test_saving_again_leaves_what_is_loaded_alone(tmp_path: Path) -> None:
    """Every file is replaced by a rename; none is written in place."""
    (tmp_path / "config.json").write_text("old")
    companions = [tmp_path / "config.json"]
    large = Constant(np.ones((512, 512), np.float32))
    folder = save(tmp_path / "model", small_graph(large=large), companions=companions)
    loaded = load_model(folder).graph
    files = {path: path.open("rb") for path in folder.iterdir()}
    before = {path: path.read_bytes() for path in files}
    other = Constant(np.zeros((512, 512), np.float32))
    (tmp_path / "config.json").write_text("new")
    save(folder, small_graph(large=other), companions=companions)
    assert_equal(loaded, small_graph(large=large))
    assert_equal(load_model(folder).graph, small_graph(large=other))
    for path, file in files.items():
        with file:
            assert file.read() == before[path] != path.read_bytes(), path


def test_a_folder_of_symlinks_loads(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    (tmp_path / "links").mkdir()
    for path in folder.iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    assert_equal(load_model(tmp_path / "links").graph, small_graph())


def test_files_can_be_read_by_those_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        folder = save(tmp_path / "model")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_model_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    published = cache.publish_folder("models", "key", lambda folder: void(save(folder)))
    assert published is not None
    assert_equal(load_model(published).graph, small_graph())


def void(_: object) -> None:
    return None


def test_loading_imports_no_torch(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    code = (
        "import sys; from pathlib import Path; from prunus.runtime.saved import load_model\n"
        "load_model(Path(sys.argv[1]))\n"
        "print([name for name in ('torch', 'transformers', 'llvmlite') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(folder)]
    assert subprocess.check_output(command, env=environment, text=True, timeout=60) == "[]\n"


# Folders that must survive, and models that cannot be saved


def test_what_is_no_saved_model_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("precious")
    with pytest.raises(SavedModelError, match=r"left as it is.*new or an empty folder"):
        save(tmp_path)
    with pytest.raises(SavedModelError, match="left as it is"):
        save(tmp_path / "photo.jpg")
    with pytest.raises(InputError, match="a part of it is a file, not a folder"):
        save(tmp_path / "photo.jpg" / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    assert (tmp_path / "photo.jpg").read_text() == "precious"


def test_overwriting_is_a_choice(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", source="first")
    with pytest.raises(SavedModelError, match="overwrite=True"):
        save(folder, source="second", overwrite=False)
    assert load_model(folder).source == "first"
    save(folder, source="second")
    assert load_model(folder).source == "second"
    (tmp_path / "empty").mkdir()
    save(tmp_path / "empty", overwrite=False)
    assert load_model(tmp_path / "empty").source == "a model"


@pytest.mark.parametrize("exists", [False, True])
def test_saving_at_once_leaves_one_whole_model(tmp_path: Path, exists: bool) -> None:
    places, graphs = {}, {}
    for name in "ab":
        places[name] = tmp_path / name / "config.json"
        places[name].parent.mkdir()
        places[name].write_text(name)
        bias = Constant(np.full(9, ord(name), np.float32))
        graphs[name] = small_graph(**{"layer.0.bias": bias})

    def save_one(name: str, folder: Path) -> None:
        save(folder, graphs[name], source=name, companions=[places[name]])

    for number in range(20):
        folder = tmp_path / f"model {number}"
        if exists:
            folder.mkdir()
        with ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(save_one, name, folder) for name in "abab"]:
                each.result()
        found = load_model(folder)
        assert_equal(found.graph, graphs[found.source])
        assert (folder / "config.json").read_text() == found.source
        assert sorted(path.name for path in folder.iterdir()) == [
            "config.json",
            WEIGHTS,
            DESCRIPTION,
        ]
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_model_can_be_replaced(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    (folder / DESCRIPTION).write_text("{")
    assert_equal(load_model(save(folder)).graph, small_graph())


def test_a_full_disk_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "model", source="old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SavedModelError, match="No space left on device"):
        save(folder, source="new")
    with pytest.raises(SavedModelError, match="No space left on device"):
        save(tmp_path / "other")
    assert load_model(folder).source == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert sorted(path.name for path in folder.iterdir()) == [WEIGHTS, DESCRIPTION]


def test_a_replacement_that_breaks_off_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, replaced = save(tmp_path / "model"), os.replace

    def first_only(source: Path, target: Path) -> None:
        if target.name == DESCRIPTION:
            raise OSError(5, "Input/output error")
        replaced(source, target)

    other = small_graph(**{"layer.0.bias": Constant(np.ones(9, np.float32))})
    with monkeypatch.context() as patch, pytest.raises(SavedModelError, match="Input/output"):
        patch.setattr(os, "replace", first_only)
        save(folder, other)
    with pytest.raises(SavedModelError, match="save the model again"):
        load_model(folder)
    assert_equal(load_model(save(folder, other)).graph, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signature": {"x": math.nan}}, "plain JSON"),
        ({"signature": {"x": object()}}, "plain JSON"),
        ({"signature": {"x": np.zeros(2)}}, "plain JSON"),
        ({"companions": [Path(WEIGHTS)]}, "not the name of a file that travels"),
        ({"companions": [Path("a/config.json"), Path("b/config.json")]}, "two companions"),
        ({"companions": [Path("/nowhere/config.json")]}, "cannot be written.*config.json"),
    ],
)
def test_what_cannot_be_saved(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SavedModelError, match=message):
        save(tmp_path / "model", **changes)
    assert list(tmp_path.iterdir()) == []


def constants_that_cannot_be_saved() -> dict[str, tuple[dict[str, Constant], str]]:
    weight = np.ones((2, 2), np.float32)
    nan = np.array([1, math.nan], np.float32)
    infinite = np.array([[1, math.inf], [1, 1]], np.float32)
    double = BlockSparse.from_dense(weight.astype(np.float64))
    wrong = BlockSparse.from_dense(weight)
    wrong.indices[0] = 7
    return {
        "nan": ({"w": Constant(nan)}, "'w' holds nan"),
        "infinite weight": ({"w": Constant(infinite, measure(weight))}, "'w' holds inf"),
        "float64 data": ({"w": Constant(double)}, "float64"),
        "wrong index": ({"w": Constant(wrong)}, "indices must lie in 0 to 1, found 7"),
        "clash": ({"layer.1.weight.data": Constant(weight)}, "would be stored as"),
    }


@pytest.mark.parametrize("case", constants_that_cannot_be_saved())
def test_constants_that_cannot_be_saved(tmp_path: Path, case: str) -> None:
    constants, message = constants_that_cannot_be_saved()[case]
    with pytest.raises(SavedModelError, match=message):
        save(tmp_path / "model", small_graph(**constants))
    assert list(tmp_path.iterdir()) == []


def test_names_for_people_are_made_printable(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", source="evil\x1b[2J\udc80", simulated="a\nb")
    loaded = load_model(folder)
    assert (loaded.source, loaded.simulated) == ("evil\ufffd[2J\ufffd", "a\ufffdb")


# Damage


def test_a_missing_folder_or_file(tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match="no such folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(SavedModelError, match=r"no file prunus\.json.*save_pretrained"):
        load_model(tmp_path)
    folder = save(tmp_path / "model")
    (folder / WEIGHTS).unlink()
    with pytest.raises(SavedModelError, match=r"no file model\.safetensors"):
        load_model(folder)
    (folder / WEIGHTS).mkdir()
    with pytest.raises(SavedModelError, match=r"no file model\.safetensors"):
        load_model(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path / "model")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(SavedModelError, match="no file"):
        load_model(folder)


@pytest.fixture(scope="module")
def saved_bytes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = save(tmp_path_factory.mktemp("saved") / "model")
    return {name: (folder / name).read_bytes() for name in (WEIGHTS, DESCRIPTION)}


def write_damaged(folder: Path, saved: dict[str, bytes], name: str, content: bytes) -> Path:
    for other, sound in saved.items():
        (folder / other).write_bytes(content if other == name else sound)
    return folder


@given(data=st.data(), name=st.sampled_from([WEIGHTS, DESCRIPTION]))
def test_flipped_bytes_are_noticed_or_mean_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    saved_bytes: dict[str, bytes],
    data: st.DataObject,
    name: str,
) -> None:
    content = bytearray(saved_bytes[name])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[position] ^= data.draw(st.integers(1, 255))
    folder = write_damaged(tmp_path_factory.mktemp("flip"), saved_bytes, name, bytes(content))
    try:
        loaded = load_model(folder)
    except SavedModelError:
        return
    assert_equal(loaded.graph, small_graph())
    assert loaded.signature == SIGNATURE


@given(data=st.data(), name=st.sampled_from([WEIGHTS, DESCRIPTION]))
def test_truncation_and_growth_are_noticed(
    tmp_path_factory: pytest.TempPathFactory,
    saved_bytes: dict[str, bytes],
    data: st.DataObject,
    name: str,
) -> None:
    sound = saved_bytes[name]
    content = sound[: data.draw(st.integers(0, len(sound) - 1))] + data.draw(
        st.sampled_from([b"", b"\0" * 8])
    )
    if content == sound:
        return
    folder = write_damaged(tmp_path_factory.mktemp("cut"), saved_bytes, name, content)
    with pytest.raises(SavedModelError):
        load_model(folder)


# Hostility: the digests are right, so only the checks behind them can help


@given(data=st.data())
def test_flipped_bytes_of_weights_under_a_right_digest(
    tmp_path_factory: pytest.TempPathFactory,
    saved_bytes: dict[str, bytes],
    data: st.DataObject,
) -> None:
    content = bytearray(saved_bytes[WEIGHTS])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    folder = write_damaged(tmp_path_factory.mktemp("hostile"), saved_bytes, WEIGHTS, bytes(content))
    sign_weights(folder)
    load_or_refuse(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(data=st.data())
def test_any_other_json_under_a_right_digest(
    tmp_path_factory: pytest.TempPathFactory,
    saved_bytes: dict[str, bytes],
    data: st.DataObject,
) -> None:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for _ in range(data.draw(st.integers(1, 7))):
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or not place[key]:
                break
            container, place = place, place[key]
        else:
            place = container
        place[key] = data.draw(JSON)

    folder = write_damaged(tmp_path_factory.mktemp("json"), saved_bytes, "", b"")
    sign(folder, change)
    load_or_refuse(folder)


def load_or_refuse(folder: Path) -> SavedModel | None:
    """Load a folder; what comes out of it must be as sound as anything that prunus makes."""
    try:
        loaded = load_model(folder)
    except SavedModelError:
        return None
    verify(loaded.graph)
    for constant in loaded.graph.constants.values():
        if isinstance(constant.value, BlockSparse):
            constant.value.validate()
        if constant.pattern is not None:
            assert isinstance(constant.pattern, Pattern)
            constant.pattern.describe()
    return loaded


def tensor_attacks() -> dict[str, tuple[Callable[[dict[str, np.ndarray]], object], str]]:
    def put(name: str, index: int, value: float) -> Callable[[dict[str, np.ndarray]], object]:
        return lambda tensors: tensors[name].reshape(-1).__setitem__(index, value)

    def replace(name: str, value: np.ndarray) -> Callable[[dict[str, np.ndarray]], object]:
        return lambda tensors: tensors.update({name: value})

    weight = "layer.0.weight"
    return {
        "index out of range": (put(f"{weight}.indices", 0, 6), "indices must lie in 0 to 5"),
        "unsorted indices": (put("layer.1.weight.indices", -1, 0), "indices must increase|lie in"),
        "falling indptr": (put(f"{weight}.indptr", 1, 100), "indptr must not decrease"),
        "negative indptr": (put(f"{weight}.indptr", 1, -1), "indptr must not decrease"),
        "indptr too far": (put(f"{weight}.indptr", -1, 10**6), "indptr must run from 0"),
        "nan in data": (put(f"{weight}.data", 0, math.nan), "finite"),
        "infinity in data": (put(f"{weight}.data", 0, math.inf), "finite"),
        "value beyond the edge": (put(f"{weight}.data", -1, 1), "below the last row"),
        "nan in a bias": (put("layer.0.bias", 3, math.nan), "'layer.0.bias' holds nan"),
        "infinity in a table": (put("table", 3, math.inf), "'table' holds inf"),
        "wrong shape": (
            replace("table", np.zeros((6, 11), "f4")),
            r"\(6, 11\), expected \(11, 6\)",
        ),
        "wrong dtype": (replace("table", np.zeros((11, 6), "f8")), "f64.*expected f32"),
        "unsigned dense": (replace("table", np.zeros((11, 6), "u2")), "uint16, expected F32"),
        "unknown dtype": (replace("table", np.zeros((11, 6), "f2")), "F16"),
        "double data": (replace(f"{weight}.data", np.zeros((3, 4, 1), "f8")), "expected F32"),
        "long indices": (replace(f"{weight}.indices", np.zeros(3, "i8")), "expected U16 or I32"),
        "flat data": (replace(f"{weight}.data", np.zeros(12, "f4")), "dimensions"),
        "missing": (lambda tensors: tensors.pop("order"), "lacks the tensor 'order'"),
        "missing part": (lambda tensors: tensors.pop(f"{weight}.indptr"), "lacks the tensor"),
        "extra": (replace("more", np.zeros(1, "f4")), "no constant: 'more'"),
    }


@pytest.mark.parametrize("case", tensor_attacks())
def test_hostile_tensors(tmp_path: Path, case: str) -> None:
    change, message = tensor_attacks()[case]
    folder = save(tmp_path / "model")
    change_tensors(folder, change)
    with pytest.raises(SavedModelError, match=message):
        load_model(folder)


def test_a_bool_that_is_neither(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    content = bytearray((folder / WEIGHTS).read_bytes())
    header = int.from_bytes(content[:8], "little")
    begin = json.loads(content[8 : 8 + header])["flags"]["data_offsets"][0]
    content[8 + header + begin] = 2
    (folder / WEIGHTS).write_bytes(content)
    sign_weights(folder)
    with pytest.raises(SavedModelError, match="neither true nor false"):
        load_model(folder)


def test_a_header_that_points_elsewhere(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    content = (folder / WEIGHTS).read_bytes()
    header = int.from_bytes(content[:8], "little")
    for offsets in ([0, 2**62], [-8, 4], [4, 0], [0, 4, 8], "all", None):
        entries = json.loads(content[8 : 8 + header])
        entries["scale"]["data_offsets"] = offsets
        text = json.dumps(entries).encode()
        damaged = len(text).to_bytes(8, "little") + text + content[8 + header :]
        (folder / WEIGHTS).write_bytes(damaged)
        sign_weights(folder)
        with pytest.raises(SavedModelError, match="cannot be read"):
            load_model(folder)


def set_at(*path: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


WEIGHT = ("model", "constants", "layer.0.weight")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("version", value=2), r"format 2 \(prunus .*reads formats up to 1; upgrade"),
        (set_at("version", value=0), "count"),
        (set_at("version", value=True), "count"),
        (set_at("version", value="1"), "count"),
        (set_at("format", value="other"), "not written by prunus"),
        (set_at("model", value=[]), "model must have the fields"),
        (set_at("model", "more", value=1), "model must have the fields"),
        (set_at("model", "source", value=None), "model.source must be str, found None"),
        (set_at("model", "source", value="\x1b[2J"), "printable"),
        (set_at("model", "simulated", value=0.9), "model.simulated must be str, found 0.9"),
        (set_at("model", "signature", value=[]), "model.signature must be dict"),
        (set_at("model", "weights", value="0"), "digests differ"),
        (set_at("model", "graph", value=["graph", "return x"]), "the graph is not valid"),
        (set_at("model", "graph", value=["graph", "x" * 30_000]), "20000 characters"),
        (set_at("model", "graph", value="graph"), "model.graph must be tuple"),
        (set_at("model", "companions", value=["../other"]), "not the name of a file"),
        (set_at("model", "companions", value=[WEIGHTS]), "not the name of a file"),
        (set_at(*WEIGHT, "storage", value="pickle"), "storage must be"),
        (set_at(*WEIGHT, "storage", value="dense"), "lacks the tensor"),
        (set_at(*WEIGHT, "shape", value=[9]), "does not fit"),
        (set_at(*WEIGHT, "shape", value=[-9, 6]), "shape must be int, found -9"),
        (set_at(*WEIGHT, "shape", value=[2**31, 2**31]), "absurd"),
        (set_at(*WEIGHT, "shape", value=[2**200, 1]), "shape must be int"),
        (set_at(*WEIGHT, "shape", value=[9.0, 6]), "shape must be int, found 9.0"),
        (set_at(*WEIGHT, "block", value=[0, 1]), "block is a tuple of two positive"),
        (set_at(*WEIGHT, "block", value=[4]), "block must be"),
        (set_at(*WEIGHT, "block", value=None), "needs two dimensions and a block"),
        (set_at(*WEIGHT, "block", value=[2, 1]), r"data must be \[blocks, 2, 1\]"),
        (set_at(*WEIGHT, "pattern", "shape", value=[6, 9]), "does not fit a matrix"),
        (set_at(*WEIGHT, "pattern", "zeros", value=1.5), "does not fit a matrix"),
        (set_at(*WEIGHT, "pattern", "zeros", value=1e999), "must be JSON|is not JSON"),
        (set_at(*WEIGHT, "pattern", "empty_rows", value=10), "does not fit a matrix"),
        (set_at(*WEIGHT, "pattern", "kind", value="odd"), "kind must be"),
        (set_at(*WEIGHT, "pattern", "block", value=[7, 7]), "were not measured"),
    ],
)
def test_hostile_descriptions(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    folder = save(tmp_path / "model")
    sign(folder, change)
    with pytest.raises(SavedModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("constant order: i64[3]", "constant order: i64[4]", "expected i64"),
        ("  constant order: i64[3]", "", "no constant 'order'"),
        ("gelu", "system", "linear needs activation"),
        ("linear(e", "linear(nobody", "used before it is computed"),
        ("f32[batch, seq, 9]", "f32[batch, seq, 8]", "the type should be"),
        ("embedding", "eval", "unknown op"),
        ('{activation="gelu"}', '{activation=__import__("os")}', "not valid"),
        ("{activation=", '{activation="none", more=', "attributes"),
        ("return z", "return w", "never computed"),
        ("f32[batch, seq, 6]", "f32[" + "(" * 5000 + "1" + ")" * 5000 + "]", "not valid"),
        ("f32[batch, seq, 6]", "f32[" + "-" * 9000 + "1]", "not valid"),
    ],
)
def test_hostile_graphs(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = save(tmp_path / "model")
    change_graph(folder, old, new)
    with pytest.raises(SavedModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{", "[" * 100_000, '{"format": "prunus"}', "\x00", "9" * 5000, "NaN"],
)
def test_descriptions_that_are_none(tmp_path: Path, text: str) -> None:
    folder = save(tmp_path / "model")
    (folder / DESCRIPTION).write_text(text)
    with pytest.raises(SavedModelError, match=r"prunus\.json|count"):
        load_model(folder)


def test_an_absurd_size_is_not_read(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    os.truncate(folder / DESCRIPTION, 1 << 40)
    with pytest.raises(SavedModelError, match=f"{1 << 40} bytes"):
        load_model(folder)


def test_a_sparse_weight_may_not_claim_more_than_anyone_has(tmp_path: Path) -> None:
    weight = BlockSparse(
        (2**31 - 1, 2**31 - 1),
        (2**19, 1),
        np.zeros((0, 2**19, 1), np.float32),
        np.zeros(0, np.int32),
        np.zeros(4097, np.int64),
    )
    weight.validate()
    with pytest.raises(SavedModelError, match="absurd"):
        save(tmp_path / "model", small_graph(huge=Constant(weight)))
