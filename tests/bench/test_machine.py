"""A machine as one line."""

from prunus.bench.machine import Machine, this_machine


def test_a_machine_is_one_line() -> None:
    machine = Machine(
        "AMD EPYC", "26", "2", 1, 2, {"L1d": 48 * 1024, "L2": 1024**2}, "Linux x86_64"
    )
    assert machine.describe() == (
        "AMD EPYC (family 26, model 2), 1 core, 2 usable here, L1d 48 KB, L2 1 MB, Linux x86_64"
    )
    assert this_machine().usable >= 1
