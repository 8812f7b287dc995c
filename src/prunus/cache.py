"""The user's cache on disk: machine code, choices, imported models. It may vanish any time.

An entry is a file or a folder at `<cache>/<kind>/<sha256 of the key>`. A file carries a digest, so
that damage is noticed; both are renamed into place, so that another process sees all of it or
nothing.

Machine code is run as it is, and a digest does not prove who wrote it. So a cache folder that other
users can write to is not used at all, and each entry is checked again when it is opened: it must
belong to this user or to root, nobody else may be able to write to it, and it must not be a link.
Whoever takes a folder back with chmod thus does not execute what others left in it.

What goes wrong is said once, by a `CacheWarning`, and prunus goes on without the cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prunus.errors import PrunusError
from prunus.ownership import UNFINISHED, ForeignError, check_own, make_private, open_own, stranger

VARIABLE = "PRUNUS_CACHE_DIR"
"""The environment variable that names another cache folder."""

LOCK_SECONDS = 120.0
"""Patience with another process that fills the same folder: an import can take a minute."""

_DIGEST_BYTES = 32
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


def cache_folder() -> Path | None:
    """The cache's folder, which need not exist: `PRUNUS_CACHE_DIR`, or the system's usual place.

    None where the user has no home folder to put it in, as in a container that runs under a user id
    without an entry in passwd and without HOME.
    """
    named = os.environ.get(VARIABLE)
    if named:
        expanded = os.path.expanduser(named)
        return None if expanded.startswith("~") else Path(expanded).absolute()
    import platformdirs

    try:
        folder = platformdirs.user_cache_path("prunus", appauthor=False)
    except RuntimeError:
        return None
    # Older versions of platformdirs leave the "~" in the path.
    return folder if folder.is_absolute() else None


def read(kind: str, key: str) -> bytes | None:
    """The bytes that `write` stored, or None where there are none, or none that can be trusted."""
    folder = _usable_folder(kind)
    if folder is None:
        return None
    path = folder / _name(key)
    try:
        with open_own(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
            content = file.read()
    except FileNotFoundError:
        return None
    except ForeignError as error:
        _say_foreign(path, error)
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
        folder = _make_folder(kind)
        if folder is None:
            return False
        descriptor, temporary = tempfile.mkstemp(prefix=UNFINISHED, dir=folder)
        with open(descriptor, "wb") as file:
            file.write(_digest(kind, key, data))
            file.write(data)
        os.replace(temporary, folder / _name(key))
    except OSError as error:
        _say_unwritable(error)
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        return False
    return True


def find_folder(kind: str, key: str) -> Path | None:
    """The folder that `publish_folder` published, or None. Its content is the caller's to check.

    Nobody else can write to the folder or to anything in it, so what was checked stays as it is.
    """
    folder = _usable_folder(kind)
    if folder is None:
        return None
    path = folder / _name(key)
    return path if is_own(path) and path.is_dir() else None


def is_own(path: Path) -> bool:
    """Whether a file or folder is there, and nobody but this user and root can have written it or
    anything in it. If somebody else can, that is said once.
    """
    try:
        check_own(path)
    except ForeignError as error:
        _say_foreign(path, error)
        return False
    except OSError:
        return False
    return True


def publish_folder(kind: str, key: str, fill: Callable[[Path], object]) -> Path | None:
    """Let `fill` write an entry into an empty folder, publish that as a whole, return where it is.

    A process that comes second waits for the first and takes its folder. An `OSError` or a
    `PrunusError` of `fill` means that there is no entry, as does a cache that cannot be used: then
    the answer is None. Other exceptions pass through.
    """
    try:
        folder = _make_folder(kind)
        if folder is None:
            return None
        with _turn(folder / f"{_LOCK}{_name(key)}"):
            return find_folder(kind, key) or _fill(folder / _name(key), fill)
    except (OSError, PrunusError) as error:
        _say_unwritable(error)
        return None


def remove(kind: str, key: str) -> None:
    """Remove one entry, file or folder, if it is there: its reader has found it to be useless."""
    folder = cache_folder()
    if folder is not None:
        with suppress(OSError):
            _delete(folder / kind / _name(key))


def usage() -> list[Usage]:
    """What the cache holds, by kind."""
    found = []
    for folder in _kind_folders():
        ours = [path for path in _children(folder) if _OURS.fullmatch(path.name)]
        if ours:
            entries = sum(not path.name.startswith(".") for path in ours)
            found.append(Usage(folder.name, entries, sum(map(_bytes, ours))))
    return found


def clear(kind: str | None = None) -> int:
    """Remove all entries, or those of one kind, and return their number. Other files stay."""
    removed = 0
    for folder in _kind_folders():
        if kind in (None, folder.name):
            for path in _children(folder):
                if _OURS.fullmatch(path.name):
                    removed += _clear(path)
            with suppress(OSError):  # something else is in it
                folder.rmdir()
    return removed


def _clear(path: Path) -> bool:
    """Remove one path; whether that was an entry. What cannot be removed is said once."""
    try:
        _delete(path)
    except FileNotFoundError:  # another process was first
        return False
    except OSError as error:
        _say(
            "left",
            f"something in the cache could not be removed ({error}): remove {path.parent} as the "
            f"owner of what is in it or as root, or set {VARIABLE} to a folder of yours",
        )
        return False
    return not path.name.startswith(".")


def _name(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


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


def _say_foreign(path: Path, error: ForeignError) -> None:
    _say(
        "foreign",
        f"the cache entry {path} is not used, since somebody else may have written it: {error}; "
        "clear the cache (prunus cache clear)",
    )


def _make_folder(kind: str) -> Path | None:
    """Create the folder of `kind`, for this user only; None if others could write to it."""
    folder = _usable_folder(kind)
    if folder is not None:
        folder.parent.mkdir(0o700, parents=True, exist_ok=True)
        folder.mkdir(0o700, exist_ok=True)
    return _usable_folder(kind)


def _usable_folder(kind: str) -> Path | None:
    """The folder of `kind`, which need not exist; None where there is no place for a cache, or
    where others than this user and root can put entries into it.
    """
    whole = cache_folder()
    if whole is None:
        _say(
            "home",
            "nothing is kept in a cache, so every start is slower: this user has no home folder "
            f"(no HOME, no entry in passwd); set {VARIABLE} to a folder of yours",
        )
        return None
    for folder in (whole, whole / kind):
        with suppress(OSError):  # reading or writing in it will fail as well, and say so
            other = stranger(folder.stat())
            if other is not None:
                _say(
                    "private",
                    f"the cache {folder} is not used: it holds machine code, and {other}. Take "
                    "their permission away (chmod go-w) and then clear the cache (prunus cache "
                    f"clear), as others may have left code in it; or set {VARIABLE} to a folder of "
                    "yours",
                )
                return None
    return whole / kind


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """Wait for other processes. It only spares work, so where there is no lock we go on without."""
    import filelock

    if os.path.lexists(lock) and not is_own(lock):
        lock.unlink(missing_ok=True)  # a link would be followed, and its target truncated
    waiting = filelock.FileLock(lock, timeout=LOCK_SECONDS, mode=0o600)
    # NotImplementedError: a file system without locks, such as some network mounts.
    with suppress(filelock.Timeout, NotImplementedError):
        waiting.acquire()
    try:
        yield
    finally:
        waiting.release()


def _fill(path: Path, fill: Callable[[Path], object]) -> Path:
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=path.parent))
    try:
        fill(temporary)
        make_private(temporary)  # whatever the umask says
        with suppress(OSError):  # what is in a folder of another user cannot be removed
            if os.path.lexists(path) and not is_own(path):
                _delete(path)
        with suppress(OSError):  # it is there already where the lock could not be had
            temporary.rename(path)
        if not (path.is_dir() and is_own(path)):
            raise OSError(f"{temporary} could not be renamed to {path}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _kind_folders() -> list[Path]:
    folder = cache_folder()
    return [] if folder is None else _children(folder)


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


def _delete(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:  # renamed first, so that nobody finds half a folder
        doomed = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
        shutil.rmtree(path.rename(doomed))
