"""How fast payloads go there and back, from 1 KiB to 100 MiB, and what the router keeps of them."""

from __future__ import annotations

from importlib.util import find_spec

from bench.joined import add_shares
from bench.machine import describe
from bench.meshes import RunningMesh
from bench.peers.echoing import KINDS
from bench.peers.measured import measure
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan
from bench.workloads import PAYLOADS
from mesh.errors import MeshError

QUICK_SIZES = ("1kib", "1mib", "10mib")
UNITS = {"mb_per_s": "MB/s", "s": "s", "peak_mib": "MiB", "kept_mib": "MiB"}


def run_payload(plan: Plan, runs: Runs) -> Report:
    """Each kind and size on the mesh and on the standard library's executor in turn. ``plan.tasks``: see ``echoes``."""
    sizes = list(QUICK_SIZES if plan.quick else PAYLOADS)
    kinds = [kind for kind in KINDS if kind == "bytes" or find_spec("numpy")]
    if len(kinds) < len(KINDS):
        runs.note("NumPy arrays are left out, for numpy is not installed: type `pip install 'taskmesh[bench]'`")
    with scratch_directory() as directory:
        machine = describe(directory)
        with plan.mesh(directory) as mesh:
            plan = plan.beside(mesh)
            if not mesh.is_ours and len(kinds) == len(KINDS) and not _has_numpy(mesh, runs):
                kinds.remove("numpy")
            runs.expect(2 * len(kinds) * plan.runs)

            def measured() -> None:
                for _ in range(plan.runs):
                    for kind in kinds:
                        _echo(plan, mesh, runs, kind, sizes)

            add_shares(mesh, runs, measured)
    figures = [f"{kind}_{size}" for kind in kinds for size in sizes]
    pairs = {f"{name}_to_executor": (f"{name}_mb_per_s", f"executor_{name}_mb_per_s") for name in figures}
    settings = plan.settings(sizes=sizes, kinds=kinds, bulk_bytes=plan.tasks)
    return Report("payload", settings, machine, runs.figures, runs.ratios(pairs))


def _echo(plan: Plan, mesh: RunningMesh, runs: Runs, kind: str, sizes: list[str]) -> None:
    what = ("echo", plan.tasks, kind, ",".join(sizes))
    router = mesh.pids.get("router", [0])[0]
    runs.step(f"{kind} through the mesh")
    ours = measure("bench.peers.mesh", *what, router, environ=mesh.environ)
    runs.step(f"{kind} through the executor")
    theirs = measure("bench.peers.executor", "echo", plan.tasks, plan.concurrency, *what[2:])
    for prefix, found in ((f"{kind}_", ours), (f"executor_{kind}_", theirs)):
        for name, value in found.items():
            unit = next(unit for ending, unit in UNITS.items() if name.endswith("_" + ending))
            runs.add(prefix + name, value, unit)


def _has_numpy(mesh: RunningMesh, runs: Runs) -> bool:
    try:
        measure("bench.peers.mesh", "echo", 1, "numpy", "1kib", 0, environ=mesh.environ)
    except MeshError:
        runs.note("NumPy arrays are left out, for the workers of this mesh have no numpy")
        return False
    return True
