"""The public functions: a model comes in by name, folder or module, and goes out compiled."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus import cache
from prunus.errors import InputError, SavedModelError
from prunus.frontend.structure import Signature
from prunus.ir import Graph, bind_sizes
from prunus.kernels.limits import measured_limits
from prunus.passes import run_passes
from prunus.plan import Options, make_options, make_plan
from prunus.plan.explain import Explanation, explain, zeros
from prunus.plan.profile import Profile, profile_calls
from prunus.plan.timeline import trace_calls
from prunus.runtime.executable import Executable
from prunus.runtime.saved import SavedModel, load_model, save_model
from prunus.runtime.trace import Event, Recorder

if TYPE_CHECKING:
    import torch

    from prunus.frontend.hub import Checkpoint
    from prunus.frontend.simulate import Simulation


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model came from.

    Attributes:
        name: The hub name, the folder, or the module's class.
        simulated: What zeros were simulated, or None for real weights.
        companions: Files that travel with a saved model: config, tokenizer.
    """

    name: str
    simulated: str | None = None
    companions: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """Times of a model's calls, as TVM's `benchmark` gives them.

    Attributes:
        seconds: The mean of each repeat.
        mean: In seconds, as all that follow.
        median: Of the repeats.
        std: Standard deviation of the repeats.
        minimum: The fastest repeat.
        maximum: The slowest.
        simulated: What was simulated, or None.
    """

    seconds: tuple[float, ...]
    mean: float
    median: float
    std: float
    minimum: float
    maximum: float
    simulated: str | None

    def __str__(self) -> str:
        note = f"  (SIMULATED: {self.simulated})" if self.simulated else ""
        return (
            f"mean {1e3 * self.mean:.2f} ms, median {1e3 * self.median:.2f}, "
            f"min {1e3 * self.minimum:.2f}, max {1e3 * self.maximum:.2f}, std {1e3 * self.std:.2f}"
            + note
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


class CompiledModel:
    """A compiled model: call it like the module it came from.

    NumPy arrays in, NumPy arrays out; torch tensors in, torch tensors out; in the structure that
    the module returns. May be called from several threads, which take turns.
    """

    def __init__(
        self, graph: Graph, signature: Signature, options: Options, source: Source
    ) -> None:
        self.graph, self.signature = graph, signature
        self.options, self.source = options, source
        self.program = make_plan(graph, options)
        self._executable = Executable(self.program, target=options.target, threads=options.threads)

    @property
    def threads(self) -> int:
        """Workers that a call uses."""
        return self.options.threads

    @property
    def simulated(self) -> str | None:
        """What zeros were simulated, or None for real weights."""
        return self.source.simulated

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs, in order."""
        return tuple(self.graph.inputs)

    @property
    def density(self) -> float:
        """The share of the linear weights that is not zero."""
        return 1 - zeros(self.program)[0]

    def flops(self, *, dense: bool = False, **inputs: Any) -> int:
        """Floating-point operations of a call with these inputs, without those that zeros save;
        with `dense`, those that an engine does that ignores zeros.
        """
        arrays, _ = self.signature.bind((), inputs)
        return self.program.flops(bind_sizes(self.graph.inputs, arrays), dense=dense)

    @property
    def vocabulary(self) -> int | None:
        """The number of ids that `input_ids` may hold, where the model looks them up in a table."""
        for node in self.graph.nodes:
            if node.op == "embedding":
                for table, ids in zip(node.inputs[::2], node.inputs[1::2], strict=True):
                    if ids == "input_ids" and table is not None:
                        return self.graph.constants[table].type.sizes({})[0]
        return None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The answer for inputs by position or name, in the module's own structure.

        Raises:
            InputError: an unknown or missing input, a wrong dtype or shape, an empty batch, an id
                outside its table, or a sequence beyond the model's limit.
        """
        return self._run(args, kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> tuple[Event, ...]:
        """What every worker did during one call with these inputs, unit by unit, in the order in
        which it began.

        Raises:
            InputError: as a call does.
        """
        recorder = Recorder()
        self._run(args, kwargs, recorder)
        return recorder.events()

    def _run(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], recorder: Recorder | None = None
    ) -> Any:
        """A call, with what is done in it noted where there is a recorder."""
        arrays, kind = self.signature.bind(args, kwargs)
        sizes = bind_sizes(self.graph.inputs, arrays)
        self._check_sizes(sizes)
        return self.signature.pack(self._executable.run(arrays, sizes, recorder), kind)

    def _check_sizes(self, sizes: Mapping[str, int]) -> None:
        for name, size in sizes.items():
            if size == 0:
                raise InputError(f"the dimension {name!r} of the inputs is 0: nothing to compute")
            limit = self.graph.limits.get(name)
            if limit is not None and size > limit:
                raise InputError(
                    f"{name} is {size}, but the model takes at most {limit}; shorten the input"
                )

    def recompile(self, **options: Any) -> CompiledModel:
        """The same model with other options of `compile`: `recompile(sparse=False)` is the dense
        baseline.
        """
        mine = {
            "sparse": self.options.sparse,
            "block": self.options.block,
            "threshold": self.options.threshold,
            "target": self.options.target.text,
            "threads": self.options.threads,
            "tune": self.options.tune,
        }
        chosen = make_options(**{**mine, **options})
        return CompiledModel(self.graph, self.signature, chosen, self.source)

    def explain(self) -> Explanation:
        """Every layer with its zeros, kernel and reason, and every step that is not native."""
        return explain(
            self.program,
            model=self.source.name,
            simulated=self.simulated,
            target=str(self.options.target),
            threads=self.threads,
        )

    def benchmark(
        self, inputs: Mapping[str, Any] | Sequence[Any], repeat: int = 5, number: int = 5
    ) -> BenchmarkResult:
        """Time `repeat` times the mean of `number` calls, after one call to warm up."""
        if repeat < 1 or number < 1:
            raise InputError(f"repeat={repeat}, number={number}: both must be at least 1")
        call: Callable[[], Any] = (
            (lambda: self(**inputs)) if isinstance(inputs, Mapping) else (lambda: self(*inputs))
        )
        call()
        seconds = []
        for _ in range(repeat):
            begin = time.perf_counter()
            for _ in range(number):
                call()
            seconds.append((time.perf_counter() - begin) / number)
        array = np.array(seconds)
        return BenchmarkResult(
            tuple(seconds),
            float(array.mean()),
            float(np.median(array)),
            float(array.std()),
            float(array.min()),
            float(array.max()),
            self.simulated,
        )

    def profile(self, inputs: Mapping[str, Any] | Sequence[Any], repeat: int = 20) -> Profile:
        """Where the time of a call with these inputs goes: of `repeat` calls that are traced, after
        one to warm up. Operations are counted as if no token were padding.

        The processor's limits are measured at first use, which takes seconds, and remembered.

        Raises:
            InputError: as a call does.
        """
        if repeat < 1:
            raise InputError(f"repeat={repeat}: at least one call must be traced")
        args, kwargs = ((), inputs) if isinstance(inputs, Mapping) else (inputs, {})
        limits = measured_limits(self.threads, self.options.target)
        calls = trace_calls(lambda recorder: self._run(args, kwargs, recorder), repeat)
        arrays, _ = self.signature.bind(args, kwargs)
        return profile_calls(
            self.program,
            calls,
            bind_sizes(self.graph.inputs, arrays),
            limits,
            model=self.source.name,
            simulated=self.simulated,
            target=str(self.options.target),
        )

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder of data only, which `prunus.load` runs without torch and transformers."""
        save_model(
            Path(folder),
            graph=self.graph,
            signature=self.signature.to_json(),
            source=self.source.name,
            simulated=self.simulated,
            companions=self.source.companions,
        )

    def __repr__(self) -> str:
        simulated = f", SIMULATED {self.simulated}" if self.simulated else ""
        kind = "sparse" if self.options.sparse else "dense"
        return (
            f"CompiledModel({self.source.name}, {kind}, {self.options.target}, "
            f"threads={self.threads}{simulated})"
        )


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
) -> CompiledModel:
    """Compile a PyTorch module.

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

    Raises:
        InputError: options or inputs that cannot be used.
        UnsupportedError: a module that cannot be exported, or an op that is unknown.
    """
    from prunus.frontend.export import import_module
    from prunus.frontend.simulate import simulated

    options = make_options(
        sparse=sparse, block=block, threshold=threshold, target=target, threads=threads, tune=tune
    )
    imported = import_module(module, example_inputs, dynamic_shapes=dynamic_shapes)
    source = Source(type(module).__name__, simulated(module))
    return CompiledModel(run_passes(imported.graph), imported.signature, options, source)


def from_pretrained(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    subfolder: str | None = None,
    local_files_only: bool = False,
    dtype: str = "float32",
    architecture: str | None = None,
    **options: Any,
) -> CompiledModel:
    """Compile a checkpoint by hub name or folder; the second time its imported graph comes from the
    cache.

    The first arguments are those of transformers; `architecture` is the class of transformers to
    load the weights as, where it is not the one that the configuration names first; the rest are
    the options of `compile`.

    Raises:
        CheckpointError: files that are missing, damaged, or do not fit the model.
        InputError, UnsupportedError: as `compile`.
    """
    from prunus.frontend import hub

    checkpoint = hub.resolve(
        name,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        subfolder=subfolder,
        local_files_only=local_files_only,
    )
    return open_checkpoint(checkpoint, dtype=dtype, architecture=architecture, **options)


def open_checkpoint(
    checkpoint: Checkpoint,
    *,
    simulation: Simulation | None = None,
    dtype: str = "float32",
    architecture: str | None = None,
    **options: Any,
) -> CompiledModel:
    """Compile a checkpoint that was resolved, with zeros simulated in it where asked for."""
    chosen = make_options(**options)
    saved = _imported(checkpoint, simulation, dtype, architecture)
    source = Source(checkpoint.name, saved.simulated, tuple(checkpoint.companion_files()))
    return CompiledModel(saved.graph, _signature(saved), chosen, source)


def _imported(
    checkpoint: Checkpoint, simulation: Simulation | None, dtype: str, architecture: str | None
) -> SavedModel:
    """The imported model from the cache, or made now and left there for the next start."""
    key = f"{_import_version()} {checkpoint.fingerprint()} {dtype} {simulation!r} {architecture}"
    folder = cache.find_folder("models", key)
    if folder is not None:
        try:
            return load_model(folder)
        except SavedModelError:
            cache.remove("models", key)
    made = _import(checkpoint, simulation, dtype, architecture)

    def fill(folder: Path) -> None:
        save_model(
            folder,
            graph=made.graph,
            signature=made.signature,
            source=made.source,
            simulated=made.simulated,
        )

    cache.publish_folder("models", key, fill)
    return made


def _import(
    checkpoint: Checkpoint, simulation: Simulation | None, dtype: str, architecture: str | None
) -> SavedModel:
    from prunus.frontend.checkpoint import load_module
    from prunus.frontend.export import import_module
    from prunus.frontend.simulate import apply_simulation

    module = load_module(checkpoint, dtype=dtype, architecture=architecture)
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
def _import_version() -> str:
    """What an imported graph in the cache depends on besides the checkpoint: the sources of the
    import, so that a changed pass never meets a graph of the old one.
    """
    digest = hashlib.sha256()
    for folder in ("frontend", "ir", "passes", "sparsity"):
        for path in sorted((Path(__file__).parent / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


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

    Raises:
        SavedModelError: a folder that is damaged, hostile, or written by a newer version.
        InputError: options that cannot be used.
    """
    options = make_options(
        sparse=sparse, block=block, threshold=threshold, target=target, threads=threads, tune=tune
    )
    saved: SavedModel = load_model(Path(folder))
    source = Source(saved.source, saved.simulated, saved.companions)
    return CompiledModel(saved.graph, _signature(saved), options, source)


def _signature(saved: SavedModel) -> Signature:
    """How a saved model is called, checked against its graph."""
    signature = Signature.from_json(saved.signature)
    signature.check_fits(saved.graph)
    return signature
