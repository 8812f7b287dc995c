"""Versions of what results in the cache depend on: prunus' own sources, and installed packages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

_PACKAGE = Path(__file__).parent


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those of the named distributions that are installed, without importing them."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def source_digest(*folders: str, package: Path = _PACKAGE) -> str:
    """A digest of the Python sources in these folders of prunus, at any depth (SHA-256, hex).

    Names count as well as contents: a file that moves changes the digest.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((package / folder).rglob("*.py")):
            content = path.read_bytes()
            name = path.relative_to(package).as_posix()
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()
