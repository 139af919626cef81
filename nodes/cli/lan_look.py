"""What a router that is to listen to the LAN finds there: what will keep others from it is mostly known at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module

from mesh.errors import ConfigError, NoKey
from mesh.net.adapters import local_adapters
from mesh.net.interfaces import LanAddress, lan_addresses
from mesh.net.keys import load
from mesh.net.lan import PORTS
from mesh.net.namesakes import Namesake, announced, each_once, mistaken
from mesh.settings import command_of

LISTEN_S = 0.8  # a router answers a question in 0.02 to 0.12 s; it is asked again after 0.6 s


def look_at_lan(mesh: str, interfaces: Sequence[str], note: Callable[[str], None]) -> None:
    """``note`` what others will miss. Where there is no key, look first whether others announce a mesh of this name.

    Raises ``ConfigError`` where they do: a machine that has not joined would make a second mesh, unseen.
    """
    places = lan_addresses(local_adapters(), interfaces)
    if not places:
        note("there is no address yet that others can reach: other machines find the router once the network is up")
        return
    key_id = _key_id(mesh)
    if key_id is not None:
        threading.Thread(target=_look, args=(mesh, key_id, places, note), name="mesh-lan-look", daemon=True).start()
        return
    namesakes = _look(mesh, "", places, note)
    if namesakes:
        named = command_of(mesh)
        raise ConfigError(
            f"{announced(mesh, namesakes[0])}, and no key of it is here. "
            f"To join it, type `{named} join`, with the key that `{named} key show --secret` prints there, and "
            f"this again; for another mesh, choose another --mesh name, or type `{named} key new` first"
        )


def _look(mesh: str, key_id: str, places: Sequence[LanAddress], note: Callable[[str], None]) -> list[Namesake]:
    ask = import_module("mesh.net.mdns_look").ask  # zeroconf takes 0.1 s to import, and is needed for this start only
    looks = ask(places, LISTEN_S)
    heard = {Namesake(*one) for look in looks for one in look.announced if look.names.get(one[0]) == mesh}
    namesakes = each_once(one for one in heard if one.key_id != key_id)
    if namesakes and key_id:
        note(f"{mistaken(mesh, key_id, namesakes)}. The router here is of another mesh")
    if not any(look.own_heard for look in looks):
        where = ", ".join(dict.fromkeys(place.interface for place in places))
        note(
            f"multicast does not come back on {where}: machines will not find each other by themselves; give them "
            f"--router HOST:{PORTS[0]}, or see `{command_of(mesh)} doctor`"
        )
    return namesakes


def _key_id(mesh: str) -> str | None:
    with suppress(NoKey):
        return load(mesh, os.environ).key_id
    return None
