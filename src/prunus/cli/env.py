"""`prunus env`: the machine as prunus sees it, for a report of a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunus.cli.options import Debug, Json
from prunus.cli.output import print_json, size, table
from prunus.errors import TargetError

if TYPE_CHECKING:
    from prunus.bench.machine import Machine

EXAMPLES = ("prunus env", "prunus env --json")

PACKAGES = (
    "llvmlite",
    "numpy",
    "huggingface-hub",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "openvino",
    "onnx",
)


def env(json: Json = False, debug: Debug = False) -> None:
    """Show processor, threads, versions and cache: what a report of a problem should hold."""
    data = _data()
    if json:
        print_json(data)
    else:
        print(table(_lines(data)))


def _data() -> dict[str, Any]:
    import dataclasses

    from prunus import __version__
    from prunus.bench.machine import package_versions, python_version, this_machine
    from prunus.cache import cache_folder, usage

    machine = this_machine()
    return {
        "prunus": __version__,
        "processor": {**dataclasses.asdict(machine), "description": machine.describe()},
        "threads": _threads(machine),
        "target": _target(),
        "versions": {**python_version(), **package_versions(PACKAGES)},
        "missing": [name for name in PACKAGES if name not in package_versions(PACKAGES)],
        "cache": {
            "folder": str(cache_folder()),
            "bytes": sum(each.bytes for each in usage()),
            "kinds": [dataclasses.asdict(each) for each in usage()],
        },
    }


def _threads(machine: Machine) -> dict[str, int | None]:
    """The default and the three limits of which it is the least."""
    from prunus.runtime.threads import cgroup_quota, default_threads, usable_processors

    return {
        "default": default_threads(),
        "affinity": usable_processors(),
        "physical_cores": machine.cores,
        "cgroup_quota": cgroup_quota(),
    }


def _target() -> dict[str, Any]:
    """What code is made for, and its measured peak with one thread and with the default number."""
    from prunus.kernels.peak import fma_peak
    from prunus.kernels.target import parse_target
    from prunus.runtime.threads import default_threads

    try:
        target = parse_target("native")
    except TargetError as error:  # the very machine that a report is about
        return {"error": str(error)}
    peaks = {count: fma_peak(count, target) / 1e9 for count in {1, default_threads()}}
    return {
        "cpu": target.cpu,
        "isa": target.isa.name,
        "triple": target.triple,
        "vector_bits": 32 * target.lanes,
        "fma_peak_gflops": {str(count): peaks[count] for count in sorted(peaks)},
    }


def _lines(data: dict[str, Any]) -> dict[str, str]:
    threads, target, cache = data["threads"], data["target"], data["cache"]
    versions = [f"{name} {version}" for name, version in data["versions"].items()]
    quota = threads["cgroup_quota"]
    lines = {
        "prunus": data["prunus"],
        "processor": data["processor"]["description"],
        "threads": f"{threads['default']} by default: the least of {threads['affinity']} usable "
        f"(affinity), {threads['physical_cores']} physical cores, "
        + ("no cgroup quota" if quota is None else f"a cgroup quota of {quota}"),
    }
    if "error" in target:
        lines["target"] = target["error"]
    else:
        lines["target"] = (
            f"{target['cpu']}, {target['isa']} ({target['vector_bits']}-bit vectors), "
            f"{target['triple']}"
        )
        lines["FMA peak"] = ", ".join(
            f"{peak:.0f} GFLOP/s with {count} thread{'' if count == '1' else 's'}"
            for count, peak in target["fma_peak_gflops"].items()
        )
    lines["versions"] = ", ".join(versions)
    if data["missing"]:
        lines["not installed"] = ", ".join(data["missing"])
    kinds = ", ".join(f"{each['entries']} {each['kind']}" for each in cache["kinds"])
    lines["cache"] = f"{cache['folder']}: {size(cache['bytes'])}" + (f" ({kinds})" if kinds else "")
    return lines
