"""Tiny checkpoints on disk, and a way to run the command line on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prunus.cli.app import app
from tests.small_bert import SMALL


@dataclass(frozen=True)
class Ran:
    """What a command answered."""

    status: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Its standard output, which must be one JSON document and nothing else."""
        assert self.status == 0, self.stderr
        return json.loads(self.stdout)


Prunus = Callable[..., Ran]


@pytest.fixture
def prunus() -> Prunus:
    """Runs a command in this process."""

    def run(*arguments: object) -> Ran:
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        unexpected = result.exception
        if unexpected is not None and not isinstance(unexpected, SystemExit):
            raise unexpected
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


def _save(folder: Path, zeros: float) -> Path:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    module = transformers.BertForQuestionAnswering(transformers.BertConfig(**SMALL))
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, torch.nn.Linear):
                child.weight *= torch.rand_like(child.weight) >= zeros
    module.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a tiny BERT for question answering, without zeros."""
    return _save(tmp_path_factory.mktemp("checkpoints") / "dense", 0.0)


@pytest.fixture(scope="session")
def pruned_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with 90 % of its linear weights zero."""
    return _save(tmp_path_factory.mktemp("checkpoints") / "pruned", 0.9)


@pytest.fixture
def tiny_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins of the shape of BERT-base, but small."""
    from prunus.frontend import stand_in

    monkeypatch.setitem(stand_in.CONFIGS, "base", stand_in.CONFIGS["tiny"])
