"""The app through which a verb talks to the mesh."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mesh import Mesh
from mesh.model import Role
from mesh.net.find import find_routers
from mesh.net.keys import load
from nodes.cli.environment import check_environment, check_named
from nodes.cli.invocation import Invocation
from nodes.loader import load_app


@contextmanager
def client(invocation: Invocation, routers: Sequence[str]) -> Iterator[Any]:
    """The app that -A names, or one without tasks, joined to the mesh this command is about. Raises ``ConfigError``."""
    check_environment(invocation)
    app = load_app(invocation.app) if invocation.app else Mesh("mesh")
    # A verb waits itself until what it submits is accepted: what is not by then shall not hold up its end.
    app.settings = app.settings.with_overrides(mesh=invocation.mesh, exit_flush_s=0.0)
    if routers:
        app.routers = [*routers]
    # What is wrong with an address, a directory or the key shows here, not in a wait.
    check_named(app.routers)
    search = find_routers(app.settings.mesh, app.routers, os.environ)
    best = [found.endpoints[0] for found in search.found if found.endpoints]
    if best and not any(endpoint.startswith("ipc://") for endpoint in best):
        load(app.settings.mesh, os.environ).entry(Role.CLIENT)
    logging.getLogger("mesh").addHandler(logging.NullHandler())  # errors are raised, and told in one line
    try:
        yield app
    finally:
        app.close()
