"""What a report says, as data: measured once, then drawn, printed, or taken into a frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunus.bench import Report, Row
from prunus.bench.shapes import Shape
from prunus.check.parity import ParityReport
from prunus.plan.explain import Explanation
from prunus.plan.profile import Profile, ProfiledStep
from prunus.records import Cell, Records
from prunus.reporting.growth import GrowthPoint
from prunus.reporting.matrices import Heads, Matrix


@dataclass(frozen=True)
class Findings(Records):
    """Everything that one report measured of a model at one shape.

    Attributes:
        model: Its name.
        simulated: What was simulated, or None for real weights.
        made: When, as ISO 8601 with the offset of the time zone.
        version: Of prunus.
        shape: Batch and length in tokens.
        bench: The engines side by side, as `prunus bench` gives them.
        sparse: The profile of a call.
        dense: The profile of a call that skips no zeros.
        explanation: The decisions, as `prunus explain` gives them.
        matrices: The zeros of every linear layer's matrix.
        heads: The zeros of every attention's heads.
        growth: Times at other lengths and batches.
        parity: How far the answers lie from the reference's.
        reference: What the answers were compared with: "PyTorch" or "prunus-dense".
        commands: Command lines that measure the same again.
    """

    model: str
    simulated: str | None
    made: str
    version: str
    shape: Shape
    bench: Report
    sparse: Profile
    dense: Profile
    explanation: Explanation
    matrices: tuple[Matrix, ...]
    heads: tuple[Heads, ...]
    growth: tuple[GrowthPoint, ...]
    parity: ParityReport
    reference: str
    commands: tuple[str, ...]

    @property
    def ours(self) -> Row:
        """The row of prunus in the benchmark."""
        return next(row for row in self.bench.rows if row.engine == "prunus")

    @property
    def timed(self) -> tuple[Row, ...]:
        """The rows of all engines that ran, the fastest first."""
        ran = [(row.seconds.median, row) for row in self.bench.rows if row.seconds is not None]
        return tuple(row for _, row in sorted(ran, key=lambda each: each[0]))

    @property
    def best_dense(self) -> Row | None:
        """The fastest engine that computes the zeros; None where none ran."""
        return next((row for row in self.timed if row.dense), None)

    def records(self) -> list[dict[str, Cell]]:
        """A row for each linear layer: what was found of its zeros, decided, and measured.

        Times are milliseconds of a call: `sparse_ms` with the zeros skipped, `dense_ms` without.
        """
        sparse, dense = _by_name(self.sparse), _by_name(self.dense)
        return [
            {
                "layer": decision.name,
                "rows": None if decision.shape is None else decision.shape[0],
                "columns": None if decision.shape is None else decision.shape[1],
                "zeros": decision.zeros,
                "pattern": decision.pattern,
                "kernel": decision.kernel,
                "reason": decision.reason,
                "sparse_ms": _milliseconds(sparse, decision.name),
                "dense_ms": _milliseconds(dense, decision.name),
                "share_of_limit": sparse[decision.name].tally.limit_share
                if decision.name in sparse
                else None,
            }
            for decision in self.explanation.layers
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: everything but the cells of the heat maps."""
        return {
            "model": self.model,
            "simulated": self.simulated,
            "made": self.made,
            "prunus": self.version,
            "batch": self.shape[0],
            "sequence": self.shape[1],
            "bench": self.bench.to_dict(),
            "profile": self.sparse.to_dict(),
            "dense_profile": self.dense.to_dict(),
            "explanation": self.explanation.to_dict(),
            "matrices": [matrix.to_dict() for matrix in self.matrices],
            "heads": [heads.to_dict() for heads in self.heads],
            "growth": [point.to_dict() for point in self.growth],
            "parity": {"reference": self.reference, **self.parity.to_dict()},
            "commands": list(self.commands),
        }

    def to_html(self) -> str:
        """The page: one document that needs nothing else.

        Raises:
            UnsupportedError: matplotlib or jinja2 is not installed.
        """
        from prunus.reporting.page import page

        return page(self)

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the page to a file, whole or not at all.

        Raises:
            InputError: the file is there already, or cannot be written.
            UnsupportedError: matplotlib or jinja2 is not installed.
        """
        from prunus.reporting.output import check_output
        from prunus.reporting.style import write_whole

        check_output(Path(path), overwrite=overwrite)
        write_whole(Path(path), self.to_html().encode())

    def save_plots(self, folder: str | Path, *, overwrite: bool = False) -> tuple[Path, ...]:
        """Write every figure into a folder, as SVG and PNG; their paths come back.

        Raises:
            InputError: the folder holds files already, or cannot be written to.
            UnsupportedError: matplotlib is not installed.
        """
        from prunus.reporting.figures import all_figures
        from prunus.reporting.output import check_folder
        from prunus.reporting.style import FORMATS, save_figure

        folder = Path(folder)
        check_folder(folder, overwrite=overwrite)
        folder.mkdir(exist_ok=True)
        written = []
        for name, figure in all_figures(self).items():
            for suffix in FORMATS:
                written.append(folder / f"{name}{suffix}")
                save_figure(figure, written[-1])
        return tuple(written)


def _by_name(profile: Profile) -> Mapping[str, ProfiledStep]:
    return {step.name: step for step in profile.steps}


def _milliseconds(steps: Mapping[str, ProfiledStep], name: str) -> float | None:
    return 1e3 * steps[name].tally.seconds if name in steps else None
