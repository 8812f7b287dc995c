"""Two actors of a local Ray, each with a thread of its own, and one file of weights in both."""

import re

import pytest

from tests.examples.scripts import run_example

pytest.importorskip("ray.data", reason="ray[data] is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = [
    pytest.mark.wide,
    pytest.mark.usefixtures("minilm_folder"),
]


def test_two_actors() -> None:
    printed = run_example("ray_actors.py", RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    assert re.search(r"^embeddings: \(256, 384\)$", printed, re.MULTILINE), printed
    pattern = r"^process (\d+): (\d) thread\(s\), weights from (.*)$"
    actors = re.findall(pattern, printed, re.MULTILINE)
    assert len(actors) == 2, printed
    processes, threads, files = (set(each) for each in zip(*actors, strict=True))
    assert len(processes) == 2 and threads == {"1"} and len(files) == 1
