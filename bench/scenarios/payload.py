"""How fast payloads go there and back, from 1 KiB to 100 MiB, and what the router keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec

from bench.joined import add_shares
from bench.machine import describe
from bench.meshes import RunningMesh
from bench.peers.echoing import KINDS
from bench.peers.measured import measure
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan, Turn, take_turns
from bench.workloads import PAYLOADS
from mesh.errors import MeshError

QUICK_SIZES = ("1kib", "1mib", "10mib")
STREAMED_SIZES = ("1mib", "10mib", "100mib")
UNITS = {"mb_per_s": "MB/s", "s": "s", "peak_mib": "MiB", "kept_mib": "MiB"}


def run_payload(plan: Plan, runs: Runs) -> Report:
    """Each kind and size on the mesh and on the standard library's executor in turn. ``plan.tasks``: see ``echoes``.

    Large ones also on a mesh whose nodes all come by tcp, so that it streams them, beside the floor of that.
    """
    sizes = list(QUICK_SIZES if plan.quick else PAYLOADS)
    kinds = [kind for kind in KINDS if kind == "bytes" or find_spec("numpy")]
    if len(kinds) < len(KINDS):
        runs.note("NumPy arrays are left out, for numpy is not installed: type `pip install 'taskmesh[bench]'`")
    with scratch_directory() as directory, ExitStack() as meshes:
        machine = describe(directory)
        mesh = meshes.enter_context(plan.mesh(directory))
        plan = plan.beside(mesh)
        if not mesh.is_ours and len(kinds) == len(KINDS) and not _has_numpy(mesh, runs):
            kinds.remove("numpy")
        turns = []
        for kind in kinds:
            turns += [_of_mesh(plan, mesh, kind, sizes, runs), _of_executor(plan, kind, sizes, runs)]
        if mesh.is_ours:
            streaming = meshes.enter_context(plan.one_more(directory / "streaming", tcp=True))
            streamed = [size for size in sizes if size in STREAMED_SIZES]
            turns += [_of_mesh(plan, streaming, kind, streamed, runs, streams=True) for kind in kinds]
            turns.append(_of_floor(plan, streamed, runs))
        add_shares(mesh, runs, lambda: take_turns(turns, plan.runs, runs))
    settings = plan.settings(sizes=sizes, kinds=kinds, bulk_bytes=plan.tasks)
    return Report("payload", settings, machine, runs.figures, runs.ratios(_pairs(kinds, sizes)), notes=runs.notes)


def _pairs(kinds: Sequence[str], sizes: Sequence[str]) -> dict[str, tuple[str, str]]:
    names = [(f"{kind}_{size}", size) for kind in kinds for size in sizes]
    return {f"{what}_to_executor": (f"{what}_mb_per_s", f"executor_{what}_mb_per_s") for what, _ in names} | {
        f"{what}_streamed_to_floor": (f"{what}_streamed_mb_per_s", f"floor_{size}_mb_per_s") for what, size in names
    }


def _turn(
    text: str, figure: str, runs: Runs, module: str, *what: object, environ: dict[str, str] | None = None
) -> Turn:
    """``figure``: how figures are called by a size and the rest of their names."""

    def measured() -> None:
        for name, value in measure(module, *what, environ=environ).items():
            size, _, rest = name.partition("_")
            unit = next(unit for ending, unit in UNITS.items() if name.endswith("_" + ending))
            runs.add(figure.format(size=size, rest=rest), value, unit)

    return Turn(text, measured)


def _of_mesh(
    plan: Plan, mesh: RunningMesh, kind: str, sizes: Sequence[str], runs: Runs, *, streams: bool = False
) -> Turn:
    text = f"{kind} through the mesh" + " over tcp" * streams
    figure = f"{kind}_{{size}}_" + "streamed_" * streams + "{rest}"
    what = ("echo", plan.tasks, kind, ",".join(sizes), mesh.pids.get("router", [0])[0])
    return _turn(text, figure, runs, "bench.peers.mesh", *what, environ=mesh.environ)


def _of_executor(plan: Plan, kind: str, sizes: Sequence[str], runs: Runs) -> Turn:
    what = ("echo", plan.tasks, plan.concurrency, kind, ",".join(sizes))
    figure = f"executor_{kind}_{{size}}_{{rest}}"
    return _turn(f"{kind} through the executor", figure, runs, "bench.peers.executor", *what)


def _of_floor(plan: Plan, sizes: Sequence[str], runs: Runs) -> Turn:
    what = (plan.tasks, ",".join(sizes))
    return _turn("frames through bare ZeroMQ over tcp", "floor_{size}_{rest}", runs, "bench.peers.floor_stream", *what)


def _has_numpy(mesh: RunningMesh, runs: Runs) -> bool:
    try:
        measure("bench.peers.mesh", "echo", 1, "numpy", "1kib", 0, environ=mesh.environ)
    except MeshError:
        runs.note("NumPy arrays are left out, for the workers of this mesh have no numpy")
        return False
    return True
