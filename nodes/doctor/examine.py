"""Makes all checks from this host, side by side where they wait, and judges what came of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version

from mesh.messages import PROTOCOL
from mesh.net.adapters import local_adapters
from mesh.net.find import Found, Search, Source, find_routers, named_routers
from mesh.net.interfaces import LanAddress, lan_addresses
from mesh.net.keys import AnyKey
from mesh.net.mdns import Browser
from mesh.net.mdns_look import ask
from mesh.net.runtime_dir import RuntimeDir
from mesh.settings import Settings, command_of
from nodes.doctor import firewalls, interfaces, keys, multicast, routers
from nodes.doctor.facts import Announced, MulticastFacts, RouterFacts
from nodes.doctor.findings import Finding
from nodes.doctor.look import look_at_firewall, look_at_key
from nodes.doctor.multicast import Ours
from nodes.doctor.talk import talk, this_host

LISTEN_S = 2.0  # for multicast, and for routers that announce themselves
FIRST_S_MAX = 5.0  # where the routers that were found took longer, those that they name are not looked at
ROUTERS_MAX = 16  # looked at


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: addresses of routers, interfaces, the key id that there should be."""

    routers: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    key_id: str | None = None


def examine(settings: Settings, wanted: Wanted) -> list[Finding]:
    """Less than ten seconds. Raises ``ConfigError`` for what is wanted and cannot be."""
    began = time.monotonic()
    named_routers(wanted.routers, os.environ)
    adapters = local_adapters()
    places = lan_addresses(adapters, wanted.interfaces)
    key_facts, key = look_at_key(settings.mesh, os.environ)
    host = this_host(version("taskmesh"), PROTOCOL)
    with ThreadPoolExecutor(ROUTERS_MAX) as pool:
        looking = pool.submit(look_at_firewall, os.environ)
        asking = pool.submit(_ask, places)
        search = _search(settings, wanted, key)
        found = search.found[:ROUTERS_MAX]
        looks = asking.result()
        examined = list(pool.map(lambda one: talk(one, key, host), found))
        if time.monotonic() < began + FIRST_S_MAX:
            examined += _each_once(examined, pool.map(lambda one: talk(one, key, host), _told(examined)))
    firewall = looking.result()
    examined = _with_records(settings, examined)
    own = {str(address.ip) for adapter in adapters for address in adapter.addresses}
    ours = Ours(settings.mesh, key_facts.key_id)
    findings = [
        *keys.judge(key_facts, wanted.key_id),
        *interfaces.judge(adapters, wanted.interfaces),
        *firewalls.judge(firewall),
        *multicast.judge(looks, own, ours, examined, firewall),
        *routers.judge_search(examined, search.tried, mistaken=multicast.is_mistaken(looks, ours)),
        *(finding for one in examined for finding in routers.judge(one, host, key_facts)),
    ]
    # Those who judge know of one mesh, and need not know what it is called.
    typed = f"`{command_of(settings.mesh)} "
    return [replace(finding, advice=finding.advice.replace("`mesh ", typed)) for finding in findings]


def _ask(places: Sequence[LanAddress]) -> list[MulticastFacts]:
    return [
        MulticastFacts(
            look.place.interface,
            look.place.text,
            look.own_heard,
            tuple(Announced(*one, look.names.get(one[0], "")) for one in sorted(look.announced)),
            look.problem,
        )
        for look in ask(places, LISTEN_S)
    ]


def _search(settings: Settings, wanted: Wanted, key: AnyKey | None) -> Search:
    """All that is there after a while, for each is to be looked at; those that are named need none."""
    if key is None or named_routers(wanted.routers, os.environ) is not None:
        return find_routers(settings.mesh, wanted.routers, os.environ)
    browser = Browser(key.key_id, wanted.interfaces)
    try:
        time.sleep(LISTEN_S)
        return find_routers(settings.mesh, wanted.routers, os.environ, browser)
    finally:
        browser.close()


def _told(examined: Sequence[RouterFacts]) -> list[Found]:
    """What the routers that answered say of others, where that is new."""
    known = {address.endpoint for router in examined for address in router.addresses}
    told = dict.fromkeys(endpoint for router in examined for endpoint in router.told if endpoint not in known)
    return [Found((endpoint,), None, "named by a router", Source.TOLD) for endpoint in [*told][:ROUTERS_MAX]]


def _each_once(examined: Sequence[RouterFacts], more: Iterable[RouterFacts]) -> list[RouterFacts]:
    """Each router once, for it may have several addresses."""
    seen = {router.router_id for router in examined}
    new = []
    for router in more:
        if router.router_id is None or router.router_id not in seen:
            seen.add(router.router_id)
            new.append(router)
    return new


def _with_records(settings: Settings, examined: Sequence[RouterFacts]) -> list[RouterFacts]:
    """Each with the key of its record on this host, where it has one."""
    key_ids = {record.router_id: record.key_id for record in RuntimeDir(os.environ).routers(settings.mesh)}
    return [replace(one, key_id=key_ids.get(one.router_id or "")) for one in examined]
