"""The public functions: a model comes in by name, folder or module, and goes out compiled."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus import cache
from prunus.errors import InputError, SavedModelError
from prunus.frontend.snapshot import SharedWeights, take_snapshot
from prunus.identity import identity
from prunus.model import CompiledModel, Source
from prunus.passes import run_passes
from prunus.plan import Options, make_options, option_names
from prunus.runtime.saved import SavedModel, load_model, save_model
from prunus.versions import package_versions, source_digest

if TYPE_CHECKING:
    import torch

    from prunus.frontend.export import Imported
    from prunus.frontend.hub import Checkpoint
    from prunus.frontend.simulate import Simulation

_LOADING = (
    "revision", "token", "cache_dir", "subfolder", "local_files_only", "dtype", "architecture",
)  # fmt: skip
"""The keywords of `from_pretrained` beside the options of `compile`."""


def compile(
    module: torch.nn.Module,
    example_inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    sparse: bool = True,
    block: tuple[int, int] | str = "auto",
    threshold: float | str = "auto",
    target: str = "native",
    threads: int | None = None,
    tune: str = "race",
    dynamic_shapes: Any = None,
    copy: bool = False,
) -> CompiledModel:
    """Compile a PyTorch module.

    The compiled model is the module as it is now. It shares large dense weights with the module, so
    that these take no memory twice; where one of them is changed in place afterwards (by
    `load_state_dict` or a step of an optimizer, say), the compiled model refuses to go on. Writes
    through `weight.data` or an array of NumPy are not seen: compile with `copy=True` where they
    happen.

    Args:
        module: Any module made of the ops in the table; it is not changed.
        example_inputs: By argument name, or positional; torch or NumPy. Their sizes are examples
            only. May be left out for an encoder of transformers.
        sparse: Whether zeros may be skipped; False is the dense baseline.
        block: "auto" for the measured block shape, or (rows, columns).
        threshold: "auto", or the share of empty blocks from which on a layer is sparse.
        target: "native", or e.g. "llvm -mcpu=haswell".
        threads: Workers; None for the physical processors that this process may use.
        tune: "race" or "cost".
        dynamic_shapes: As in `torch.export`.
        copy: Whether to copy all weights, so that no change of the module matters.

    Raises:
        InputError: options or inputs that cannot be used.
        UnsupportedError: a module that cannot be exported, or an op that is unknown.
        ModuleChangedError: another thread changed the module meanwhile.
    """
    from prunus.frontend.export import import_module
    from prunus.frontend.simulate import simulated

    if not isinstance(copy, bool):
        raise InputError(f"copy={copy!r}: expected True or False")

    options = make_options(
        sparse=sparse, block=block, threshold=threshold, target=target, threads=threads, tune=tune
    )
    imported = import_module(module, example_inputs, dynamic_shapes=dynamic_shapes)
    source = Source(type(module).__name__, simulated(module))
    return compile_imported(imported, options, source, copy=copy)


def compile_imported(
    imported: Imported, options: Options, source: Source, *, copy: bool = False
) -> CompiledModel:
    """The compiled model of what was imported from a module, or of a part of it.

    Raises:
        ModuleChangedError: another thread changed the module meanwhile.
    """
    graph, shared = take_snapshot(run_passes(imported.graph), imported.weights, copy=copy)
    model = CompiledModel(graph, imported.signature, options, source, shared=shared)
    SharedWeights(imported.weights).check(source.name)
    return model


def from_pretrained(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    subfolder: str | None = None,
    local_files_only: bool = False,
    dtype: str | torch.dtype | None = "float32",
    architecture: str | None = None,
    **options: Any,
) -> CompiledModel:
    """Compile a checkpoint by hub name or folder; the second time its imported graph comes from the
    cache.

    The first arguments are those of transformers; `architecture` is the class of transformers to
    load the weights as, where it is not the one that the configuration names first; the rest are
    the options of `compile` but for `copy`, as nobody else has the weights. Other keywords of
    transformers are taken where they change nothing, such as `device_map="cpu"`.

    Raises:
        CheckpointError: files that are missing, damaged, or do not fit the model.
        InputError, UnsupportedError: as `compile`; an unknown keyword; a keyword of transformers
            that prunus cannot follow.
    """
    from prunus.frontend import hub
    from prunus.frontend.keywords import (
        check_known,
        check_loading_dtype,
        loading_names,
        take_loading,
    )

    own = (*option_names(), *_LOADING)
    check_known("from_pretrained", options, own, loading_names(), error=InputError)
    check_loading_dtype(dtype)
    options, expectations = take_loading(options)
    checkpoint = hub.resolve(
        name,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        subfolder=subfolder,
        local_files_only=local_files_only,
    )
    expectations.check(checkpoint.folder)
    return open_checkpoint(checkpoint, architecture=architecture, **options)


def open_checkpoint(
    checkpoint: Checkpoint,
    *,
    simulation: Simulation | None = None,
    architecture: str | None = None,
    by_name: bool = False,
    **options: Any,
) -> CompiledModel:
    """Compile a checkpoint that was resolved, with zeros simulated in it where asked for.

    With `by_name` its answers have names even where its configuration says `return_dict: false`.
    """
    chosen = make_options(**options)
    saved = _imported(checkpoint, simulation, architecture, by_name)
    source = Source(checkpoint.name, saved.simulated, tuple(checkpoint.companion_files()))
    return CompiledModel.from_saved(saved, chosen, source)


def _imported(
    checkpoint: Checkpoint,
    simulation: Simulation | None,
    architecture: str | None,
    by_name: bool,
) -> SavedModel:
    """The imported model from the cache, or made now and left there for the next start."""
    simulated = identity(simulation)
    key = f"{import_version()} {checkpoint.fingerprint()} {simulated} {architecture}"
    key += " by name" if by_name else ""
    folder = cache.find_folder("models", key)
    if folder is not None:
        try:
            return load_model(folder)
        except SavedModelError as error:
            # The entry may be sound where the system failed: too many open files, say.
            if not isinstance(error.__cause__, OSError):
                cache.remove("models", key)
    made = _import(checkpoint, simulation, architecture, by_name)

    def fill(folder: Path) -> None:
        save_model(
            folder,
            graph=made.graph,
            signature=made.signature,
            source=made.source,
            simulated=made.simulated,
        )

    published = cache.publish_folder("models", key, fill)
    return made if published is None else dataclasses.replace(made, folder=published)


def _import(
    checkpoint: Checkpoint,
    simulation: Simulation | None,
    architecture: str | None,
    by_name: bool,
) -> SavedModel:
    from prunus.frontend.checkpoint import load_module
    from prunus.frontend.export import import_module
    from prunus.frontend.simulate import apply_simulation

    module: Any = load_module(checkpoint, architecture=architecture)
    if by_name:
        module.config.return_dict = True
    if simulation is not None:
        module = apply_simulation(module, simulation)
    imported = import_module(module)
    return SavedModel(
        graph=run_passes(imported.graph),
        signature=imported.signature.to_json(),
        source=checkpoint.name,
        simulated=None if simulation is None else str(simulation),
        folder=checkpoint.folder,
        companions=(),
    )


@functools.cache
def import_version() -> str:
    """What an imported graph in the cache depends on besides the checkpoint.

    These are the sources of the import, and the versions of torch and transformers, which decide
    what a module computes. Neither is imported.
    """
    versions = package_versions(("torch", "transformers"))
    sources = source_digest("frontend", "ir", "passes", "sparsity")
    return f"{sources} {sorted(versions.items())}"


def load(
    folder: str | os.PathLike[str],
    *,
    sparse: bool = True,
    block: tuple[int, int] | str = "auto",
    threshold: float | str = "auto",
    target: str = "native",
    threads: int | None = None,
    tune: str = "race",
) -> CompiledModel:
    """Load what `save_pretrained` wrote; needs neither torch nor transformers. The options are
    those of `compile`.

    Large tables are mapped from the folder, so all processes share them in memory. The files of a
    loaded folder must therefore not be changed in place. The next call most often notices and
    raises `SavedModelError`, but a file that is shortened during a call ends the process (SIGBUS),
    and one that is overwritten changes the answers for up to a second. To save there again, to
    delete or to rename is safe, as the old files live on until the model is gone.

    Raises:
        SavedModelError: a folder that is damaged, hostile, or written by a newer version.
        InputError: options that cannot be used.
    """
    options = make_options(
        sparse=sparse, block=block, threshold=threshold, target=target, threads=threads, tune=tune
    )
    saved: SavedModel = load_model(Path(folder))
    source = Source(saved.source, saved.simulated, saved.companions)
    return CompiledModel.from_saved(saved, options, source)
