"""A compiled model: what a person holds and calls, and sends to other processes."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prunus import cache
from prunus.errors import InputError, SavedModelError
from prunus.frontend.masks import check_ranks
from prunus.frontend.snapshot import SharedWeights
from prunus.frontend.structure import Signature
from prunus.ir import Graph, bind_sizes
from prunus.ir.dims import symbols
from prunus.ir.indices import check_indices, index_limits
from prunus.kernels.limits import measured_limits
from prunus.plan import Options, make_options, make_plan
from prunus.plan.benchmark import BenchmarkResult, time_calls
from prunus.plan.explain import Explanation, explain, zeros
from prunus.plan.explain_html import table_html
from prunus.plan.profile import Profile, profile_calls
from prunus.plan.timeline import trace_calls
from prunus.runtime.companions import companion_name
from prunus.runtime.executable import Executable
from prunus.runtime.mapped_file import MappedFile
from prunus.runtime.saved import SavedModel, load_model, save_model
from prunus.runtime.saved_reference import Reference, content_digest
from prunus.runtime.threads import usable_processors
from prunus.runtime.trace import Event, Recorder
from prunus.runtime.weights import Weights


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


class CompiledModel:
    """A compiled model: call it like the module it came from.

    NumPy arrays in, NumPy arrays out; torch tensors in, torch tensors out; in the structure that
    the module returns. May be called from several threads, which take turns.

    A pickled model is a reference to its saved folder, with the options. One that was never saved,
    or whose folder has changed, is first saved in the cache. Where it is unpickled, large tables
    are mapped from that folder, so that all processes share them; what kernels read is packed by
    each process for itself. A process that has the very model already, since it pickled it or was
    forked after that, goes on with that one.

    It stays the module as it was. Where that has since changed a large weight which the two share,
    whatever needs the weight raises `ModuleChangedError`: calls, `recompile`, saving, pickling.
    """

    def __init__(
        self,
        graph: Graph,
        signature: Signature,
        options: Options,
        source: Source,
        reference: Reference | None = None,
        shared: SharedWeights | None = None,
        file: MappedFile | None = None,
    ) -> None:
        self.graph, self.signature = graph, signature
        self.options, self.source = options, source
        weights = Weights(graph.constants)
        self.program = make_plan(graph, options, weights)
        self._index_limits = index_limits(graph)
        self._reference, self._shared = reference, shared or SharedWeights()
        in_place = self.program.constants_in_place()
        self._read_in_place = self._shared.among(in_place)
        self._file = file
        self._file_in_place = file if any(map(self._lies_in_file, in_place)) else None
        self._executable = Executable(
            self.program, weights, target=options.target, threads=options.threads
        )

    @staticmethod
    def from_saved(saved: SavedModel, options: Options, source: Source) -> CompiledModel:
        """A model that was saved, compiled.

        Raises:
            SavedModelError: how it is called does not fit its graph.
        """
        signature = Signature.from_json(saved.signature)
        signature.check_fits(saved.graph)
        reference = Reference.of(saved.folder)
        return CompiledModel(saved.graph, signature, options, source, reference, file=saved.file)

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
        return 1 - zeros(self.program, self.graph)[0]

    def flops(self, *, dense: bool = False, **inputs: Any) -> int:
        """Floating-point operations of a call with these inputs, without those that zeros save;
        with `dense`, those that an engine does that ignores zeros.
        """
        arrays, _ = self.signature.bind((), inputs)
        return self.program.flops(self._sizes(arrays), dense=dense)

    @property
    def vocabulary(self) -> int | None:
        """The number of ids that `input_ids` may hold, where the model looks them up in a table."""
        return self.graph.table_rows("input_ids")

    @property
    def longest(self) -> int | None:
        """The tokens of the longest text that it takes, or of all where it takes no other; None
        where there is no limit, or no text.
        """
        ids = self.graph.inputs.get("input_ids")
        if ids is None:
            return None
        length, limits = ids.shape[-1], self.graph.limits
        if isinstance(length, int):
            return length
        return min((limits[each] for each in symbols(length) & set(limits)), default=None)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The answer for inputs by position or name, in the module's own structure.

        Raises:
            InputError: an unknown or missing input, a wrong dtype or shape, an empty batch, an id
                outside its table, or a sequence beyond the model's limit.
        """
        return self._run(args, kwargs)

    def trace(self, /, *args: Any, **kwargs: Any) -> tuple[Event, ...]:
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
        self._read_in_place.check(self.source.name)
        if self._file_in_place is not None:
            self._file_in_place.check()
        arrays, kind = self.signature.bind(args, kwargs)
        sizes = self._sizes(arrays)
        self._check_sizes(sizes)
        check_indices(self._index_limits, arrays)
        return self.signature.pack(self._executable.run(arrays, sizes, recorder), kind)

    def _sizes(self, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
        check_ranks(self.graph.inputs, arrays)
        return bind_sizes(self.graph.inputs, arrays)

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
        given = make_options(**{**_as_given(self.options), **options})
        chosen = replace(given, may_pack=self.options.may_pack)
        self.check_weights()
        return CompiledModel(
            self.graph, self.signature, chosen, self.source, self._reference, self._shared,
            self._file,
        )  # fmt: skip

    def check_weights(self) -> None:
        """Raise `ModuleChangedError` where the module has changed a weight that `graph` shares, and
        `SavedModelError` where the file was changed that its weights lie in.
        """
        self._shared.check(self.source.name)
        if self._file is not None:
            self._file.check()

    def _lies_in_file(self, constant: str) -> bool:
        """Whether a constant is a part of the mapped file."""
        value = self.graph.constants[constant].value
        return self._file is not None and isinstance(value, np.ndarray) and self._file.holds(value)

    def explain(self) -> Explanation:
        """Every layer with its zeros, kernel and reason, and every step that is not native."""
        return explain(
            self.program,
            self.graph,
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
        return time_calls(call, repeat, number, simulated=self.simulated)

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
            self.graph,
            calls,
            self._sizes(arrays),
            limits,
            model=self.source.name,
            simulated=self.simulated,
            target=str(self.options.target),
        )

    def save_pretrained(
        self, folder: str | os.PathLike[str], *, files: Sequence[Path] = ()
    ) -> None:
        """Write a folder of data only, which `prunus.load` runs without torch and transformers.

        A folder with a saved model is replaced file by file, each by a rename, so whoever has the
        old model loaded keeps it. Configuration and tokenizer come along.

        Args:
            folder: Where to write.
            files: A configuration, say, that takes the place of the one that came with the model.

        Raises:
            InputError: the path cannot name a folder.
            SavedModelError: the folder cannot be written or holds something else, or a file that
                came with the model is a link that leads out of its folder.
        """
        own = {companion_name(path): path for path in self.source.companions}
        own |= {companion_name(path): path for path in files}
        digest = self._write(Path(folder), tuple(own.values()))
        self._reference = Reference(Path(folder).absolute(), digest)

    def _write(self, folder: Path, companions: Sequence[Path] = ()) -> str:
        self.check_weights()
        return save_model(
            folder,
            graph=self.graph,
            signature=self.signature.to_json(),
            source=self.source.name,
            simulated=self.simulated,
            companions=companions,
        )

    def __reduce__(self) -> tuple[Callable[[str], CompiledModel], tuple[str]]:
        if self._reference is None or not self._reference.holds:
            self._reference = self._keep()
        # One text, so that equal models give equal bytes: `datasets` caches results by these.
        text = json.dumps(
            {
                "folder": str(self._reference.folder),
                "digest": self._reference.digest,
                "options": _as_given(self.options),
                "name": self.source.name,
                "simulated": self.source.simulated,
                "companions": [str(path.absolute()) for path in self.source.companions],
            }
        )
        _pickled.setdefault(text, self)
        return _unpickle, (text,)

    def _keep(self) -> Reference:
        """Save the model in the cache, under a digest of its content."""
        self.check_weights()
        content = content_digest(self.graph, self.signature.to_json())
        folder = cache.publish_folder("models", f"pickled {content}", self._write)
        reference = None if folder is None else Reference.of(folder)
        if reference is None:
            raise SavedModelError(
                f"{self.source.name} cannot be pickled: it travels as a reference to a saved "
                "folder, and the cache cannot hold one; call its save_pretrained(folder) first, "
                f"with a folder that stays, or set {cache.VARIABLE} to a folder of yours"
            )
        return reference

    def _summary(self) -> list[tuple[str, str]]:
        """The model in a few lines, each with its heading."""
        steps = [step.work for step in self.program.native_steps if step.weight is not None]
        sparse = sum(work.per_unit < work.dense_per_unit for work in steps)
        linear, whole = (f"{100 * share:.1f} %" for share in zeros(self.program, self.graph))
        inputs = (f"{name} {type}" for name, type in self.graph.inputs.items())
        return [
            *([("SIMULATED", self.simulated)] if self.simulated else []),
            ("layers", f"{sparse} sparse, {len(steps) - sparse} dense"),
            ("zeros", f"{linear} of the linear layers, {whole} of the whole model"),
            ("inputs", ", ".join(inputs)),
            ("size", f"{self.program.weight_bytes / 1e6:.1f} MB of weights are read by a call"),
            ("target", str(self.options.target)),
            ("threads", str(self.threads)),
        ]

    def __repr__(self) -> str:
        lines = (f"  {heading:9}  {text}" for heading, text in self._summary())
        return "\n".join((f"CompiledModel {self.source.name}", *lines))

    def _repr_html_(self) -> str:
        return table_html(f"CompiledModel {self.source.name}", self._summary())


def _as_given(options: Options) -> dict[str, Any]:
    """What `make_options` takes to make these options again."""
    given = {name: value for name, value in asdict(options).items() if name != "may_pack"}
    return {**given, "target": options.target.text}


_pickled: weakref.WeakValueDictionary[str, CompiledModel] = weakref.WeakValueDictionary()


def _unpickle(text: str) -> CompiledModel:
    """The model of that reference.

    It uses as many threads as where it was pickled, or as this process may: the answer is the same.

    Raises:
        SavedModelError: the folder is gone or damaged, or holds another model by now.
        TargetError: it was compiled for a processor whose code does not run here.
    """
    model = _pickled.get(text)
    if model is None:
        model = _pickled[text] = _reopen(json.loads(text))
    return model


def _reopen(document: dict[str, Any]) -> CompiledModel:
    name, folder, options = document["name"], Path(document["folder"]), document["options"]
    found = Reference.of(folder)
    if found != Reference(folder, document["digest"]):
        what = "holds no saved model (any more)" if found is None else "holds another model by now"
        raise SavedModelError(
            f"{name} was pickled as a reference to {folder}, which {what}; call its "
            "save_pretrained(folder), with a folder that stays and that every process sees, and "
            "pickle it again"
        )
    options["threads"] = min(options["threads"], usable_processors())
    companions = (Path(path) for path in document["companions"])
    source = Source(
        name, document["simulated"], tuple(path for path in companions if path.is_file())
    )
    return CompiledModel.from_saved(load_model(folder), make_options(**options), source)
