"""A profile as text: what it was taken of, the parts of a call, and tables of steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from prunus.kernels.limits import Limits
from prunus.plan.profile import By, Profile, Tally

NAME_COLUMNS = 48
ABSENT = "–"

PARTS = {
    "kernels": "kernels",
    "interpreter": "steps on the interpreter",
    "waiting": "waiting at barriers",
    "gaps": "between units: claiming, tracing",
    "outside": "outside the workers: waking up, Python",
    "unsteady": "unsteady: what the medians leave",
}
"""What people read for the parts of `Profile.parts`."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells under titles; the first columns are texts, the rest figures."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.titles, *self.rows, strict=True)]
        return "\n".join(self._line(row, widths) for row in (self.titles, *self.rows))

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        cells = zip(row, widths, strict=True)
        placed = (c.ljust(w) if i < self.texts else c.rjust(w) for i, (c, w) in enumerate(cells))
        return "  ".join(placed).rstrip()


def profile_text(profile: Profile) -> str:
    """Everything but the single steps."""
    ways: tuple[By, ...] = ("kernel", "layer", "op")
    tables = (parts_table(profile), *(profile_table(profile, by) for by in ways))
    return "\n\n".join(["\n".join(header(profile)), *map(str, tables)])


def header(profile: Profile) -> Iterator[str]:
    """What was profiled, on what, and against which limits."""
    p = profile
    sizes = ", ".join(f"{name} {size}" for name, size in p.sizes.items())
    threads, calls = _count(p.limits.threads, "thread"), _count(p.calls, "call")
    yield f"{p.model}: {p.target}, {threads}, {sizes}, median of {calls}"
    if p.simulated is not None:
        yield f"SIMULATED zeros, not a trained model: {p.simulated}"
    earlier = " earlier (prunus env --measure does it anew)" if p.limits.remembered else ""
    yield f"{p.limits.processor}, limits measured{earlier}: {limits_text(p.limits)}"


def limits_text(limits: Limits) -> str:
    """The roofline in a line."""
    loads = ", ".join(f"{1e-9 * rate:.0f} GB/s from {of}" for of, rate in limits.loads.items())
    assumed = f" (sizes of {', '.join(limits.assumed)} assumed)" if limits.assumed else ""
    return f"FMA peak {1e-9 * limits.fma:.0f} GFLOP/s, loads {loads}{assumed}"


def parts_table(profile: Profile) -> Table:
    """What the time of a call went into."""
    parts = profile.parts()
    rows = [(PARTS[name], *_time(seconds, profile)) for name, seconds in parts.items()]
    return Table(("part of a call", "ms", "share"), (*rows, _whole(profile)), 1)


def _whole(profile: Profile) -> tuple[str, ...]:
    return ("the call", *_time(profile.seconds, profile))


def profile_table(profile: Profile, by: By | Literal["step"]) -> Table:
    """The steps, or what they share, by their time."""
    figures = ("ms", "share", "wait ms", "nonzeros", "GFLOP/s", "weights GB/s", "of limit")
    if by != "step":
        groups = profile.groups(by).items()
        rows = ((_short(n), str(t.steps), *_figures(t, profile)) for n, t in groups)
        return Table((by, "steps", *figures), tuple(rows), 1)
    steps = sorted(profile.steps, key=lambda step: -step.tally.seconds)
    rows = ((_short(s.name), s.kernel, s.bound, *_figures(s.tally, profile)) for s in steps)
    return Table(("step", "kernel", "bound by", *figures), tuple(rows), 3)


def _figures(tally: Tally, profile: Profile) -> Iterator[str]:
    yield from _time(tally.seconds, profile)
    yield f"{1e3 * tally.waiting:.3f}"
    yield f"{tally.nonzeros:,}" if tally.nonzeros else ABSENT
    yield f"{1e-9 * tally.flop_rate:.1f}" if tally.flops else ABSENT
    yield f"{1e-9 * tally.weight_rate:.1f}" if tally.weight_bytes else ABSENT
    yield f"{100 * tally.limit_share:.0f} %" if tally.limit else ABSENT


def _time(seconds: float, profile: Profile) -> tuple[str, str]:
    return f"{1e3 * seconds:.3f}", f"{100 * seconds / profile.seconds:.1f} %"


def _short(name: str) -> str:
    """The end of a long name tells more than its front."""
    return name if len(name) <= NAME_COLUMNS else f"…{name[1 - NAME_COLUMNS :]}"


def _count(count: int, name: str) -> str:
    return f"{count} {name}{'s' * (count != 1)}"
