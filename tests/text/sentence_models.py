"""Modules of sentence-transformers for the small models of these tests, and changed files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WIDTH = 32
"""Features of the models in `conftest.py`."""


def modules() -> Any:
    import sentence_transformers.sentence_transformer.modules as found

    return found


def pooled(mode: Any, **options: Any) -> Any:
    return modules().Pooling(WIDTH, mode, **options)


def dense(outputs: int, activation: Any, inputs: int = WIDTH, **options: Any) -> Any:
    return modules().Dense(inputs, outputs, activation_function=activation, **options)


def change(folder: Path, name: str, **fields: Any) -> None:
    """Set fields of a JSON file."""
    path = folder / name
    document = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(document | fields))
