"""Libraries that not everybody has, which are imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from prunus.errors import UnsupportedError

DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def library(name: str, purpose: str, extra: str = "check") -> ModuleType:
    """The module of that name.

    Raises:
        UnsupportedError: it is not installed; says what it is needed for, and what to do.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise UnsupportedError(
            f"{DISTRIBUTIONS.get(package, package)}, which {purpose}, cannot be imported "
            f"({error}): run pip install 'prunus[{extra}]'"
        ) from error
