"""What `mesh doctor` says of what keeps hosts apart."""

from __future__ import annotations

import json
import shutil
import time
from typing import Any

import pytest

from mesh.net.keys import MeshKey, new_key
from tests.cluster import wait_until
from tests.lan.hosts import Host, Lan

pytestmark = pytest.mark.lan

ALL_S_MAX = 10.0

SHUT = {
    "nft": [
        ["nft", "add table inet filter"],
        ["nft", "add chain inet filter input { type filter hook input priority 0; policy drop; }"],
        ["nft", "add rule inet filter input ct state established,related accept"],
        ["nft", "add rule inet filter input iif lo accept"],
        ["nft", "add rule inet filter input icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"],
    ],
    "iptables": [
        rule
        for command in ("iptables", "ip6tables")
        for rule in (
            [command, "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"],
            [command, "-A", "INPUT", "-i", "lo", "-j", "ACCEPT"],
            [command, "-A", "INPUT", "-p", "icmpv6" if command == "ip6tables" else "icmp", "-j", "ACCEPT"],
            [command, "-P", "INPUT", "DROP"],
        )
    ],
}
"""As firewalls that let in answers only."""


def router(host: Host, key: MeshKey) -> None:
    host.start(["mesh", "router", "--lan", "--store", "memory://"], MESH_KEY=key.text).wait_said("is up")


def doctor(host: Host, key: MeshKey, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    began = time.monotonic()
    done = host.run(["mesh", "doctor", "--json", *arguments], environ={"MESH_KEY": key.text}, check=False)
    assert time.monotonic() - began < ALL_S_MAX
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)["findings"]


def faults(findings: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(f["check"], f["text"], f["advice"]) for f in findings if f["grade"] != "ok"]


def texts(findings: list[dict[str, Any]], check: str) -> str:
    return "\n".join(f["text"] for f in findings if f["check"] == check)


def drop_answers(host: Host, port: int) -> None:
    """As a firewall that drops what comes in for a port: nothing comes back from it."""
    for family in ("-4", "-6"):
        host.ip(family, "rule", "add", "ipproto", "tcp", "sport", str(port), "blackhole")


def test_two_hosts_between_which_all_is_well(lan: Lan) -> None:
    a, b, key = lan.host("a"), lan.host("b"), new_key()
    router(a, key)
    code, found = doctor(b, key, "--expect", key.key_id)
    assert code == 0, found
    assert [check for check, _, _ in faults(found)] == ["worker"]  # there is none
    assert f"routers of this mesh are heard from {a.address}" in texts(found, "multicast")
    assert f"tcp://{a.address}:6374 (announced on the LAN) answers, and has the same key" in texts(found, "router")
    assert "give or take" in texts(found, "clock") and "MB/s" in texts(found, "bandwidth")
    print("\n" + b.run(["mesh", "doctor"], environ={"MESH_KEY": key.text}).stdout)


def test_a_router_that_is_named_by_another_is_looked_at_too(lan: Lan) -> None:
    a, b, c, key = lan.host("a"), lan.host("b"), lan.host("c"), new_key()
    router(a, key)
    router(b, key)

    def both() -> bool:
        found = doctor(c, key, "--router", f"{a.address}:6374")[1]
        return "(named by a router) answers, and has the same key: router@b" in texts(found, "router")

    wait_until(both, 20.0, "a has met b, and says so")


def test_the_host_of_the_router_sees_that_it_is_announced(lan: Lan) -> None:
    a, key = lan.host("a"), new_key()
    router(a, key)
    assert "a router on this machine is announced" in texts(doctor(a, key)[1], "multicast")


def test_multicast_that_is_blocked_is_told_with_what_to_do(lan: Lan) -> None:
    a, b, key = lan.host("a"), lan.host("b"), new_key()
    lan.block_multicast()
    router(a, key)
    code, found = doctor(b, key, "--router", f"{a.address}:6374")
    assert code == 0, found
    ((_, text, advice),) = [fault for fault in faults(found) if fault[0] == "multicast"]
    assert "does not pass between the two machines" in text and "MESH_ROUTERS" in advice and "5353/udp" in advice


def test_a_router_with_another_key_and_its_mesh_are_named(lan: Lan) -> None:
    a, b, theirs, ours = lan.host("a"), lan.host("b"), new_key(), new_key()
    router(a, theirs)
    code, found = doctor(b, ours, "--router", f"{a.address}:6374")
    assert code == 1
    assert "another mesh key" in texts(found, "router")
    assert any("mesh join --force" in advice for _, _, advice in faults(found))
    assert f"a mesh named 'default' with key id {theirs.key_id} is announced by {a.address}, and" in texts(
        found, "multicast"
    )


def test_a_port_behind_a_firewall_is_told_with_the_command(lan: Lan) -> None:
    a, b, key = lan.host("a"), lan.host("b"), new_key()
    router(a, key)
    drop_answers(a, 6374)
    code, found = doctor(b, key)
    assert code == 1
    silent = [fault for fault in faults(found) if "nothing comes back" in fault[1]]
    assert silent and all("6374:6378" in advice or "6374-6378" in advice for _, _, advice in silent)


@pytest.mark.parametrize("tool", ["nft", "iptables"])
def test_the_command_that_is_told_opens_the_firewall(lan: Lan, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here: apt-get install {'nftables' if tool == 'nft' else tool}")
    a, b, key = lan.host("a"), lan.host("b"), new_key()
    for rule in SHUT[tool]:
        a.run(rule)
    router(a, key)
    address = f"{a.address}:6374"
    assert "nothing comes back" in texts(doctor(b, key, "--router", address)[1], "router")
    (said,) = [f["text"] for f in doctor(a, key)[1] if f["check"] == "firewall"]
    kind, _, command = said.partition(" is active. To let nodes in to a router here: ")
    assert kind == {"nft": "nftables"}.get(tool, tool)
    a.run(["sh", "-c", command.replace("sudo ", "")])
    code, found = doctor(b, key)
    assert code == 0, found
    assert f"routers of this mesh are heard from {a.address}" in texts(found, "multicast")


def test_a_host_without_a_router_is_told_from_one_that_is_off(lan: Lan) -> None:
    a, b, key = lan.host("a"), lan.host("b"), new_key()
    code, found = doctor(b, key, "--router", f"{a.address}:6374", "--router", "10.77.0.200:6374")
    assert code == 1
    assert f"tcp://{a.address}:6374 (given) has nobody listening at that port" in texts(found, "router")
    off = next(f for f in found if "10.77.0.200:6374 (given)" in f["text"])
    assert "does not answer" in off["text"] or "cannot be reached" in off["text"]


def test_an_interface_of_containers_is_passed_over_with_the_reason(lan: Lan) -> None:
    a, key = lan.host("a"), new_key()
    a.add_interface("docker0", "172.17.0.1/16")
    assert "docker0 is passed over: containers of this host" in texts(doctor(a, key)[1], "interface")
