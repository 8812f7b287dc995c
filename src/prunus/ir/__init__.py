"""The program: symbolic dimensions, tensor types, an immutable graph, one table of ops and their
meaning in NumPy.
"""

from prunus.ir.dims import Expr, evaluate, parse_dim, product, round_up, symbol
from prunus.ir.graph import Attrs, Constant, Graph, Node
from prunus.ir.interpreter import bind_node, bind_sizes, interpret, run_node
from prunus.ir.ops import OPS, Op, infer
from prunus.ir.text import node_text, parse_graph, print_graph
from prunus.ir.types import DTYPES, TensorType, parse_type
from prunus.ir.verify import verify

__all__ = [
    "DTYPES", "OPS", "Attrs", "Constant", "Expr", "Graph", "Node", "Op", "TensorType", "bind_node",
    "bind_sizes", "evaluate", "infer", "interpret", "node_text", "parse_dim", "parse_graph",
    "parse_type", "print_graph", "product", "round_up", "run_node", "symbol", "verify",
]  # fmt: skip
