"""How long it takes to plan a deep model, stage by stage: a perceptron of equal layers, by depth.

Every stage should grow about as the number of layers does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from harness import figure, header, make_parser, say, table, write_json

from prunus.ir import Attrs, Constant, Graph, Node, bind_sizes, parse_graph, parse_type, print_graph
from prunus.ir import verify as verify_graph
from prunus.passes import run_passes
from prunus.plan import make_options, make_plan
from prunus.runtime.executable import Executable
from prunus.runtime.weights import Weights

Result = TypeVar("Result")

WIDTH, TOKENS = 16, 1024
DEPTHS = (100, 400, 1600)


def perceptron(depth: int) -> Graph:
    """`depth` linear layers with activations, for any number of tokens."""
    random = np.random.default_rng(0)
    type = parse_type(f"f32[tokens, {WIDTH}]")
    constants, nodes, value = {}, list[Node](), "x"
    for number in range(depth):
        weight = random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / np.float32(4)
        constants[f"w{number}"] = Constant(weight)
        attrs = Attrs(activation="none")
        nodes.append(Node(f"h{number}", "linear", (value, f"w{number}"), attrs, type))
        value = f"y{number}"
        nodes.append(Node(value, "relu", (f"h{number}",), Attrs(), type))
    return Graph({"x": type}, constants, tuple(nodes), (value,))


class Stages:
    """Seconds of each stage, in the order in which they ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], Result]) -> Result:
        """The result of a stage, which is timed."""
        begin = time.perf_counter()
        result = work()
        self.seconds[name] = time.perf_counter() - begin
        return result


def plan(depth: int, threads: int) -> dict[str, float]:
    """Seconds of each stage from the graph's text to the second call."""
    stages, graph = Stages(), perceptron(depth)
    text = print_graph(graph)
    graph = stages.run("parse", lambda: parse_graph(text, graph.constants))
    stages.run("verify", lambda: verify_graph(graph))
    graph = stages.run("passes", lambda: run_passes(graph))
    options = make_options(threads=threads, tune="cost")
    weights = Weights(graph.constants)
    program = stages.run("plan", lambda: make_plan(graph, options, weights))
    executable = stages.run(
        "place buffers",
        lambda: Executable(program, weights, target=options.target, threads=threads),
    )
    inputs = {"x": np.ones((TOKENS, WIDTH), np.float32)}
    sizes = bind_sizes(graph.inputs, inputs)
    for name in ("first call", "second call"):
        stages.run(name, lambda: executable.run(inputs, sizes))
    return stages.seconds


def main() -> None:
    """Print a row for each stage, a column for each depth."""
    parser = make_parser(__doc__, rounds=1, seconds=None)
    arguments: argparse.Namespace = parser.parse_args()
    depths = tuple(depth // 20 for depth in DEPTHS) if arguments.size == "tiny" else DEPTHS
    plan(2, arguments.threads)  # compiles the kernels
    found: dict[int, dict[str, float]] = {}
    for depth in depths:
        say(f"{depth} layers")
        runs = [plan(depth, arguments.threads) for _ in range(arguments.rounds)]
        found[depth] = {name: min(run[name] for run in runs) for name in runs[0]}
    print(header(f"perceptrons of layers {WIDTH}×{WIDTH}", arguments, taken="fastest") + "\n")
    rows: list[tuple[str, ...]] = [
        (name, *(figure(1e3 * found[depth][name]) for depth in depths)) for name in found[depths[0]]
    ]
    print(table(("ms", *(f"{depth} layers" for depth in depths)), rows))
    figures: dict[str, Any] = {str(depth): seconds for depth, seconds in found.items()}
    write_json({"seconds": figures}, arguments)


if __name__ == "__main__":
    main()
