"""Imports in several threads, failures and interrupts leave the process as it was."""

from __future__ import annotations

import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.utils import logging as transformers_logging

import prunus
from prunus import cache
from prunus.dynamo.split import SplitModel
from prunus.errors import UnsupportedError
from prunus.frontend import exclusive, export
from prunus.frontend.export import import_module
from prunus.frontend.feed_forward import CHUNK_SIZE
from prunus.frontend.partition import partition_module
from tests.frontend.modules import Function
from tests.runtime.interrupts import KINDS, count_points, stop_at
from tests.runtime.processes import in_a_child, needs_fork

EXAMPLE = (torch.ones(2, 4),)
OPTIONS = {"threads": 1, "tune": "cost"}
LOGGERS = ("torch", "torch.__trace", "torch.export", "transformers")


class Mixed(nn.Module):
    """In training, but for one part; another part says that it computes chunk by chunk."""

    def __init__(self, options: float = 0.5) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Dropout(options), nn.Linear(4, 4))
        self.train()
        self.inner[1].eval()
        vars(self.inner[2])[CHUNK_SIZE] = 2

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


class Spectral(Mixed):
    """With an op that has no translation, between random ones."""

    def forward(self, x: Tensor) -> Any:
        hidden = torch.fft.fft(nn.functional.dropout(self.inner(x), training=True)).real
        return self.inner(hidden)


class Refused(Mixed):
    """Its way depends on values."""

    def forward(self, x: Tensor) -> Any:
        return self.inner(x) if x.sum() > 0 else x


def state(*modules: nn.Module) -> list[Any]:
    """All that an import could leave changed."""
    import transformers.modeling_utils as loading

    return [
        sys.stdout, sys.stderr, warnings.showwarning, list(warnings.filters),
        [(logging.getLogger(name).level, logging.getLogger(name).disabled) for name in LOGGERS],
        transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled(),
        torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_rng_state().tolist(),
        nn.Module.__call__, nn.Module.__getattr__,
        nn.init.normal_, loading.PreTrainedModel.from_pretrained.__func__,
        [{name: (each.training, sorted(vars(each)), vars(each).get(CHUNK_SIZE))
          for name, each in module.named_modules()}
         for module in modules],
        [[id(each) for each in (*module.parameters(), *module.buffers())] for module in modules],
    ]  # fmt: skip


@contextmanager
def chatter() -> Iterator[list[str]]:
    """Another thread that prints and logs; gives what changed under it.

    It is no fixture: pytest itself replaces stderr between the fixtures of a test and the test.
    """
    seen: list[str] = []
    over = threading.Event()
    own = sys.stderr
    level = logging.getLogger("torch").level

    class Records(logging.Handler):
        count = 0

        def emit(self, record: logging.LogRecord) -> None:
            self.count += record.name == "torch.of_a_user"

    records = Records()
    logging.getLogger("torch").addHandler(records)

    def talk() -> None:
        sent = 0
        while not over.is_set():
            if sys.stderr is not own:
                seen.append("stderr was replaced")
            if logging.getLogger("torch").level != level:
                seen.append("the level of torch's logger was changed")
            logging.getLogger("torch.of_a_user").warning("a warning")
            sent += 1
            if records.count != sent:
                seen.append("a record of another thread was dropped")
                records.count = sent
            time.sleep(0.001)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        logging.getLogger("torch").removeHandler(records)


def all_at_once(work: list[Callable[[], object]]) -> list[BaseException | None]:
    """What each of them raised, all begun together in threads of their own."""
    together = threading.Barrier(len(work))

    def run(each: Callable[[], object]) -> BaseException | None:
        together.wait()
        try:
            each()
        except BaseException as error:
            return error
        return None

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(run, work))


def test_threads_compile_at_once_while_another_one_prints() -> None:
    modules: list[nn.Module] = [Mixed() for _ in range(4)]
    shared, spectral, refused = Mixed(), Spectral(), Refused()
    before = state(*modules, shared, spectral, refused)
    work: list[Callable[[], object]] = [
        *(lambda m=m: prunus.compile(m, EXAMPLE, threads=1, tune="cost") for m in modules),
        *(lambda: import_module(shared, EXAMPLE) for _ in range(2)),
        *(lambda: SplitModel(spectral, EXAMPLE, None, OPTIONS) for _ in range(2)),
        lambda: import_module(refused, EXAMPLE),
    ]
    with chatter() as seen:
        errors = all_at_once(work)
    assert errors[:-1] == [None] * 8
    assert isinstance(errors[-1], UnsupportedError)
    assert "where" in str(errors[-1])
    assert state(*modules, shared, spectral, refused) == before
    assert seen == []


def test_threads_load_checkpoints_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    for number in range(3):
        config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                            intermediate_size=64, vocab_size=100 + number)  # fmt: skip
        BertModel(config).save_pretrained(tmp_path / str(number))
    before = state()
    work: list[Callable[[], object]] = [
        lambda number=number: prunus.from_pretrained(  # type: ignore[misc]
            tmp_path / str(number % 3), threads=1, tune="cost"
        )
        for number in range(4)
    ]
    with chatter() as seen:
        assert all_at_once(work) == [None] * 4
    assert state() == before
    assert seen == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("load", [import_module, partition_module])
def test_a_failure_inside_the_module_leaves_no_trace(
    error: type[BaseException], load: Callable[..., object]
) -> None:
    def fail(x: Tensor) -> Tensor:
        raise error("from within")

    module = nn.Sequential(Mixed(), nn.Dropout(), Function(fail)).train()
    before = state(module)
    with pytest.raises(BaseException, match="from within"):
        load(module, EXAMPLE)
    assert state(module) == before


@pytest.mark.parametrize("load", [import_module, partition_module])
def test_an_interrupt_anywhere_in_prunus_leaves_no_trace(load: Callable[..., object]) -> None:
    """Not in torch's own code: that can crash where a signal arrives while it traces."""
    module = Mixed() if load is import_module else Spectral()
    work = partial(load, module, EXAMPLE)
    inside = str(Path(prunus.__file__).parent)
    work()
    total, before = count_points(work, inside), state(module)
    tries = 20
    for number in range(tries):
        point = (2 * number + 1) * total // (2 * tries)
        assert stop_at(point, KINDS[number % len(KINDS)], work, inside), point
        assert state(module) == before, point
    assert all_at_once([work]) == [None], "the lock is free"


def test_an_interrupt_of_a_probe_of_a_split_module_leaves_no_trace() -> None:
    class Interrupted(Spectral):
        def forward(self, x: Tensor) -> Any:
            answer = super().forward(x)  # which draws random numbers
            if not torch.compiler.is_exporting():
                raise KeyboardInterrupt
            return answer

    module = Interrupted()
    before = state(module)
    with pytest.raises(KeyboardInterrupt):
        partition_module(module, EXAMPLE)
    assert state(module) == before
    assert all_at_once([lambda: import_module(Mixed(), EXAMPLE)]) == [None], "the lock is free"


@pytest.mark.parametrize("load", [import_module, partition_module])
def test_what_torch_leaves_behind_after_an_interrupt_is_restored(
    load: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.export swaps weights and methods, and an interrupt may end its way back."""
    module = nn.Sequential(Mixed(), nn.BatchNorm1d(4))
    before = state(module)

    def interrupted(module: nn.Module, *_: object) -> None:
        module.get_submodule("0.inner.0").weight = nn.Parameter(torch.ones(4, 4))
        module.get_submodule("1").register_buffer("running_mean", torch.ones(4))
        call, get = nn.Module.__call__, nn.Module.__getattr__
        nn.Module.__call__ = lambda *args, **kwargs: call(*args, **kwargs)  # type: ignore[method-assign]
        nn.Module.__getattr__ = lambda self, name: get(self, name)  # type: ignore[method-assign]
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "export_program", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(module, EXAMPLE)
    assert state(module) == before


def test_restoring_runs_again_where_it_was_interrupted() -> None:
    calls: list[str] = []

    def restore() -> None:
        calls.append("begin")
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append("end")

    with pytest.raises(KeyboardInterrupt):
        exclusive.restoring(lambda: 1, restore)
    assert calls == ["begin", "begin", "end"]


@needs_fork
def test_a_fork_waits_for_an_import_and_its_child_imports() -> None:
    module = Mixed()
    before = state(module)[-1]
    inside = threading.Event()

    def slow(x: Tensor) -> Tensor:
        inside.set()
        time.sleep(0.2)
        return x

    thread = threading.Thread(
        target=lambda: import_module(nn.Sequential(module, Function(slow)), EXAMPLE)
    )
    thread.start()
    assert inside.wait(30)

    def child() -> bytes:
        is_same = state(module)[-1] == before
        import_module(module, EXAMPLE)
        return b"imported" if is_same else b"the module was changed"

    assert in_a_child(child) == b"imported"
    thread.join()
