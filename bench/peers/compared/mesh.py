"""This mesh: a router and a worker node, as ``bench.meshes`` starts them for the other scenarios."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from bench.meshes import running_mesh
from bench.peers.compared import work
from bench.peers.compared.adapter import PATIENCE_S, Adapter, Client, Workers
from bench.peers.compared.command import run
from bench.tasks import app

APP = "bench.peers.compared.mesh"
LEVEL = os.environ.get("BENCH_LEVEL", "disk")

functions = {f.__name__: app.task(f) for f in (work.nothing, work.echo, work.hold)}


class Meshes(Client):
    def submit(self, name: str, *arguments: Any) -> Any:
        return functions[name].delay(*arguments)

    def result(self, handle: Any) -> Any:
        return handle.get(timeout=PATIENCE_S)

    def bulk(self, count: int) -> None:
        assert sum(1 for _ in app.map(functions["nothing"], range(count), timeout=PATIENCE_S)) == count


class TheMesh(Adapter):
    packages = ("taskmesh", "pyzmq")
    settings: ClassVar = {
        "workers": "one worker node with as many executors as there are workers; all settings are the defaults",
        "in bulk": "app.map(), which chooses its chunks by itself",
        "accepted tasks": f"at level {LEVEL}, acknowledged when done",
    }

    @contextmanager
    def workers(self, count: int) -> Iterator[Workers]:
        with running_mesh(Path(os.environ["BENCH_DIRECTORY"]), level=LEVEL, concurrency=count, app=APP) as mesh:
            ours = {name: value for name, value in mesh.environ.items() if name.startswith("MESH_")}
            yield Workers(ours, list(mesh.nodes.values()))

    @contextmanager
    def client(self) -> Iterator[Client]:
        with app:
            yield Meshes()


if __name__ == "__main__":
    run(TheMesh())
