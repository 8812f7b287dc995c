"""What every test relies on: sandboxed caches, few threads, Hypothesis profiles, ``isa``, MiniLM.

The environment is set while this file is imported, before any test can import torch or the hub's
client, because both read it only once.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

import hypothesis
import pytest

IS_XDIST_WORKER = "PYTEST_XDIST_WORKER" in os.environ
SANDBOX = (
    Path(os.environ["PRUNUS_CACHE_DIR"]).parent
    if IS_XDIST_WORKER  # workers inherit the one of their controller, and share its compiled code
    else Path(tempfile.mkdtemp(prefix="prunus-tests-"))
)
# Two workers of one thread each, or one process of two: either keeps two cores busy and no more.
THREADS = "1" if IS_XDIST_WORKER else "2"

os.environ["PRUNUS_CACHE_DIR"] = str(SANDBOX / "prunus")
os.environ["HF_HOME"] = str(SANDBOX / "huggingface")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = THREADS

# Native code is compiled inside the examples, so their times vary by a factor of a hundred.
hypothesis.settings.register_profile(
    "developer",
    deadline=None,
    max_examples=50,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "ci",
    hypothesis.settings.get_profile("developer"),
    max_examples=25,  # the same each time, so twice as many would find nothing new either
    derandomize=True,
    database=None,
    print_blob=True,
)
hypothesis.settings.register_profile(
    "thorough", hypothesis.settings.get_profile("developer"), max_examples=1000
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "developer")


# Workers inherit when their controller began.
BEGAN = float(os.environ.setdefault("PRUNUS_TESTS_BEGAN", str(time.time())))


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long tests that are marked as wide may be started."""
    parser.addoption(
        "--wide-minutes", type=float, default=7.0, metavar="MINUTES",
        help="start tests marked as wide for so many minutes, and skip the rest (default: 7)",
    )  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Wide tests come last, so that a slow machine leaves out the least."""
    items.sort(key=_is_wide)


def _is_wide(item: pytest.Item) -> bool:
    return item.get_closest_marker("wide") is not None


def pytest_unconfigure() -> None:
    """Remove the sandbox, once, when the process that made it ends."""
    if not IS_XDIST_WORKER:
        shutil.rmtree(SANDBOX, ignore_errors=True)


def host_instruction_sets() -> frozenset[str]:
    """Names from /proc/cpuinfo ("flags" on x86, "Features" on Arm), spelled as `canonical` does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except (
        OSError
    ):  # not Linux: nothing is known, so tests that need an instruction set are skipped
        return frozenset()
    return frozenset(
        canonical(name)
        for line in lines
        if line.startswith(("flags", "Features"))
        for name in line.partition(":")[2].split()
    )


def canonical(name: str) -> str:
    """One spelling for the kernel's and LLVM's names: avx512_bf16 is avx512bf16, asimd is neon."""
    plain = name.lower().replace("_", "").replace(".", "")
    return {"asimd": "neon"}.get(plain, plain)


HOST_INSTRUCTION_SETS = host_instruction_sets()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose ``isa`` marker names what this processor lacks, and a wide one when the
    time for those is over.
    """
    minutes = item.config.getoption("--wide-minutes")
    if _is_wide(item) and time.time() - BEGAN > 60 * minutes:
        pytest.skip(f"not begun within {minutes:g} minutes; give --wide-minutes more")
    wanted = [str(name) for marker in item.iter_markers("isa") for name in marker.args]
    missing = [name for name in wanted if canonical(name) not in HOST_INSTRUCTION_SETS]
    if missing:
        pytest.skip(f"this processor lacks {', '.join(missing)}")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2: config, safetensors and tokenizer."""
    from prunus.errors import CheckpointError
    from prunus.frontend import stand_in

    try:
        return stand_in.minilm_folder()
    except CheckpointError as error:
        pytest.skip(str(error))


@pytest.fixture
def hub_online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client with its offline mode off, for a test that serves a repository itself."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
