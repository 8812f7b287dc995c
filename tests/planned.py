"""A graph, planned and ready to run, below everything that a compiled model adds."""

from prunus.ir import Graph
from prunus.plan import Options, make_plan
from prunus.runtime.executable import Executable
from prunus.runtime.weights import Weights


def planned(graph: Graph, options: Options) -> Executable:
    """The program of a graph with its weights."""
    weights = Weights(graph.constants)
    program = make_plan(graph, options, weights)
    return Executable(program, weights, target=options.target, threads=options.threads)
