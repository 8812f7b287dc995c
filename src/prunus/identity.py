"""Values as text, for names and keys by which they are found again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass


def identity(value: object) -> str:
    """What `repr` gives of dataclasses, and of tuples, lists and mappings that may hold some.

    Not `repr` itself: that of a dataclass has a guard against recursion, and an interrupt may leave
    it on. From then on the value is called "...", and so is any other that comes to lie at its
    address: a kernel was linked in the place of another.
    """
    if is_dataclass(value) and not isinstance(value, type):
        parts = (f"{f.name}={identity(getattr(value, f.name))}" for f in fields(value) if f.repr)
        return f"{type(value).__qualname__}({', '.join(parts)})"
    if isinstance(value, tuple) and type(value) is tuple:
        return f"({', '.join(map(identity, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(identity, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{identity(key)}: {identity(each)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    return repr(value)
