"""Graph → Program: which kernel for each node and why, where each value lies, and the order of the
steps.
"""

from __future__ import annotations

from prunus.ir import Graph, Node
from prunus.ir.size_check import first_of_each_type
from prunus.plan.lower import LOWERINGS
from prunus.plan.options import Options, make_options, option_names
from prunus.plan.planner import Planner
from prunus.plan.race import Choices
from prunus.plan.schedule import schedule
from prunus.runtime.program import Program
from prunus.runtime.program_verify import verify_program
from prunus.runtime.weights import Weights

__all__ = ["Options", "make_options", "make_plan", "option_names"]


def make_plan(graph: Graph, options: Options, weights: Weights | None = None) -> Program:
    """The program that computes `graph`. Races run here, on the calling thread.

    Args:
        graph: After all passes.
        options: What the user decides.
        weights: Of the graph; gets the packed forms that choices are made from.
    """
    choices = Choices(options.target)
    planner = Planner(graph, options, choices, weights or Weights(graph.constants))
    for node in graph.nodes:
        reason = _not_native(planner, node) or LOWERINGS[node.op](planner, node)
        if reason is not None:
            planner.interpret(node, reason)
    for name in graph.outputs:
        planner.plain(name)
    choices.save()
    steps = schedule(planner.steps, (*graph.inputs, *planner.plain_constants))
    program = Program(
        inputs=graph.inputs,
        outputs=graph.outputs,
        values=first_of_each_type(graph),
        steps=steps,
        buffers=planner.buffers,
        constants=tuple(planner.plain_constants),
        packing=planner.packing,
    )
    return verify_program(program)


def _not_native(planner: Planner, node: Node) -> str | None:
    """Why no kernel can be asked for, or None."""
    if node.op not in LOWERINGS:
        return "no kernel for this op"
    if node.type.dtype != "f32" or not node.type.rank:
        return f"kernels make float32 tensors, this is {node.type}"
    names = (name for name in node.inputs if name is not None)
    shapes = (node.type.shape, *(planner.types[name].shape for name in names))
    if any(dim == 0 for shape in shapes for dim in shape):
        return "has no elements"
    if not isinstance(node.type.shape[-1], int):
        return "the number of features is not fixed"
    return None
