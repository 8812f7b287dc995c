"""Why torch.export did not get through a module, in terms of the user's own code."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path

from prunus.errors import UnsupportedError

_OWN = str(Path(__file__).parents[1])
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')

ADVICE = (
    (
        r"recursion depth",
        "the module or what it returns is nested too deeply: call it in fewer levels, and return a "
        "flatter value",
    ),
    (
        r"data-?dependent|Could not guard|item\(\)|nonzero",
        "it depends on the values of a tensor, and a compiled model takes one way for all values: "
        "write it with torch.where, or do it outside of the module",
    ),
    (
        r"[Cc]onstraints? violated|Suggested fixes",
        "the module takes other ways for some of the sizes: fix or bound the dimension with "
        "dynamic_shapes",
    ),
    (
        r"pytree|not registered|unsupported (?:input|output)|Type .* was unexpected",
        "inputs and answers are tensors in tuples, lists, dicts, and dataclasses that are known to "
        "torch (torch.export.register_dataclass)",
    ),
)
OTHERWISE = (
    "torch.export must be able to follow the module: run `torch.export.export(module, args, kwargs,"
    " strict=False)` to see all that it says"
)


def export_failure(kind: str, error: BaseException, note: str = "") -> UnsupportedError:
    """The error to raise where a module of class `kind` was not exported because of `error`; `note`
    is added to the message.
    """
    text = str(error)
    advice = next((advice for pattern, advice in ADVICE if re.search(pattern, text)), OTHERWISE)
    line = user_line(error)
    return UnsupportedError(
        f"{kind} cannot be exported: {type(error).__name__}: {_summary(text)}"
        f"{f' ({line})' if line else ''}. {advice[0].upper()}{advice[1:]}.{note}"
    )


def user_line(error: BaseException) -> str:
    """The innermost line of user code that an error came through: `model.py:12 in forward: …`."""
    frames = []
    cause: BaseException | None = error
    while cause is not None:
        frames += [
            (frame.filename, frame.lineno or 0, frame.name, frame.line or "")
            for frame in traceback.extract_tb(cause.__traceback__)
            if _is_users(frame.filename)
        ]
        cause = cause.__cause__ or cause.__context__
        if frames:
            break
    return _show(*frames[-1]) if frames else ""


def user_line_of_trace(trace: str) -> str:
    """The innermost line of user code in a printed stack trace."""
    lines = trace.splitlines()
    for i in reversed(range(len(lines))):
        match = _FRAME.search(lines[i])
        if match and _is_users(match["file"]):
            source = lines[i + 1].strip() if i + 1 < len(lines) else ""
            return _show(match["file"], int(match["line"]), match["function"], source)
    return ""


def _is_users(file: str) -> bool:
    """Neither torch nor Python nor prunus."""
    if file.startswith("<") or file.startswith(_OWN):
        return False
    torch_file = getattr(sys.modules.get("torch"), "__file__", None)
    outside = [Path(torch_file).parent] if torch_file else []
    is_standard = "site-packages" not in file and Path(file).is_relative_to(
        Path(traceback.__file__).parent
    )
    return not is_standard and not any(Path(file).is_relative_to(each) for each in outside)


def _show(file: str, line: int, function: str, source: str) -> str:
    return f"{file}:{line} in {function}" + (f": {source.strip()}" if source.strip() else "")


def _summary(text: str) -> str:
    """The first lines of a message, on one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    summary = " ".join(lines[:4])
    return summary if len(summary) <= 400 else summary[:400] + "…"
