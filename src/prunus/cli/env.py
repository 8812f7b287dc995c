"""`prunus env`: the machine as prunus sees it, for a report of a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli.options import Debug, Json
from prunus.cli.output import print_json, progress, size, table
from prunus.errors import TargetError

if TYPE_CHECKING:
    from prunus.bench.machine import Machine
    from prunus.kernels.limits import Limits

EXAMPLES = ("prunus env", "prunus env --json", "prunus env --measure")

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


def env(
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure the processor's limits anew: on a quiet machine, please."
        ),
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show processor, threads, versions and cache: what a report of a problem should hold.

    The processor's limits (FMAs a second; bytes a second of vector loads) are measured once, in a
    few seconds, and remembered.
    """
    data = _data(measure)
    if json:
        print_json(data)
    else:
        print(table(_lines(data)))


def _data(measure: bool) -> dict[str, Any]:
    import dataclasses

    from prunus import __version__
    from prunus.bench.machine import python_version, this_machine
    from prunus.cache import cache_folder, usage
    from prunus.versions import package_versions

    machine, folder = this_machine(), cache_folder()
    return {
        "prunus": __version__,
        "processor": {**dataclasses.asdict(machine), "description": machine.describe()},
        "threads": _threads(machine),
        "target": _target(measure),
        "versions": {**python_version(), **package_versions(PACKAGES)},
        "missing": [name for name in PACKAGES if name not in package_versions(PACKAGES)],
        "cache": {
            "folder": None if folder is None else str(folder),
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


def _target(measure: bool) -> dict[str, Any]:
    """What code is made for, and its limits with one thread and with the default number."""
    from prunus.kernels.limits import measured_limits
    from prunus.kernels.target import parse_target
    from prunus.runtime.threads import default_threads

    try:
        target = parse_target("native")
    except TargetError as error:  # the very machine that a report is about
        return {"error": str(error)}
    with progress() as say:
        say("taking the processor's limits")
        counts = sorted({1, default_threads()})
        limits = [measured_limits(count, target, anew=measure) for count in counts]
    return {
        "cpu": target.cpu,
        "isa": target.isa.name,
        "triple": target.triple,
        "vector_bits": 32 * target.lanes,
        "fma_peak_gflops": {str(each.threads): each.fma / 1e9 for each in limits},
        "loads": {str(each.threads): _loads(each) for each in limits},
        "limits_remembered": all(each.remembered for each in limits),
        "caches_assumed": limits[0].assumed,
    }


def _loads(limits: Limits) -> dict[str, dict[str, float]]:
    """By where from: the rate, and the bytes that each thread went through over and over."""
    return {
        level: {"gigabytes_per_second": rate / 1e9, "buffer_bytes": limits.buffers[level]}
        for level, rate in limits.loads.items()
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
        lines.update(_roofline(target))
    lines["versions"] = ", ".join(versions)
    if data["missing"]:
        lines["not installed"] = ", ".join(data["missing"])
    kinds = ", ".join(f"{each['entries']} {each['kind']}" for each in cache["kinds"])
    where = cache["folder"] or "none, as this user has no home folder"
    lines["cache"] = f"{where}: {size(cache['bytes'])}" + (f" ({kinds})" if kinds else "")
    return lines


def _roofline(target: dict[str, Any]) -> dict[str, str]:
    """The measured limits, a line each."""
    lines = {
        "FMA peak": ", ".join(
            f"{peak:.0f} GFLOP/s with {_threads_text(count)}"
            for count, peak in target["fma_peak_gflops"].items()
        )
    }
    for level in next(iter(target["loads"].values())):
        lines[f"{level} loads"] = ", ".join(
            f"{rates[level]['gigabytes_per_second']:.0f} GB/s with {_threads_text(count)}"
            for count, rates in target["loads"].items()
        )
    if target["caches_assumed"]:
        assumed = ", ".join(target["caches_assumed"])
        lines["caches"] = f"not told by the system, so a common size was assumed of {assumed}"
    if target["limits_remembered"]:
        lines["limits"] = "measured earlier; --measure does it anew"
    return lines


def _threads_text(count: str) -> str:
    return f"{count} thread{'' if count == '1' else 's'}"
