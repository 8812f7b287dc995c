"""What people ask of a prediction, answered from its curves: no clock, no files.

A curve that is not monotone is taken as one that is, since whoever has the time of some share of
zeros has it for every larger one: a zero may be stored like any other value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, pairwise

from prunus.errors import InputError
from prunus.prediction.answer import (
    Answer,
    Bought,
    BreakEven,
    LayerGroup,
    LeastSparsity,
    NonUniform,
    PruneOrder,
)
from prunus.prediction.grid import pattern_of
from prunus.prediction.predictor import Layer, Predictor, Shape
from prunus.sparsity import SparsityRecipe

Point = tuple[float, float]
"""A share of zeros, and seconds."""


def answers(
    predictor: Predictor,
    recipes: Sequence[SparsityRecipe],
    shapes: Sequence[Shape],
    *,
    target: float | None = None,
    speedup: float | None = None,
) -> tuple[Answer, ...]:
    """Every question about the recipes of a grid; `target` is seconds, `speedup` over dense."""
    patterns = tuple(dict.fromkeys(map(pattern_of, recipes)))
    found: list[Answer] = []
    if target is not None:
        found += for_target(predictor, patterns, shapes, target)
    if speedup is not None:
        found += for_speedup(predictor, patterns, shapes, speedup)
    found += _break_evens(predictor, patterns, shapes)
    for shape in shapes:
        for recipe in recipes:
            pattern, sparsity = pattern_of(recipe), recipe.sparsity
            found.append(order(predictor, pattern, sparsity, shape))
            if recipe.n_of_m is None and sparsity <= most_zeros(predictor, pattern, shape):
                found.append(non_uniform(predictor, pattern, shape, sparsity))
    return tuple(found)


def for_target(
    predictor: Predictor,
    patterns: Sequence[str],
    shapes: Sequence[Shape],
    seconds: float,
    speedup: float | None = None,
) -> tuple[LeastSparsity, ...]:
    """The least share of zeros with which a call takes no longer, for each pattern and shape."""
    return tuple(
        _least(predictor, pattern, shape, seconds, speedup)
        for shape in shapes
        for pattern in patterns
    )


def for_speedup(
    predictor: Predictor, patterns: Sequence[str], shapes: Sequence[Shape], speedup: float
) -> tuple[LeastSparsity, ...]:
    """The least share of zeros with which a call is so many times as fast as the dense model's."""
    return tuple(
        chain.from_iterable(
            for_target(
                predictor, patterns, (shape,), predictor.dense_call(shape) / speedup, speedup
            )
            for shape in shapes
        )
    )


def least_sparsity(predictor: Predictor, pattern: str, shape: Shape, target: float) -> float | None:
    """The least share of zeros with which a call takes at most `target` seconds.

    It is 0 where the dense model does, and otherwise within what was measured; N of M have their
    own share alone. None where no share that was measured meets the target.

    Raises:
        InputError: a pattern or shape that was not measured.
    """
    if predictor.dense_call(shape) <= target:
        return 0.0
    line = _call_line(predictor, pattern, shape)
    if line[0][1] <= target:
        return line[0][0]
    for (sparsity, slow), (sparser, fast) in pairwise(line):
        if fast <= target:
            return _between(sparsity, sparser, (slow - target) / (slow - fast))
    return None


def break_even(predictor: Predictor, layer: Layer, pattern: str, shape: Shape) -> float | None:
    """The share of zeros from which on the sparse kernel of a layer is faster than the dense one.

    None where it is not at the most zeros measured. The least share measured where it always is.

    Raises:
        InputError: a pattern or shape that was not measured.
    """
    dense = predictor.dense_seconds(layer, shape)
    sparser: Point | None = None
    for sparsity, seconds in reversed(_curve_points(predictor, layer, pattern, shape)):
        if seconds >= dense:
            if sparser is None:
                return None
            return _between(sparsity, sparser[0], (seconds - dense) / (seconds - sparser[1]))
        sparser = sparsity, seconds
    return None if sparser is None else sparser[0]


def order(predictor: Predictor, pattern: str, sparsity: float, shape: Shape) -> PruneOrder:
    """Groups of layers by the time that each weight removed buys, all pruned so far.

    Raises:
        InputError: a pattern or shape that was not measured, or a sparsity that removes nothing.
    """
    if not 0 < sparsity < 1:
        raise InputError(f"sparsity={sparsity}: pruning removes a share above 0 and below 1")

    def bought(group: LayerGroup) -> Bought:
        dense = predictor.dense_seconds(group.layer, shape)
        pruned = predictor.layer_seconds(group.layer, pattern, sparsity, shape)
        return Bought(group, len(group.layers) * (dense - pruned), sparsity * group.weights)

    rated = sorted(map(bought, layer_groups(predictor)), key=lambda each: -each.rate)
    return PruneOrder(pattern, sparsity, shape, tuple(rated))


def non_uniform(predictor: Predictor, pattern: str, shape: Shape, budget: float) -> NonUniform:
    """The shares by layer that make a call fastest, with as many zeros as `budget` of all weights.

    Weights are removed where each buys most time next: along the lower convex hull of every
    curve, the steepest edge first (the greedy of fractional knapsacks, exact on the hulls). Layers
    of one size get one share, or two where the time between them is above the hull.

    Raises:
        InputError: a pattern or shape that was not measured, N:M, which leaves no choice, or a
            budget beyond what was measured.
    """
    if ":" in pattern:
        raise InputError(f"{pattern} has one share of zeros, which leaves no choice by layer")
    most = most_zeros(predictor, pattern, shape)
    if not 0 < budget <= most + 1e-9:
        raise InputError(
            f"a budget of {budget} zeros: expected above 0, and up to the {most:.4g} measured "
            f"for {pattern} at {shape[0]}x{shape[1]}"
        )
    uniform = {layer.name: budget for layer in predictor.layers}
    candidates = (uniform, *_greedy(predictor, pattern, shape, budget))
    # The last edge is taken in part, where a curve may lie above its hull.
    best = min(candidates, key=lambda shares: predictor.seconds(pattern, shares, shape))
    return NonUniform(
        pattern,
        budget,
        shape,
        best,
        _by_share(predictor, best),
        predictor.seconds(pattern, best, shape),
        predictor.seconds(pattern, uniform, shape),
    )


def most_zeros(predictor: Predictor, pattern: str, shape: Shape) -> float:
    """The largest share of zeros that was measured for every layer."""
    groups = layer_groups(predictor)
    return min(_curve_points(predictor, group.layer, pattern, shape)[-1][0] for group in groups)


def layer_groups(predictor: Predictor) -> tuple[LayerGroup, ...]:
    """The layers, those of one key together, in the order in which they first appear."""
    groups: dict[object, list[Layer]] = {}
    for layer in predictor.layers:
        groups.setdefault(layer.key, []).append(layer)
    return tuple(LayerGroup(tuple(layers)) for layers in groups.values())


def _break_evens(
    predictor: Predictor, patterns: Sequence[str], shapes: Sequence[Shape]
) -> Iterator[BreakEven]:
    for shape in shapes:
        for group in layer_groups(predictor):
            for pattern in patterns:
                points = _curve_points(predictor, group.layer, pattern, shape)
                found = break_even(predictor, group.layer, pattern, shape)
                yield BreakEven(group, pattern, shape, found, points[0][0], points[-1][0])


def _least(
    predictor: Predictor, pattern: str, shape: Shape, target: float, speedup: float | None
) -> LeastSparsity:
    line = _call_line(predictor, pattern, shape)
    found = least_sparsity(predictor, pattern, shape, target)
    fastest = min(seconds for _, seconds in line)
    return LeastSparsity(
        pattern=pattern,
        shape=shape,
        target=target,
        speedup=speedup,
        sparsity=found,
        seconds=fastest if found is None else predictor.seconds(pattern, found, shape),
        dense=predictor.dense_call(shape),
        least=line[0][0],
        most=line[-1][0],
    )


def _call_line(predictor: Predictor, pattern: str, shape: Shape) -> list[Point]:
    """A call under uniform recipes: the line is straight between these points, sparsities rising.

    It bends where a curve does, and where a curve crosses the time of the dense kernel.
    """
    bends: set[float] = set()
    least, most = 0.0, 1.0
    for group in layer_groups(predictor):
        points = _curve_points(predictor, group.layer, pattern, shape)
        dense = predictor.dense_seconds(group.layer, shape)
        bends.update(sparsity for sparsity, _ in points)
        bends.update(
            _between(a, b, (slow - dense) / (slow - fast))
            for (a, slow), (b, fast) in pairwise(points)
            if (slow - dense) * (fast - dense) < 0
        )
        least, most = max(least, points[0][0]), min(most, points[-1][0])
    inside = sorted(bend for bend in bends if least <= bend <= most)
    return [(bend, predictor.seconds(pattern, bend, shape)) for bend in inside]


def _curve_points(predictor: Predictor, layer: Layer, pattern: str, shape: Shape) -> list[Point]:
    """What was measured of a layer, sparsities rising."""
    curve = predictor.curve(layer, pattern, shape)
    pairs = zip(reversed(curve.densities), reversed(curve.seconds), strict=True)
    return [(round(1 - density, 12), seconds) for density, seconds in pairs]


def _between(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


@dataclass(frozen=True, slots=True)
class _Edge:
    """A step on the hull of each layer of a group, from one share of zeros to a larger one."""

    group: LayerGroup
    start: float
    end: float
    slope: float
    """Seconds by which the call changes for a weight removed, negative where it becomes faster."""

    @property
    def removed(self) -> float:
        """Weights that it takes from all layers of the group."""
        return (self.end - self.start) * self.group.weights


def _greedy(
    predictor: Predictor, pattern: str, shape: Shape, budget: float
) -> Iterator[Mapping[str, float]]:
    """Shares by layer of just the budget's zeros: the last edge taken in part by all layers of its
    group alike, and by some of them wholly.
    """
    groups = layer_groups(predictor)
    edges = chain.from_iterable(_hull_edges(predictor, group, pattern, shape) for group in groups)
    shares = {layer.name: 0.0 for layer in predictor.layers}
    left = budget * sum(group.weights for group in groups)
    for edge in sorted(edges, key=lambda each: each.slope):
        if edge.removed >= left:
            part = left / edge.removed
            yield {**shares, **_alike(edge, part)}
            yield {**shares, **_some_wholly(edge, part)}
            return
        left -= edge.removed
        shares.update(_alike(edge, 1.0))
    yield shares  # the budget is all that was measured, to within rounding


def _alike(edge: _Edge, part: float) -> dict[str, float]:
    reached = edge.end if part == 1 else _between(edge.start, edge.end, part)
    return {layer.name: reached for layer in edge.group.layers}


def _some_wholly(edge: _Edge, part: float) -> dict[str, float]:
    """The first layers at the end of the edge, one on the way, the last at its start."""
    layers = edge.group.layers
    wholly, rest = divmod(part * len(layers), 1)
    return {
        layer.name: edge.end
        if position < wholly
        else _between(edge.start, edge.end, rest if position == wholly else 0.0)
        for position, layer in enumerate(layers)
    }


def _hull_edges(
    predictor: Predictor, group: LayerGroup, pattern: str, shape: Shape
) -> Iterator[_Edge]:
    """The lower convex hull of a layer's time over its zeros, from dense on (Andrew, 1979)."""
    dense = predictor.dense_seconds(group.layer, shape)
    hull: list[Point] = [(0.0, dense)]
    for sparsity, seconds in _curve_points(predictor, group.layer, pattern, shape):
        if sparsity <= 0:
            continue
        point = sparsity, min(dense, seconds)
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    for start, end in pairwise(hull):
        yield _Edge(group, start[0], end[0], _slope(start, end) / group.layer.weights)


def _slope(start: Point, end: Point) -> float:
    return (end[1] - start[1]) / (end[0] - start[0])


def _by_share(
    predictor: Predictor, shares: Mapping[str, float]
) -> tuple[tuple[LayerGroup, float], ...]:
    """Groups of layers, divided where their shares differ."""
    return tuple(
        (LayerGroup(tuple(layers)), share)
        for group in layer_groups(predictor)
        for share, layers in groupby(group.layers, key=lambda layer: shares[layer.name])
    )
