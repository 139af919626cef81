"""Says, once a mesh is up, what it is and how to use it."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import mesh
from mesh.errors import MeshError
from mesh.net.find import find_routers, routers_here
from mesh.net.keys import load
from mesh.settings import DEFAULT_MESH, Settings, command_of
from mesh.store.place import default_url
from mesh.store.redis.address import masked
from nodes.counts import count_of
from nodes.shown import shown_lines

PATIENCE_S = 60.0  # a worker whose app takes longer to import is up when it is up
LOOK_AGAIN_S = 0.05
ANSWER_S = 1.0  # for which one of several routers may keep the others' answers from being looked at


def print_banner(
    settings: Settings, routers: Sequence[str], worker: str, store: str | None, lan: bool = False, own: bool = False
) -> None:
    """Wait until the worker is known to a router, then print where everything is. Meant for a thread of its own.

    ``own``: to the router that was started here, whichever others there are.
    """
    logging.getLogger("mesh").addHandler(logging.NullHandler())  # else what it misses is said after a node's last word
    try:
        with mesh.Mesh("mesh", mesh=settings.mesh, router=list(routers)) as app:
            found = _wait_for_worker(app, worker, own)
    except MeshError:
        return  # the nodes say themselves what they miss
    if found is not None:
        router, endpoint, row = found
        known = find_routers(settings.mesh, routers, os.environ).found
        addresses = next((one.endpoints for one in known if one.router_id == router["id"]), (endpoint,))
        where = _store_path(settings, store)
        join = _join(settings.mesh) if lan else None
        text = block(settings.mesh, router, ", ".join(addresses), row, where, join)
        print(shown_lines(text), file=sys.stderr, flush=True)


def block(
    name: str, router: dict[str, Any], addresses: str, worker: dict[str, Any], store: str, join: str | None = None
) -> str:
    """What is printed. ``join``: what to type on other machines, where they can join."""
    own = "" if name == DEFAULT_MESH else f', mesh="{name}"'
    queues = ", ".join(worker["queues"])
    slots, tasks = count_of(worker["slots"], "slot"), count_of(worker["tasks"], "task")
    return "\n".join(
        [
            "",
            f"  mesh {name!r} is up",
            f"  router   {router['name']}  {addresses}",
            f"  worker   {worker['name']}  {slots}, queues: {queues}, {tasks} known",
            f"  store    {store}  (accepted tasks survive: {_survives(router['durability'])})",
            "",
            *(
                []
                if join is None
                else [
                    "  once on each other machine, to join (whoever has the key may run code here):",
                    f"      {join}",
                    "",
                ]
            ),
            f"  submit from any script on {'this machine' if join is None else 'a machine that has joined'}:",
            f'      from mesh import Mesh; app = Mesh("script"{own})',
            "      print(app.submit(lambda n: n * n, 12).get())",
            f"  look:  {command_of(name)} status      stop:  Ctrl-C",
            "",
        ]
    )


def _join(name: str) -> str:
    """The command with the key in it for people only: what is no terminal may be a log that others read."""
    command = command_of(name)
    if sys.stderr.isatty():
        return f"{command} join {load(name, os.environ).text}"
    return f"{command} join KEY, with the key that `{command} key show --secret` prints here"


def _survives(durability: str) -> str:
    return {"disk": "power cuts", "process": "kill -9", "memory": "nothing"}.get(durability, durability)


def _wait_for_worker(app: mesh.Mesh, worker: str, own: bool) -> tuple[dict[str, Any], str, dict[str, Any]] | None:
    """What a router that knows the worker says of itself and of it, and where it is; None where none does in time."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        here = {router.router_id for router in routers_here(app.settings.mesh, os.environ)}
        for one, body in app.connection.questions.query_each("status", ANSWER_S):
            if body is None or (own and one.id not in here):
                continue
            status = json.loads(body)
            for row in status["workers"]:
                if row["name"] == worker:
                    return status["router"], one.endpoint, row
        time.sleep(LOOK_AGAIN_S)
    return None


def _store_path(settings: Settings, store: str | None) -> str:
    if store is not None and not store.startswith("sqlite://?"):
        return masked(store)
    return masked(default_url(settings.mesh, os.environ))
