"""Reads JSON files that come with a model. Nobody knows who wrote them, so none is trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prunus.errors import PrunusError

MAX_BYTES = 64 << 20
"""The largest file that is read: that of Gemma 3's tokenizer, with 262,144 tokens, has 33 MB."""

MAX_DEPTH = 64
"""Levels of lists and objects. Real files have fewer than ten, and code that walks a document by
recursion needs room below Python's own limit."""


def read_object(path: Path, error: type[PrunusError], advice: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: The file.
        error: What to raise.
        advice: What was expected, or what to do: the end of the message.

    Raises:
        error: as `read_json`, or the file holds something else than an object.
    """
    document = read_json(path, error, advice)
    if not isinstance(document, dict):
        raise error(f"{path} holds a {type(document).__name__}, expected a JSON object: {advice}")
    return document


def read_json(path: Path, error: type[PrunusError], advice: str) -> Any:
    """What a JSON file holds; arguments as for `read_object`.

    Raises:
        error: it cannot be read, is no regular file, is not JSON, is larger than `MAX_BYTES`, or is
            nested deeper than `MAX_DEPTH`.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise OSError("it is not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES >> 20} MB")
        document = json.loads(content.decode("utf-8"))
        if is_deep(document):
            raise RecursionError
    except RecursionError:
        raise error(f"{path} is nested deeper than {MAX_DEPTH} levels: {advice}") from None
    except PermissionError as reason:
        raise error(f"{path} cannot be read: {why_unreadable(reason)}") from reason
    except (OSError, ValueError) as reason:
        raise error(f"{path} is not readable JSON ({reason}): {advice}") from reason
    return document


def why_unreadable(error: OSError) -> str:
    """Why a file or folder cannot be read, and what to do."""
    reason = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return f"{reason}; give this user permission to read it (chmod), or run as its owner"
    return f"{reason}; check the path, or copy the files again"


def is_deep(document: Any) -> bool:
    """Whether a document has more than `MAX_DEPTH` levels of lists and objects."""
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for each in level
            if isinstance(each, dict | list)
            for part in (each.values() if isinstance(each, dict) else each)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True
