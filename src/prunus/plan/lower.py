"""Graph → Program: each node becomes a native step, a view, or a step on the interpreter with the
reason.

A lowering is a function for one op. It emits native steps through the planner, or returns the
reason why it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from prunus.ir import Attrs, Expr, Node, TensorType, product, round_up
from prunus.ir.dims import is_positive
from prunus.ir.rules import pairs
from prunus.kernels.attention import Mask, scratch_bytes
from prunus.kernels.elementwise import BINARY, UNARY, Elementwise, Operand
from prunus.kernels.epilogue import Epilogue
from prunus.kernels.layout import QUANTUM, TILE
from prunus.kernels.normalize import LayerNorm
from prunus.kernels.rotary import Rotary
from prunus.kernels.tokens import Embed, TakeTokens
from prunus.plan.linear import choose
from prunus.plan.planner import Planner
from prunus.plan.relative import relative_positions
from prunus.runtime.program import BoundArgument, Feed, Stored, Tiles, Work, Zeros
from prunus.runtime.weights import LinearForm, NonzeroStreams

MOST_TABLES = 32
"""Of one embedding. LayoutLM adds up 9; code for 1,000 would take LLVM 5 s."""

Lowering = Callable[[Planner, Node], str | None]
LOWERINGS: dict[str, Lowering] = {}


def lowering(*ops: str) -> Callable[[Lowering], Lowering]:
    """Enter a lowering for these ops."""

    def enter(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(ops, function))
        return function

    return enter


@lowering("linear")
def lower_linear(p: Planner, node: Node) -> str | None:
    """A chosen kernel with the epilogue in it."""
    weight_name, bias_name, residual = node["weight"], node.get("bias"), node.get("residual")
    weight = p.graph.constants.get(weight_name)
    if weight is None:
        return "the weight is computed, not constant"
    if bias_name is not None and bias_name not in p.graph.constants:
        return "the bias is computed, not constant"
    choice = choose(weight, p.options, p.choices)
    form = choice.form
    p.weights.enter(weight_name, form, choice.packed)
    outputs, inputs = weight.type.sizes({})
    epilogue = Epilogue(node.attrs.activation, residual is not None)
    source, y = p.tiles(node["x"]), p.define(node)
    arguments: dict[str, BoundArgument] = {
        "x": source,
        "y": y,
        **_weight(weight_name, form, inputs),
    }
    if residual is not None:
        arguments["residual"] = p.tiles(residual)
    bias = Zeros(outputs) if bias_name is None else Stored(bias_name)
    p.emit(
        node,
        kernel=replace(choice.candidate.kernel, epilogue=epilogue),
        label=choice.candidate.label,
        tokens=y.tokens,
        units=form.groups,
        arguments={**arguments, "bias": bias},
        reason=choice.reason,
        weight=weight_name,
        work=Work(
            2 * choice.candidate.values,
            2 * outputs * inputs,
            y.tokens,
            choice.packed.nbytes,
        ),
    )
    return None


def _weight(name: str, form: LinearForm, inputs: int) -> dict[str, BoundArgument]:
    """The arguments of a linear layer's kernel that are about its weight."""
    arguments: dict[str, BoundArgument] = {"row_groups": form.groups}
    if isinstance(form, NonzeroStreams):
        arguments["input_blocks"] = max(1, -(-inputs // form.input_block))
    return arguments | {part: Stored(name, form, part) for part in form.PARTS}


@lowering("layer_norm", "rms_norm")
def lower_norm(p: Planner, node: Node) -> str | None:
    """Vertical reductions, a vector of tokens at a time."""
    centred = node.op == "layer_norm"
    parameters = {word: node[word] for word in (("gamma", "beta") if centred else ("gamma",))}
    if any(name not in p.graph.constants for name in parameters.values()):
        return "gamma or beta is computed, not constant"
    source, y, eps = p.tiles(node["x"]), p.define(node), float(node.attrs.eps)
    vectors, flops = TILE // p.options.target.lanes, 8 * y.features
    arguments: dict[str, BoundArgument] = {
        "x": source, "y": y, "features": y.features, "vectors": vectors,
        **{word: Stored(name) for word, name in parameters.items()},
    }  # fmt: skip
    p.emit(
        node,
        kernel=LayerNorm(TILE, eps, centred),
        label=node.op.replace("_", " "),
        tokens=y.tokens,
        units=vectors,
        arguments=arguments,
        work=Work(flops, flops, y.tokens, 8 * y.features),
    )
    return None


@lowering("rotary")
def lower_rotary(p: Planner, node: Node) -> str | None:
    """Head by head; the angles are brought into tiles once for all layers."""
    heads: int = node.attrs.heads
    width = p.features(node["x"]) // heads
    source, y = p.tiles(node["x"]), p.define(node)
    places = {
        angle: p.spread(node[angle], (*node.type.shape[:-1], width)) for angle in ("cos", "sin")
    }
    flops = 3 * y.features
    p.emit(
        node,
        kernel=Rotary(TILE, width),
        label="rotary",
        tokens=y.tokens,
        units=heads,
        arguments={"x": source, "y": y, "heads": heads, **places},
        work=Work(flops, flops, y.tokens),
    )
    return None


@lowering("attention")
def lower_attention(p: Planner, node: Node) -> str | None:
    """One unit for each head of each sequence."""
    q, k, v, mask = node["query"], node["key"], node["value"], node.get("mask")
    q_type, k_type, v_type = p.types[q], p.types[k], p.types[v]
    heads: int = node.attrs.heads
    lead = q_type.shape[:-2]
    if not all(map(is_positive, (q_type.shape[-2], k_type.shape[-2]))):
        return "for some sizes there are no tokens, which no kernel takes"
    if k_type.shape[:-2] != v_type.shape[:-2]:
        return "keys and values have different leading dimensions"
    relative = relative_positions(p, node)
    if isinstance(relative, str):
        return relative
    key_width, value_width = p.features(q) // heads, p.features(v) // heads
    queries, keys = q_type.shape[-2], k_type.shape[-2]
    form: Mask = "none"
    mask_arguments: dict[str, BoundArgument] = {}
    if mask is not None:
        p.plain(mask)
        form, mask_arguments = _mask_arguments(p, mask, lead, heads, queries, keys)
    operands = {"q": p.tiles(q), "k": p.tiles(k), "v": p.tiles(v)}
    y = p.define(node)
    sizes: dict[str, BoundArgument] = {
        "heads": heads,
        "query_tokens": y.tokens,
        "key_tokens": operands["k"].tokens,
        "query_starts": p.sequence_starts(lead, queries),
        "key_starts": p.sequence_starts(k_type.shape[:-2], keys),
    }

    own = (key_width, value_width, float(node.attrs.scale), form, node.attrs.causal)
    flops = 2 * heads * (key_width * (1 + relative.terms) + value_width)
    p.emit(
        node,
        kernel=relative.kernel(TILE, *own),
        label="attention",
        tokens=None,
        units=product((*lead, heads)),
        arguments={**operands, "y": y, **sizes, **mask_arguments, **relative.arguments},
        scratch=relative.scratch_bytes
        + scratch_bytes(queries=queries, keys=keys, key_width=key_width, value_width=value_width),
        work=Work(flops, flops, product((*lead, queries, keys))),
        reason=f"{heads} heads of {key_width}, mask: {form}{relative.described}",
    )
    return None


def _mask_arguments(
    p: Planner, mask: str, lead: tuple[int | Expr, ...], heads: int, queries: int | Expr,
    keys: int | Expr,
) -> tuple[Mask, dict[str, BoundArgument]]:  # fmt: skip
    """The mask as numbers to add: one for each key where queries and heads share it, else a whole
    tile.
    """
    shape = p.types[mask].shape
    shape = (*(1,) * (len(lead) + 3 - len(shape)), *shape)
    per_head, per_query = shape[-3] != 1, shape[-2] != 1

    if not per_head and not per_query:
        attrs = Attrs(lead=lead, key_tokens=keys)
        return "key", {"mask": Feed("key mask", (mask,), attrs), "mask.batch": keys}
    attrs = Attrs(lead=lead, heads=heads if per_head else 1, query_tokens=queries, key_tokens=keys)
    stride = keys * round_up(queries, QUANTUM)
    return "full", {
        "mask": Feed("full mask", (mask,), attrs),
        "mask.head": stride if per_head else 0,
        "mask.batch": stride * (heads if per_head else 1),
    }


@lowering("embedding")
def lower_embedding(p: Planner, node: Node) -> str | None:
    """The sum of rows of tables, each id checked before the kernel sees it."""
    tables, ids = pairs(node.inputs)
    if any(table not in p.graph.constants for table in tables):
        return "a table is computed, not constant"
    if len(tables) > MOST_TABLES:
        return f"it has more than {MOST_TABLES} tables"
    if any(p.types[i].dtype not in ("i64", "i32") for i in ids if i is not None):
        return "ids are not 32- or 64-bit integers"
    y = p.define(node)
    arguments: dict[str, BoundArgument] = {"tokens": p.token_count(node.type)}
    for i, (table, index) in enumerate(zip(tables, ids, strict=True)):
        assert table is not None and index is not None, "verified"
        p.plain(index)
        arguments[f"table{i}"] = Stored(table)
        rows = p.types[table].sizes({})[0]
        arguments[f"ids{i}"] = p.token_feed(
            "ids", index, node.type, name=index, rows=rows, shape=node.type.shape[:-1]
        )
    p.emit(
        node,
        kernel=Embed(TILE, len(tables)),
        label="embedding",
        tokens=y.tokens,
        units=1,
        arguments={"y": y, "features": y.features, **arguments},
    )
    return None


@lowering("select", "slice")
def lower_selection(p: Planner, node: Node) -> str | None:
    """Features are a view of the same tiles; tokens are copied into tiles of their own."""
    x, attrs = node["x"], node.attrs
    if x not in p.places:
        return "NumPy has the operand, and a selection of it is a view"
    rank = p.types[x].rank
    place = p.places[x]
    if attrs.axis == rank - 1:
        features = node.type.shape[-1] if node.type.rank else 1
        is_run = node.op == "slice" and attrs.step == 1 and isinstance(attrs.start, int)
        if not is_run or not isinstance(features, int):
            return "features that are not a fixed run leave the tiles"
        p.places[node.name] = Tiles(
            place.buffer, place.tokens, place.rows, place.first + attrs.start, features
        )
        return None
    y = p.define(node)
    p.emit(
        node,
        kernel=TakeTokens(TILE),
        label="take tokens",
        tokens=y.tokens,
        units=1,
        arguments={
            "x": place, "y": y, "features": y.features, "tokens": p.token_count(node.type),
            "positions": p.selected_tokens(p.types[x], node), "x_tokens": place.tokens,
        },
    )  # fmt: skip
    return None


@lowering("reshape")
def lower_reshape(p: Planner, node: Node) -> str | None:
    """Tokens may be grouped in any way as long as the features stay together."""
    x = node["x"]
    if x not in p.places:
        return "NumPy has the operand, and a reshape of it is a view"
    if not node.type.rank or node.type.shape[-1] != p.types[x].shape[-1]:
        return "the features are split, which leaves the tiles"
    p.places[node.name] = p.places[x]
    return None


@lowering(*UNARY, *BINARY)
def lower_elementwise(p: Planner, node: Node) -> str | None:
    """On tiles, if one operand lies in tiles already."""
    names = [name or "" for name in node.inputs]
    if not any(name in p.places for name in names):
        return "NumPy has the operands"
    kinds = [_operand_kind(p, name, node.type) for name in names]
    if None in kinds:
        return "an operand is broadcast in a way that no kernel knows"
    arguments: dict[str, BoundArgument] = {}
    for letter, name, kind in zip("ab", names, kinds, strict=False):
        arguments[letter] = p.tiles(name) if kind == "tile" else Stored(name)
    y = p.define(node)
    groups = max(1, min(p.options.threads, y.features))
    operands: tuple[Operand, ...] = tuple(kind for kind in kinds if kind is not None)
    p.emit(
        node,
        kernel=Elementwise(TILE, node.op, operands),
        label=node.op,
        tokens=y.tokens,
        units=groups,
        arguments={"y": y, **arguments, "row_groups": groups, "features": y.features},
        reason="stands alone, so no linear layer took it up",
    )
    return None


def _operand_kind(p: Planner, name: str, result: TensorType) -> Operand | None:
    type = p.types[name]
    if name in p.graph.constants:
        if product(type.shape) == 1:
            return "scalar"
        if product(type.shape) == result.shape[-1] and type.shape[-1] == result.shape[-1]:
            return "feature"
    return "tile" if type == result else None
