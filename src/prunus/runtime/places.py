"""Where a model is saved: names that no folder can have, and one writer of a folder at a time."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunus.errors import InputError

_IMPOSSIBLE = {
    errno.ENAMETOOLONG: "it is longer than the file system allows",
    errno.ENOTDIR: "a part of it is a file, not a folder",
    errno.ELOOP: "its links lead in a circle",
}


def check_place(path: Path) -> None:
    """Insist on a path that can name a file or folder.

    Raises:
        InputError: it holds what no name can, is too long, or leads through a file.
    """
    try:
        path.lstat()
    except ValueError as error:  # a null character, or half of a pair of surrogates
        raise _impossible(path, str(error)) from error
    except OSError as error:  # no such file and no permission are found out where it is written
        if error.errno in _IMPOSSIBLE:
            raise _impossible(path, _IMPOSSIBLE[error.errno]) from error


def _impossible(path: Path, reason: str) -> InputError:
    text = str(path)
    shown = ascii(text) if len(text) <= 120 else f"{text[:120]!a}… ({len(text)} characters)"
    return InputError(f"{shown} cannot name a folder: {reason}. Pass another path")


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Wait until no other thread or process writes into a folder, and keep others out meanwhile.

    The lock is the system's on the folder around it (`flock`), so no file is left behind, and it
    ends with its process. Where there is none, nothing is waited for: on Windows, on some network
    file systems, and around a folder that this user may not list.
    """
    descriptor = None if sys.platform == "win32" else _locked(folder.resolve().parent)
    try:
        yield
    finally:
        if descriptor is not None:
            _unlock(descriptor)


def _locked(folder: Path) -> int | None:
    import fcntl  # Windows has none

    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor
    return None


def _unlock(descriptor: int) -> None:
    import fcntl

    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that was forked has it open too
    os.close(descriptor)
