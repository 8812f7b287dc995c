"""DeepSparse through another interpreter: this one, with a fake package in place of the real."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunus.bench.engines.contract import Arrays, EngineError, Job, make_ready
from prunus.bench.engines.deepsparse_engine import INSTALL, VARIABLE, DeepSparseEngine
from prunus.bench.engines.onnx_export import FILE
from prunus.bench.engines.remote import RemoteEngine
from prunus.bench.engines.script import Script
from prunus.bench.inputs import random_inputs

pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.wide,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the export
]

FAKES = Path(__file__).with_name("fakes")
NAMES = ("input_ids", "attention_mask", "token_type_ids")
SHAPES = ((1, 8), (3, 5))

Make = Callable[..., DeepSparseEngine]


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a tiny pruned BERT for question answering."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    module = BertForQuestionAnswering(config)
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, torch.nn.Linear):
                child.weight *= torch.rand_like(child.weight) >= 0.9
    folder = tmp_path_factory.mktemp("tiny")
    module.save_pretrained(folder)
    return functools.partial(BertForQuestionAnswering.from_pretrained, str(folder))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the export is kept, so that one is enough for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Engines with the fake, which are closed after the test."""
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.delenv(VARIABLE, raising=False)
    made: list[DeepSparseEngine] = []

    def engine(python: object = sys.executable, fault: str = "", **options: Any) -> Any:
        monkeypatch.setenv("FAKE_DEEPSPARSE", fault)
        made.append(DeepSparseEngine(python, **options))  # type: ignore[arg-type]
        return made[-1]

    yield engine
    for each in made:
        each.close()


def inputs(shape: tuple[int, int]) -> Arrays:
    made = random_inputs(NAMES, shape, 99)
    made["attention_mask"][-1, (shape[1] + 1) // 2 :] = 0
    return made


def prepared(engine: Any, loader: Any, cache: Path) -> Any:
    make_ready(engine, Job(loader, inputs((1, 8)), 1, cache))
    return engine


def check_answers(engine: Any, loader: Any) -> None:
    import torch

    module = loader().eval()
    for shape in SHAPES:
        given = inputs(shape)
        outputs = engine.run(given)
        with torch.inference_mode():
            wanted = module(**{name: torch.from_numpy(x) for name, x in given.items()})
        assert list(outputs) == ["start_logits", "end_logits"]
        kept = given["attention_mask"] != 0
        for name, value in outputs.items():
            np.testing.assert_allclose(value[kept], wanted[name].numpy()[kept], atol=1e-5)
        seconds = engine.time(3)
        assert len(seconds) == 3
        assert min(seconds) > 0


def test_it_answers_and_is_timed(make: Make, loader: Any, cache: Path) -> None:
    engine = prepared(make(), loader, cache)
    assert engine.available() is None
    check_answers(engine, loader)
    assert engine.note == "eager export"
    assert not engine.dense
    version = engine.versions()["deepsparse"]
    assert version.startswith("1.8.0 (python 3.")
    assert f"numpy {np.__version__}" in version


def test_it_gets_a_copy_of_an_export_that_holds_the_zeros(
    make: Make, loader: Any, cache: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    engine = prepared(make(), loader, cache)
    (path,) = (cache / "onnx").glob(f"*/eager/{FILE}")
    before = path.read_bytes()
    engine.run(inputs((1, 8)))
    assert path.read_bytes() == before
    model = onnx.load(str(path))
    assert model.opset_import[0].version <= 19  # what ONNX 1.14 reads, as is version 9 of the IR
    assert model.ir_version <= 9
    weights = [onnx.numpy_helper.to_array(each) for each in model.graph.initializer]
    shares = [np.mean(weight == 0) for weight in weights if weight.shape == (32, 64)]
    assert shares
    assert min(shares) > 0.8


def test_behind_the_process_of_a_rival(make: Make, loader: Any, cache: Path) -> None:
    engine = RemoteEngine(make())
    assert engine.available() is None
    assert "deepsparse" in engine.versions()
    try:
        check_answers(prepared(engine, loader, cache), loader)
        assert engine.note == "eager export"
    finally:
        engine.close()


def test_the_environment_may_name_the_interpreter(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = make(None).available()
    assert reason is not None
    assert "--deepsparse-python PATH" in reason and VARIABLE in reason and INSTALL in reason
    monkeypatch.setenv(VARIABLE, sys.executable)
    assert make(None).available() is None


def test_a_missing_module_is_a_reason(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make()
    monkeypatch.delenv("PYTHONPATH")
    reason = str(engine.available())
    assert reason.startswith("ModuleNotFoundError: No module named 'deepsparse' (to install: ")
    assert engine.versions() == {}


def test_a_module_that_cannot_be_imported_is_a_reason(make: Make) -> None:
    reason = str(make(fault="import").available())
    assert reason.startswith("ImportError: built for another NumPy (to install: ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be run: No such file or directory"),
        ("no program at all", "cannot be run: Exec format error"),
        ("#!/bin/sh\nexit 7\n", "ended with status 7: it said nothing"),
        ("#!/bin/sh\necho broken >&2; echo >&2; kill -9 $$\n", "ended with status -9: broken"),
        ("#!/bin/sh\nread line; echo hello\n", "said b'hello\\n' where an answer was expected"),
        ("#!/bin/sh\nread line; echo 7; cat\n", "said b'7\\n' where an answer was expected"),
        ("#!/bin/sh\nread line; echo '{}'\n", "where an answer was expected"),
        ("#!/bin/sh\nread line; echo '{\"answer\": 7}'\n", "the answer 7 makes no sense"),
        ('#!/bin/sh\nread line; echo \'{"error": ""}\'\n', "it failed without a word"),
        ("#!/bin/sh\nyes | tr -d '\\n'\n", "where an answer was expected"),
        ("#!/bin/sh\nexec sleep 60\n", "did not answer within 0.5 seconds"),
    ],
)
def test_what_is_no_such_interpreter_is_a_reason(
    make: Make, tmp_path: Path, text: str | None, says: str
) -> None:
    python = tmp_path / "python"
    if text is not None:
        python.write_text(text)
        python.chmod(0o755)
    patience = 0.5 if "0.5" in says else 60.0
    reason = str(make(python, patience=patience).available())
    assert says in reason
    assert INSTALL in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("crash", "ended with status 3: about to fall"),
        ("error", "^ValueError: an operator is not known$"),
        ("one output", "makes no sense"),
    ],
)
def test_what_goes_wrong_at_one_shape_is_an_error_and_the_next_is_tried_anew(
    make: Make, loader: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, fault: str, says: str
) -> None:
    engine = prepared(make(fault=fault), loader, cache)
    with pytest.raises(EngineError, match=says):
        engine.run(inputs((1, 8)))
    monkeypatch.setenv("FAKE_DEEPSPARSE", "")
    check_answers(engine, loader)


def test_a_call_that_never_ends_is_an_error(make: Make, loader: Any, cache: Path) -> None:
    engine = prepared(make(fault="hang later"), loader, cache)
    engine.run(inputs((1, 8)))
    assert engine._script is not None
    engine._script._patience = 0.5
    with pytest.raises(EngineError, match="did not answer within"):
        engine.time(1)
    with pytest.raises(EngineError, match="ended with status -9"):
        engine.time(1)


def test_it_is_not_timed_before_it_runs(make: Make) -> None:
    with pytest.raises(EngineError, match="run it before"):
        make().time(1)


ECHO = """
import json
for line in iter(input, ""):
    print(json.dumps({"answer": line}), flush=True)
"""


def test_a_script_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "echo.py"
    path.write_text(ECHO)
    script = Script(sys.executable, path, {}, 60.0)
    assert script.ask("this", way=1) == '{"do": "this", "way": 1}'
    process, folder = script._process, script.folder
    assert folder.is_dir()
    script.close()
    assert process.returncode is not None
    assert not folder.exists()
