"""A transformers model as ONNX files with dynamic axes, written once and kept.

The exporter is the TorchScript one (``dynamo=False``): it takes positional tensors and a tuple of
tensors back, so the module is wrapped. Operator set 14 is the newest that it writes for every
encoder tried, in both attention implementations; the ONNX 1.14 that DeepSparse needs reads it too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from prunus.bench.engines.contract import Arrays, Job
from prunus.bench.engines.torch_engine import as_tensors, float_tensors
from prunus.cache import is_own
from prunus.ownership import UNFINISHED, make_private
from prunus.versions import package_versions

OPSET = 14
FILE = "model.onnx"
FACTS = "module"
ATTENTIONS = ("eager", "sdpa")
AS_IT_IS = "as it is"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a module without loading it again.

    Attributes:
        outputs: The names of its float outputs, which ONNX does not keep.
        attentions: The attention implementations that it can be exported with.
    """

    outputs: tuple[str, ...]
    attentions: tuple[str, ...]


class Exports:
    """The exports of a module, each in a folder of its own, and what was found out about them.

    They are kept in ``job.folder`` by all that they depend on, and are found there without the
    module where its loader knows its key. Where nothing can be kept they go into a temporary
    folder until `close`, and ``note`` says why.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._loaded: Any = None
        self.note = ""
        digest = self._digest()
        self._temporary = TemporaryDirectory(prefix="prunus-onnx-")
        self._folder = Path(self._temporary.name)
        if digest is not None:
            kept = job.folder / "onnx" / digest
            with self._noting():
                _make_own(kept)
                self._folder = kept

    @cached_property
    def facts(self) -> Facts:
        """What is remembered of the module, or else found out."""
        return self._known_facts() or self._find_facts()

    def close(self) -> None:
        """Remove what could not be kept; harmless when called twice."""
        self.forget_module()
        self._temporary.cleanup()

    def forget_module(self) -> None:
        """Give back its memory; if it is needed again, it is loaded again."""
        self._loaded = None

    def load_module(self) -> Any:
        """The module, as it was loaded when it was first asked for."""
        if self._loaded is None:
            import torch

            torch.set_num_threads(self._job.threads)
            self._loaded = self._job.load()
        return self._loaded

    def path(self, attention: str) -> Path:
        """The file with one of the `Facts.attentions`, exported unless it is there."""
        folder = self._folder / attention
        if not (folder / FILE).is_file():
            if attention != AS_IT_IS:
                self.load_module().set_attn_implementation(attention)
            with TemporaryDirectory(dir=self._folder, prefix=UNFINISHED) as work:
                partial = Path(work, attention)
                partial.mkdir()
                export_onnx(self.load_module(), self._job.example, partial / FILE)
                make_private(partial)
                _publish(partial, folder)
        return folder / FILE

    def recall(self, name: str) -> Any:
        """What was remembered under the name, or None; as any file, it may hold anything."""
        try:
            return json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def remember(self, name: str, data: object) -> None:
        """Keep plain data beside the exports."""
        with self._noting(), TemporaryDirectory(dir=self._folder, prefix=UNFINISHED) as work:
            partial = Path(work, "data")
            partial.write_text(json.dumps(data, indent=2), encoding="utf-8")
            make_private(partial)
            partial.replace(self._folder / f"{name}.json")

    def _known_facts(self) -> Facts | None:
        """What is remembered of the module, if it makes sense."""
        found = self.recall(FACTS)
        try:
            facts = Facts(*(tuple(map(str, found[each])) for each in ("outputs", "attentions")))
        except (KeyError, TypeError):
            return None
        known = {*ATTENTIONS, AS_IT_IS}
        return facts if facts.attentions and known.issuperset(facts.attentions) else None

    def _find_facts(self) -> Facts:
        module = self.load_module()
        facts = Facts(output_names(module, self._job.example), attentions(module))
        self.remember(FACTS, asdict(facts))
        return facts

    def _digest(self) -> str | None:
        """All that an export depends on; None where that cannot be told."""
        module = self._job.key or fingerprint(self.load_module())
        if module is None:
            return None
        versions = sorted(package_versions(("torch", "transformers")).items())
        around = (tuple(self._job.example), OPSET, versions)
        return hashlib.sha256(f"{around} {module}".encode()).hexdigest()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """What cannot be written is done without."""
        try:
            yield
        except OSError as error:
            self.note = f"; not kept for the next run: {error.strerror or error}"


def attentions(module: Any) -> tuple[str, ...]:
    """The attention implementations that the module can be exported with."""
    if not hasattr(module, "set_attn_implementation"):
        return (AS_IT_IS,)
    if not getattr(module, "_supports_sdpa", False):
        return ("eager",)
    return ATTENTIONS


def output_names(module: Any, example: Arrays) -> tuple[str, ...]:
    """The names of the module's float outputs, which ONNX does not keep."""
    import torch

    with torch.inference_mode():
        return tuple(float_tensors(module(**as_tensors(example))))


def export_onnx(module: Any, example: Arrays, path: Path) -> None:
    """Write the module to ``path``, first and second axis of every input dynamic.

    ``example`` holds arrays of ``[batch, sequence, …]`` by the names of the module's arguments.
    """
    import torch

    names = list(example)
    axes = {name: {0: "batch", 1: "sequence"} for name in names if example[name].ndim > 1}
    tensors = as_tensors({name: _at_least_two(value) for name, value in example.items()})
    with torch.inference_mode():
        torch.onnx.export(
            _positional(module, names),
            tuple(tensors.values()),
            str(path),
            input_names=names,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def fingerprint(module: Any) -> str | None:
    """A digest of a module's class, weights and configuration.

    None for a module that is not of transformers: its code may change while its weights stay.
    """
    config = getattr(module, "config", None)
    if not type(module).__module__.startswith("transformers.") or config is None:
        return None
    digest = hashlib.sha256(type(module).__name__.encode())
    digest.update(config.to_json_string(use_diff=False).encode())
    for name, tensor in module.state_dict().items():
        array = tensor.detach().contiguous().numpy()
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _make_own(folder: Path) -> None:
    """Create the folder, for this user only, and check that nobody else can have put files there.

    Raises:
        OSError: it cannot be written, or others can write to it.
    """
    folder.parent.mkdir(0o700, parents=True, exist_ok=True)
    folder.mkdir(0o700, exist_ok=True)
    if not is_own(folder):
        raise OSError(f"others may have written to {folder}")
    TemporaryDirectory(dir=folder, prefix=UNFINISHED).cleanup()  # it can be written


def _publish(partial: Path, folder: Path) -> None:
    """Rename a finished export into place, unless another process was first."""
    try:
        os.rename(partial, folder)
    except OSError:
        if not (folder / FILE).is_file():
            raise


def _positional(module: Any, names: Sequence[str]) -> Any:
    """The module as one that takes its arguments in order and returns a flat tuple of tensors."""
    import torch

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *arguments: Any) -> tuple[Any, ...]:
            answer = self.module(**dict(zip(names, arguments, strict=True)))
            return tuple(float_tensors(answer).values())

    return Positional().eval()


def _at_least_two(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # A batch or a length of 1 would be traced as a constant wherever the model broadcasts.
    for axis in range(min(2, array.ndim)):
        if array.shape[axis] == 1:
            array = np.concatenate([array, array], axis)
    return array
