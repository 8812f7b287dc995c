"""What people and machines read: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from prunus.errors import InputError

if TYPE_CHECKING:
    from prunus.plan.profile_text import Table

WIDE = 200
"""Columns of a table: a narrower terminal wraps its lines, as nothing is to be cut off."""

Say = Callable[[str], None]
"""Tells in a few words what is being done now."""


def print_json(data: object) -> None:
    """One JSON document; numbers that JSON lacks (NaN, infinity) become strings."""
    print(json.dumps(_plain(data), indent=2, allow_nan=False))


def check_format(*, json: bool, csv: bool) -> None:
    """Raise `InputError` where a command is to print both."""
    if json and csv:
        raise InputError("--json and --csv both want standard output; give one of them")


def may_replace(path: Path | None, *, force: bool) -> bool:
    """Whether a file, or what a folder holds, may be replaced: as told, or as a person at a
    terminal answers. Asked before anything is measured.
    """
    if path is None or force or not sys.stdin.isatty():
        return force
    from prunus.reporting.output import what_is_taken

    taken = what_is_taken(path)
    if taken is None:
        return False
    from rich.console import Console
    from rich.prompt import Confirm
    from rich.text import Text

    return Confirm.ask(
        Text(f"{path} {taken}. Replace it?"), console=Console(stderr=True), default=False
    )


def print_table(table: Table) -> None:
    """A table of texts and figures, as Rich draws it."""
    from rich import box
    from rich import table as rich_table
    from rich.console import Console
    from rich.text import Text

    drawn = rich_table.Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for position, title in enumerate(table.titles):
        drawn.add_column(title, justify="left" if position < table.texts else "right")
    for row in table.rows:
        drawn.add_row(*map(Text, row))  # a name may hold what looks like markup
    Console(width=WIDE).print(drawn)


def print_error(message: str) -> None:
    """The reason why a command gives up."""
    from rich.console import Console
    from rich.text import Text

    # The message may hold anything, also what looks like markup or is wider than the terminal.
    text = Text.assemble(("prunus: ", "bold red"), message)
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Say]:
    """What is being done, on standard error: one line that changes on a terminal, else many.

    The line is drawn only when it changes. A spinner would need a thread, and that thread would
    take its time from what is measured.
    """
    if not sys.stderr.isatty():
        yield lambda text: print(f"… {text}", file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    live = Live(
        console=Console(stderr=True), auto_refresh=False, transient=True, redirect_stdout=False
    )
    with live:
        yield lambda text: live.update(
            Text(f"… {text}", style="dim", no_wrap=True, overflow="ellipsis"), refresh=True
        )


@contextmanager
def readable_warnings() -> Iterator[None]:
    """Warnings that are meant for users as one line, once; others as Python shows them."""
    usual = warnings.showwarning
    said = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, UserWarning):
            if str(message) not in said:
                said.add(str(message))
                print(f"prunus: warning: {message}", file=file or sys.stderr)
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


def table(rows: Mapping[str, str]) -> str:
    """Names and what they stand for, in two columns."""
    width = max(map(len, rows), default=0)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())


def size(count: int) -> str:
    """Bytes for people, in the units of storage: 131.2 MB."""
    number, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
