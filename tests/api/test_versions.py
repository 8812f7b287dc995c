"""What is kept in the cache depends on all that made it: sources at any depth, and packages."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

import prunus
from prunus import api, cache
from prunus.cli.models import CheckpointModel
from prunus.frontend import checkpoint, hub
from prunus.reporting.measure import _key
from prunus.runtime import saved
from prunus.versions import package_versions, source_digest
from tests.small_bert import SMALL


def test_versions_of_what_is_installed() -> None:
    found = package_versions(("numpy", "surely-not-installed"))
    assert list(found) == ["numpy"]


def test_source_digest_covers_nested_and_moved_files(tmp_path: Path) -> None:
    inner = tmp_path / "kernels" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "kernels" / "a.py").write_text("a = 1\n")
    found = {source_digest("kernels", package=tmp_path)}
    (inner / "b.py").write_text("b = 1\n")
    found.add(source_digest("kernels", package=tmp_path))
    (inner / "b.py").write_text("b = 2\n")
    found.add(source_digest("kernels", package=tmp_path))
    (inner / "b.py").rename(tmp_path / "kernels" / "b.py")
    found.add(source_digest("kernels", package=tmp_path))
    assert len(found) == 4
    (tmp_path / "kernels" / "notes.txt").write_text("not a source")
    assert source_digest("kernels", package=tmp_path) in found


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_cached_import_is_made_again_after_an_upgrade(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    BertModel(BertConfig(**SMALL)).save_pretrained(tmp_path / "model")
    loads = []
    load_module = checkpoint.load_module

    def counted(*args: Any, **kwargs: Any) -> Any:
        loads.append(args)
        return load_module(*args, **kwargs)

    monkeypatch.setattr(checkpoint, "load_module", counted)
    monkeypatch.setattr(api, "import_version", api.import_version.__wrapped__)  # not remembered
    prunus.from_pretrained(tmp_path / "model", threads=1)
    prunus.from_pretrained(tmp_path / "model", threads=1)
    assert len(loads) == 1
    key = CheckpointModel(hub.resolve(tmp_path / "model")).key(None)
    version = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "99.0" if name == package else version(name)
    )
    prunus.from_pretrained(tmp_path / "model", threads=1)
    assert len(loads) == 2
    assert CheckpointModel(hub.resolve(tmp_path / "model")).key(None) != key


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_kept_stages_of_a_report_end_with_an_upgrade(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = prunus.compile(torch.nn.Linear(4, 4), (torch.ones(2, 4),), threads=1, tune="cost")
    before = _key(model, ("prunus",), (1, 8), 1, 0.1)
    assert _key(model, ("prunus",), (1, 8), 1, 0.1) == before
    version = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "99.0" if name == package else version(name)
    )
    assert _key(model, ("prunus",), (1, 8), 1, 0.1) != before


class Handler(Exception):
    """What a user's signal handler raises."""


@pytest.mark.parametrize("error", [OSError("too many open files"), MemoryError(), Handler()])
def test_a_sound_cache_entry_survives_what_is_no_fault_of_its_own(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    BertModel(BertConfig(**SMALL)).save_pretrained(tmp_path / "model")
    ids = torch.ones(1, 5, dtype=torch.int64)
    before = prunus.from_pretrained(tmp_path / "model", threads=1)(input_ids=ids)
    entries = sorted((tmp_path / "cache").rglob("prunus.json"))

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(saved, "parse_graph", fail)
        if isinstance(error, OSError):
            prunus.from_pretrained(tmp_path / "model", threads=1)  # imported again
        else:
            with pytest.raises(type(error)):
                prunus.from_pretrained(tmp_path / "model", threads=1)
    assert sorted((tmp_path / "cache").rglob("prunus.json")) == entries
    monkeypatch.setattr(checkpoint, "load_module", fail)  # from the cache alone
    after = prunus.from_pretrained(tmp_path / "model", threads=1)(input_ids=ids)
    assert torch.equal(before.last_hidden_state, after.last_hidden_state)
