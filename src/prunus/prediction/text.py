"""What `whatif` found, as text and tables: predictions, what was built, answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prunus.plan.profile_text import Table
from prunus.prediction.answer import BreakEven, LeastSparsity, NonUniform, PruneOrder
from prunus.prediction.predictor import Shape
from prunus.prediction.result import Built, Combination, WhatIf
from prunus.prediction.words import (
    ABSENT,
    count,
    milliseconds,
    percent,
    sizes,
    times,
)

FASTEST = "*"

METHODS = {
    "random": "at random places",
    "magnitude": "in place of the smallest weights",
}

Part = str | Table
"""A paragraph, or a table."""


def whatif_text(found: WhatIf) -> str:
    """Everything that people read of it."""
    return "\n\n".join(map(str, whatif_parts(found)))


def whatif_parts(found: WhatIf) -> Iterator[Part]:
    """Paragraphs and tables, in the order in which they are read."""
    yield "\n".join(_header(found))
    for shape in found.shapes:
        yield from _grid(found, shape)
    if found.method == "magnitude":
        yield "Share of the weights' Euclidean norm that is kept:"
        yield _by_pattern(found.at(found.shapes[0]), _norm)
    if found.built:
        yield from _built(found)
    yield from _least_sparsities(found)
    for shape in found.shapes:
        yield from _break_evens(found, shape)
    for shape in found.shapes:
        yield from _by_layer(found, _looked_at(found, shape))


def _header(found: WhatIf) -> Iterator[str]:
    yield f"{found.model}: what pruning would buy; {count(found.threads, 'thread')}"
    yield f"Processor: {found.processor}"
    yield (
        f"SIMULATED zeros {METHODS[found.method]}, predicted from layers measured on this "
        "processor; not a trained model."
    )
    yield "What pruning would do to the accuracy is not known to prunus."
    if found.zeros >= 0.0005:
        yield (
            f"{percent(found.zeros)} of the linear weights are zero already; the recipes and "
            '"dense" do not count them.'
        )
    yield from (f"Left out: {reason}." for reason in found.skipped)
    if found.disturbed:
        yield (
            f"The machine was busy with other things during {count(found.disturbed, 'measurement')}"
            ". Predictions from such moments are scaled by what a fixed piece of work took "
            "meanwhile, which is less sure, and so are the errors of what was built. Some are "
            "measured again each time that you ask, all with --anew (anew=True)."
        )


def _grid(found: WhatIf, shape: Shape) -> Iterator[Part]:
    here, fastest = found.at(shape), found.fastest(shape)
    yield (
        f"Batch {shape[0]}, length {shape[1]}: predicted ms of a call, and times as fast as dense "
        f"({milliseconds(fastest.dense)} ms); {FASTEST} is the fastest"
    )
    yield _by_pattern(here, lambda each: _time(each, each is fastest))


def _by_pattern(here: Sequence[Combination], cell: Callable[[Combination], str]) -> Table:
    """Patterns as rows, shares of zeros as columns."""
    shares = sorted({each.recipe.sparsity for each in here})
    cells = {(each.pattern, each.recipe.sparsity): cell(each) for each in here}
    patterns = dict.fromkeys(each.pattern for each in here)
    rows = (
        (pattern, *(cells.get((pattern, share), ABSENT) for share in shares))
        for pattern in patterns
    )
    return Table(("pattern", *map(percent, shares)), tuple(rows), 1)


def _time(each: Combination, is_fastest: bool) -> str:
    mark = f"{FASTEST} " if is_fastest else ""
    return f"{mark}{milliseconds(each.seconds)}  {times(each.speedup)}"


def _norm(each: Combination) -> str:
    return ABSENT if each.norm is None else percent(each.norm)


def _built(found: WhatIf) -> Iterator[Part]:
    assert found.error is not None
    yield f"Built and run: the predictions are off by {percent(found.error)} (median)"
    titles = ["recipe", "shape", "predicted ms", "measured ms", "error", "dense ms", "speed-up"]
    by_magnitude = found.method == "magnitude"
    yield Table(
        (*titles, *(["output's distance from dense"] * by_magnitude)),
        tuple((*_run(each), *([_distance(each)] * by_magnitude)) for each in found.built),
        2,
    )


def _run(each: Built) -> tuple[str, ...]:
    return (
        str(each.combination.recipe),
        sizes(each.combination.shape),
        milliseconds(each.combination.seconds),
        milliseconds(each.seconds),
        f"{100 * each.error:+.1f} %",
        milliseconds(each.dense),
        times(each.speedup),
    )


def _distance(each: Built) -> str:
    return ABSENT if each.distance is None else percent(each.distance)


def _least_sparsities(found: WhatIf) -> Iterator[Part]:
    """A table for the target, and one for the speed-up."""
    least = [each for each in found.answers if isinstance(each, LeastSparsity)]
    for speedup in dict.fromkeys(each.speedup for each in least):
        asked = [each for each in least if each.speedup == speedup]
        wanted = asked[0].wanted if speedup is None else f"{speedup:g}× over dense"
        yield f"Least share of zeros for {wanted}; ≤ where no smaller one was measured"
        cells = {(each.pattern, each.shape): _least(each) for each in asked}
        patterns = dict.fromkeys(each.pattern for each in asked)
        rows = ((p, *(cells[p, shape] for shape in found.shapes)) for p in patterns)
        yield Table(("pattern", *map(sizes, found.shapes)), tuple(rows), 1)


def _least(each: LeastSparsity) -> str:
    if each.sparsity is None:
        return f"none: {milliseconds(each.seconds)} ms at best"
    if each.sparsity == 0:
        return "dense meets it"
    return _share(each.sparsity, each.least, each.most)


def _break_evens(found: WhatIf, shape: Shape) -> Iterator[Part]:
    asked = [each for each in found.answers if isinstance(each, BreakEven) and each.shape == shape]
    if not asked:
        return
    yield (
        f"Share of zeros from which a layer is faster than dense at {sizes(shape)}; "
        f"≤ where no smaller one was measured, {ABSENT} where dense wins at the most measured"
    )
    patterns = tuple(dict.fromkeys(each.pattern for each in asked))
    cells = {(each.group, each.pattern): _even(each) for each in asked}
    groups = dict.fromkeys(each.group for each in asked)
    rows = (
        (group.names, group.size, *(cells[group, pattern] for pattern in patterns))
        for group in groups
    )
    yield Table(("layers", "size", *patterns), tuple(rows), 2)


def _even(each: BreakEven) -> str:
    return ABSENT if each.sparsity is None else _share(each.sparsity, each.least, each.most)


def _share(sparsity: float, least: float, most: float) -> str:
    """N of M have one share alone, so there is none below it."""
    return f"{'≤ ' * (least < most and sparsity <= least)}{percent(sparsity)}"


def _looked_at(found: WhatIf, shape: Shape) -> Combination:
    """What was built first at this shape, or else the fastest."""
    built = (each.combination for each in found.built if each.combination.shape == shape)
    return next(built, found.fastest(shape))


def _by_layer(found: WhatIf, of: Combination) -> Iterator[Part]:
    """Which layers to prune first, beside the shares that would be fastest."""
    of_it = [
        each
        for each in found.answers
        if isinstance(each, PruneOrder | NonUniform)
        and (each.pattern, each.sparsity, each.shape) == (of.pattern, of.recipe.sparsity, of.shape)
    ]
    order = next((each for each in of_it if isinstance(each, PruneOrder)), None)
    other = next((each for each in of_it if isinstance(each, NonUniform)), None)
    if order is None:
        return
    yield (
        f"By layer, {of.recipe} at {sizes(of.shape)}: "
        + (order.tie or "prune first where a million weights removed buy most time")
        + (f"\nNon-uniform: {other.verdict}" if other else "")
    )
    titles = ("layers", "size", "number", "ms bought", "µs per million")
    rows = (
        (
            each.group.names,
            each.group.size,
            str(len(each.group.layers)),
            milliseconds(each.seconds),
            each.rate_text,
            *([other.shares_of(each.group)] if other else []),
        )
        for each in order.bought
    )
    yield Table((*titles, *(["zeros of the fastest"] if other else [])), tuple(rows), 2)
