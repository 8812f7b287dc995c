"""What an interrupted report had measured: kept in the cache, and taken up by the next run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from prunus import cache
from prunus.errors import PrunusError

Result = TypeVar("Result")

KIND = "reports"
LONGEST_PAUSE = 3600.0
"""Seconds after which a measurement is made anew: the machine may be busy with other things now."""

_FILE = "stage.json"


class Stages:
    """The stages of one report, by a key that says all that they depend on.

    A finished report forgets its stages, so that the next one measures everything again.
    """

    def __init__(self, key: str, progress: Callable[[str], None]) -> None:
        self._key, self._progress = key, progress
        self._taken: list[str] = []

    def take(
        self,
        name: str,
        measure: Callable[[], Result],
        save: Callable[[Result, Path], None],
        read: Callable[[Path], Result],
    ) -> Result:
        """What an interrupted run measured less than an hour ago, or what is measured now.

        Args:
            name: Of the stage.
            measure: Makes the result.
            save: Writes it to a file.
            read: Reads that file; its errors mean that the stage is measured again.
        """
        key = f"{name} {self._key}"
        self._taken.append(key)
        folder = cache.find_folder(KIND, key)
        if folder is not None:
            try:
                age = time.time() - (folder / _FILE).stat().st_mtime
                kept = read(folder / _FILE)
            except (OSError, ValueError, PrunusError) as error:
                self._progress(f"{name}: what an interrupted run kept is damaged ({error})")
            else:
                if age < LONGEST_PAUSE:
                    self._progress(f"{name}: taken from the run that was interrupted")
                    return kept
            cache.remove(KIND, key)
        result = measure()
        cache.publish_folder(KIND, key, lambda into: save(result, into / _FILE))
        return result

    def finish(self) -> None:
        """The report is complete: what was kept for it is removed."""
        for key in self._taken:
            cache.remove(KIND, key)
