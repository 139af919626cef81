"""Does multicast leave this host and come in, and who is heard? Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from mesh.net.endpoints import host_of
from mesh.net.find import Source
from mesh.net.interfaces import is_for_others
from mesh.net.lan import PORTS
from mesh.net.namesakes import Namesake, each_once
from mesh.net.namesakes import announced as described
from nodes.doctor import firewalls
from nodes.doctor.facts import Announced, FirewallFacts, Greeting, MulticastFacts, RouterFacts
from nodes.doctor.findings import JOIN, Finding, failure, ok, warning

BY_ADDRESS = f"give nodes an address, `--router HOST:{PORTS[0]}` or MESH_ROUTERS: all but being found by itself works"


class Ours(NamedTuple):
    """The mesh that is looked for; ``key_id`` is empty where there is no key."""

    mesh: str
    key_id: str


def judge(
    looks: Sequence[MulticastFacts],
    own_addresses: Collection[str],
    mesh: Ours,
    routers: Sequence[RouterFacts],
    firewall: FirewallFacts,
) -> list[Finding]:
    """What was heard, and whether it is what there should be."""
    if not looks:
        return []
    findings = [_of_look(look, firewall) for look in looks]
    announced = {one for look in looks for one in look.announced}
    others = {one for one in announced if one.source not in own_addresses}
    ours = sorted({one.source for one in others if one.key_id == mesh.key_id})
    namesakes = each_once(Namesake(one.key_id, one.source) for one in announced if is_namesake(one, mesh))
    foreign = sorted({one.key_id for one in announced if one.key_id != mesh.key_id and not is_namesake(one, mesh)})
    if ours:
        findings.append(ok("multicast", f"routers of this mesh are heard from {', '.join(ours)}"))
    if any(one.key_id == mesh.key_id and one.source in own_addresses for one in announced):
        findings.append(ok("multicast", "a router on this machine is announced"))
    if foreign:
        findings.append(ok("multicast", f"other meshes are here, too: key {', '.join(foreign)}"))
    findings += [_of_namesake(namesake, mesh) for namesake in namesakes]
    silent = [router for router in routers if _answers_unheard(router, own_addresses)]
    if silent and not ours:
        findings.append(
            warning(
                "multicast",
                f"{', '.join(router.named for router in silent)} answers over TCP and is not heard by multicast: it "
                "does not pass between the two machines, or that router listens without --lan",
                f"{BY_ADDRESS}. If a firewall is in the way: here, {firewalls.advice(firewall)}; on that machine, "
                f"{firewalls.advice_there()}",
            )
        )
    elif not others:
        findings.append(ok("multicast", "no other machine announces a router: whether multicast passes is not known"))
    return findings


def is_mistaken(looks: Sequence[MulticastFacts], mesh: Ours) -> bool:
    """Whether another mesh of this name is announced, and ours is not."""
    announced = [one for look in looks for one in look.announced]
    return any(is_namesake(one, mesh) for one in announced) and mesh.key_id not in {one.key_id for one in announced}


def is_namesake(announced: Announced, mesh: Ours) -> bool:
    """Whether another mesh has this name: mostly it is the key here that is wrong."""
    return bool(mesh.key_id) and announced.mesh == mesh.mesh and announced.key_id != mesh.key_id


def _of_namesake(namesake: Namesake, mesh: Ours) -> Finding:
    text = f"{described(mesh.mesh, namesake)}, and key {mesh.key_id} is here"
    return warning("multicast", text, f"{JOIN}. Where both are to be, give one of them another --mesh name")


def _of_look(look: MulticastFacts, firewall: FirewallFacts) -> Finding:
    where = f"{look.interface} ({look.address})"
    if look.problem:
        return failure("multicast", f"{where}: {look.problem}", BY_ADDRESS)
    if not look.own_heard:
        return failure(
            "multicast",
            f"{where}: what is sent by multicast does not even come back on this machine",
            f"{firewalls.advice(firewall)}. Else {BY_ADDRESS}",
        )
    return ok("multicast", f"{where}: goes out and comes in")


def _answers_unheard(router: RouterFacts, own_addresses: Collection[str]) -> bool:
    """Whether it is on another host and has let us in, and is not known by what it announces."""
    return router.source not in (Source.HERE, Source.ANNOUNCED) and any(
        address.greeting is Greeting.DONE
        and is_for_others(address.endpoint)
        and host_of(address.endpoint) not in own_addresses
        for address in router.addresses
    )
