"""Caches that others can have written to, and users who have no place for a cache.

Warnings are errors here, so a second `CacheWarning` about the same thing would fail a test.
"""

import os
import pwd
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prunus import cache
from prunus.ownership import UNFINISHED, stranger

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")
IS_ROOT = getattr(os, "geteuid", int)() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can give a file to another user")

CLEAR = r"prunus cache clear"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own for each test, with nothing said yet."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_said", set())
    return tmp_path / "cache"


def entry(folder: Path, kind: str) -> Path:
    (found,) = (path for path in (folder / kind).iterdir() if not path.name.startswith("."))
    return found


def publish() -> Path | None:
    def fill(path: Path) -> None:
        (path / "file").write_text("mine")
        (path / "inner").mkdir()
        (path / "inner" / "file").write_text("mine as well")

    return cache.publish_folder("models", "key", fill)


# Folders


@needs_posix
@pytest.mark.parametrize("inner", ["", "code"])
@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_not_used(folder: Path, inner: str, mode: int) -> None:
    cache.write("code", "key", b"data")
    (folder / inner).chmod(mode)
    words = rf"other users may write to it .mode {mode:o}.*chmod go-w.*then.*{CLEAR}"
    with pytest.warns(cache.CacheWarning, match=words):
        assert cache.read("code", "key") is None
    assert not cache.write("code", "key", b"data")
    assert cache.publish_folder("code", "key", lambda path: None) is None
    assert cache.find_folder("code", "key") is None
    (folder / inner).chmod(0o755)
    assert cache.read("code", "key") == b"data"


@needs_posix
def test_a_folder_of_another_user_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write("code", "key", b"data")
    if IS_ROOT:
        os.chown(folder, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(cache.CacheWarning, match="belongs to another user"):
        assert cache.read("code", "key") is None


@needs_posix
def test_who_may_write_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    def who(mode: int, owner: int) -> str | None:
        return stranger(os.stat_result((mode, 0, 0, 1, owner, 0, 0, 0, 0, 0)))

    assert who(0o40755, 1000) is None
    assert who(0o100644, 0) is None
    assert who(0o40755, 1001) == "it belongs to another user (1001)"
    assert "777" in (who(0o41777, 1000) or "")


# Entries in a folder that is this user's own


def give_away(path: Path) -> None:
    os.chown(path, 12345, -1)


def open_to_the_group(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o020)


def open_to_all(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def turn_into_a_link(path: Path) -> None:
    """What a link leads to is this user's own, but the choice of it was somebody else's."""
    path.symlink_to(path.rename(path.with_name(f"{UNFINISHED}elsewhere")))


WAYS = [
    pytest.param(give_away, "belongs to another user .12345", marks=needs_root),
    pytest.param(open_to_the_group, "other users may write to it"),
    pytest.param(open_to_all, "other users may write to it"),
    pytest.param(turn_into_a_link, "is a link"),
]


@needs_posix
@pytest.mark.parametrize("kind", ["code", "choices", "limits", "layer times"])
@pytest.mark.parametrize(("make_foreign", "reason"), WAYS)
def test_a_foreign_file_is_not_read_and_is_replaced(
    folder: Path, kind: str, make_foreign: Callable[[Path], None], reason: str
) -> None:
    cache.write(kind, "key", b"data")
    make_foreign(entry(folder, kind))
    with pytest.warns(cache.CacheWarning, match=f"{reason}.*{CLEAR}"):
        assert cache.read(kind, "key") is None
    assert cache.write(kind, "key", b"my own")
    assert cache.read(kind, "key") == b"my own"


@needs_posix
@pytest.mark.parametrize("part", [".", "file", "inner", "inner/file"])
@pytest.mark.parametrize(("make_foreign", "reason"), WAYS)
def test_a_foreign_part_of_a_folder_entry_keeps_it_from_use(
    folder: Path, part: str, make_foreign: Callable[[Path], None], reason: str
) -> None:
    published = publish()
    assert published is not None
    make_foreign(published / part)
    with pytest.warns(cache.CacheWarning, match=f"{reason}.*{CLEAR}"):
        assert cache.find_folder("models", "key") is None
    assert publish() == published  # in the place of the foreign one
    assert (published / "file").read_text() == "mine"
    assert cache.find_folder("models", "key") == published


@needs_posix
def test_the_file_that_was_checked_is_the_one_that_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file is put in its place after it was opened, and after it was checked."""
    cache.write("code", "key", b"data")
    path, check = entry(folder, "code"), os.fstat

    def replace_and_check(descriptor: int) -> os.stat_result:
        path.unlink(missing_ok=True)
        path.write_bytes(b"machine code of another")
        return check(descriptor)

    monkeypatch.setattr(os, "fstat", replace_and_check)
    assert cache.read("code", "key") == b"data"


@needs_posix
def test_published_files_are_private_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        published = publish()
    finally:
        os.umask(before)
    assert published is not None
    modes = {path.stat().st_mode & 0o777 for path in (published, *published.rglob("*"))}
    assert modes == {0o700, 0o600}
    assert cache.find_folder("models", "key") == published


@needs_posix
def test_a_lock_that_is_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    cache.write("models", "other", b"data")
    lock = folder / "models" / f"{cache._LOCK}{cache._name('key')}"
    lock.symlink_to(tmp_path / "precious")
    with pytest.warns(cache.CacheWarning, match="is a link"):
        assert publish() is not None
    assert (tmp_path / "precious").read_text() == "precious"


@needs_posix
def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    cache.write("code", "key", b"data")
    path = entry(folder, "code")
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.warns(cache.CacheWarning, match="damaged"):
        assert cache.read("code", "key") is None


def test_clear_removes_foreign_entries(folder: Path) -> None:
    cache.write("code", "key", b"data")
    published = publish()
    assert published is not None
    open_to_all(entry(folder, "code"))
    open_to_all(published)
    assert cache.clear() == 2
    assert cache.usage() == []


def test_clear_says_what_it_could_not_remove(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.warns(cache.CacheWarning, match=r"could not be removed.*Permission denied.*root"):
        assert cache.clear() == 0


# Users without a home folder


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither HOME nor an entry in passwd, as in a container under any user id."""

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for variable in (cache.VARIABLE, "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@needs_posix
@pytest.mark.parametrize("named", [None, "~/cache"])
def test_without_a_home_there_is_no_cache_and_one_warning(
    homeless: None, named: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if named is not None:
        monkeypatch.setenv(cache.VARIABLE, named)
    assert cache.cache_folder() is None
    with pytest.warns(cache.CacheWarning, match=rf"no home folder.*{cache.VARIABLE}"):
        assert cache.read("code", "key") is None
    assert not cache.write("code", "key", b"data")
    assert cache.find_folder("models", "key") is None
    assert publish() is None
    cache.remove("models", "key")
    assert cache.usage() == []
    assert cache.clear() == 0
    assert list(tmp_path.iterdir()) == []


@needs_posix
def test_without_a_home_the_variable_still_counts(
    homeless: None, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(folder))
    assert cache.write("code", "key", b"data")
    assert cache.read("code", "key") == b"data"


def test_an_older_platformdirs_that_leaves_the_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: Path("~/.cache/prunus"))
    assert cache.cache_folder() is None
