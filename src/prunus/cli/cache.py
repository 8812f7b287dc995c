"""`prunus cache`: what prunus keeps between runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunus.cli.options import Debug, Json
from prunus.cli.output import print_json, size
from prunus.errors import InputError

EXAMPLES = ("prunus cache", "prunus cache clear models", "prunus cache path")

NO_FOLDER = "there is no cache, as this user has no home folder: set PRUNUS_CACHE_DIR to a folder"

cache_app = typer.Typer(
    help="Show or clear what prunus keeps between runs: imported models, machine code, choices.",
    epilog="\n\n".join(["Examples:", *EXAMPLES]),
    invoke_without_command=True,
)


@cache_app.callback()
def cache(context: typer.Context, json: Json = False, debug: Debug = False) -> None:
    """Show or clear what prunus keeps between runs: imported models, machine code, choices.

    All of it is made anew when it is needed. PRUNUS_CACHE_DIR names another folder.
    """
    if context.invoked_subcommand is None:
        show(json)


@cache_app.command()
def show(json: Json = False, debug: Debug = False) -> None:
    """Show the folder, and the number and size of what is in it."""
    import dataclasses

    from prunus.cache import cache_folder, usage

    found = usage()
    total = sum(each.bytes for each in found)
    folder = _folder_text(cache_folder())
    if json:
        kinds = [dataclasses.asdict(each) for each in found]
        print_json({"folder": folder, "bytes": total, "kinds": kinds})
        return
    print(folder or NO_FOLDER)
    if not found:
        print("empty")
        return
    rows = [(each.kind, str(each.entries), size(each.bytes)) for each in found]
    rows += [("total", str(sum(each.entries for each in found)), size(total))]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for kind, entries, taken in rows:
        print(f"{kind:{widths[0]}}  {entries:>{widths[1]}}  {taken:>{widths[2]}}")


@cache_app.command()
def clear(
    kind: Annotated[
        str | None,
        typer.Argument(show_default="everything", help="One kind, as `prunus cache` names it."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove everything, or what is of one kind."""
    from prunus.cache import clear as clear_cache
    from prunus.cache import usage

    before = {each.kind: each.bytes for each in usage() if kind in (None, each.kind)}
    if kind is not None and not before:
        there = ", ".join(each.kind for each in usage())
        raise InputError(
            f"the cache holds nothing of the kind {kind!r}; "
            + (f"there are {there}" if there else "it is empty")
        )
    removed, freed = clear_cache(kind), sum(before.values())
    if json:
        print_json({"removed": removed, "bytes": freed})
    else:
        print(f"{removed} entr{'y' if removed == 1 else 'ies'} removed, {size(freed)}")


@cache_app.command()
def path(json: Json = False, debug: Debug = False) -> None:
    """Print the folder."""
    from prunus.cache import cache_folder

    folder = _folder_text(cache_folder())
    if json:
        print_json({"folder": folder})
    elif folder is None:
        raise InputError(NO_FOLDER)
    else:
        print(folder)


def _folder_text(folder: Path | None) -> str | None:
    return None if folder is None else str(folder)
