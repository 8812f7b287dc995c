"""What workers note of a call."""

import numpy as np

from prunus.ir import bind_sizes
from prunus.runtime.trace import Recorder
from tests.native.decisions import Decisions, compiled, run
from tests.native.encoder import encoder, sentences


def test_every_unit_is_noted_once_in_the_time_of_the_call() -> None:
    executable = compiled(encoder(), Decisions()._replace(threads=2))
    inputs = sentences(3, 48)
    answers = run(executable, inputs)
    recorder = Recorder()
    sizes = bind_sizes(executable.program.inputs, inputs)
    traced = executable.run(dict(inputs), sizes, recorder)
    events = recorder.events()

    for one, other in zip(answers, traced, strict=True):
        np.testing.assert_array_equal(one, other)
    work = [event for event in events if event.kind == "work"]
    units = {(event.step, event.unit) for event in work}
    assert len(units) == len(work), "a unit was done twice"
    assert {step for step, _ in units} == {step.name for step in executable.program.native_steps}
    numpy = [event.step for event in events if event.kind == "numpy"]
    assert numpy == [step.node.name for step in executable.program.numpy_steps]
    assert any(event.kind == "wait" and event.step == "" for event in events)
    assert {event.worker for event in events} <= {0, 1}
    assert all(0 <= event.begin <= event.end for event in events)


def test_a_call_without_a_recorder_notes_nothing() -> None:
    executable = compiled(encoder(), Decisions())
    inputs = sentences(1, 16)
    recorder = Recorder()
    executable.run(dict(inputs), bind_sizes(executable.program.inputs, inputs), recorder)
    before = len(recorder.events())
    run(executable, inputs)
    assert len(recorder.events()) == before
