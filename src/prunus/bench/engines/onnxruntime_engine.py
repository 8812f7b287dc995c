"""ONNX Runtime on the CPU, with all of its graph optimisations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prunus.bench.engines.contract import Arrays
from prunus.bench.engines.onnx_engine import Infer, OnnxEngine


class OnnxRuntimeEngine(OnnxEngine):
    """A session that runs one operator after the other, each on all threads."""

    name = "onnxruntime"
    shown = "ONNX Runtime"

    def compile(self, path: Path, threads: int) -> Infer:
        """An inference session with so many threads inside an operator."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        # The export drops arguments that the model does not use.
        used = [each.name for each in session.get_inputs()]

        def infer(inputs: Arrays) -> Any:
            return session.run(None, {name: inputs[name] for name in used})

        return infer
