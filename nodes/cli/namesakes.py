"""Another mesh of the same name on the LAN: a machine that has not joined it would make a second one, unseen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module

from mesh.errors import ConfigError
from mesh.net.adapters import local_adapters
from mesh.net.interfaces import lan_addresses
from mesh.net.keys import key_of_environment, key_path
from mesh.net.namesakes import Namesake, announced
from mesh.settings import command_of

LISTEN_S = 0.8  # a router answers a question in 0.02 to 0.12 s; it is asked again after 0.6 s


def check_alone(mesh: str, interfaces: Sequence[str]) -> None:
    """Where there is no key, look whether others announce a mesh of this name. Raises ``ConfigError`` where they do."""
    if key_of_environment(os.environ) is not None or key_path(mesh, os.environ).exists():
        return
    ask = import_module("mesh.net.mdns_look").ask  # zeroconf takes 0.1 s to import, and is needed for this start only
    for look in ask(lan_addresses(local_adapters(), interfaces), LISTEN_S):
        for key_id, source in sorted(look.announced):
            if look.names.get(key_id) == mesh:
                named = command_of(mesh)
                raise ConfigError(
                    f"{announced(mesh, Namesake(key_id, source))}, and no key of it is here. "
                    f"To join it, type `{named} join`, with the key that `{named} key show --secret` prints there, and "
                    f"this again; for another mesh, choose another --mesh name, or type `{named} key new` first"
                )
