"""The cache on disk: round trips, damage, other users, full and read-only disks, two processes.

Warnings are errors here, so a second `CacheWarning` about the same thing would fail a test.
"""

import errno
import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from prunus import cache
from prunus.errors import SavedModelError
from prunus.ownership import UNFINISHED

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own for each test, with nothing said yet."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_said", set())
    return tmp_path / "cache"


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_folder_is_named_by_the_variable_or_by_the_system(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.cache_folder() == folder
    monkeypatch.setenv(cache.VARIABLE, "~/somewhere")
    assert cache.cache_folder() == Path.home() / "somewhere"
    monkeypatch.setenv(cache.VARIABLE, "")
    usual = cache.cache_folder()
    assert usual is not None and usual.name == "prunus"


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 1000])
def test_round_trip(data: bytes) -> None:
    assert cache.read("code", "a key/with ../anything\0\udc80") is None
    assert cache.write("code", "a key/with ../anything\0\udc80", data)
    assert cache.read("code", "a key/with ../anything\0\udc80") == data
    assert cache.read("code", "another") is None
    assert cache.read("choices", "a key/with ../anything\0\udc80") is None


def test_the_last_write_wins() -> None:
    assert cache.write("choices", "key", b"first")
    assert cache.write("choices", "key", b"second")
    assert cache.read("choices", "key") == b"second"


@needs_posix
def test_everything_is_for_its_user_alone(folder: Path) -> None:
    cache.write("code", "key", b"data")
    cache.publish_folder("models", "key", lambda path: (path / "file").touch())
    for path in [folder, *folder.glob("*"), *folder.glob("*/*")]:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "grow", "swap"])
def test_a_damaged_entry_is_absent_and_goes_away(folder: Path, damage: str) -> None:
    cache.write("code", "key", b"machine code")
    (path,) = files_in(folder)
    content = bytearray(path.read_bytes())
    match damage:
        case "flip":
            content[-3] ^= 1
        case "cut":
            del content[-3:]
        case "empty":
            content.clear()
        case "grow":
            content += b"more"
        case "swap":
            cache.write("code", "other", b"code of another kernel")
            content[:] = (path.parent / cache._name("other")).read_bytes()
    path.write_bytes(content)
    with pytest.warns(cache.CacheWarning, match="damaged"):
        assert cache.read("code", "key") is None
    assert not path.exists()
    assert cache.read("code", "key") is None
    assert cache.write("code", "key", b"new")
    assert cache.read("code", "key") == b"new"


def test_damage_is_said_once(folder: Path) -> None:
    for key in ("one", "two"):
        cache.write("code", key, b"data")
    for path in files_in(folder):
        path.write_bytes(b"nonsense")
    with pytest.warns(cache.CacheWarning, match="damaged"):
        assert cache.read("code", "one") is None
    assert cache.read("code", "two") is None


def test_a_file_in_the_place_of_the_folder(folder: Path) -> None:
    folder.write_text("not a folder")
    with pytest.warns(cache.CacheWarning, match=r"cannot be read"):
        assert cache.read("code", "key") is None
    with pytest.warns(cache.CacheWarning, match=rf"make room.*{cache.VARIABLE}"):
        assert not cache.write("code", "key", b"data")
    assert cache.read("code", "key") is None
    assert not cache.write("code", "key", b"data")
    assert cache.publish_folder("models", "key", lambda path: None) is None
    assert cache.find_folder("models", "key") is None
    assert cache.usage() == []
    assert cache.clear() == 0
    assert folder.read_text() == "not a folder"


def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write("code", "key", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(cache.CacheWarning, match="No space left on device"):
        assert not cache.write("code", "key", b"new")
    assert not cache.write("code", "other", b"new")
    assert cache.publish_folder("models", "key", full) is None
    assert cache.read("code", "key") == b"old"
    assert cache.find_folder("models", "key") is None
    assert [path.name for path in files_in(folder) if path.name.startswith(UNFINISHED)] == []


@needs_posix
@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write everywhere")
def test_a_read_only_folder_still_answers(folder: Path) -> None:
    cache.write("code", "key", b"data")
    (folder / "code").chmod(0o500)
    try:
        with pytest.warns(cache.CacheWarning, match="Permission denied"):
            assert not cache.write("code", "other", b"data")
        assert cache.read("code", "key") == b"data"
    finally:
        (folder / "code").chmod(0o700)


def test_publish_and_find_a_folder(folder: Path) -> None:
    calls: list[Path] = []

    def fill(path: Path) -> None:
        calls.append(path)
        (path / "file").write_text("content")

    assert cache.find_folder("models", "key") is None
    published = cache.publish_folder("models", "key", fill)
    assert published is not None
    assert published == cache.find_folder("models", "key")
    assert (published / "file").read_text() == "content"
    assert cache.publish_folder("models", "key", fill) == published
    assert len(calls) == 1
    assert not calls[0].exists()
    cache.remove("models", "key")
    assert cache.find_folder("models", "key") is None
    assert cache.publish_folder("models", "key", fill) == published
    assert len(calls) == 2


def test_a_folder_that_cannot_be_filled_is_not_published(folder: Path) -> None:
    def refuse(path: Path) -> None:
        (path / "half").touch()
        raise SavedModelError("the disk is full")

    def fail(path: Path) -> None:
        raise ZeroDivisionError

    with pytest.warns(cache.CacheWarning, match="the disk is full"):
        assert cache.publish_folder("models", "key", refuse) is None
    with pytest.raises(ZeroDivisionError):
        cache.publish_folder("models", "key", fail)
    assert cache.find_folder("models", "key") is None
    assert not list(folder.rglob("half"))


def test_without_a_lock_the_first_to_finish_wins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LOCK_SECONDS", 0.01)

    def fill(path: Path) -> None:
        (path / "slow").touch()
        assert cache.publish_folder("models", "key", lambda path: (path / "fast").touch())

    published = cache.publish_folder("models", "key", fill)
    assert published is not None
    assert [path.name for path in published.iterdir()] == ["fast"]
    assert not list(folder.glob(f"*/{UNFINISHED}*"))


def test_a_file_system_without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", unsupported)
    assert cache.publish_folder("models", "key", lambda path: (path / "file").touch())


def test_a_file_in_the_place_of_a_folder_entry() -> None:
    cache.write("models", "key", b"data")
    with pytest.warns(cache.CacheWarning, match="could not be renamed"):
        assert cache.publish_folder("models", "key", lambda path: None) is None


def test_usage_and_clear_touch_nothing_else(folder: Path) -> None:
    cache.write("code", "one", b"12345")
    cache.write("code", "two", b"12345")

    def fill(path: Path) -> None:
        (path / "file").write_bytes(b"123")

    cache.publish_folder("models", "key", fill)
    (folder / "code" / "mine.txt").write_text("a file of somebody else")
    (folder / "photos").mkdir()
    (folder / "photos" / "summer.jpg").write_text("another")
    assert cache.usage() == [
        cache.Usage("code", 2, 2 * (32 + 5)),
        cache.Usage("models", 1, 3),
    ]
    assert cache.clear("choices") == 0
    assert cache.clear("code") == 2
    assert [used.kind for used in cache.usage()] == ["models"]
    assert cache.clear() == 1
    assert cache.usage() == []
    assert sorted(path.name for path in files_in(folder)) == ["mine.txt", "summer.jpg"]


def test_clear_removes_what_a_killed_process_left(folder: Path) -> None:
    cache.write("code", "key", b"data")
    (folder / "code" / f"{UNFINISHED}abc").write_bytes(b"half an entry")
    assert cache.usage()[0].entries == 1
    assert cache.clear() == 1
    assert files_in(folder) == []


WRITER = """
import sys
from prunus import cache
value = sys.argv[1].encode() * 50_000
allowed = {None, b"a" * 50_000, b"b" * 50_000}
for _ in range(200):
    assert cache.write("code", "key", value)
    assert cache.read("code", "key") in allowed
"""

PUBLISHER = """
import sys, time
from pathlib import Path
from prunus import cache

def fill(path: Path) -> None:
    for name in ("one", "two"):
        time.sleep(0.1)
        (path / name).write_text(sys.argv[1])
    print("filled")

published = cache.publish_folder("models", "key", fill)
assert len({(published / name).read_text() for name in ("one", "two")}) == 1
"""


def test_two_processes_write_one_entry() -> None:
    processes = [start(WRITER, letter) for letter in "ab"]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0]


def test_two_processes_publish_one_folder_and_one_of_them_fills_it() -> None:
    processes = [start(PUBLISHER, letter) for letter in "ab"]
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(printed) == ["", "filled\n"]


def test_importing_the_cache_is_cheap() -> None:
    code = (
        "import sys, prunus.cache; print('filelock' in sys.modules, 'platformdirs' in sys.modules)"
    )
    assert start(code).communicate(timeout=60)[0] == "False False\n"
