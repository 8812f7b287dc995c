"""An explanation as text: layers that were decided alike share a row."""

from __future__ import annotations

import re
from collections import defaultdict

from prunus.plan.explain import Decision, Explanation

NAME_COLUMNS = 44
_HEADER = (
    f"      {'layers':{NAME_COLUMNS}} {'shape':12} {'zero':>8} {'work':>6} {'bytes':>6}"
    "  kernel and reason (of the first)"
)


def explanation_text(explanation: Explanation) -> str:
    """The explanation as a table of words, at most about 150 columns wide."""
    e = explanation
    lines = [f"{e.model}: {e.target}, {e.threads} thread{'s' * (e.threads != 1)}"]
    if e.simulated is not None:
        lines.append(f"SIMULATED zeros, not a trained model: {e.simulated}")
    lines.append(
        f"linear layers {100 * e.linear_zeros:.1f} % zero, whole model {100 * e.model_zeros:.1f} %"
    )
    lines += ["", _HEADER]
    lines += [_row(name, group) for name, group in _grouped(e.layers)]
    if any(h.removable for h in e.heads):
        idle, every = sum(len(h.removable) for h in e.heads), sum(h.heads for h in e.heads)
        by_layer = ", ".join(str(len(h.removable)) for h in e.heads)
        lines.append(f"heads that do nothing: {idle} of {every} (by layer: {by_layer})")
    lines += ["", "other native steps:"]
    kernels: dict[str, list[float]] = defaultdict(list)
    for decision in e.others:
        kernels[decision.kernel].append(decision.work)
    parts = (
        f"{len(shares)} × {kernel}"
        + (f" ({100 * sum(shares):.1f}% of the work)" if sum(shares) else "")
        for kernel, shares in kernels.items()
    )
    lines.append("  " + ", ".join(parts))
    lines += ["", f"padding: {e.padding}"]
    if e.prologue:
        lines += ["", "on the inputs, before the first kernel, on NumPy:"]
        lines += [f"  {d.op} {d.name}: {d.reason}" for d in e.prologue]
    lines += [
        "",
        f"without a kernel, on NumPy among the native steps: {len(e.interpreted) or 'none'}",
    ]
    lines += [f"  {d.op} {d.name}: {d.reason}" for d in e.interpreted]
    if e.views:
        lines += ["", f"views, which cost nothing: {len(e.views)}"]
    return "\n".join(lines)


def _grouped(layers: tuple[Decision, ...]) -> list[tuple[str, list[Decision]]]:
    """Layers of one place in the repeated blocks, one shape and one kernel belong together."""
    groups: dict[tuple[object, ...], list[Decision]] = {}
    for decision in layers:
        place = re.sub(r"\.\d+\.", ".*.", decision.name)
        groups.setdefault((place, decision.shape, decision.kernel), []).append(decision)
    return [(str(key[0]), group) for key, group in groups.items()]


def _row(name: str, group: list[Decision]) -> str:
    first = group[0]
    shape = "×".join(map(str, first.shape or ()))
    zeros = sorted(100 * d.zeros for d in group if d.zeros is not None)
    ends = dict.fromkeys(f"{share:.0f}" for share in (zeros[0], zeros[-1])) if zeros else ()
    work, size = sum(d.work for d in group), sum(d.byte_share for d in group)
    label = name if len(name) <= NAME_COLUMNS else f"…{name[1 - NAME_COLUMNS :]}"
    return (
        f"{len(group):3} × {label:{NAME_COLUMNS}} {shape:12} {'–'.join(ends) + ' %':>8} "
        f"{100 * work:5.1f}% {100 * size:5.1f}%  {first.reason}"
    )
