"""Reading what the system says about its processor."""

from pathlib import Path

from prunus.kernels.processor import read_caches, read_cpuinfo

X86 = """processor	: 0
vendor_id	: AuthenticAMD
cpu family	: 26
model		: 2
model name	: AMD EPYC 9B45

processor	: 1
model		: 99
"""
ARM = """processor	: 0
CPU implementer	: 0x41
CPU architecture: 8
CPU part	: 0xd4f
"""


def test_the_first_processor_is_read() -> None:
    assert read_cpuinfo(X86) == {"name": "AMD EPYC 9B45", "family": "26", "model": "2"}


def test_an_arm_processor_is_named_by_its_numbers() -> None:
    assert read_cpuinfo(ARM) == {"name": "Arm 0x41:0xd4f", "family": "8", "model": "0xd4f"}


def test_another_text_names_nothing() -> None:
    assert read_cpuinfo("") == {}
    assert read_cpuinfo("not a : processor") == {}


def test_data_and_unified_caches_are_read(tmp_path: Path) -> None:
    entries = [
        ("Data", 1, "48K"),
        ("Instruction", 1, "32K"),
        ("Unified", 2, "2M"),
        ("Unified", 3, "?"),
    ]
    for number, (kind, level, size) in enumerate(entries):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for name, text in (("type", kind), ("level", str(level)), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    assert read_caches(tmp_path) == {"L1d": 48 * 1024, "L2": 2 * 1024**2}
    assert read_caches(tmp_path / "absent") == {}
