"""What the worker needs of the module of this name."""

from typing import Any


def get_input_names(path: str) -> list[str]:
    """The inputs of an ONNX file, in order."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(path)
    return [each.name for each in session.get_inputs()]
