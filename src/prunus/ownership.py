"""Who can have written a file: checks of owner and permissions on the very file that is opened."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".new-"
"""How the names of files and folders begin that are being written, so that nobody reads them."""


class ForeignError(Exception):
    """Somebody else may have written what was opened; the message says why."""


def stranger(status: os.stat_result) -> str | None:
    """Who else can write to it, in words. Windows has no such bits: its folders inherit."""
    if sys.platform == "win32":
        return None
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to another user ({status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"other users may write to it (mode {stat.S_IMODE(status.st_mode):o})"
    return None


@contextmanager
def open_own(path: Path) -> Iterator[int]:
    """Open a file or folder to read it, and check the owner and mode of what was opened.

    The check is made on the descriptor, so nothing can be put in its place between check and use.

    Raises:
        ForeignError: it is a link, or somebody else may have written it.
        OSError: it cannot be opened.
    """
    # O_NONBLOCK, since opening a pipe would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ForeignError(f"{path.name} is a link") from error
        raise
    try:
        other = stranger(os.fstat(descriptor))
        if other is not None:
            raise ForeignError(f"{path.name}: {other}")
        yield descriptor
    finally:
        os.close(descriptor)


def check_own(path: Path) -> None:
    """Check a file, or a folder and all in it, as `open_own` does.

    A folder that passes stays as it is: nobody else can write to it or to anything in it. What is
    `UNFINISHED` is left out.

    Raises:
        ForeignError, OSError: as `open_own`.
    """
    if sys.platform == "win32":  # folders cannot be opened, and there is nothing to check
        path.stat()
        return
    with open_own(path) as descriptor:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            for name in os.listdir(descriptor):
                if not name.startswith(UNFINISHED):
                    with suppress(FileNotFoundError):  # another process has removed it
                        check_own(path / name)


def make_private(path: Path) -> None:
    """Take away the permissions of all other users, for a file, or a folder and all in it."""
    if path.is_dir():
        path.chmod(0o700)
        for child in path.iterdir():
            make_private(child)
    else:
        path.chmod(0o600)
