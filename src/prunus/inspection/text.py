"""An inspection as text: what the model holds in sums, and a line for each linear layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prunus.inspection.result import Inspection, TensorReport, Total
from prunus.inspection.roles import Role
from prunus.plan.profile_text import ABSENT, NAME_COLUMNS, Table

_NAMES: Mapping[Role, str] = {
    "linear": "linear layers",
    "embedding": "tables",
    "other": "all else",
}
_REASON = "what prunus would do, and why"


def inspection_text(inspection: Inspection, *, every: bool = False) -> str:
    """The totals and the linear layers; with `every` the other tensors too."""
    tensors = [t for t in inspection.tensors if every or t.role == "linear"]
    lines = [inspection.model]
    if inspection.simulated is not None:
        lines.append(f"SIMULATED zeros, not a trained model: {inspection.simulated}")
    lines += [str(_totals(inspection)), ""]
    if not inspection.linear.tensors:
        lines.append("no linear layer: there is nothing that prunus would compute by its zeros")
    if tensors:
        lines.append(str(_table(tensors)))
    return "\n".join(lines).rstrip()


def _totals(inspection: Inspection) -> Table:
    groups = {
        name: Total.of(each for each in inspection.tensors if each.role == role)
        for role, name in _NAMES.items()
    }
    groups["whole model"] = inspection.whole
    titles = ("", "tensors", "elements", "zero", "MB on disk", "MB compressed")
    rows = [
        (
            name,
            str(total.tensors),
            f"{total.elements:,}",
            f"{100 * total.zero_share:.1f} %",
            *_megabytes(total),
        )
        for name, total in groups.items()
    ]
    return Table(titles, tuple(rows), 1)


def _table(tensors: Iterable[TensorReport]) -> Table:
    titles = ("tensor", "shape", *map(_figure, ("MB", "compressed", "heads gone")), _REASON)
    rows = (
        (
            _short(each.name),
            "×".join(map(str, each.shape)),
            *map(_figure, _megabytes(each)),
            _figure(ABSENT if each.empty_heads is None else str(each.empty_heads)),
            each.reason if each.role == "linear" else " ".join(_remarks(each)),
        )
        for each in tensors
    )
    return Table(titles, tuple(rows), len(titles))


def _remarks(report: TensorReport) -> Iterator[str]:
    """What is known of a tensor that is no linear layer."""
    if report.pattern is not None:
        yield f"{report.pattern.describe()};"
    elif report.zeros:
        yield f"{report.zeros:,} of {report.elements:,} elements zero;"
    yield report.reason


def _megabytes(sizes: TensorReport | Total) -> tuple[str, str]:
    return f"{1e-6 * sizes.bytes:.2f}", f"{1e-6 * sizes.compressed_bytes:.2f}"


def _figure(cell: str) -> str:
    """At the right of its column, though a text follows."""
    return cell.rjust(len("compressed"))


def _short(name: str) -> str:
    """The end of a long name tells more than its front."""
    return name if len(name) <= NAME_COLUMNS else f"…{name[1 - NAME_COLUMNS :]}"
