"""Finds a checkpoint: a local folder, or a repository of the Hugging Face hub and its cache."""

from __future__ import annotations

import difflib
import glob
import hashlib
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

from prunus.documents import read_object
from prunus.errors import CheckpointError, InputError
from prunus.frontend import weights
from prunus.runtime.companions import COMPANIONS, CONFIG

_CLIENTS = ("huggingface_hub", "httpx", "httpcore", "requests", "urllib3", "hf_xet")
"""How the names of the hub's client and of what it is made of begin: there is `httpx2` too."""

_PLAIN = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, AssertionError)
"""Built-in errors that they raise."""

_PIECE = 16 << 20  # bytes hashed at a time by one thread; OpenSSL hashes without the GIL


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on this disk: where it lies, its ``config.json``, and its commit on the hub."""

    name: str
    folder: Path
    config: dict[str, Any] = field(repr=False, hash=False)
    commit: str | None

    def fingerprint(self) -> str:
        """What tells this checkpoint from every other: its commit, or a digest of its contents.

        The digest (SHA-256, hexadecimal) covers ``config.json`` and the weight files; moving or
        renaming the folder does not change it.

        Raises:
            CheckpointError: a local folder has no weights.
        """
        if self.commit is not None:
            parts = self.folder.parts
            inside = parts[parts.index(self.commit) :] if self.commit in parts else (self.commit,)
            return "/".join(inside)  # one commit may hold several models, each in its subfolder
        return _digest([self.folder / CONFIG, *weights.locate(self.folder)])

    def companion_files(self) -> list[Path]:
        """The files to carry along when the model is saved: configuration and tokenizer."""
        return [path for name in COMPANIONS if (path := self.folder / name).is_file()]


def resolve(
    name_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    subfolder: str | None = None,
    local_files_only: bool = False,
) -> Checkpoint:
    """Find the checkpoint of that name: a folder if there is one, else a repository of the hub.

    A repository is fetched by ``huggingface_hub`` into its usual cache, so its environment
    variables count (``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_HOME``, ``HF_TOKEN`` …). Only the
    configuration, the tokenizer and one form of the PyTorch weights are downloaded.

    Raises:
        InputError: an empty name, a subfolder that leads outside, a revision of a local folder.
        CheckpointError: no such folder or repository, no configuration, no weights, not in the
            cache while offline, or a download that broke off.
    """
    name = os.fspath(name_or_folder)
    inner = _checked_subfolder(subfolder)
    if not name:
        raise InputError("The name of the model is empty: pass a hub name or a folder.")
    try:
        found = _local(name, revision, inner, isinstance(name_or_folder, str))
    except OSError as error:
        raise weights.unreadable(Path(name), error) from error
    if found is not None:
        return found
    repository = _Repository(name, revision, token, cache_dir, inner, local_files_only)
    root = repository.fetch()
    return _checkpoint(name, root, inner, commit=root.name)


def _local(name: str, revision: str | None, inner: str, may_be_remote: bool) -> Checkpoint | None:
    """The checkpoint in the folder of that name; None where the name is meant for the hub."""
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        if revision is not None:
            raise InputError(
                f"{name} is a local folder, which has no revision {revision!r}: leave it out, or "
                "call from elsewhere if the hub repository of that name is meant."
            )
        return _checkpoint(name, folder, inner, commit=None)
    if folder.exists():
        raise CheckpointError(f"{name} is a file, expected a folder with {CONFIG} and weights.")
    if not may_be_remote or _looks_like_a_path(name):
        raise CheckpointError(f"There is no folder {name}.{_suggestion(folder)}")
    return None


def _checkpoint(name: str, root: Path, inner: str, commit: str | None) -> Checkpoint:
    """The checkpoint in a folder of ``root``, whose configuration is read and checked here."""
    folder = root / inner
    if (folder / "prunus.json").is_file():
        raise CheckpointError(
            f"{folder} was written by prunus itself: open it with `prunus.load`, not as a "
            "checkpoint."
        )
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(_no_config(name, root, inner, commit))
    config = read_object(path, CheckpointError, "download or copy the file again.")
    return Checkpoint(name, folder, config, commit)


def _no_config(name: str, root: Path, inner: str, commit: str | None) -> str:
    folder = root / inner
    at_commit = "" if commit is None else f"{name} (commit {commit[:12]})"
    if inner and not folder.is_dir():
        return f"{at_commit or root} has no folder {inner!r}: check the subfolder."
    deeper = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    hint = f" Found one in {', '.join(deeper)}: pass that as the subfolder." if deeper else ""
    return (
        f"{at_commit or folder} has no {CONFIG}, expected a model saved by transformers "
        f"(`save_pretrained`).{hint}"
    )


def _checked_subfolder(subfolder: str | None) -> str:
    path = PurePosixPath(subfolder or "")
    if path.is_absolute() or ".." in path.parts:
        raise InputError(
            f"The subfolder {subfolder!r} leads outside of the checkpoint: pass a relative path."
        )
    return "" if path == PurePosixPath() else str(path)


def _looks_like_a_path(name: str) -> bool:
    """Whether ``name`` cannot be meant for the hub, where a name is ``name`` or ``owner/name``."""
    return name.startswith((".", "/", "~")) or "\\" in name or not 0 <= name.count("/") <= 1


def _suggestion(folder: Path) -> str:
    """`` Did you mean …?`` where a folder of a similar name lies beside."""
    if not folder.parent.is_dir():
        return f" Its parent {folder.parent} does not exist either."
    beside = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    close = difflib.get_close_matches(folder.name, beside, n=1)
    return f" Did you mean {folder.parent / close[0]}?" if close else ""


def _digest(paths: list[Path]) -> str:
    """SHA-256 over the files, in pieces so that all processors hash (0.4 GB in about 0.2 s)."""
    pieces = [(path, start) for path in paths for start in range(0, _size(path), _PIECE)]
    total = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for (path, start), digest in zip(pieces, pool.map(_piece_digest, pieces), strict=True):
            total.update(f"{path.name}:{start}\n".encode() + digest)
    return total.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise weights.unreadable(path, error) from error


def _piece_digest(piece: tuple[Path, int]) -> bytes:
    path, start = piece
    try:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(_PIECE)).digest()
    except OSError as error:
        raise weights.unreadable(path, error) from error


def _is_of_hub(error: Exception) -> bool:
    """Whether the hub's client may have raised an error itself: a want of memory, or what a signal
    handler raises, says nothing of the hub.
    """
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, _PLAIN) or library.startswith(_CLIENTS)


@dataclass(frozen=True, slots=True)
class _Repository:
    """A model repository of the hub, as it was asked for."""

    name: str
    revision: str | None
    token: str | bool | None = field(repr=False)
    cache_dir: str | os.PathLike[str] | None
    subfolder: str
    local_files_only: bool

    def fetch(self) -> Path:
        """Make sure that the needed files are in the cache; return the folder of the snapshot."""
        root = self._download(self.revision, [*COMPANIONS, *weights.INDICES])
        folder = root / self.subfolder
        if not (folder / CONFIG).is_file() or weights.is_complete(folder):
            return root
        if self.local_files_only:
            raise CheckpointError(self._not_cached("local_files_only=True"))
        wanted = weights.locate(folder, names=self._listing(commit=root.name))
        return self._download(root.name, [path.name for path in wanted])

    def _download(self, revision: str | None, names: list[str]) -> Path:
        from huggingface_hub import snapshot_download

        prefix = f"{self.subfolder}/" if self.subfolder else ""
        try:
            return Path(
                snapshot_download(
                    self.name,
                    revision=revision,
                    token=self.token,
                    cache_dir=None if self.cache_dir is None else Path(self.cache_dir),
                    local_files_only=self.local_files_only,
                    allow_patterns=[glob.escape(prefix + name) for name in names],
                )
            )
        except Exception as error:
            if not _is_of_hub(error):
                raise
            # A cache that lacks a tokenizer file, say, is good enough where there is no network.
            partial_copy = getattr(error, "snapshot_path", None)
            if partial_copy is not None and weights.is_complete(Path(partial_copy, prefix)):
                return Path(partial_copy)
            raise self._explained(error) from error

    def _listing(self, commit: str) -> Collection[str]:
        """The names of the files in the (sub)folder of the repository."""
        from huggingface_hub import HfApi

        try:
            paths = HfApi(token=self.token).list_repo_files(self.name, revision=commit)
        except Exception as error:
            if not _is_of_hub(error):
                raise
            raise self._explained(error) from error
        return frozenset(self._inside(paths))

    def _inside(self, paths: list[str]) -> Iterator[str]:
        for path in map(PurePosixPath, paths):
            if path.parent == PurePosixPath(self.subfolder):
                yield path.name

    def _not_cached(self, reason: str) -> str:
        from huggingface_hub import constants

        return (
            f"There is no folder {self.name} here, and the repository of that name is not (wholly) "
            f"in the cache {self.cache_dir or constants.HF_HUB_CACHE}, while the hub may not be "
            f"asked ({reason}): load it once with network access, or correct the path of the "
            f"folder.{_suggestion(Path(self.name))}"
        )

    def _explained(self, error: Exception) -> CheckpointError:
        """The errors of ``huggingface_hub`` and its transport, as what to do about them."""
        from huggingface_hub import constants, errors

        if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
            error = cast(Exception, error.__cause__)  # why the hub did not answer
        hub, reason = constants.ENDPOINT, weights.in_one_line(error)
        similar = _suggestion(Path(self.name))
        advice: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
            (
                errors.GatedRepoError,
                f"{self.name} is gated: ask for access at {hub}/{self.name}, then pass `token` or "
                "run `hf auth login`.",
            ),
            (
                errors.RepositoryNotFoundError,
                f"There is neither a folder {self.name} here nor a repository of that name on {hub}"
                f" (a private one needs `token`): check the spelling.{similar}",
            ),
            (
                errors.RevisionNotFoundError,
                f"{self.name} has no revision {self.revision!r} on {hub}: pass a branch, a tag or "
                "a whole commit hash.",
            ),
            (
                errors.HFValidationError,
                f"{self.name!r} is neither a folder nor a name of the hub such as 'owner/name' "
                f"({reason}).{similar}",
            ),
            (
                (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError),
                self._not_cached("local_files_only=True" if self.local_files_only else reason),
            ),
            (
                Exception,
                f"{self.name} could not be fetched from {hub} ({reason}): check the network and "
                "try again; files that arrived whole are kept in the cache.",
            ),
        )
        return CheckpointError(next(text for kind, text in advice if isinstance(error, kind)))
