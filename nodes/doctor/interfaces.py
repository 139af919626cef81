"""Which addresses a router on this host would have on the LAN, and why not the others. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.net.interfaces import Adapter, lan_addresses, why_passed_over
from nodes.doctor.findings import Finding, ok, warning


def judge(adapters: Sequence[Adapter], named: Sequence[str]) -> list[Finding]:
    """Raises ``ConfigError`` for a name that no interface has."""
    chosen = lan_addresses(adapters, named)
    findings = []
    for adapter in adapters:
        addresses = [place.text for place in chosen if place.interface == adapter.name]
        if addresses:
            findings.append(ok("interface", f"{adapter.name}: {', '.join(addresses)}"))
        else:
            findings.append(ok("interface", f"{adapter.name} is passed over: {_why(adapter, named)}"))
    if not chosen:
        findings.append(
            warning(
                "interface",
                "no address that others may reach: a router here can be used on this machine only",
                "connect the network, or name an interface with --interface",
            )
        )
    return findings


def _why(adapter: Adapter, named: Sequence[str]) -> str:
    if not adapter.is_up:
        return "it is down"
    if named and adapter.name not in named:
        return "--interface names others"
    why = None if named else why_passed_over(adapter.name)
    if why is not None:
        return f"{why}; --interface {adapter.name} uses it all the same"
    if any(address.ip.is_loopback for address in adapter.addresses):
        return "this machine alone reaches it"
    return "it has no address that others may reach" if adapter.addresses else "it has no address"
