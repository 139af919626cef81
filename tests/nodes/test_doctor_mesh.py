"""``mesh doctor`` beside real nodes."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.model import Role
from mesh.net.keys import load, new_key, whole_key
from mesh.net.mdns_look import ask
from nodes.cli.main import main
from nodes.doctor import examine
from nodes.doctor.facts import AddressFacts, FirewallKind, Reach
from nodes.doctor.look import look_at_firewall
from nodes.doctor.reach import reach, resolve
from tests.cluster import Cluster, wait_until

Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def doctor(capfd: pytest.CaptureFixture[str], cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Runs ``mesh doctor --json``: its exit code, and what it found. It listens shortly, for there is nobody."""
    monkeypatch.setattr(examine, "LISTEN_S", 0.2)

    def doctor(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = main(["doctor", "--json", *arguments])
        found: dict[str, Any] = json.loads(capfd.readouterr().out)
        return code, found

    return doctor


def of(found: dict[str, Any], check: str) -> list[tuple[str, str]]:
    return [(f["grade"], f["text"]) for f in found["findings"] if f["check"] == check]


def tcp_of(cluster: Cluster) -> str:
    (record,) = [json.loads(path.read_text()) for path in (cluster.place / "r").glob("t.*.json")]
    return str(record["tcp"])


@pytest.mark.processes
def test_a_mesh_on_this_machine_is_in_order(cluster: Cluster, doctor: Doctor) -> None:
    cluster.router()
    cluster.worker("w")
    key_id = load("t", os.environ).key_id

    code, found = doctor("--expect", key_id)

    assert (code, found["ok"], found["counts"]["failure"]) == (0, True, 0), found
    assert of(found, "key")[0][1].startswith(f"key {key_id} in ") and "as expected" in of(found, "key")[0][1]
    assert [grade for grade, _ in of(found, "router")] == ["ok", "ok"]
    for check in ("round-trip", "bandwidth", "clock", "store"):
        ((grade, text),) = of(found, check)
        assert grade == "ok" and text.startswith("router@"), (check, text)
    assert "GiB free" in of(found, "store")[0][1]
    assert [grade for grade, _ in of(found, "version")] == ["ok", "ok"]


@pytest.mark.processes
def test_it_leaves_nothing_behind(cluster: Cluster, doctor: Doctor) -> None:
    router = cluster.router()
    app = cluster.client()
    assert app.status()["router"]["clients"] == 1
    doctor("--router", tcp_of(cluster))
    wait_until(lambda: app.status()["router"]["clients"] == 1, 5.0, "it has left")
    wait_until(lambda: app.status()["router"]["transport"]["counters"]["lost"], 5.0, "its connections have ended")
    after = app.status()["router"]
    assert (after["tasks"], sum(after["counters"].values()), after["transport"]["counters"]["mute"]) == (0, 0, 0), after
    assert "WARNING" not in router.text()


@pytest.mark.processes
def test_another_key_is_told(cluster: Cluster, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.router()
    monkeypatch.setenv("MESH_KEY", new_key().text)
    code, found = doctor("--router", tcp_of(cluster))
    assert code == 1
    assert any("another mesh key" in text for _, text in of(found, "router")), found


@pytest.mark.processes
@pytest.mark.parametrize("role", [Role.CLIENT, Role.WORKER])
def test_a_role_key_is_enough(cluster: Cluster, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, role: Role) -> None:
    cluster.router()
    cluster.worker("w")
    whole = whole_key(load("t", os.environ), "this test")
    monkeypatch.setenv("MESH_KEY", whole.export(role).text)
    code, found = doctor("--router", tcp_of(cluster))
    assert code == 0, found
    assert of(found, "round-trip")[0][0] == "ok"
    assert ("(a " in of(found, "key")[0][1]) and ("does not ask" in of(found, "store")[0][1]) == (role is Role.WORKER)


@pytest.mark.processes
def test_a_router_that_is_stopped_does_not_hold_it_up(cluster: Cluster, doctor: Doctor) -> None:
    router = cluster.router()
    address = tcp_of(cluster)
    router.stop()
    code, found = doctor("--router", address)
    assert code == 1
    assert of(found, "router")[0][1].startswith("no router of this mesh answers"), found


def test_without_a_key_and_a_router_both_are_told(doctor: Doctor) -> None:
    code, found = doctor()
    assert code == 1
    assert of(found, "key")[0][0] == of(found, "router")[0][0] == "failure"


def test_a_key_that_others_can_read_is_told(cluster: Cluster, doctor: Doctor) -> None:
    path = cluster.place / "c" / "taskmesh" / "t.key"
    path.parent.mkdir(parents=True)
    path.write_text(new_key().text)
    path.chmod(0o644)
    ((grade, text),) = of(doctor()[1], "key")
    assert grade == "failure" and "chmod 600" in text


@pytest.mark.parametrize("arguments", [["--expect", "xyz"], ["--interface", "nosuch0"], ["--router", "x:y"]])
def test_what_cannot_be_is_a_mistake_of_who_types(
    arguments: list[str], capfd: pytest.CaptureFixture[str], cluster: Cluster
) -> None:
    assert main(["doctor", *arguments]) == 2
    assert capfd.readouterr().err.startswith("mesh: error: ")


def test_without_a_terminal_there_is_no_colour(
    capfd: pytest.CaptureFixture[str], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "LISTEN_S", 0.0)
    main(["doctor"])
    out = capfd.readouterr().out
    assert "\x1b" not in out and out.splitlines()[-1].endswith(" failures")


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_ports_are_open_or_closed_and_names_are_names(listening: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    endpoints = [listening, closed, "tcp://no.such.host.invalid:6374", f"ipc://{tmp_path}/x"]
    found = reach(resolve([AddressFacts(endpoint) for endpoint in endpoints], 20.0), 2.0)
    assert [address.reach for address in found] == [Reach.OPEN, Reach.CLOSED, Reach.UNNAMED, None]


def test_nothing_is_asked_where_there_is_no_address() -> None:
    assert ask([], 10.0) == []


def test_a_name_service_that_does_not_answer_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *arguments, **options: asked.wait(60.0))
    (found,) = resolve([AddressFacts("tcp://some.host:6374")], 0.0)
    asked.set()
    assert (found.reach, found.problem) == (Reach.UNNAMED, "the name service does not answer")


def chain(**more: str) -> dict[str, dict[str, str]]:
    of_all = {"family": "ip", "table": "t", "name": "in", "type": "filter", "hook": "input", "policy": "accept"}
    return {"chain": of_all | more}


def nft(*listed: dict[str, dict[str, str]]) -> str:
    return f"echo '{json.dumps({'nftables': [{'metainfo': {}}, *listed]})}'"


FIREWALLS = [
    (FirewallKind.FIREWALLD, "firewall-cmd", "echo running", True),
    (FirewallKind.FIREWALLD, "firewall-cmd", "echo not running >&2; exit 252", False),
    (FirewallKind.NFTABLES, "nft", nft(chain(policy="drop")), True),
    (FirewallKind.NFTABLES, "nft", nft(chain(), {"rule": {"family": "ip", "table": "t", "chain": "in"}}), True),
    (FirewallKind.NFTABLES, "nft", nft(chain()), False),
    (FirewallKind.NFTABLES, "nft", nft(chain(hook="output", policy="drop")), False),
    (FirewallKind.NFTABLES, "nft", nft(), False),
    (FirewallKind.NFTABLES, "nft", "echo 'of another version'", None),
    (FirewallKind.NFTABLES, "nft", "echo 'Operation not permitted' >&2; exit 1", None),
    (FirewallKind.IPTABLES, "iptables", "echo '-P INPUT ACCEPT'", False),
    (FirewallKind.IPTABLES, "iptables", "echo '-P INPUT DROP'", True),
    (FirewallKind.IPTABLES, "iptables", "exit 4", None),
]


@pytest.mark.parametrize(("kind", "tool", "does", "active"), FIREWALLS)
def test_a_firewall_is_asked_whether_it_is_active(
    tmp_path: Path, kind: FirewallKind, tool: str, does: str, active: bool | None
) -> None:
    (tmp_path / tool).write_text(f"#!/bin/sh\n{does}\n")
    (tmp_path / tool).chmod(0o755)
    assert look_at_firewall({"PATH": str(tmp_path)}).active[kind] is active


def test_the_chains_of_nftables_have_the_names_that_are_theirs(tmp_path: Path) -> None:
    (tmp_path / "nft").write_text(f"#!/bin/sh\n{nft(chain(policy='drop'), chain(name='empty'))}\n")
    (tmp_path / "nft").chmod(0o755)
    assert look_at_firewall({"PATH": str(tmp_path)}).chains == ("ip t in",)
