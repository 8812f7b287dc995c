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
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._stat = os.fstat(file.fileno())
            self.mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.content = np.frombuffer(self.mapping, np.uint8)
        self._digest = ""
        self._next_look = 0.0

    def digest(self) -> str:
        """The SHA-256 of the file, which it must keep."""
        with self.path.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digest

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
                changed = self._is_written_to() and not self._is_same()
            except OSError:  # deleted or out of sight, which leaves what is mapped as it was
                changed = False
            if changed:
                raise self._changed("something else was written into it")
            self._next_look = now + INTERVAL

    def _is_written_to(self) -> bool:
        """Whether the time of the last change has moved since the file was last read."""
        found = self.path.stat()
        same = (found.st_dev, found.st_ino) == (self._stat.st_dev, self._stat.st_ino)
        return same and found.st_mtime_ns != self._stat.st_mtime_ns

    def _is_same(self) -> bool:
        """Whether the file holds what it held, such as after `touch`; then it need not be read
        again.
        """
        expected, found = self._digest, self.path.stat()
        try:
            same = self.digest() == expected
        finally:
            self._digest = expected
        if same:
            self._stat = found
        return same

    def _changed(self, how: str) -> SavedModelError:
        return SavedModelError(
            f"{self.path} was changed after it was loaded: {how}. The model reads large tables "
            "from this file; load the folder again, and write new files beside the old ones and "
            "rename them, as save_pretrained does, in place of changing them"
        )
