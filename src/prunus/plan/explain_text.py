"""An explanation as text: layers that were decided alike share a row."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from prunus.plan.explain import Decision, Explanation

NAME_COLUMNS = 44
LAYER_COLUMNS = ("", "layers", "shape", "zero", "work", "bytes", "kernel and reason (of the first)")


def explanation_text(explanation: Explanation) -> str:
    """The explanation as a table of words, at most about 150 columns wide."""
    rows = (LAYER_COLUMNS, *layer_rows(explanation))
    table = (_line(*row) for row in rows)
    return "\n".join((*headline(explanation), "", *table, *remarks(explanation)))


def headline(explanation: Explanation) -> Iterator[str]:
    """Whose explanation it is, and how much is zero."""
    e = explanation
    yield f"{e.model}: {e.target}, {e.threads} thread{'s' * (e.threads != 1)}"
    if e.simulated is not None:
        yield f"SIMULATED zeros, not a trained model: {e.simulated}"
    linear, whole = 100 * e.linear_zeros, 100 * e.model_zeros
    yield f"linear layers {linear:.1f} % zero, whole model {whole:.1f} %"


def layer_rows(explanation: Explanation) -> Iterator[tuple[str, ...]]:
    """The cells of `LAYER_COLUMNS` for layers that were decided alike."""
    for name, group in _grouped(explanation.layers):
        first = group[0]
        zeros = sorted(100 * d.zeros for d in group if d.zeros is not None)
        ends = dict.fromkeys(f"{share:.0f}" for share in (zeros[0], zeros[-1])) if zeros else ()
        work, size = sum(d.work for d in group), sum(d.byte_share for d in group)
        yield (
            f"{len(group)} ×",
            name,
            "×".join(map(str, first.shape or ())),
            f"{'–'.join(ends)} %",
            f"{100 * work:.1f}%",
            f"{100 * size:.1f}%",
            first.reason,
        )


def remarks(explanation: Explanation) -> Iterator[str]:
    """Everything but the layers, line by line."""
    e = explanation
    if any(h.removable for h in e.heads):
        idle, every = sum(len(h.removable) for h in e.heads), sum(h.heads for h in e.heads)
        by_layer = ", ".join(str(len(h.removable)) for h in e.heads)
        yield f"heads that do nothing: {idle} of {every} (by layer: {by_layer})"
    yield from ("", "other native steps:", f"  {', '.join(_kernels(e.others))}")
    yield from ("", f"padding: {e.padding}")
    if e.prologue:
        yield from ("", "on the inputs, before the first kernel, on NumPy:")
        yield from (f"  {d.op} {d.name}: {d.reason}" for d in e.prologue)
    yield ""
    yield f"without a kernel, on NumPy among the native steps: {len(e.interpreted) or 'none'}"
    yield from (f"  {d.op} {d.name}: {d.reason}" for d in e.interpreted)
    if e.views:
        yield from ("", f"views, which cost nothing: {len(e.views)}")


def _kernels(decisions: tuple[Decision, ...]) -> Iterator[str]:
    """How often each kernel is used, and its share of the work."""
    kernels: dict[str, list[float]] = defaultdict(list)
    for decision in decisions:
        kernels[decision.kernel].append(decision.work)
    for kernel, shares in kernels.items():
        share = f" ({100 * sum(shares):.1f}% of the work)" if sum(shares) else ""
        yield f"{len(shares)} × {kernel}{share}"


def _grouped(layers: tuple[Decision, ...]) -> list[tuple[str, list[Decision]]]:
    """Layers of one place in the repeated blocks, one shape and one kernel belong together."""
    groups: dict[tuple[object, ...], list[Decision]] = {}
    for decision in layers:
        place = re.sub(r"\.\d+\.", ".*.", decision.name)
        groups.setdefault((place, decision.shape, decision.kernel), []).append(decision)
    return [(str(key[0]), group) for key, group in groups.items()]


def _line(count: str, name: str, shape: str, zeros: str, work: str, size: str, reason: str) -> str:
    """A row of the table, at fixed columns."""
    label = name if len(name) <= NAME_COLUMNS else f"…{name[1 - NAME_COLUMNS :]}"
    return f"{count:>5} {label:{NAME_COLUMNS}} {shape:12} {zeros:>8} {work:>6} {size:>6}  {reason}"
