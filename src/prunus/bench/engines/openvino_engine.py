"""OpenVINO at its best: the strongest dense engine met, so the one to be measured against.

The model is exported twice, with eager and with fused (``sdpa``) attention; both are raced once on
the first shape and the faster is kept, together with the verdict, for the next run on this machine.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from prunus.bench.engines.contract import Arrays, Job, LocalEngine, missing
from prunus.bench.engines.onnx_export import export_onnx, fingerprint
from prunus.bench.engines.torch_engine import as_tensors, float_tensors
from prunus.bench.machine import package_versions, this_machine
from prunus.bench.rounds import interleave, turn_of

ATTENTIONS = ("eager", "sdpa")
AS_IT_IS = "as it is"
VERDICT = "raced.json"

Verdict = dict[str, Any]


class OpenVinoEngine(LocalEngine):
    """A dynamic ONNX model, compiled for float32 and low latency."""

    name = "openvino"
    _infer: Callable[[Arrays], Any] | None = None
    _names: tuple[str, ...] = ()

    def versions(self) -> dict[str, str]:
        """OpenVINO and what wrote its model."""
        return package_versions(("openvino", "onnx", "torch", "transformers"))

    def available(self) -> str | None:
        """The reason when OpenVINO, or what the export needs, is absent."""
        modules = {"openvino": "OpenVINO", "onnx": "onnx", "torch": "torch"}
        return missing(modules, "openvino onnx torch")

    def prepare(self, job: Job) -> None:
        """Export, race and keep the faster attention, or take the verdict of an earlier race."""
        import torch

        torch.set_num_threads(job.threads)
        module = job.load()
        with torch.inference_mode():
            self._names = tuple(float_tensors(module(**as_tensors(job.example))))
        digest = fingerprint(module, tuple(job.example))
        folder = job.folder / "onnx" / digest if digest is not None else None
        conditions = _conditions(job)
        verdict = read_verdict(folder, conditions) if folder is not None else None
        if folder is not None and verdict is not None:
            self._infer = compile_onnx(folder / f"{verdict['kept']}.onnx", job.threads)
            self.note = describe(verdict)
        else:
            self._race(module, job, conditions, folder)

    def bind(self, inputs: Arrays) -> Callable[[], object]:
        """One inference, without copies on the way in or out."""
        infer = self._infer
        if infer is None:
            raise RuntimeError("the OpenVINO engine must be prepared before it runs")
        return lambda: infer(inputs)

    def outputs(self, result: Any) -> Arrays:
        """The outputs in the module's own names, which ONNX does not keep."""
        return {name: np.array(result[place]) for place, name in enumerate(self._names)}

    def close(self) -> None:
        """Drop the compiled model."""
        super().close()
        self._infer = None

    def _race(self, module: Any, job: Job, conditions: dict[str, Any], folder: Path | None) -> None:
        """Export each variant, time them side by side, and keep the faster, in the folder too."""
        variants = _variants(module)
        with TemporaryDirectory(prefix="prunus-onnx-") as work:
            paths = [Path(work, f"{attention}.onnx") for attention in variants]
            for attention, path in zip(variants, paths, strict=True):
                if attention != AS_IT_IS:
                    module.set_attn_implementation(attention)
                export_onnx(module, job.example, path)
            runs = [compile_onnx(path, job.threads) for path in paths]
            times = _milliseconds(runs, job.example)
            best = times.index(min(times))
            verdict = {
                "conditions": conditions,
                "kept": variants[best],
                "milliseconds": dict(zip(variants, times, strict=True)),
            }
            self._infer = runs[best]
            self.note = describe(verdict)
            if folder is not None:
                self.note += _keep(paths[best], folder, verdict)


def compile_onnx(path: Path, threads: int) -> Callable[[Arrays], Any]:
    """Compile an ONNX file for float32, low latency and so many threads; returns its inference."""
    import openvino

    compiled = openvino.Core().compile_model(
        str(path),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        },
    )
    request = compiled.create_infer_request()
    # The export drops arguments that the model does not use.
    used = [port.any_name for port in compiled.inputs]

    def infer(inputs: Arrays) -> Any:
        return request.infer(
            {name: inputs[name] for name in used}, share_inputs=True, share_outputs=True
        )

    return infer


def read_verdict(folder: Path, conditions: Mapping[str, Any]) -> Verdict | None:
    """The verdict of an earlier race under equal conditions whose file is still there, or None."""
    try:
        verdict = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
        same = verdict["conditions"] == dict(conditions)
        known = verdict["kept"] in (*ATTENTIONS, AS_IT_IS)
        whole = {str(name): float(time) for name, time in verdict["milliseconds"].items()}
        if not (same and known and (folder / f"{verdict['kept']}.onnx").is_file()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return {"conditions": verdict["conditions"], "kept": verdict["kept"], "milliseconds": whole}


def describe(verdict: Verdict) -> str:
    """What was kept and why: ``sdpa export (raced at 1x128: eager 52 ms, sdpa 50 ms)``."""
    times = verdict["milliseconds"]
    if len(times) < 2:
        return f"{verdict['kept']} export"
    raced = ", ".join(f"{name} {time:.3g} ms" for name, time in times.items())
    return f"{verdict['kept']} export (raced at {verdict['conditions']['shape']}: {raced})"


def _conditions(job: Job) -> dict[str, Any]:
    """What a race depends on beside the model."""
    shape = next(iter(job.example.values())).shape
    return {
        "processor": this_machine().name,
        "openvino": package_versions(("openvino",)).get("openvino"),
        "threads": job.threads,
        "shape": "x".join(str(size) for size in shape),
    }


def _variants(module: Any) -> tuple[str, ...]:
    """The attention implementations that the module has."""
    if not hasattr(module, "set_attn_implementation"):
        return (AS_IT_IS,)
    if not getattr(module, "_supports_sdpa", False):
        return ("eager",)
    return ATTENTIONS


def _milliseconds(runs: Sequence[Callable[[Arrays], Any]], example: Arrays) -> list[float]:
    turns = [turn_of(lambda run=run: run(example)) for run in runs]  # type: ignore[misc]
    samples = interleave(turns, rounds=4, seconds=0.25, least_calls=2)
    return [1e3 * statistics.median(seconds) for seconds in samples]


def _keep(path: Path, folder: Path, verdict: Verdict) -> str:
    """Copy the export and its verdict into the folder; says so where that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as partial:
            copied, judged = Path(partial, path.name), Path(partial, VERDICT)
            shutil.copyfile(path, copied)
            judged.write_text(json.dumps(verdict, indent=2), encoding="utf-8")
            copied.replace(folder / path.name)
            judged.replace(folder / VERDICT)
        for attention in ATTENTIONS:
            if attention != verdict["kept"]:
                (folder / f"{attention}.onnx").unlink(missing_ok=True)
    except OSError as error:
        return f"; not kept for the next run: {error.strerror or error}"
    return ""
