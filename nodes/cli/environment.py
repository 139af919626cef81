"""What of the environment every verb that takes part in a mesh looks at before anything else."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence

from mesh.errors import ConfigError, Unavailable
from mesh.model import Role
from mesh.net.find import find_routers, named_routers
from mesh.net.keys import key_of_environment, key_path, load, read_key
from mesh.net.names import unnamed
from mesh.settings import VARIABLES, command_of
from nodes.cli.invocation import Invocation

NAMED_S = 2.0  # for looking up the names of routers


def check_key(mesh: str, routers: Sequence[str] | None, role: Role) -> None:
    """Look at the key, unless a router is here that asks for none. Raises ``ConfigError``, ``NoKey``.

    Where neither a key nor any router is known, one may be started here just now, and it is waited for.
    """
    found = find_routers(mesh, routers, os.environ).found
    endpoints = [endpoint for router in found for endpoint in router.endpoints]
    if any(endpoint.startswith("ipc://") for endpoint in endpoints):
        return
    key = key_of_environment(os.environ) or read_key(key_path(mesh, os.environ))
    if key is not None or endpoints:
        (key or load(mesh, os.environ)).entry(role, command_of(mesh))


def check_environment(invocation: Invocation) -> None:
    """Say which variables are none of ours. Raises ``ConfigError`` for a ``MESH_KEY`` that is none.

    Also where no key is needed: it would be some day.
    """
    key_of_environment(os.environ)
    if invocation.supervised:  # its supervisor has said so
        return
    for name in sorted(os.environ):
        if name.startswith("MESH_") and name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, 1)
            invocation.note(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))


def check_named(routers: Sequence[str]) -> None:
    """Look whether the routers that are named, here or in MESH_ROUTERS, have hosts; one that has is enough.

    Raises ``ConfigError``, and ``Unavailable`` where it cannot be known now.
    """
    named = named_routers(routers, os.environ)
    if named is None:
        return
    endpoints = [endpoint for found in named.found for endpoint in found.endpoints]
    problems = unnamed(endpoints, NAMED_S)
    if set(endpoints) <= set(problems):
        text = "; ".join(f"name not known: {endpoint} ({problem.why})" for endpoint, problem in problems.items())
        kind = Unavailable if all(problem.for_now for problem in problems.values()) else ConfigError
        raise kind(f"{text}. Is the address of the router right?")
