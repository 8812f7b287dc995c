"""Where pages and figures go: checked before anything is measured, not a minute later."""

from __future__ import annotations

import os
from pathlib import Path

from prunus.errors import InputError
from prunus.reporting.style import FORMATS, required


def what_is_taken(path: Path) -> str | None:
    """What would be replaced: a file that "is there already", or what a folder "holds"."""
    if path.is_dir():
        return "holds files already" if any(path.iterdir()) else None
    return "is there already" if path.exists() else None


def check_output(path: Path, *, overwrite: bool = False) -> None:
    """Raise `InputError` where a file cannot be written, or is there and may not be replaced."""
    folder = path.absolute().parent
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file in it")
    if not folder.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{path} cannot be written: {folder} may not be written to")
    if not overwrite and (taken := what_is_taken(path)):
        raise InputError(
            f"{path} {taken}; give another name, or --force (overwrite=True) to replace it"
        )


def check_plot(path: Path, *, overwrite: bool = False) -> None:
    """Raise `InputError` where a plot cannot be written, `UnsupportedError` without matplotlib."""
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: a plot is written as {' or '.join(FORMATS)}; name one of them")
    check_output(path, overwrite=overwrite)
    required("matplotlib")


def check_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Raise `InputError` where figures cannot be written into a folder, or it holds anything that
    may not be replaced.
    """
    if folder.is_dir():
        if not overwrite and (taken := what_is_taken(folder)):
            raise InputError(
                f"{folder} {taken}; give an empty folder, or --force "
                "(overwrite=True) to replace figures in it"
            )
        if not os.access(folder, os.W_OK):
            raise InputError(f"{folder} may not be written to; give another folder")
    else:
        check_output(folder)
