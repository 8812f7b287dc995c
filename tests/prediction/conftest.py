"""Each test remembers its own times: those of a simulated machine mean nothing to another test."""

import secrets

import pytest

from prunus.prediction import times


@pytest.fixture(autouse=True)
def own_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty memory, though other processes run tests on the same cache."""
    monkeypatch.setattr(times, "KIND", f"{times.KIND}-{secrets.token_hex(4)}")
