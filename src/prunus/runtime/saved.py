"""A saved model: a folder of data only, which `load_model` reads without torch and without trust.

`model.safetensors` holds the constants (`saved_constants.py`), `prunus.json` the graph and all that
is known of them (`saved_description.py`); beside these lie the files that came with the model, such
as its configuration and tokenizer.

Digests find damage. They prove nothing about who wrote a folder, so beyond them every type, shape,
index and value is checked before anything else sees it, and no part of a folder is ever executed.

Both files may be links, as in a snapshot of the hub or a folder that a tool has put together. That
is no way to anything else: what they lead to must be a description that prunus wrote and the very
weights whose digest it holds, which naming their folder would open as well. Companions are copied
as they are, hence their rules about links (`companions.py`).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunus.errors import GraphError, SavedModelError
from prunus.ir import Constant, Graph, parse_graph, print_graph, verify
from prunus.runtime.companions import copy_companions
from prunus.runtime.mapped_file import MappedFile
from prunus.runtime.memory import usable_memory
from prunus.runtime.places import check_place, one_writer
from prunus.runtime.saved_constants import (
    check_empty_rows,
    map_tensors,
    max_file_bytes,
    read_constant,
    split_constants,
    write_tensors,
)
from prunus.runtime.saved_description import (
    DESCRIPTION,
    WEIGHTS,
    Description,
    StoredConstant,
    description_text,
    printable,
    read_description,
)

_MAX_LINE = 20_000
"""Characters in a line of a graph: what is longer was made to keep the parser busy."""


_STAGING = ".prunus-save-"
"""How the names of folders begin in which a model is written before it is published."""

_MAX_WAIT = 2.0
"""Seconds that a reader waits for a save to finish. Between the first file that is replaced and the
last there are a few renames; a save that takes longer has broken off."""

_MAX_READS = 50  # of a folder that is replaced during each of them


@dataclass(frozen=True, slots=True)
class SavedModel:
    """What a folder holds.

    Attributes:
        graph: The program with its constants. Large dense floating-point constants are read-only
            views of the mapped file: never write into that file; `save_model` replaces it by a new
            one.
        signature: How the model is called and answers, as it was given to `save_model`.
        source: The name of the model that was compiled, for people.
        simulated: How its weights were simulated, in words; None for a real model.
        folder: Where it was loaded from.
        companions: The files in it that came with the model, as far as they are still there.
        file: The mapped file; None where the model was not read from one.
    """

    graph: Graph
    signature: dict[str, Any]
    source: str
    simulated: str | None
    folder: Path
    companions: tuple[Path, ...]
    file: MappedFile | None = None


def save_model(
    folder: Path,
    *,
    graph: Graph,
    signature: dict[str, Any],
    source: str,
    simulated: str | None,
    companions: Sequence[Path] = (),
    overwrite: bool = True,
) -> str:
    """Write a model as a folder that `load_model` reads, as a whole or not at all.

    A folder that exists must be empty or hold a saved model, which is then replaced file by file,
    each by a rename (other files in it stay, and links are never followed); where that breaks off
    in the middle, `load_model` finds out and says so. Processes that have the replaced model loaded
    keep it.

    Args:
        folder: The folder to write.
        graph: A graph that verifies.
        signature: What the caller wants to know again: plain JSON (tuples come back as lists).
        source: Name of the model, for people.
        simulated: How the weights were simulated, or None.
        companions: Files of `COMPANIONS` to copy into the folder under their own names.
        overwrite: Whether a saved model that is there already may be replaced.

    Returns:
        The digest of the description (SHA-256), by which `Reference` tells the model.

    Several threads or processes may save to one folder at once: it then holds the model of the one
    that was last.

    Raises:
        InputError: the path cannot name a folder.
        SavedModelError: the folder cannot be written or holds something else, or the model cannot
            be saved: NaN in a weight, a signature that is not JSON, a companion of an unknown name
            or behind a link that leads out of its folder.
    """
    check_place(folder)
    folder = folder.absolute()
    parent = folder if folder.is_dir() else folder.parent
    staging = parent / f"{_STAGING}{secrets.token_hex(8)}"
    try:
        _companions_to_replace(folder, overwrite)  # before the work of writing
        staging.mkdir(parents=True)
        tensors, stored = split_constants(graph.constants)
        write_tensors(staging / WEIGHTS, tensors)
        description = Description(
            source=printable(source),
            simulated=None if simulated is None else printable(simulated),
            companions=copy_companions(companions, staging),
            weights=_file_digest(staging / WEIGHTS),
            signature=signature,
            graph=tuple(print_graph(graph).splitlines()),
            constants=stored,
        )
        text = description_text(description)
        (staging / DESCRIPTION).write_text(text, encoding="utf-8")
        # safetensors makes files that others cannot read, whatever the umask says.
        shutil.copymode(staging / DESCRIPTION, staging / WEIGHTS)
        # What cannot be loaded must not be saved. This also finds names that do not parse.
        if print_graph(_load(staging).graph) != print_graph(graph):
            raise SavedModelError(
                "its graph reads back as another one; give its values plain names"
            )
        with one_writer(folder):
            _publish(staging, folder, _companions_to_replace(folder, overwrite))
        return hashlib.sha256(text.encode()).hexdigest()
    except SavedModelError as error:
        raise SavedModelError(f"the model cannot be saved in {folder}: {error}") from error
    except OSError as error:
        raise SavedModelError(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load_model(folder: Path) -> SavedModel:
    """Read a folder that `save_model` wrote, checking all of it.

    A folder that is saved to meanwhile is read again, until both files are of one save.

    Raises:
        SavedModelError: the folder is missing, damaged, of a newer version, or was never right.
    """
    try:
        return _load_while_saved(folder)
    except (SavedModelError, OSError) as error:
        raise SavedModelError(f"the saved model {folder} cannot be loaded: {error}") from error


def _companions_to_replace(folder: Path, overwrite: bool) -> tuple[str, ...]:
    """The companions of the model that is there already, if `folder` may be written at all."""
    if not folder.exists() or (folder.is_dir() and _is_empty(folder)):
        return ()
    if not (folder / DESCRIPTION).is_file():
        raise SavedModelError(
            "what is there is no model saved by prunus, so it is left as it is; "
            "save to a new or an empty folder"
        )
    if not overwrite:
        raise SavedModelError(
            "it holds a saved model already; save elsewhere or with overwrite=True"
        )
    try:
        return read_description(folder / DESCRIPTION).companions
    except SavedModelError:  # saving anew is how a damaged model is mended
        return ()


def _is_empty(folder: Path) -> bool:
    """Whether there is nothing in a folder but what others are just writing to publish it there."""
    return all(path.name.startswith(_STAGING) for path in folder.iterdir())


def _publish(staging: Path, folder: Path, outdated: Sequence[str]) -> None:
    """Put what was written into its place. The caller keeps other writers out."""
    if not folder.exists():
        staging.rename(folder)
        return
    files = (path for path in staging.rglob("*") if path.is_file())
    written = sorted(path.relative_to(staging).as_posix() for path in files)
    for name in written:
        if _is_behind_a_link(folder, name):
            raise SavedModelError(
                f"{(folder / name).parent} is a link, through which nothing is written; remove it"
            )
    # The weights come first and the description last: in between its digest tells that the weights
    # are not its own, so no reader takes a part of one save with a part of another.
    for name in sorted(written, key=lambda name: (name == DESCRIPTION, name != WEIGHTS)):
        (folder / name).parent.mkdir(exist_ok=True)
        os.replace(staging / name, folder / name)  # where that is a link, the link is replaced
    for name in set(outdated) - set(written):
        if not _is_behind_a_link(folder, name):
            (folder / name).unlink(missing_ok=True)


def _is_behind_a_link(folder: Path, name: str) -> bool:
    """Whether a folder between `folder` and the file is a link, so that the file lies elsewhere."""
    return any((folder / inner).is_symlink() for inner in Path(name).parents if inner != Path())


def _load_while_saved(folder: Path) -> SavedModel:
    """As `_load`, but what is wrong only because others save to the folder is not the answer.

    No lock is needed for that, which not every system has, and which would keep writers waiting.
    """
    for _ in range(_MAX_READS):
        before = _stamp(folder)
        try:
            return _load(folder)
        except (SavedModelError, OSError):
            if not _wait_for_change(folder, before):
                raise
    return _load(folder)


def _wait_for_change(folder: Path, before: tuple[int, ...]) -> bool:
    """Whether the description is another one by now, or soon, where somebody is saving."""
    limit = time.monotonic() + _MAX_WAIT
    while True:
        is_being_saved = _is_being_saved(folder)  # first: a save that ends now leaves a change
        if _stamp(folder) != before:
            return True
        if not is_being_saved or time.monotonic() > limit:
            return False
        time.sleep(0.01)


def _stamp(folder: Path) -> tuple[int, ...]:
    """What differs between the descriptions of two saves, without reading them."""
    try:
        found = (folder / DESCRIPTION).stat()
    except (OSError, ValueError):
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _is_being_saved(folder: Path) -> bool:
    """Whether there is something that is to be published in a folder, beside or inside of it."""
    try:
        places = (folder, folder.absolute().parent)  # as in `save_model`
        return any(name.startswith(_STAGING) for place in places for name in os.listdir(place))
    except (OSError, ValueError):
        return False


def _load(folder: Path) -> SavedModel:
    """As `load_model`, but an error says only what is wrong, not where."""
    description = read_description(_regular(folder / DESCRIPTION))
    weights = _regular(folder / WEIGHTS)
    _check_size(weights, description.constants.values())
    file, tensors = map_tensors(weights)
    if file.digest != description.weights:
        raise SavedModelError(
            f"{WEIGHTS} is not the file that {DESCRIPTION} describes (their digests differ): it is "
            "damaged or of another save; copy the folder again, or save the model again"
        )
    constants = {
        name: read_constant(name, stored, tensors) for name, stored in description.constants.items()
    }
    check_empty_rows(constants)
    if tensors:
        raise SavedModelError(f"{WEIGHTS} has a tensor of no constant: {min(tensors)!r:.60}")
    if hasattr(mmap, "MADV_DONTNEED"):
        # Checking read every page; of an embedding table few are needed, and these come back.
        file.mapping.madvise(mmap.MADV_DONTNEED)
    return SavedModel(
        graph=_graph(description.graph, constants),
        signature=description.signature,
        source=description.source,
        simulated=description.simulated,
        folder=folder,
        companions=tuple(
            folder / name for name in description.companions if (folder / name).is_file()
        ),
        file=file,
    )


def _regular(path: Path) -> Path:
    """The path itself if it is a file or a link to one: to open a pipe would mean to wait."""
    if not path.parent.is_dir():
        raise SavedModelError("there is no such folder")
    if not path.is_file():
        raise SavedModelError(f"it has no file {path.name}; expected what save_pretrained wrote")
    return path


def _check_size(weights: Path, constants: Iterable[StoredConstant]) -> None:
    """Check how large the file of weights is before any of it is read."""
    size = weights.stat().st_size
    expected = min(max_file_bytes(constants), usable_memory())
    if size > expected:
        raise SavedModelError(
            f"{weights.name} has {size} bytes, expected at most {expected}: what {DESCRIPTION} "
            "lists cannot be larger, nor what this machine can hold in memory; copy the folder "
            "again, or use a machine with more memory"
        )


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _graph(lines: Sequence[str], constants: Mapping[str, Constant]) -> Graph:
    if any(len(line) > _MAX_LINE for line in lines):
        raise SavedModelError(f"a line of the graph has more than {_MAX_LINE} characters")
    try:
        graph = verify(parse_graph("\n".join(lines), constants))
    except GraphError as error:
        raise SavedModelError(f"the graph is not valid: {error}") from error
    if unused := constants.keys() - graph.constants.keys():
        raise SavedModelError(f"the graph has no constant {min(unused)!r:.60}")
    return graph
