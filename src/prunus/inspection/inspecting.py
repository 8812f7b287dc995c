"""`inspect`: a name or folder → what its tensors are, measured one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prunus.errors import CheckpointError, InputError
from prunus.inspection.checkpoint import checkpoint_tensors
from prunus.inspection.measuring import measure_tensor
from prunus.inspection.result import Inspection, TensorReport
from prunus.inspection.roles import Heads, Place, heads_in, places
from prunus.inspection.saved import saved_entries
from prunus.inspection.tensors import Tensor
from prunus.plan import Options
from prunus.runtime.saved_description import DESCRIPTION
from prunus.runtime.threads import check_threads

Entry = tuple[str, Tensor, Place, Heads | None]


def inspect(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    subfolder: str | None = None,
    local_files_only: bool = False,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Inspection:
    """Measure the zeros of every tensor of a checkpoint and tell what prunus would do with each.

    Nothing is compiled, and torch is imported only for a pickle (`pytorch_model.bin`). Tensors are
    read in bands of a few megabytes, so that a checkpoint may be larger than the memory; one that
    is stored transposed, as in GPT-2, is read whole. A folder saved by prunus is loaded as
    `prunus.load` does.

    What prunus would do is estimated from the zeros alone. A compilation also joins queries, keys
    and values, takes out what is empty, and races the kernels that come close.

    Args:
        name: A name on the hub, the folder of a checkpoint, or a folder saved by prunus.
        revision: Branch, tag or commit on the hub.
        token: For a private or gated model.
        cache_dir: Of the hub's client.
        subfolder: Folder of the model in its repository.
        local_files_only: Do not ask the hub for anything.
        threads: Tensors that are measured at a time; None for the physical processors that this
            process may use.
        progress: Called ten times at most, with a few words about what is done.

    Raises:
        CheckpointError: files that are missing, damaged, hold NaN, or are in a form that only the
            tool which wrote them can undo.
        SavedModelError: a damaged folder of prunus.
        InputError: arguments that cannot be used.
        UnsupportedError: a pickle, where torch is not installed.
    """
    workers = check_threads(threads)
    folder = Path(os.path.expanduser(name))
    if (folder / DESCRIPTION).is_file():
        given = {"revision": revision, "token": token, "cache_dir": cache_dir,
                 "subfolder": subfolder, "local_files_only": local_files_only}  # fmt: skip
        if meaningless := next((key for key, value in given.items() if value), None):
            raise InputError(
                f"{folder} is a folder saved by prunus, so {meaningless} means nothing; leave it "
                "out"
            )
        saved, kept = saved_entries(folder)
        reports = _measured(os.fspath(name), kept, len(saved.graph.constants), 1, progress)
        return Inspection(os.fspath(name), saved.simulated, reports)
    from prunus.frontend import hub

    checkpoint = hub.resolve(
        name,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        subfolder=subfolder,
        local_files_only=local_files_only,
    )
    tensors = checkpoint_tensors(checkpoint)
    found = places({name: tensor.shape for name, tensor in tensors.items()})

    def entries() -> Iterator[Entry]:
        for name, tensor in tensors.items():
            matrix = found[name].matrix if found[name].role == "linear" else None
            heads = None if matrix is None else heads_in(name, matrix, checkpoint.config)
            yield name, tensor, found[name], heads

    reports = _measured(checkpoint.name, entries(), len(tensors), workers, progress)
    return Inspection(checkpoint.name, None, reports)


def _measured(
    model: str,
    entries: Iterator[Entry],
    count: int,
    workers: int,
    progress: Callable[[str], None] | None,
) -> tuple[TensorReport, ...]:
    """The reports, in order. With one worker an entry is made only when its turn has come."""
    options = Options(tune="cost")
    reports: list[TensorReport] = []

    def measure(entry: Entry) -> TensorReport:
        try:
            return measure_tensor(*entry, options)
        except InputError as error:
            raise CheckpointError(
                f"{model}: {entry[0]} holds NaN or infinity. The checkpoint is damaged, or "
                "training diverged."
            ) from error

    pool = ThreadPoolExecutor(workers) if workers > 1 else None
    try:
        for report in (pool.map if pool else map)(measure, entries):
            reports.append(report)
            done = len(reports)
            if progress is not None and 10 * done // count > 10 * (done - 1) // count:
                progress(f"measured {done} of {count} tensors of {model}")
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    return tuple(reports)
