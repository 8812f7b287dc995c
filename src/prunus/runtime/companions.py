"""The files that travel with a saved model: what they may be called, and where they may come from.

A folder may be hostile. So only files of known names are ever copied, replaced or deleted, and a
link is followed only where it stays inside its folder or, as in every snapshot of the Hugging Face
hub, leads to where the hub's client keeps its files. Otherwise a link to a private key would be
copied into the next save as that key, and from there be uploaded.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prunus.errors import SavedModelError

CONFIG = "config.json"
MODULE_FILES = frozenset(
    f"{number}_{module}/{name}"
    for number in range(1, 6)
    for module, name in [
        ("Pooling", "config.json"),
        ("Dense", "config.json"),
        ("Dense", "model.safetensors"),
        ("Normalize", "config.json"),
        ("Dropout", "config.json"),
    ]
)
"""Companions with a folder of their own: modules of sentence-transformers after the first."""

COMPANIONS = (
    CONFIG,
    "added_tokens.json",
    "bpe.codes",
    "config_sentence_transformers.json",
    "dict.txt",
    "entity_vocab.json",
    "generation_config.json",
    "merges.txt",
    "modules.json",
    "preprocessor_config.json",
    "sentence_albert_config.json",
    "sentence_bert_config.json",
    "sentence_camembert_config.json",
    "sentence_distilbert_config.json",
    "sentence_roberta_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "word_pronunciation.json",
    "word_shape.json",
    *sorted(MODULE_FILES),
)
"""What a model needs beside its weights: its configuration, its tokenizer in every form that
transformers reads for an encoder, and how sentence-transformers makes vectors of its answers.
Nothing else is downloaded, copied into a saved folder, or deleted from one."""


def companion_name(path: Path) -> str:
    """A companion's name in the saved folder: its own, with its folder if it is of a module."""
    name = f"{path.parent.name}/{path.name}"
    return name if name in MODULE_FILES else path.name


def check_companions(names: Sequence[str]) -> None:
    """Check that these are names of companions, each given once.

    Raises:
        SavedModelError: a name that is not in `COMPANIONS`, or that is given twice.
    """
    for name, count in Counter(names).items():
        if name not in COMPANIONS:
            raise SavedModelError(
                f"{name!r:.60} is not the name of a file that travels with a model; expected "
                f"{', '.join(COMPANIONS)}"
            )
        if count > 1:
            raise SavedModelError(f"two companions have the name {name}; give one of each name")


def copy_companions(companions: Sequence[Path], folder: Path) -> tuple[str, ...]:
    """Copy the files into a folder under their own names, and return these.

    Raises:
        SavedModelError: a name that is not known or given twice, or a link that `real_place`
            refuses.
        OSError: a file that cannot be read or written.
    """
    names = tuple(map(companion_name, companions))
    check_companions(names)
    for name, path in zip(names, companions, strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        with open(path, "rb", opener=_open_without_waiting) as source:
            if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
                raise SavedModelError(f"{path} is not a file")
            # What was opened must be what was checked, whatever happens to the links meanwhile.
            if not os.path.samestat(os.fstat(source.fileno()), real_place(path).lstat()):
                raise SavedModelError(f"{path} was replaced while it was copied; save again")
            with (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)
    return names


def real_place(path: Path) -> Path:
    """Where the content of a companion lies, once all links are followed.

    Raises:
        SavedModelError: that is outside of the folder, and not where the hub's client keeps the
            files of a snapshot, if the folder is one.
        OSError: there is no such file.
    """
    folder = path.parent.parent if companion_name(path) in MODULE_FILES else path.parent
    root, place = folder.resolve(), path.resolve(strict=True)
    if any(place.is_relative_to(each) for each in (root, *_blobs(root))):
        return place
    raise SavedModelError(
        f"{path} leads through a link to {place}, outside of its folder, so it is not copied; "
        "put a copy of the file in the place of the link if it is to travel with the model"
    )


def _blobs(root: Path) -> tuple[Path, ...]:
    """Where the hub's client keeps the files of the snapshot `root`, if it is one: for
    `models--owner--name/snapshots/commit` in `models--owner--name/blobs`, whose files may in turn
    be links into `blobs` beside it, which all repositories share (huggingface_hub 1.23).
    """
    for folder in root.parents:
        if folder.name == "snapshots" and folder.parent.name.startswith("models--"):
            repository = folder.parent
            return repository / "blobs", repository.parent / "blobs"
    return ()


def _open_without_waiting(path: str, flags: int) -> int:
    """Opening a pipe would wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
