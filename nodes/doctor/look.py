"""Looks at this host: the key, the firewall."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mesh.errors import ConfigError, NoKey
from mesh.net.keys import AnyKey, MeshKey, key_path, load, node_key_text
from nodes.doctor.facts import FirewallFacts, FirewallKind, KeyFacts

COMMAND_S = 1.0
CHAINS_MAX = 8  # that a command is told for
TOOLS = {
    FirewallKind.FIREWALLD: "firewall-cmd",
    FirewallKind.UFW: "ufw",
    FirewallKind.IPTABLES: "iptables",
    FirewallKind.NFTABLES: "nft",
}
_PLACES = os.pathsep.join(["/usr/sbin", "/sbin", "/usr/local/sbin"])  # of users who are not root, too


def look_at_key(mesh: str, environ: Mapping[str, str]) -> tuple[KeyFacts, AnyKey | None]:
    """What is to be said of the key, and the key."""
    is_file = not environ.get("MESH_KEY")
    place = str(key_path(mesh, environ)) if is_file else "MESH_KEY"
    try:
        key = load(mesh, environ)
    except (NoKey, ConfigError) as error:
        return KeyFacts(place, is_file, problem=str(error)), None
    if isinstance(key, MeshKey):
        return KeyFacts(place, is_file, key.key_id), key
    return KeyFacts(place, is_file, key.key_id, str(key.role), node_key_text(key.own.public)), key


def look_at_firewall(environ: Mapping[str, str]) -> FirewallFacts:
    """The firewalls that are installed here."""
    path = os.pathsep.join([environ.get("PATH", os.defpath), _PLACES])
    tools = {kind: shutil.which(tool, path=path) for kind, tool in TOOLS.items()}
    active = {kind: _is_active(kind, tool) for kind, tool in tools.items() if tool is not None}
    nft = tools[FirewallKind.NFTABLES]
    chains = None if nft is None else _chains(nft)
    if nft is not None:
        active[FirewallKind.NFTABLES] = None if chains is None else bool(chains)
    return FirewallFacts(active, tuple(chains or ()))


def _is_active(kind: FirewallKind, tool: str) -> bool | None:
    if kind is FirewallKind.FIREWALLD:
        return _gives([tool, "--state"], "running")
    if kind is FirewallKind.UFW:
        return _says(Path("/etc/ufw/ufw.conf"), "enabled=yes")
    return _gives([tool, "-S", "INPUT"], "-A INPUT", "-P INPUT DROP")


def _chains(nft: str) -> list[str] | None:
    """The chains that what comes in has to pass and that may stop it; None where that is not known."""
    done = _run([nft, "-j", "list", "ruleset"])
    if done is None or done.returncode != 0:
        return None
    try:
        return chains_of(json.loads(done.stdout))
    except (ValueError, TypeError, LookupError, AttributeError):  # of another version
        return None


def chains_of(ruleset: dict[str, list[dict[str, dict[str, object]]]]) -> list[str]:
    """Those in what nftables lists. One that is empty and lets all in stops nobody: iptables leaves such behind."""
    items = ruleset["nftables"]
    with_rules = {_place(item["rule"], "chain") for item in items if "rule" in item}
    chains = [item["chain"] for item in items if "chain" in item and item["chain"].get("hook") == "input"]
    return [
        _place(chain, "name")
        for chain in chains
        if chain.get("type") == "filter" and chain.get("family") in ("inet", "ip", "ip6")
        if chain.get("policy") == "drop" or _place(chain, "name") in with_rules
    ][:CHAINS_MAX]


def _place(item: dict[str, object], name: str) -> str:
    return f"{item.get('family')} {item.get('table')} {item.get(name)}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _gives(command: list[str], *signs: str) -> bool | None:
    """Whether the output has one of the signs; None where the command fails, as it does for who is not root."""
    done = _run(command)
    if done is None:
        return None
    if done.returncode != 0:
        return False if "not running" in done.stdout + done.stderr else None
    return any(sign in done.stdout for sign in signs)


def _says(path: Path, line: str) -> bool | None:
    """Whether a file has a line, in whichever case."""
    try:
        return line in path.read_text().lower().splitlines()
    except OSError:
        return None
