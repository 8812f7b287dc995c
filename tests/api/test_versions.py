"""What is kept in the cache depends on all that made it: sources at any depth, and packages."""

from __future__ import annotations

from pathlib import Path

from prunus.versions import package_versions, source_digest


def test_versions_of_what_is_installed() -> None:
    found = package_versions(("numpy", "surely-not-installed"))
    assert list(found) == ["numpy"]


def test_source_digest_covers_nested_and_moved_files(tmp_path: Path) -> None:
    inner = tmp_path / "kernels" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "kernels" / "a.py").write_text("a = 1\n")
    found = {source_digest("kernels", package=tmp_path)}
    (inner / "b.py").write_text("b = 1\n")
    found.add(source_digest("kernels", package=tmp_path))
    (inner / "b.py").write_text("b = 2\n")
    found.add(source_digest("kernels", package=tmp_path))
    (inner / "b.py").rename(tmp_path / "kernels" / "b.py")
    found.add(source_digest("kernels", package=tmp_path))
    assert len(found) == 4
    (tmp_path / "kernels" / "notes.txt").write_text("not a source")
    assert source_digest("kernels", package=tmp_path) in found
