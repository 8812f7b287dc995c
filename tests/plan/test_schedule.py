"""The order of steps: nothing before what it needs, NumPy's steps as early as they can run."""

from hypothesis import given
from hypothesis import strategies as st

from prunus.ir import Attrs, Node, TensorType
from prunus.kernels.tokens import Unpack
from prunus.plan.schedule import schedule
from prunus.runtime.program import Feed, Fresh, NativeStep, NumpyStep, Step

TYPE = TensorType("f32", (1,))


def on_numpy(name: str, *inputs: str) -> NumpyStep:
    return NumpyStep(Node(name, "add", inputs, Attrs(), TYPE), "for the test")


def native(name: str, *inputs: str, makes: bool = True) -> NativeStep:
    arguments = {each: Feed("tokens", (each,)) for each in inputs}
    fresh = {"out": Fresh(name, TYPE)} if makes else {}
    return NativeStep(name, "unpack", Unpack(16), "unpack", 1, 1, {**arguments, **fresh})


def needs(step: Step) -> set[str]:
    if isinstance(step, NativeStep):
        return set(step.reads_plain())
    return {name for name in step.node.inputs if name is not None}


def name_of(step: Step) -> str:
    return step.name if isinstance(step, NativeStep) else step.node.name


def test_numpy_steps_move_in_front() -> None:
    steps: list[Step] = [native("a", "x"), on_numpy("m", "x"), native("b", "m"), on_numpy("n", "m")]
    assert [name_of(step) for step in schedule(steps, ["x"])] == ["m", "n", "a", "b"]


def test_a_step_waits_for_the_other_kind() -> None:
    steps: list[Step] = [native("a", "x"), on_numpy("m", "a"), native("b", "m"), on_numpy("n", "b")]
    assert [name_of(step) for step in schedule(steps, ["x"])] == ["a", "m", "b", "n"]


@st.composite
def orders(draw: st.DrawFn) -> list[Step]:
    """Steps in an order in which they can run."""
    steps: list[Step] = []
    known = ["x", "y"]
    for i in range(draw(st.integers(0, 12))):
        inputs = draw(st.lists(st.sampled_from(known), max_size=3, unique=True))
        name = f"v{i}"
        if draw(st.booleans()):
            steps.append(on_numpy(name, *inputs))
            known.append(name)
        else:
            makes = draw(st.booleans())
            steps.append(native(name, *inputs, makes=makes))
            known += [name] * makes
    return steps


@given(orders())
def test_every_step_runs_once_after_what_it_needs(steps: list[Step]) -> None:
    ordered = schedule(steps, ["x", "y"])
    assert sorted(map(name_of, ordered)) == sorted(map(name_of, steps))
    natives = [[s for s in order if isinstance(s, NativeStep)] for order in (ordered, steps)]
    assert natives[0] == natives[1], "native steps keep their order"
    ready = {"x", "y"}
    for step in ordered:
        assert needs(step) <= ready
        ready.add(name_of(step))
