"""OpenVINO at its best: the strongest dense engine met, so the one to be measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prunus.bench.engines.contract import Arrays
from prunus.bench.engines.onnx_engine import Infer, OnnxEngine


class OpenVinoEngine(OnnxEngine):
    """A dynamic ONNX model, compiled for float32 and low latency."""

    name = "openvino"
    shown = "OpenVINO"

    def compile(self, path: Path, threads: int) -> Infer:
        """One request, which copies nothing on the way in or out."""
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
