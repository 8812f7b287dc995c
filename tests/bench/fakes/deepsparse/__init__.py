"""Stands in for DeepSparse: the interface that the worker uses, with ONNX Runtime behind it.

The environment variable ``FAKE_DEEPSPARSE`` says what goes wrong.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

__version__ = "1.8.0"

FAULT = os.environ.get("FAKE_DEEPSPARSE", "")

print("a greeting from Python")
os.write(1, b"a greeting from native code\n")

if FAULT == "import":
    raise ImportError("built for another NumPy\nand more about it")
if os.environ.get("NM_DISABLE_ANALYTICS") != "1":
    raise RuntimeError("it would report to its makers")


class Engine:
    """A model for inputs of these shapes alone."""

    def __init__(
        self, model: str, batch_size: int, num_cores: int, input_shapes: list[list[int]]
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_cores
        self.session = onnxruntime.InferenceSession(model, options)
        self.names = [each.name for each in self.session.get_inputs()]
        self.shapes = [tuple(shape) for shape in input_shapes]
        assert len(self.shapes) == len(self.names)
        assert {shape[0] for shape in self.shapes} == {batch_size}
        Path(model).write_text("written over, as DeepSparse does")

    def run(self, inputs: list[np.ndarray[Any, Any]], val_inp: bool = True) -> Any:
        """Answer, or fail in the way that was asked for."""
        assert [array.shape for array in inputs] == self.shapes
        if FAULT == "crash":
            print("about to fall", file=sys.stderr, flush=True)
            os._exit(3)
        if FAULT == "error":
            raise ValueError("an operator is not known\nand more about it")
        if FAULT == "hang" or (FAULT == "hang later" and not val_inp):
            time.sleep(60)
        if FAULT == "one output":
            return [inputs[0]]
        return self.session.run(None, {name: inputs[i] for i, name in enumerate(self.names)})
