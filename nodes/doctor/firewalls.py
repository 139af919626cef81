"""Which firewall a host has, and what to type so that it lets a mesh pass. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.net.lan import PORTS
from mesh.net.mdns import MDNS_PORT
from nodes.doctor.facts import FirewallFacts, FirewallKind
from nodes.doctor.findings import Finding, ok


def likely(facts: FirewallFacts) -> FirewallKind | None:
    """The one that is active, else one that may be: those that write rules for others come first."""
    for wanted in (True, None):
        for kind in FirewallKind:
            if facts.active.get(kind, False) is wanted:
                return kind
    return None


def allowing(kind: FirewallKind, ports: Sequence[int] = PORTS) -> str:
    """The command that lets in routers' ports and what is announced."""
    first, last = ports[0], ports[-1]
    dash = str(first) if first == last else f"{first}-{last}"
    colon = dash.replace("-", ":")
    if kind is FirewallKind.FIREWALLD:
        return (
            f"sudo firewall-cmd --permanent --add-port={dash}/tcp --add-port={MDNS_PORT}/udp "
            "&& sudo firewall-cmd --reload"
        )
    if kind is FirewallKind.UFW:
        return f"sudo ufw allow {colon}/tcp && sudo ufw allow {MDNS_PORT}/udp"
    if kind is FirewallKind.NFTABLES:
        return (
            f"sudo nft insert rule inet filter input tcp dport {dash} accept "
            f"&& sudo nft insert rule inet filter input udp dport {MDNS_PORT} accept"
        )
    both = [f"-p tcp --dport {colon}", f"-p udp --dport {MDNS_PORT}"]
    return " && ".join(f"sudo {tool} -I INPUT {rule} -j ACCEPT" for tool in ("iptables", "ip6tables") for rule in both)


def advice(facts: FirewallFacts, ports: Sequence[int] = PORTS) -> str:
    """What to type, where a firewall of this kind is in the way. The host in question may be another than this one."""
    kind = likely(facts)
    if kind is not None:
        return f"with {kind}, as here: {allowing(kind, ports)}"
    return f"with ufw: {allowing(FirewallKind.UFW, ports)}; with firewalld: {allowing(FirewallKind.FIREWALLD, ports)}"


def judge(facts: FirewallFacts) -> list[Finding]:
    """That there is one is no fault; who runs a router behind it must know the command."""
    kind = likely(facts)
    if kind is None:
        return [ok("firewall", "none is active on this machine, as far as its user can see")]
    how = "is active" if facts.active[kind] else "is installed; only root sees whether it is active"
    return [ok("firewall", f"{kind} {how}. To let nodes in to a router here: {allowing(kind)}")]
