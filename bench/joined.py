"""A mesh that runs already, here or on other machines: measured as any client may use it, and left as it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.meshes import RunningMesh
from bench.peers.measured import measure
from bench.progress import Runs
from bench.tasks import SHIP
from bench.workloads import percent_shares
from mesh import Mesh
from mesh.errors import ConfigError, NoKey, Overloaded, Unavailable
from mesh.model import Role
from mesh.net.runtime_dir import RuntimeDir
from mesh.settings import Settings
from nodes.cli.environment import check_key


@dataclass(frozen=True)
class Running:
    """Which mesh; ``routers`` are addresses, where they are not to be looked for."""

    name: str | None = None
    routers: tuple[str, ...] = ()

    def mesh(self, directory: Path) -> RunningMesh:
        """The way there. Raises ``ConfigError``; ``Unavailable`` where it has no worker, no room or no answer."""
        check_key(Settings.from_environment(mesh=self.name).mesh, self.routers, Role.CLIENT)
        # Where its store is, only its router knows.
        environ = {name: value for name, value in os.environ.items() if name != "MESH_STORE"} | {SHIP: "1"}
        if self.name:
            environ["MESH_NAME"] = self.name
        if self.routers:
            environ["MESH_ROUTERS"] = ",".join(self.routers)
        try:
            with Mesh("bench", mesh=self.name, router=self.routers) as app:
                status = app.status()
        except (Unavailable, NoKey) as error:
            here = [] if self.routers else meshes_here(environ)
            raise type(error)(f"{error} Meshes that run here: {', '.join(here)}" if here else str(error)) from None
        if full := status["router"]["store_full"]:
            raise Overloaded(f"this mesh accepts nothing: {full}. Make room on the disk of its router")
        if not status["workers"]:
            raise Unavailable("no worker is connected to this mesh: start one with `mesh worker`")
        return RunningMesh(directory, environ, level=status["router"]["durability"])


def meshes_here(environ: Mapping[str, str]) -> list[str]:
    """The names of the meshes whose routers this user runs on this machine."""
    directory = RuntimeDir(environ)
    names = {path.name.partition(".")[0] for path in directory.path.glob("*.json")}
    found = []
    for name in sorted(names):
        with suppress(ConfigError):  # no name of a mesh: the file is somebody else's
            found += [name] if directory.routers(name) else []
    return found


def slots(environ: dict[str, str]) -> dict[str, float]:
    """How many tasks each worker of a mesh runs at a time."""
    return measure("bench.peers.mesh", "slots", environ=environ)


def add_shares(mesh: RunningMesh, runs: Runs, measured: Callable[[], None]) -> None:
    """Call ``measured``, and note which worker has finished how much of all that was finished meanwhile."""
    if mesh.is_ours:
        measured()
        return
    before = measure("bench.peers.mesh", "settled", environ=mesh.environ)
    measured()
    after = measure("bench.peers.mesh", "settled", environ=mesh.environ)
    for name, share in percent_shares(before, after).items():
        runs.add(f"share_{name}", share, "%")
