"""A file that a loaded model reads where it lies, and whether it is still what it was.

Reading behind the end of a mapped file ends the process (SIGBUS), and a file that is written to
changes the weights. Neither can be prevented; most often it is noticed before a call reads.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import time
from pathlib import Path

import numpy as np

from prunus.errors import SavedModelError

INTERVAL = 1.0
"""Seconds between two looks at the time of the last change. The size is looked at by every call:
that takes 0.7 µs, with this look more than 2."""


class MappedFile:
    """A file mapped for reading.

    Attributes:
        path: Where it was found. Another file may lie there by now, which does not matter.
        mapping: Its memory.
        digest: The SHA-256 of what is mapped, which the file must keep.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._stat = os.fstat(file.fileno())
            self.mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            # Of this very file: another one may lie at the path by now.
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.content = np.frombuffer(self.mapping, np.uint8)
        self._next_look = 0.0

    def holds(self, array: np.ndarray) -> bool:
        """Whether an array lies in the file."""
        begin = self.content.ctypes.data
        return begin <= array.ctypes.data < begin + self.content.nbytes

    def check(self) -> None:
        """Insist that the file is what it was, as far as can be seen soon.

        Raises:
            SavedModelError: it is shorter or longer, or was written to and holds something else.
        """
        size = self.mapping.size()
        if size != self.content.nbytes:
            raise self._changed(f"it had {self.content.nbytes} bytes and has {size} now")
        now = time.monotonic()
        if now >= self._next_look:
            try:
                changed = self._holds_something_else()
            except OSError:  # deleted or out of sight, which leaves what is mapped as it was
                changed = False
            if changed:
                raise self._changed("something else was written into it")
            self._next_look = now + INTERVAL

    def _holds_something_else(self) -> bool:
        """Whether the file was written to and no longer holds what it held. After `touch`, say, it
        still does, and need not be read again.
        """
        if not self._is_written_to(self.path.stat()):
            return False
        with self.path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not self._is_written_to(found):  # replaced since
                return False
            if hashlib.file_digest(file, "sha256").hexdigest() != self.digest:
                return True
        self._stat = found
        return False

    def _is_written_to(self, found: os.stat_result) -> bool:
        """Whether it is the file that is mapped, and the time of its last change has moved."""
        same = (found.st_dev, found.st_ino) == (self._stat.st_dev, self._stat.st_ino)
        return same and found.st_mtime_ns != self._stat.st_mtime_ns

    def _changed(self, how: str) -> SavedModelError:
        return SavedModelError(
            f"{self.path} was changed after it was loaded: {how}. The model reads large tables "
            "from this file; load the folder again, and write new files beside the old ones and "
            "rename them, as save_pretrained does, in place of changing them"
        )
