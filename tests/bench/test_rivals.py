"""The rivals, real, in processes of their own, on a tiny BERT."""

import contextlib
import functools
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunus.bench.engines import onnx_engine as onnx_engine_module
from prunus.bench.engines.contract import Arrays, EngineError, Job, LocalEngine, make_ready, missing
from prunus.bench.engines.onnx_engine import OnnxEngine, checked_verdict
from prunus.bench.engines.onnx_export import ATTENTIONS, FACTS, FILE
from prunus.bench.engines.onnxruntime_engine import OnnxRuntimeEngine
from prunus.bench.engines.openvino_engine import OpenVinoEngine
from prunus.bench.engines.remote import PickledModule, RemoteEngine, portable
from prunus.bench.engines.torch_engine import TorchCompileEngine, TorchEngine, _compiler_fault
from prunus.bench.inputs import random_inputs
from prunus.bench.session import run_bench

pytestmark = pytest.mark.wide

pytest.importorskip("transformers")

NAMES = ("input_ids", "attention_mask", "token_type_ids")
SHAPES = ((1, 1), (1, 8), (3, 5))
THREADS = int(os.environ["OMP_NUM_THREADS"])
# Elsewhere the export runs in the process of its engine, where warnings are not errors.
LEGACY_EXPORT = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ONNX_ENGINES: tuple[type[OnnxEngine], ...] = (OpenVinoEngine, OnnxRuntimeEngine)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A question-answering BERT with random weights, saved."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    folder = tmp_path_factory.mktemp("tiny")
    BertForQuestionAnswering(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loader(tiny_folder: Path) -> Any:
    """A loader that another process finds by name."""
    from transformers import BertForQuestionAnswering

    return functools.partial(BertForQuestionAnswering.from_pretrained, str(tiny_folder))


def inputs(shape: tuple[int, int]) -> Arrays:
    """Random ids; the last row is half masked."""
    made = random_inputs(NAMES, shape, 99)
    made["attention_mask"][-1, (shape[1] + 1) // 2 :] = 0
    return made


def expected(loader: Any, given: Arrays) -> Arrays:
    """What the module answers in this process."""
    import torch

    with torch.inference_mode():
        answer = loader().eval()(**{name: torch.from_numpy(x) for name, x in given.items()})
    return {name: value.numpy() for name, value in answer.items()}


def job(loader: Any, folder: Path) -> Job:
    return Job(loader, inputs((1, 8)), THREADS, folder)


@pytest.fixture
def remote() -> Iterator[Any]:
    """Wraps an engine, and ends its process after the test."""
    made: list[RemoteEngine] = []

    def wrap(engine: LocalEngine) -> RemoteEngine:
        made.append(RemoteEngine(engine))
        return made[-1]

    yield wrap
    for engine in made:
        engine.close()


def check_answers(engine: Any, loader: Any) -> None:
    for shape in SHAPES:
        given = inputs(shape)
        outputs, wanted = engine.run(given), expected(loader, given)
        assert list(outputs) == ["start_logits", "end_logits"]
        kept = given["attention_mask"] != 0
        for name, value in wanted.items():
            np.testing.assert_allclose(outputs[name][kept], value[kept], atol=1e-5)


def test_torch_in_its_own_process(loader: Any, tmp_path: Path, remote: Any) -> None:
    engine = remote(TorchEngine())
    make_ready(engine, job(loader, tmp_path))
    check_answers(engine, loader)
    seconds = engine.time(3)
    assert len(seconds) == 3
    assert min(seconds) > 0
    assert engine.note == "sdpa attention"
    assert "torch" in engine.versions()


def test_torch_compile(loader: Any, tmp_path: Path, remote: Any) -> None:
    engine = TorchCompileEngine()
    reason = engine.available()
    if reason is not None:
        pytest.skip(reason)
    there = remote(engine)
    make_ready(there, job(loader, tmp_path))
    given = inputs((3, 5))
    outputs, wanted = there.run(given), expected(loader, given)
    np.testing.assert_allclose(outputs["start_logits"], wanted["start_logits"], atol=1e-5)
    assert len(there.time(2)) == 2


@pytest.fixture
def short_races(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races in this process take no longer than they must."""
    monkeypatch.setattr(onnx_engine_module, "TURN_SECONDS", 0.0)


@pytest.fixture(params=ONNX_ENGINES, ids=lambda made: made.name)
def onnx_engine(request: pytest.FixtureRequest) -> type[OnnxEngine]:
    """Each engine that runs ONNX files."""
    made: type[OnnxEngine] = request.param
    reason = made().available()
    if reason is not None:
        pytest.skip(reason)
    return made


def test_onnxruntime_in_its_own_process(loader: Any, tmp_path: Path, remote: Any) -> None:
    reason = OnnxRuntimeEngine().available()
    if reason is not None:
        pytest.skip(reason)
    engine = remote(OnnxRuntimeEngine())
    make_ready(engine, job(loader, tmp_path))
    check_answers(engine, loader)
    assert len(engine.time(2)) == 2
    assert " export (raced at 1x8: eager " in engine.note


@LEGACY_EXPORT
@pytest.mark.usefixtures("short_races")
def test_exports_are_raced_once(onnx_engine: type[OnnxEngine], loader: Any, tmp_path: Path) -> None:
    notes = []
    for _ in range(2):
        with contextlib.closing(onnx_engine()) as engine:
            make_ready(engine, job(loader, tmp_path))
            check_answers(engine, loader)
            assert onnx_engine.name in engine.versions()
            notes.append(engine.note)
    (folder,) = (tmp_path / "onnx").iterdir()
    verdict = json.loads((folder / f"{onnx_engine.name}.json").read_text())
    assert notes[0].startswith(f"{verdict['kept']} export (raced at 1x8: eager ")
    assert notes[1] == notes[0]


@dataclass(frozen=True)
class KeyedLoader:
    """A loader that knows which module it makes, and may be told to make it no more."""

    loader: Any
    key: str = "a commit"
    spent: bool = False

    def __call__(self) -> Any:
        assert not self.spent, "the module was loaded again"
        return self.loader()


@LEGACY_EXPORT
@pytest.mark.usefixtures("short_races")
def test_what_was_raced_runs_without_the_module(
    onnx_engine: type[OnnxEngine], loader: Any, tmp_path: Path
) -> None:
    for spent in (False, True):
        with contextlib.closing(onnx_engine()) as engine:
            make_ready(engine, job(KeyedLoader(loader, spent=spent), tmp_path))
            check_answers(engine, loader)
    with contextlib.closing(onnx_engine()) as engine:
        another = KeyedLoader(loader, key="another commit", spent=True)
        with pytest.raises(AssertionError, match="loaded again"):
            make_ready(engine, job(another, tmp_path))


@LEGACY_EXPORT
@pytest.mark.usefixtures("short_races")
@pytest.mark.parametrize("spoilt", ["", "[]", "{}", '{"outputs": ["a"], "attentions": ["../x"]}'])
def test_spoilt_facts_of_a_module_are_found_anew(loader: Any, tmp_path: Path, spoilt: str) -> None:
    pytest.importorskip("onnxruntime")
    for _ in range(2):
        with contextlib.closing(OnnxRuntimeEngine()) as engine:
            make_ready(engine, job(loader, tmp_path))
            check_answers(engine, loader)
        (folder,) = (tmp_path / "onnx").iterdir()
        (folder / f"{FACTS}.json").write_text(spoilt)


@LEGACY_EXPORT
@pytest.mark.usefixtures("short_races")
def test_engines_share_their_exports(loader: Any, tmp_path: Path) -> None:
    folder = Path()
    written: dict[Path, int] = {}
    for made in ONNX_ENGINES:
        reason = made().available()
        if reason is not None:
            pytest.skip(reason)
        with contextlib.closing(made()) as engine:
            make_ready(engine, job(loader, tmp_path))
        (folder,) = (tmp_path / "onnx").iterdir()
        files = {folder / name / FILE for name in ATTENTIONS}
        times = {path: path.stat().st_mtime_ns for path in files}
        assert times == (written or times)
        written = times
    verdicts = {f"{made.name}.json" for made in ONNX_ENGINES}
    assert {path.name for path in folder.iterdir()} == {*ATTENTIONS, *verdicts, f"{FACTS}.json"}


@LEGACY_EXPORT
@pytest.mark.usefixtures("short_races")
def test_a_folder_that_cannot_be_written_is_done_without(loader: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    blocked = tmp_path / "file"
    blocked.touch()
    with contextlib.closing(OnnxRuntimeEngine()) as engine:
        make_ready(engine, job(loader, blocked))
        assert engine.note.endswith("not kept for the next run: Not a directory")
        check_answers(engine, loader)


@LEGACY_EXPORT
@pytest.mark.usefixtures("short_races")
def test_onnxruntime_uses_the_threads_of_the_job(
    loader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    made = []

    def session(path: str, options: Any, **arguments: Any) -> Any:
        made.append((options, arguments))
        return real(path, options, **arguments)

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with contextlib.closing(OnnxRuntimeEngine()) as engine:
        make_ready(engine, Job(loader, inputs((1, 8)), 1, tmp_path))
    for options, arguments in made:
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
        everything = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        assert options.graph_optimization_level == everything
        assert arguments == {"providers": ["CPUExecutionProvider"]}
    assert len(made) == len(ATTENTIONS)


def test_a_verdict_of_other_conditions_is_not_taken() -> None:
    verdict = {"conditions": {"threads": 2}, "kept": "sdpa", "milliseconds": {"sdpa": 1.0}}
    assert checked_verdict(verdict, ATTENTIONS, {"threads": 2}) == verdict
    assert checked_verdict(verdict, ATTENTIONS, {"threads": 1}) is None
    assert checked_verdict(verdict, ("eager",), {"threads": 2}) is None
    spoilt: list[Any] = [None, [], {}, verdict | {"kept": "../sdpa"}, verdict | {"milliseconds": 1}]
    for found in spoilt:
        assert checked_verdict(found, ATTENTIONS, {"threads": 2}) is None


@dataclass
class ModuleAsModel:
    """A module in the place of a compiled model."""

    module: Any
    threads: int = THREADS
    simulated: str | None = None
    input_names: tuple[str, ...] = NAMES
    vocabulary: int | None = None

    def __call__(self, **given: Any) -> Any:
        import torch

        with torch.inference_mode():
            answer = self.module(**{name: torch.from_numpy(x) for name, x in given.items()})
        return {name: value.numpy() for name, value in answer.items()}

    def flops(self, *, dense: bool = False, **given: Any) -> int:
        return 1

    def recompile(self, *, sparse: bool) -> "ModuleAsModel":
        return self


def test_a_whole_benchmark_with_a_real_rival(loader: Any, tmp_path: Path) -> None:
    model = ModuleAsModel(loader().eval())
    names = ["prunus", "torch"]
    report = run_bench(
        {"tiny": model},
        module_loader=lambda: loader(),
        engines=names,
        shapes=((1, 8), (2, 3)),
        rounds=2,
        seconds=0.0,
        vocabulary=99,
        cache=tmp_path,
        peak=lambda threads: 1e9,
    )
    shapes = [(1, 8), (2, 3)]
    found = [(row.shape, row.engine) for row in report.rows]
    assert found == [(shape, name) for shape in shapes for name in names]
    for row in report.rows:
        assert row.reason is None
        assert row.difference is not None
        assert row.difference <= 1e-5
        assert row.ratio is not None


def test_an_error_over_there_is_the_reason_here(tmp_path: Path, remote: Any) -> None:
    engine = remote(TorchEngine())
    with pytest.raises(EngineError, match="ValueError: invalid literal"):
        make_ready(engine, job(functools.partial(int, "x"), tmp_path))


def test_a_process_that_ends_is_an_error_here(tmp_path: Path, remote: Any, capfd: Any) -> None:
    engine = remote(TorchEngine())
    with pytest.raises(EngineError, match="ended with status 3"):
        make_ready(engine, job(functools.partial(os._exit, 3), tmp_path))
    with pytest.raises(EngineError, match="ended with status 3"):
        engine.time(1)
    assert capfd.readouterr().out == ""


def test_an_engine_is_not_used_before_it_is_prepared(remote: Any) -> None:
    with pytest.raises(EngineError, match="load it first"):
        remote(TorchEngine()).run({})
    with pytest.raises(EngineError, match="run it before"):
        TorchEngine().time(1)


def test_without_a_loader_there_is_nothing_to_run(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="module_loader="):
        Job(None, {}, 1, tmp_path).load()


def test_a_loader_found_by_name_is_sent_itself(loader: Any, tmp_path: Path) -> None:
    assert portable(loader, tmp_path) is loader


def test_any_other_loader_is_called_and_its_module_sent(loader: Any, tmp_path: Path) -> None:
    sent = portable(lambda: loader(), tmp_path)
    assert isinstance(sent, PickledModule)
    weights = sent().state_dict()
    assert all((weights[name] == value).all() for name, value in loader().state_dict().items())


def test_a_module_that_cannot_be_sent_is_an_error(tmp_path: Path) -> None:
    import torch

    class Local(torch.nn.Module):
        pass

    with pytest.raises(EngineError, match="that can be imported"):
        portable(lambda: Local(), tmp_path)


def test_what_is_missing_is_named_with_its_cure() -> None:
    assert missing({"numpy": "NumPy"}, "numpy") is None
    assert missing({"no_such": "NoSuch", "nor_this": "Other"}, "both") == (
        "NoSuch and Other not installed (pip install both)"
    )
    assert importlib.util.find_spec("no_such") is None


def test_a_compiler_that_does_not_work_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler not found" in str(_compiler_fault())
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho cannot compile >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert str(_compiler_fault()).endswith("does not work: cannot compile")
