"""Checkpoints in local folders: found, told apart, and refused where they do not do."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prunus.errors import CheckpointError, InputError
from prunus.frontend import hub
from prunus.text.files import load_tokenizer

FILES = {
    "config.json": b'{"architectures": ["BertModel"], "model_type": "bert"}\n',
    "model.safetensors": bytes(range(256)) * 20,
    "tokenizer.json": b"{}",
    "vocab.txt": b"[PAD]\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-bert"
    path.mkdir()
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    return path


def test_a_folder_is_taken_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for name in (folder, str(folder), "tiny-bert", "./tiny-bert", "~/tiny-bert"):
        found = hub.resolve(name)
        assert found.folder.samefile(folder)
        assert (found.name, found.commit) == (str(name), None)
        assert found.config["model_type"] == "bert"
    assert found.companion_files() == [
        found.folder / name for name in FILES if name != "model.safetensors"
    ]
    assert hub.resolve(folder.parent, subfolder="tiny-bert").folder == folder


def test_fingerprint_of_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_PIECE", 1000)  # so that the small file has many pieces
    found = {hub.resolve(folder).fingerprint()}
    moved = folder.rename(folder.parent / "moved")
    (moved / "README.md").write_text("not a part of the model")
    assert {hub.resolve(moved).fingerprint()} == found
    for name in ("config.json", "model.safetensors"):
        content = (moved / name).read_bytes()
        for changed in (b" " + content[1:], content + b" "):
            (moved / name).write_bytes(changed)
            found.add(hub.Checkpoint("", moved, {}, None).fingerprint())
        (moved / name).write_bytes(content)
    assert len(found) == 5
    assert {hub.resolve(moved).fingerprint()} < found


@contextmanager
def without_privileges() -> Iterator[None]:
    """As another user, where the tests run as root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)  # nobody
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A checkpoint that every user reaches; the folders of pytest are its user's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as root:
        os.chmod(root, 0o755)
        for name, content in FILES.items():
            Path(root, name).write_bytes(content)
        yield Path(root)
        os.chmod(root, 0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such permissions")
@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "vocab.txt", "."]
)
def test_files_without_read_permission_are_named(name: str, open_folder: Path) -> None:
    (open_folder / name).chmod(0)
    if name == "vocab.txt":
        (open_folder / "tokenizer.json").unlink()
    with without_privileges(), pytest.raises(CheckpointError) as info:
        if name in ("tokenizer.json", "vocab.txt"):
            load_tokenizer({path.name: path for path in open_folder.iterdir()})
        hub.resolve(open_folder).fingerprint()
    message = str(info.value)
    assert f"{(open_folder / name)} cannot be read" in message or name == "."
    assert str(open_folder) in message
    assert "Permission denied; give this user permission to read it (chmod)" in message


def test_an_error_of_the_disk_names_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, opened = hub.resolve(folder), Path.open

    def broken(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == "model.safetensors":
            raise OSError(5, "Input/output error")
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read: Input/output"):
        checkpoint.fingerprint()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./tiny-brt", "There is no folder ./tiny-brt. Did you mean tiny-bert?"),
        ("nowhere/deep/tiny-bert", "Its parent nowhere/deep does not exist"),
        (Path("tiny-brt"), "There is no folder tiny-brt. Did you mean tiny-bert?"),
        ("tiny-bert/config.json", "is a file"),
        ("tiny-brt", "There is no folder tiny-brt here, .* Did you mean tiny-bert?"),
        ("tiny bert", "neither a folder nor a name of the hub .* Did you mean tiny-bert?"),
    ],
)
def test_mistyped_folders(
    name: Any, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(CheckpointError, match=message.replace("?", r"\?").replace("(", r"\(")):
        hub.resolve(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"has no config\.json"),
        (lambda f: (f / "config.json").write_text("[1]"), "holds a list"),
        (lambda f: (f / "config.json").write_bytes(b"\xff"), "not readable JSON"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "nested deeper than 64 levels"),
        (lambda f: (f / "config.json").write_text('{"a":' * 99 + "1" + "}" * 99), "nested deeper"),
        (lambda f: os.truncate(f / "config.json", 1 << 40), "more than 64 MB"),
        (lambda f: (f / "prunus.json").write_text("{}"), r"prunus\.load"),
        (lambda f: (f / "config.json").rename(f.parent / "config.json") and (f / "a").mkdir(),
         r"has no config\.json"),
    ],
)  # fmt: skip
def test_folders_that_do_not_do(change: Any, message: str, folder: Path) -> None:
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        hub.resolve(folder)


def test_the_subfolder_with_the_configuration_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="Found one in tiny-bert: pass that as the subfolder"):
        hub.resolve(folder.parent)


def test_a_subfolder_that_is_not_there_is_named_once(folder: Path) -> None:
    with pytest.raises(CheckpointError) as info:
        hub.resolve(folder, subfolder="outer/inner")
    assert str(info.value) == f"{folder} has no folder 'outer/inner': check the subfolder."


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("", {}, "empty"),
        ("x", {"subfolder": "../y"}, "leads outside"),
        ("x", {"subfolder": "/y"}, "leads outside"),
        (".", {"revision": "main"}, "local folder, which has no revision 'main'"),
    ],
)
def test_arguments_that_do_not_do(name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        hub.resolve(name, **options)  # type: ignore[arg-type]
