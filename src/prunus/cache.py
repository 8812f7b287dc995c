"""The user's cache on disk: machine code, choices, imported models. It may vanish any time.

An entry is a file or a folder at `<cache>/<kind>/<sha256 of the key>`. A file carries a digest, so
that damage is noticed; both are renamed into place, so that another process sees all of it or
nothing. Because machine code is run as it is, a cache that other users can write to is not used at
all. What goes wrong is said once, by a `CacheWarning`, and prunus goes on without the cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prunus.errors import PrunusError

VARIABLE = "PRUNUS_CACHE_DIR"
"""The environment variable that names another cache folder."""

LOCK_SECONDS = 120.0
"""Patience with another process that fills the same folder: an import can take a minute."""

_DIGEST_BYTES = 32
_TEMPORARY = ".new-"
_LOCK = ".lock-"
# Nothing else is ever counted or deleted, even if the variable names a folder full of other things.
_OURS = re.compile(r"[0-9a-f]{64}|\.(?:new|lock)-.*")

_said: set[str] = set()


class CacheWarning(UserWarning):
    """The cache, or an entry of it, cannot be used: everything still works, only slower."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How many entries of one kind there are, and the bytes that they take."""

    kind: str
    entries: int
    bytes: int


def cache_folder() -> Path:
    """The cache's folder, if it exists: `PRUNUS_CACHE_DIR`, or the system's usual place."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(os.path.expanduser(named)).absolute()
    import platformdirs

    return platformdirs.user_cache_path("prunus", appauthor=False)


def read(kind: str, key: str) -> bytes | None:
    """The bytes that `write` stored, or None where there are none, or none that can be trusted."""
    try:
        if not _is_private(kind):
            return None
        path = _path(kind, key)
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _say("read", f"the cache cannot be read ({error})")
        return None
    data = content[_DIGEST_BYTES:]
    if content[:_DIGEST_BYTES] == _digest(kind, key, data):
        return data
    _say("damaged", f"the cache entry {path} is damaged, so it is made again")
    with suppress(OSError):
        path.unlink()
    return None


def write(kind: str, key: str, data: bytes) -> bool:
    """Store `data` in place of what `kind` and `key` had before; False if that was not possible."""
    temporary = None
    try:
        if not _make_folder(kind):
            return False
        descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=cache_folder() / kind)
        with open(descriptor, "wb") as file:
            file.write(_digest(kind, key, data))
            file.write(data)
        os.replace(temporary, _path(kind, key))
    except OSError as error:
        _say_unwritable(error)
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        return False
    return True


def find_folder(kind: str, key: str) -> Path | None:
    """The folder that `publish_folder` published, or None. Its content is the caller's to check."""
    with suppress(OSError):
        path = _path(kind, key)
        if _is_private(kind) and path.is_dir():
            return path
    return None


def publish_folder(kind: str, key: str, fill: Callable[[Path], None]) -> Path | None:
    """Let `fill` write an entry into an empty folder, publish that as a whole, return where it is.

    A process that comes second waits for the first and takes its folder. An `OSError` or a
    `PrunusError` of `fill` means that there is no entry, as does a cache that cannot be used: then
    the answer is None. Other exceptions pass through.
    """
    try:
        if not _make_folder(kind):
            return None
        with _turn(cache_folder() / kind / f"{_LOCK}{_name(key)}"):
            return find_folder(kind, key) or _fill(kind, key, fill)
    except (OSError, PrunusError) as error:
        _say_unwritable(error)
        return None


def remove(kind: str, key: str) -> None:
    """Remove one entry, file or folder, if it is there: its reader has found it to be useless."""
    _delete(_path(kind, key))


def usage() -> list[Usage]:
    """What the cache holds, by kind."""
    found = []
    for folder in _children(cache_folder()):
        ours = [path for path in _children(folder) if _OURS.fullmatch(path.name)]
        if ours:
            entries = sum(not path.name.startswith(".") for path in ours)
            found.append(Usage(folder.name, entries, sum(map(_bytes, ours))))
    return found


def clear(kind: str | None = None) -> int:
    """Remove all entries, or those of one kind, and return their number. Other files stay."""
    removed = 0
    for folder in _children(cache_folder()):
        if kind in (None, folder.name):
            for path in _children(folder):
                if _OURS.fullmatch(path.name) and _delete(path):
                    removed += not path.name.startswith(".")
            with suppress(OSError):  # something else is in it
                folder.rmdir()
    return removed


def _name(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def _path(kind: str, key: str) -> Path:
    return cache_folder() / kind / _name(key)


def _digest(kind: str, key: str, data: bytes) -> bytes:
    """Covers kind and key too: an entry that was copied to another's name is no longer valid."""
    digest = hashlib.sha256(f"{kind}\n{_name(key)}\n".encode())
    digest.update(data)
    return digest.digest()


def _say(topic: str, message: str) -> None:
    if topic not in _said:
        _said.add(topic)
        warnings.warn(message, CacheWarning, stacklevel=3)


def _say_unwritable(error: Exception) -> None:
    _say(
        "write",
        f"nothing can be kept in the cache ({error}), so the next start is slower; make room, make "
        f"the folder writable, or set {VARIABLE} to another",
    )


def _make_folder(kind: str) -> bool:
    """Create the folder of `kind`, for this user only; False if others could write to it."""
    cache_folder().mkdir(0o700, parents=True, exist_ok=True)
    (cache_folder() / kind).mkdir(0o700, exist_ok=True)
    return _is_private(kind)


def _is_private(kind: str) -> bool:
    """Whether nobody but this user and root can put entries there, or there is no folder yet."""
    for folder in (cache_folder(), cache_folder() / kind):
        with suppress(OSError):  # reading or writing in it will fail as well, and say so
            stranger = _stranger(folder.stat())
            if stranger is not None:
                _say(
                    "private",
                    f"the cache {folder} is not used: it holds machine code, and {stranger}; make "
                    f"it yours alone (chmod go-w), or set {VARIABLE} to another",
                )
                return False
    return True


def _stranger(status: os.stat_result) -> str | None:
    """Who else can write to a folder, in words. Windows has no such bits: its folders inherit."""
    if sys.platform == "win32":
        return None
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to another user ({status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"other users may write to it (mode {stat.S_IMODE(status.st_mode):o})"
    return None


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """Wait for other processes. It only spares work, so where there is no lock we go on without."""
    import filelock

    waiting = filelock.FileLock(lock, timeout=LOCK_SECONDS, mode=0o600)
    # NotImplementedError: a file system without locks, such as some network mounts.
    with suppress(filelock.Timeout, NotImplementedError):
        waiting.acquire()
    try:
        yield
    finally:
        waiting.release()


def _fill(kind: str, key: str, fill: Callable[[Path], None]) -> Path:
    path = _path(kind, key)
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=path.parent))
    try:
        fill(temporary)
        with suppress(OSError):  # it is there already where the lock could not be had
            temporary.rename(path)
        if not path.is_dir():
            raise OSError(f"{temporary} could not be renamed to {path}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # missing, not a folder, or not readable
        return []


def _bytes(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return sum(map(_bytes, _children(path)))
    try:
        return path.lstat().st_size
    except OSError:  # another process has removed it
        return 0


def _delete(path: Path) -> bool:
    with suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:  # renamed first, so that nobody finds half a folder
            doomed = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
            shutil.rmtree(path.rename(doomed))
        return True
    return False
