"""A whole benchmark with engines that compute nothing, so that every path is quick to reach."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from prunus.bench import session
from prunus.bench.engines import make_engine
from prunus.bench.engines.contract import Arrays, EngineError, Job, float_arrays
from prunus.bench.session import run_bench
from prunus.errors import InputError
from prunus.frontend.arrays import leaves


@dataclass
class FakeModel:
    """A compiled model whose output is its ids, shifted by ``error`` where it is sparse."""

    threads: int = 2
    simulated: str | None = None
    input_names: tuple[str, ...] = ("input_ids", "attention_mask")
    vocabulary: int | None = 50
    error: float = 1e-6
    limit: int = 64
    bug: bool = False

    def __call__(self, **inputs: Any) -> Any:
        ids = inputs["input_ids"]
        if self.bug:
            raise ZeroDivisionError("a bug")
        if ids.shape[1] > self.limit:
            raise InputError(f"length {ids.shape[1]} is over the limit of {self.limit}")
        return {"logits": ids.astype(np.float64) + self.error, "ids": ids}

    def flops(self, *, dense: bool = False, **inputs: Any) -> int:
        return (2 if dense else 1) * int(inputs["input_ids"].size)

    def recompile(self, *, sparse: bool) -> "FakeModel":
        return replace(self, error=self.error if sparse else 0.0)


class FakeRival:
    """A rival in this process; ``made`` keeps all of them to look at afterwards."""

    made: ClassVar[list["FakeRival"]] = []
    steps: ClassVar[list[str]] = []
    note = "fake"

    def __init__(self, name: str, fault: str = "", python: Any = None) -> None:
        self.name, self.fault, self.python, self.closed = name, fault, python, False
        self.dense = name != "deepsparse"
        self.jobs: list[Job] = []
        self.made.append(self)

    def versions(self) -> dict[str, str]:
        return {self.name: "1.0"}

    def available(self) -> str | None:
        return "not installed (pip install it)" if self.fault == "absent" else None

    def load(self, job: Job) -> None:
        self.jobs.append(job)
        self._fail_at("load")

    def wait(self) -> None:
        self._fail_at("wait")

    def prepare(self) -> None:
        self._fail_at("prepare")

    def run(self, inputs: Arrays) -> Arrays:
        self._fail_at("run")
        return {"logits": inputs["input_ids"].astype(np.float64)}

    def time(self, calls: int) -> list[float]:
        self._fail_at("time")
        return [0.001] * calls

    def close(self) -> None:
        self.closed = True

    def _fail_at(self, step: str) -> None:
        self.steps.append(step)
        if self.fault == step:
            raise EngineError(f"failed to {step}")


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Replace the rivals; what a test puts in is where the rival of that name fails."""
    where: dict[str, str] = {}

    def fake(name: str, model: Any, deepsparse_python: Any) -> Any:
        if name not in ("torch", "openvino", "deepsparse"):
            return make_engine(name, model)
        return FakeRival(name, where.get(name, ""), deepsparse_python)

    monkeypatch.setattr(session, "make_engine", fake)
    FakeRival.made.clear()
    FakeRival.steps.clear()
    yield where
    assert all(rival.closed for rival in FakeRival.made)


def bench(models: Any, **arguments: Any) -> Any:
    quick: dict[str, Any] = {"rounds": 2, "seconds": 0.0, "peak": lambda threads: 1e9 * threads}
    return run_bench(models, **(quick | arguments))


def rows_by_engine(report: Any) -> dict[str, Any]:
    return {row.engine: row for row in report.rows}


def test_rows_in_order_with_times_and_differences(faults: dict[str, str]) -> None:
    report = bench(
        {"bert": FakeModel(simulated="0.9")},
        engines=("prunus", "prunus-dense", "torch"),
        batches=(1, 2),
        sequences=(8, 16),
        density={"bert": 0.1},
    )
    shapes = [(1, 8), (1, 16), (2, 8), (2, 16)]
    names = ("prunus", "prunus-dense", "torch")
    found = [(row.shape, row.engine) for row in report.rows]
    assert found == [(shape, name) for shape in shapes for name in names]
    sparse, dense, torch = report.rows[:3]
    assert sparse.difference == pytest.approx(1e-6)
    assert (dense.difference, torch.difference) == (0, 0)
    assert {row.reference for row in report.rows} == {"torch"}
    assert all(row.seconds and row.seconds.calls == 6 and row.ratio for row in report.rows)
    assert (report.threads, report.peak, report.simulated) == (2, 2e9, {"bert": "0.9"})
    assert report.versions["torch"] == "1.0"
    assert "numpy" in report.versions
    json.dumps(report.to_dict(), allow_nan=False)


def test_without_torch_the_reference_is_prunus_dense_and_has_no_row(faults: dict[str, str]) -> None:
    report = bench(FakeModel(), engines=("prunus", "openvino"), sequences=(8,))
    assert [row.engine for row in report.rows] == ["prunus", "openvino"]
    assert {row.reference for row in report.rows} == {"prunus-dense"}
    assert report.rows[0].difference == pytest.approx(1e-6)
    assert "prunus-dense's" in report.to_markdown()


def test_engines_load_together_and_prepare_alone(faults: dict[str, str]) -> None:
    report = bench(
        FakeModel(),
        engines=("prunus", "torch", "openvino"),
        sequences=(8,),
        meanwhile=lambda: FakeRival.steps.append("meanwhile"),
    )
    assert [row.engine for row in report.rows] == ["prunus", "torch", "openvino"]
    beginning = ["load", "load", "meanwhile", "wait", "wait", "prepare", "prepare", "run"]
    assert FakeRival.steps[:8] == beginning


def test_least_calls_of_a_turn(faults: dict[str, str]) -> None:
    report = bench(FakeModel(), engines=("torch",), sequences=(8,), least_calls=5)
    assert report.rows[0].seconds.calls == 10
    with pytest.raises(InputError, match="least_calls=0, expected at least 1"):
        bench(FakeModel(), engines=("torch",), least_calls=0)


@pytest.mark.parametrize("step", ["absent", "load", "wait", "prepare"])
def test_an_engine_that_cannot_be_prepared_has_one_row(faults: dict[str, str], step: str) -> None:
    faults["torch"] = step
    report = bench(FakeModel(), engines=("prunus", "torch"), sequences=(8, 16))
    assert [(row.engine, row.shape) for row in report.rows] == [
        ("prunus", (1, 8)),
        ("prunus", (1, 16)),
        ("torch", None),
    ]
    assert report.rows[-1].reason
    assert report.rows[0].reference == "prunus-dense"
    assert "torch" not in report.versions


@pytest.mark.parametrize("step", ["run", "time"])
def test_an_engine_that_fails_later_is_left_out_with_its_reason(
    faults: dict[str, str], step: str
) -> None:
    faults["openvino"] = step
    report = bench(FakeModel(), engines=("prunus", "torch", "openvino"), sequences=(8,))
    row = rows_by_engine(report)["openvino"]
    assert (row.seconds, row.ratio, row.reason) == (None, None, f"failed to {step}")
    assert rows_by_engine(report)["prunus"].seconds is not None


def test_a_shape_that_one_engine_refuses_leaves_the_others(faults: dict[str, str]) -> None:
    report = bench(FakeModel(limit=8), engines=("prunus", "torch"), sequences=(16, 8))
    over, rival, within, _ = report.rows
    assert "over the limit" in over.reason
    assert rival.seconds is not None
    assert (within.shape, within.reason) == ((1, 8), None)


def test_a_bug_is_not_a_reason(faults: dict[str, str]) -> None:
    with pytest.raises(ZeroDivisionError):
        bench(FakeModel(bug=True), engines=("prunus",), sequences=(8,))


def test_other_models_are_run_by_prunus_alone_and_have_their_own_reference(
    faults: dict[str, str],
) -> None:
    models = {"real": FakeModel(), "blocks": FakeModel(error=2e-6), "more": FakeModel(error=3e-6)}
    loaders = {"real": object, "blocks": object}
    engines = ("prunus", "torch", "openvino")
    report = bench(models, engines=engines, sequences=(8,), module_loader=loaders)
    assert [(row.model, row.engine, row.reference) for row in report.rows] == [
        ("real", "prunus", "torch"),
        ("real", "torch", "torch"),
        ("real", "openvino", "torch"),
        ("blocks", "prunus", "torch"),
        ("more", "prunus", "prunus-dense"),
    ]
    assert [row.difference for row in report.rows if row.engine == "prunus"] == pytest.approx(
        [1e-6, 2e-6, 3e-6], rel=1e-3
    )
    assert all(row.ratio for row in report.rows)


def test_an_engine_that_skips_zeros_gets_every_model(faults: dict[str, str]) -> None:
    models = {"real": FakeModel(), "blocks": FakeModel()}
    loaders = {"real": int, "blocks": str}
    report = bench(
        models,
        engines=("openvino", "deepsparse"),
        sequences=(8,),
        module_loader=loaders,
        deepsparse_python="its/python",
    )
    assert [(row.model, row.engine, row.flops) for row in report.rows] == [
        ("real", "openvino", 16),
        ("real", "deepsparse", 8),
        ("blocks", "deepsparse", 8),
    ]
    jobs = [job.loader for each in FakeRival.made if each.name == "deepsparse" for job in each.jobs]
    assert jobs == [int, str]
    assert {each.python for each in FakeRival.made} == {"its/python"}


def test_an_absent_engine_has_its_reason_with_every_model(faults: dict[str, str]) -> None:
    faults["deepsparse"] = "absent"
    models = {"real": FakeModel(), "blocks": FakeModel()}
    report = bench(models, engines=("prunus", "deepsparse"), sequences=(8,))
    left_out = [(row.model, row.reason) for row in report.rows if row.engine == "deepsparse"]
    reason = "not installed (pip install it)"
    assert left_out == [("real", reason), ("blocks", reason)]


def test_the_limit_is_reported_when_it_is_asked_for(faults: dict[str, str]) -> None:
    report = bench(FakeModel(), engines=("prunus", "torch"), sequences=(8,), limit=True)
    rows = report.to_dict()["rows"]
    # 8 operations for prunus and 16 for a dense engine, at 2e9 a second
    assert [row["limit_milliseconds"] for row in rows] == pytest.approx([4e-6, 8e-6])
    without = bench(FakeModel(), engines=("prunus",), sequences=(8,)).to_dict()["rows"]
    assert "limit_milliseconds" not in without[0]


def test_rivals_get_the_loader_the_first_shape_and_the_threads(
    faults: dict[str, str], tmp_path: Any
) -> None:
    bench(
        FakeModel(),
        engines=("torch",),
        shapes=((2, 8), (4, 4)),
        module_loader=object,
        cache=tmp_path,
        threads=2,
    )
    (job,) = FakeRival.made[0].jobs
    assert (job.loader, job.threads, job.folder) == (object, 2, tmp_path)
    assert job.example["input_ids"].shape == (2, 8)


def test_given_inputs_are_used(faults: dict[str, str]) -> None:
    asked = []

    def inputs(batch: int, length: int) -> Arrays:
        asked.append((batch, length))
        return {"input_ids": np.ones((batch, length), np.int64)}

    bench(FakeModel(vocabulary=None), engines=("prunus",), sequences=(8,), inputs=inputs)
    assert set(asked) == {(1, 8)}


def test_ids_stay_inside_the_smallest_vocabulary(faults: dict[str, str]) -> None:
    models = {"a": FakeModel(), "b": FakeModel(vocabulary=3)}
    report = bench(models, engines=("prunus",), sequences=(8,))
    assert len(report.rows) == 2
    assert session._random(models, None)(9, 9)["input_ids"].max() == 2


def test_progress_is_told(faults: dict[str, str]) -> None:
    told: list[str] = []
    bench(FakeModel(), engines=("prunus", "torch"), sequences=(8,), progress=told.append)
    assert told[0] == "loading prunus for model"
    assert "measuring the FMA peak" in told
    assert "preparing torch for model" in told
    assert told[-1] == "timing 1x8"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"engines": ("tvm",)}, "no engine 'tvm'; the engines are prunus, "),
        ({"engines": ()}, "no engine"),
        ({"deepsparse_python": "python3.11"}, "python3.11.*add deepsparse"),
        ({"engines": ("prunus", "prunus")}, "named twice"),
        ({"batches": ()}, "no shape"),
        ({"batches": (0,)}, "below 1"),
        ({"shapes": ((1, 0),)}, "below 1"),
        ({"rounds": 0}, "rounds=0"),
        ({"threads": 1}, "compile it with threads=1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        bench(FakeModel(), **arguments)
    with pytest.raises(InputError, match="no model"):
        bench({})


def test_answers_are_named_as_the_module_names_them() -> None:
    answer = {"logits": 1, "hidden_states": (2, 3), "past": None}
    assert dict(leaves(answer)) == {"logits": 1, "hidden_states.0": 2, "hidden_states.1": 3}
    assert dict(leaves(np.float32(4))) == {"output": np.float32(4)}
    assert list(float_arrays((np.zeros(2), np.arange(2)))) == ["0"]
