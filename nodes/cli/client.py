"""The app through which a verb talks to the mesh."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mesh import Mesh
from mesh.model import Role
from nodes.cli.environment import check_environment, check_key, check_named
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
    check_key(app.settings.mesh, app.routers, Role.CLIENT)
    logging.getLogger("mesh").addHandler(logging.NullHandler())  # errors are raised, and told in one line
    try:
        yield app
    finally:
        app.close()
