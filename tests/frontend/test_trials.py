"""What a module refuses is told from what interrupts it: no alarm makes a wrong model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

import prunus
from prunus import cache
from prunus.frontend import hub, weights
from prunus.frontend.checkpoint import load_module
from prunus.frontend.export import import_module
from prunus.frontend.partition import partition_module
from prunus.frontend.trials import Refusal, attempt

OPTIONS: dict[str, Any] = {"threads": 1, "tune": "cost"}
IDS = torch.tensor([[7, 8, 9, 0, 0, 0]])
"""With the padding id, to which BERT attends where no mask is given."""


class Alarm(Exception):
    """What a user's signal handler raises."""


def failing(*errors: Exception | None) -> Callable[[], str]:
    """Work that fails with each of these in turn, and is done where there is none."""
    rest: Iterator[Exception | None] = iter(errors)

    def work() -> str:
        error = next(rest)
        if error is not None:
            raise error
        return "done"

    return work


def test_an_error_that_comes_again_is_a_refusal() -> None:
    found = attempt(failing(ValueError("a mask, please"), ValueError("a mask, please")))
    assert isinstance(found, Refusal) and str(found.error) == "a mask, please"
    moved = failing(TypeError("<object at 0x7f01>"), TypeError("<object at 0x7f99>"))
    assert isinstance(attempt(moved), Refusal)
    assert attempt(failing(None)) == "done"


@pytest.mark.parametrize("alarm", [Alarm("now"), RuntimeError("now"), ValueError("now")])
@pytest.mark.parametrize("at", [0, 1])
def test_an_error_that_does_not_come_again_goes_on(alarm: Exception, at: int) -> None:
    errors: list[Exception] = [ValueError("a mask, please")] * 2
    errors.insert(at, alarm)
    with pytest.raises(type(alarm), match="now"):
        attempt(failing(*errors))
    with pytest.raises(type(alarm), match="now"):
        attempt(failing(alarm, None))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        TimeoutError("now"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_a_want_of_memory_is_no_refusal_though_it_comes_again(error: Exception) -> None:
    with pytest.raises(type(error)):
        attempt(failing(error, error, error))


def test_torch_allocating_too_much_is_a_want_of_memory() -> None:
    with pytest.raises(RuntimeError, match="allocate"):
        attempt(lambda: torch.empty(1 << 60, dtype=torch.uint8))


def test_an_error_of_torch_alone_is_not_tried_again() -> None:
    from torch._dynamo.exc import UserError, UserErrorType

    error = UserError(UserErrorType.ANTI_PATTERN, "no")
    assert attempt(failing(error)) == Refusal(error)
    error = UserError(UserErrorType.ANTI_PATTERN, "no")
    error.__cause__ = Alarm("now")
    with pytest.raises(UserError):
        attempt(failing(error, None))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
                        intermediate_size=64, vocab_size=50)  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


class Calls:
    """Counts calls of BERT, and raises at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.at, self.error = 0, 0, Exception()
        own, calls = BertModel.forward, self

        def forward(self: BertModel, *args: Any, **kwargs: Any) -> Any:
            calls.count += 1
            if calls.count == calls.at:
                raise calls.error
            return own(self, *args, **kwargs)

        forward.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
        monkeypatch.setattr(BertModel, "forward", forward)

    def interrupt(self, at: int, error: Exception) -> None:
        self.count, self.at, self.error = 0, at, error


KINDS: tuple[Exception, ...] = (Alarm("now"), MemoryError("now"), RuntimeError("now"))


def test_an_alarm_at_any_call_of_a_module_goes_on_and_leaves_nothing_in_the_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        wanted = module(IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state
    calls = Calls(monkeypatch)
    for at in range(1, 13):
        error = KINDS[at % len(KINDS)]
        calls.interrupt(at, error)
        try:
            prunus.from_pretrained(folder, **OPTIONS)
        except type(error) as raised:
            assert str(raised) == "now", at
        else:
            assert calls.count < at, f"the alarm at call {at} was swallowed"
            break
    assert at > 5, "export and probes call the module several times"
    calls.interrupt(0, error)
    again = prunus.from_pretrained(folder, **OPTIONS)  # from the cache, or imported undisturbed
    torch.testing.assert_close(again(IDS).last_hidden_state, wanted, rtol=1e-5, atol=1e-5)


class Spectral(nn.Module):
    """With an op that has no translation, between two layers."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.at, self.calls = at, count(1)  # which torch.export does not take back

    def forward(self, x: Tensor) -> Tensor:
        if next(self.calls) == self.at:
            raise Alarm("now")
        inner: Tensor = self.inner(torch.fft.fft(self.inner(x)).real)
        return inner


def test_an_alarm_at_any_call_of_a_split_module_goes_on() -> None:
    for at in range(1, 13):
        module = Spectral(at)
        try:
            partition_module(module, (torch.ones(2, 4),))
        except Alarm:
            continue
        assert next(module.calls) <= at, f"the alarm at call {at} was swallowed"
        break
    assert at > 2, "export and a probe call the module"


class Refusing(nn.Module):
    """Takes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        raise Alarm("each time")


def test_what_a_module_raises_each_time_is_its_refusal() -> None:
    with pytest.raises(prunus.InputError, match="Alarm: each time"):
        import_module(Refusing(), (torch.ones(2, 4),))


def once(monkeypatch: pytest.MonkeyPatch, place: str, error: Exception) -> None:
    """A function raises at its first call."""
    left = [error]
    own = resolve_name(place)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()
        return own(*args, **kwargs)

    monkeypatch.setattr(place, interrupted)


@pytest.mark.parametrize("error", [Alarm("now"), MemoryError("now"), RuntimeError("now")])
def test_an_alarm_while_transformers_loads_is_no_damage(
    error: Exception, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(monkeypatch, "transformers.BertModel.__init__", error)
    with pytest.raises(type(error), match="now"):
        load_module(hub.resolve(folder))


@pytest.mark.parametrize("error", [Alarm("now"), RuntimeError("now")])
def test_an_alarm_while_a_pickle_is_read_is_no_damage(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / weights.PICKLE)
    once(monkeypatch, "torch.load", error)
    with pytest.raises(type(error), match="now"):
        weights.load(tmp_path)


@pytest.mark.parametrize("error", [Alarm("now"), MemoryError("now")])
def test_an_alarm_while_the_hub_is_asked_is_no_fault_of_the_hub(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(monkeypatch, "huggingface_hub.snapshot_download", error)
    with pytest.raises(type(error), match="now"):
        hub.resolve("owner/name")
