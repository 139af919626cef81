"""Which firewall a host has, and what to type so that it lets a mesh pass. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.net.lan import PORTS
from mesh.net.mdns import MDNS_PORT
from nodes.doctor.facts import FirewallFacts, FirewallKind
from nodes.doctor.findings import Finding, ok

NFT_CHAIN = "inet filter input"  # what it is mostly called, where only root could tell


def likely(facts: FirewallFacts) -> FirewallKind | None:
    """The one that is active, else one that may be: those that write rules for others come first."""
    for wanted in (True, None):
        for kind in FirewallKind:
            if facts.active.get(kind, False) is wanted:
                return kind
    return None


def allowing(kind: FirewallKind, ports: Sequence[int] = PORTS, chains: Sequence[str] = ()) -> str:
    """The command that lets in routers' ports and what is announced; ``chains``: of nftables, where they are known."""
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
        # Who is accepted by one chain has to pass the next one, too.
        return " && ".join(
            f"sudo nft insert rule {chain} {rule} accept"
            for chain in chains or [NFT_CHAIN]
            for rule in (f"tcp dport {dash}", f"udp dport {MDNS_PORT}")
        )
    both = [f"-p tcp --dport {colon}", f"-p udp --dport {MDNS_PORT}"]
    return " && ".join(f"sudo {tool} -I INPUT {rule} -j ACCEPT" for tool in ("iptables", "ip6tables") for rule in both)


def advice(facts: FirewallFacts) -> str:
    """What to type on this host, where its firewall is in the way."""
    kind = likely(facts)
    if kind is not None:
        return f"with {kind}, as here: {allowing(kind, chains=facts.chains)}"
    return f"with ufw: {allowing(FirewallKind.UFW)}; with firewalld: {allowing(FirewallKind.FIREWALLD)}"


def advice_there(ports: Sequence[int] = PORTS) -> str:
    """What to do on another host, of whose firewall nothing is known here."""
    opened = str(ports[0]) if len(ports) == 1 else f"{ports[0]}-{ports[-1]}"
    return f"type `mesh doctor`: it names the firewall, and the command that lets in TCP {opened} and UDP {MDNS_PORT}"


def judge(facts: FirewallFacts) -> list[Finding]:
    """That there is one is no fault; who runs a router behind it must know the command."""
    kind = likely(facts)
    if kind is None:
        return [ok("firewall", "none is active on this machine, as far as its user can see")]
    how = "is active" if facts.active[kind] else "is installed; only root sees whether it is active"
    return [ok("firewall", f"{kind} {how}. To let nodes in to a router here: {allowing(kind, chains=facts.chains)}")]
