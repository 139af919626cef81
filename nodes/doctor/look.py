"""Looks at this host: the key, the firewall."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mesh.errors import ConfigError, NoKey
from mesh.net.keys import AnyKey, MeshKey, key_path, load, node_key_text
from nodes.doctor.facts import FirewallFacts, FirewallKind, KeyFacts

COMMAND_S = 1.0
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
    return FirewallFacts({kind: _is_active(kind, tool) for kind, tool in tools.items() if tool is not None})


def _is_active(kind: FirewallKind, tool: str) -> bool | None:
    if kind is FirewallKind.FIREWALLD:
        return _gives([tool, "--state"], "running")
    if kind is FirewallKind.UFW:
        return _says(Path("/etc/ufw/ufw.conf"), "enabled=yes")
    if kind is FirewallKind.NFTABLES:
        return _gives([tool, "list", "ruleset"], "hook input")
    return _gives([tool, "-S", "INPUT"], "-A INPUT", "-P INPUT DROP")


def _gives(command: list[str], *signs: str) -> bool | None:
    """Whether the output has one of the signs; None where the command fails, as it does for who is not root."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S)
    except (OSError, subprocess.TimeoutExpired):
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
