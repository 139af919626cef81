"""What `mesh doctor` says of what it saw."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from mesh.errors import ConfigError
from mesh.net.find import Source
from mesh.net.interfaces import Adapter
from nodes.doctor import firewalls, interfaces, keys, multicast, routers
from nodes.doctor.facts import (
    AddressFacts,
    Announced,
    FirewallFacts,
    FirewallKind,
    Greeting,
    HostFacts,
    KeyFacts,
    MulticastFacts,
    Reach,
    RouterFacts,
    StatusFacts,
    StoreFacts,
    WorkerFacts,
)
from nodes.doctor.findings import Finding, Grade, exit_code
from nodes.doctor.multicast import Ours
from nodes.doctor.view import data, lines, summary

KEY = KeyFacts("/home/u/default.key", key_id="0a1b2c3d")
HOST = HostFacts("b", "0.1.0", "3.11.7", 1)
NO_FIREWALL = FirewallFacts()
UFW = FirewallFacts({FirewallKind.UFW: True, FirewallKind.IPTABLES: None})
STATUS = StatusFacts(
    name="router@a",
    version="0.1.0",
    store=StoreFacts("disk", full=False, free_bytes=50 << 30),
    ahead_s=0.002,
    ahead_error_s=0.001,
    workers=(WorkerFacts("w1@a", "0.1.0", "3.11.2"),),
)
ADDRESS = "tcp://10.77.0.1:6374"
ROUTER = RouterFacts(
    how="given",
    source=Source.NAMED,
    addresses=(AddressFacts(ADDRESS, Reach.OPEN, Greeting.DONE),),
    used=ADDRESS,
    round_trips_s=(0.001, 0.0004, 0.0005),
    sent_bytes=4_000_000,
    sent_in_s=0.1,
    status=STATUS,
)
HEARS = MulticastFacts("eth0", "10.77.0.2", own_heard=True)


def of_router(router: RouterFacts, key: KeyFacts = KEY) -> list[Finding]:
    return routers.judge(router, HOST, key)


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.grade is not Grade.OK]


def only(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in bad(findings) if finding.check == check]
    return found


def told(router: RouterFacts, **changes: object) -> RouterFacts:
    assert router.status is not None
    return replace(router, status=replace(router.status, **changes))


def not_reached(reach: Reach, source: Source = Source.NAMED, address: str = ADDRESS) -> RouterFacts:
    return RouterFacts("given", source, (AddressFacts(address, reach),))


# the key


def test_a_key_that_is_expected_is_in_order_and_another_is_not() -> None:
    assert bad(keys.judge(KEY, None)) == bad(keys.judge(KEY, "0a1b2c3d")) == []
    assert "mesh join --force" in only(keys.judge(KEY, "ffffffff"), "key").advice


def test_a_key_that_cannot_be_used_is_a_failure_in_its_own_words() -> None:
    (found,) = keys.judge(KeyFacts("/x", problem="/x can be read by others: type `chmod 600 /x`"), None)
    assert found == Finding("key", Grade.FAILURE, "/x can be read by others: type `chmod 600 /x`")


def test_a_router_here_that_runs_with_another_key_is_told() -> None:
    assert "ffffffff" in only(of_router(replace(ROUTER, key_id="ffffffff")), "key").text
    assert bad(of_router(replace(ROUTER, key_id=KEY.key_id))) == []


# interfaces


def adapter(name: str, *addresses: str, up: bool = True) -> Adapter:
    return Adapter(name, up, tuple(map(ipaddress.ip_interface, addresses)))


def test_each_interface_is_told_with_its_addresses_or_with_why_it_is_passed_over() -> None:
    there = [
        adapter("lo", "127.0.0.1/8"),
        adapter("eth0", "10.0.0.1/24", "fe80::1/64"),
        adapter("docker0", "172.17.0.1/16"),
        adapter("eth1", "10.0.1.1/24", up=False),
        adapter("eth2", "fe80::2/64"),
        adapter("eth3"),
    ]
    assert [finding.text for finding in interfaces.judge(there, ())] == [
        "lo is passed over: this machine alone reaches it",
        "eth0: 10.0.0.1",
        "docker0 is passed over: containers of this host; --interface docker0 uses it all the same",
        "eth1 is passed over: it is down",
        "eth2 is passed over: it has no address that others may reach",
        "eth3 is passed over: it has no address",
    ]
    assert "eth0 is passed over: --interface names others" in [f.text for f in interfaces.judge(there, ("docker0",))]


def test_a_machine_without_any_network_is_warned() -> None:
    assert only(interfaces.judge([adapter("lo", "127.0.0.1/8")], ()), "interface").grade is Grade.WARNING


def test_an_interface_that_is_named_must_be_there() -> None:
    with pytest.raises(ConfigError, match="no interface 'eth9'"):
        interfaces.judge([adapter("eth0")], ("eth9",))


# firewalls


@pytest.mark.parametrize(
    ("active", "expected"),
    [
        ({}, None),
        ({FirewallKind.IPTABLES: None}, FirewallKind.IPTABLES),
        ({FirewallKind.IPTABLES: True, FirewallKind.FIREWALLD: False}, FirewallKind.IPTABLES),
        ({FirewallKind.IPTABLES: True, FirewallKind.UFW: True}, FirewallKind.UFW),
        ({FirewallKind.UFW: None, FirewallKind.NFTABLES: True}, FirewallKind.NFTABLES),
        ({FirewallKind.UFW: False}, None),
    ],
)
def test_the_firewall_is_the_one_that_is_active_and_writes_the_rules(active: dict, expected: object) -> None:
    assert firewalls.likely(FirewallFacts(active)) is expected


@pytest.mark.parametrize("kind", FirewallKind)
def test_the_command_of_each_firewall_lets_in_our_ports_and_multicast(kind: FirewallKind) -> None:
    command = firewalls.allowing(kind)
    assert command.startswith("sudo ") and "5353" in command and "udp" in command
    assert "6374-6378" in command.replace(":", "-") and "tcp" in command
    assert "7000" in firewalls.allowing(kind, [7000]) and "6374" not in firewalls.allowing(kind, [7000])


def test_each_chain_of_nftables_is_opened_by_its_own_name() -> None:
    facts = FirewallFacts({FirewallKind.NFTABLES: True}, ("ip filter INPUT", "inet f in"))
    (found,) = firewalls.judge(facts)
    for chain in facts.chains:
        assert f"nft insert rule {chain} tcp dport 6374-6378 accept" in found.text
        assert f"nft insert rule {chain} udp dport 5353 accept" in found.text
    assert "inet filter input" not in found.text


def test_a_firewall_that_is_active_is_told_with_its_command_and_is_no_fault() -> None:
    (found,) = firewalls.judge(UFW)
    assert found.grade is Grade.OK and "ufw is active" in found.text and "sudo ufw allow 6374:6378/tcp" in found.text


# multicast


def heard(
    *announced: tuple[str, ...], probe: MulticastFacts = HEARS, met: tuple[RouterFacts, ...] = ()
) -> list[Finding]:
    probe = replace(probe, announced=tuple(Announced(*one) for one in announced))
    return multicast.judge([probe], {"10.77.0.2"}, Ours("default", KEY.key_id), met, UFW)


def test_another_mesh_of_the_same_name_is_a_warning_and_one_of_another_name_is_none() -> None:
    by_both = [("ffffffff", source, "default") for source in ("10.77.0.1", "fd77::1")]
    found = only(heard(*by_both), "multicast")
    assert found.text.startswith("a mesh named 'default' with key id ffffffff is announced by 10.77.0.1, and key ")
    assert "mesh join --force" in found.advice
    assert bad(heard(("ffffffff", "10.77.0.1", "lab"))) == []


def test_a_router_that_answers_and_is_not_heard_shows_that_multicast_does_not_pass() -> None:
    found = only(heard(met=(ROUTER,)), "multicast")
    assert found.grade is Grade.WARNING and "does not pass" in found.text
    assert "MESH_ROUTERS" in found.advice and "sudo ufw allow" in found.advice


def test_it_is_no_sign_when_the_router_is_here_or_was_heard_or_another_of_the_mesh_is() -> None:
    here = replace(ROUTER, source=Source.HERE)
    own = replace(ROUTER, addresses=(replace(ROUTER.addresses[0], endpoint="tcp://10.77.0.2:6374"),))
    announced = replace(ROUTER, source=Source.ANNOUNCED)
    assert bad(heard(met=(here, own, announced, not_reached(Reach.SILENT)))) == []
    assert bad(heard((KEY.key_id, "10.77.0.3"), met=(ROUTER,))) == []


def test_other_meshes_are_named_by_their_key_ids() -> None:
    assert [f.text for f in heard(("ffffffff", "10.77.0.9"))][1:] == ["other meshes are here, too: key ffffffff"]


def test_what_does_not_come_back_on_this_host_is_a_firewall_here() -> None:
    found = only(heard(probe=replace(HEARS, own_heard=False)), "multicast")
    assert found.grade is Grade.FAILURE and "sudo ufw allow" in found.advice
    assert only(heard(probe=replace(HEARS, problem="no route")), "multicast").grade is Grade.FAILURE


# routers


def test_a_router_with_which_all_is_well_has_no_fault() -> None:
    assert bad(of_router(ROUTER)) == []
    assert routers.judge_search([ROUTER], "given: x") == []


def test_a_port_that_is_silent_is_told_with_what_names_the_firewall_there() -> None:
    found = only(of_router(not_reached(Reach.SILENT)), "router")
    assert found.grade is Grade.FAILURE and "a firewall drops it" in found.text
    assert "on that machine, type `mesh doctor`" in found.advice and "TCP 6374-6378 and" in found.advice
    chosen = only(of_router(not_reached(Reach.SILENT, address="tcp://h:7000")), "router")
    assert "TCP 7000 and" in chosen.advice


@pytest.mark.parametrize("reach", [Reach.CLOSED, Reach.UNREACHABLE, Reach.UNNAMED])
def test_each_way_of_not_being_reached_has_advice(reach: Reach) -> None:
    assert only(of_router(not_reached(reach)), "router").advice


def test_a_router_that_was_met_before_may_be_gone() -> None:
    assert only(of_router(not_reached(Reach.SILENT, Source.MET)), "router").grade is Grade.WARNING


def test_one_address_that_answers_is_enough() -> None:
    both = replace(ROUTER, addresses=(AddressFacts("tcp://10.0.0.9:6374", Reach.SILENT), *ROUTER.addresses))
    assert only(of_router(both), "router").grade is Grade.WARNING


def test_no_router_at_all_is_a_failure_with_what_was_tried() -> None:
    found = only(routers.judge_search([not_reached(Reach.SILENT, Source.MET)], "met before: x"), "router")
    assert found.grade is Grade.FAILURE and "met before: x" in found.text


def test_to_start_a_router_is_no_advice_where_there_is_one() -> None:
    def advised(*there: RouterFacts, mistaken: bool = False) -> str:
        return only(routers.judge_search(there, "tried: x", mistaken=mistaken), "router").advice

    met = not_reached(Reach.SILENT, Source.MET)
    denied = AddressFacts(ADDRESS, Reach.OPEN, Greeting.DENIED)
    assert "mesh up --lan" in advised() and "mesh up --lan" in advised(met)
    assert advised(mistaken=True) == ""
    for source in (Source.NAMED, Source.HERE, Source.ANNOUNCED, Source.TOLD):
        assert advised(not_reached(Reach.SILENT, source)) == ""
    assert advised(replace(met, addresses=(denied,))) == ""


def test_another_key_and_something_that_is_no_router_are_told_apart() -> None:
    wrong = AddressFacts(ADDRESS, Reach.OPEN, Greeting.WRONG_KEY, "the router has another mesh key")
    assert "mesh join --force" in only(of_router(RouterFacts("given", Source.NAMED, (wrong,))), "router").advice
    denied = RouterFacts("given", Source.NAMED, (replace(wrong, greeting=Greeting.DENIED, problem="was revoked"),))
    node = replace(KEY, role="worker", public="mesh1-node:x:y")
    found = only(of_router(denied, key=node), "router")
    assert "`mesh node allow NAME worker mesh1-node:x:y`" in found.advice and "join" not in found.advice
    other = replace(wrong, greeting=Greeting.NO_ROUTER)
    assert "something else" in only(of_router(RouterFacts("given", Source.NAMED, (other,))), "router").text


def test_another_protocol_is_a_failure() -> None:
    found = only(of_router(replace(ROUTER, refused="mesh speaks protocol 1, the other end 2", status=None)), "protocol")
    assert found.grade is Grade.FAILURE and "protocol 1" in found.text


@pytest.mark.parametrize(
    ("ahead_s", "error_s", "grade"),
    [
        (0.9, 0.0, Grade.OK),
        (-1.5, 0.0, Grade.WARNING),
        (1.5, 0.6, Grade.OK),  # the way there took so long that it may be right
        (31.0, 0.1, Grade.FAILURE),
        (-3600.0, 0.1, Grade.FAILURE),
    ],
)
def test_a_clock_is_wrong_only_as_far_as_the_measurement_shows_it(ahead_s: float, error_s: float, grade: Grade) -> None:
    (found,) = [f for f in of_router(told(ROUTER, ahead_s=ahead_s, ahead_error_s=error_s)) if f.check == "clock"]
    assert found.grade is grade
    assert (grade is Grade.OK) == (found.advice == "")
    assert ("behind" in found.text) == (ahead_s < 0)


def test_versions_that_differ_are_warned_of() -> None:
    workers = (WorkerFacts("w1@a", "0.1.0", "3.12.1"), WorkerFacts("w2@a", "0.0.9", "3.11.0"))
    found = bad(of_router(told(ROUTER, version="0.2.0", workers=workers)))
    assert [f.grade for f in found] == [Grade.WARNING] * 4
    assert [f.text for f in found] == [
        "router@a has taskmesh 0.2.0, here is 0.1.0",
        "w2@a has taskmesh 0.0.9, the router 0.2.0",
        "w1@a has taskmesh 0.1.0, the router 0.2.0",
        "w1@a has Python 3.12, here is 3.11",
    ]


def test_a_mesh_without_workers_is_warned_of() -> None:
    assert "mesh worker" in only(of_router(told(ROUTER, workers=())), "worker").advice


@pytest.mark.parametrize(
    ("store", "grade"),
    [
        (StoreFacts("disk", full=True, free_bytes=0), Grade.FAILURE),
        (StoreFacts("disk", full=False, free_bytes=100 << 20), Grade.WARNING),
        (StoreFacts("disk", full=False, free_bytes=2 << 30, given_up=3), Grade.WARNING),
        (StoreFacts("memory", full=False), Grade.OK),
    ],
)
def test_a_store_says_how_it_is(store: StoreFacts, grade: Grade) -> None:
    (found,) = [f for f in of_router(told(ROUTER, store=store)) if f.check == "store"]
    assert found.grade is grade


def test_the_limit_of_free_disk_is_the_routers_own() -> None:
    store = StoreFacts("disk", full=False, free_bytes=3 << 30, free_bytes_min=4 << 30)
    assert "below 4096 MiB it accepts nothing" in only(of_router(told(ROUTER, store=store)), "store").advice


def test_a_slow_way_is_a_warning_and_silence_behind_an_open_door_a_failure() -> None:
    assert only(of_router(replace(ROUTER, round_trips_s=(0.3, 0.4, 0.5))), "round-trip").grade is Grade.WARNING
    assert only(of_router(replace(ROUTER, sent_in_s=100.0)), "bandwidth").grade is Grade.WARNING
    assert only(of_router(replace(ROUTER, sent_bytes=0)), "bandwidth").grade is Grade.WARNING
    silent = replace(ROUTER, round_trips_s=(), sent_bytes=0, status=None)
    assert only(of_router(silent), "round-trip").grade is Grade.FAILURE


def test_what_a_workers_key_cannot_ask_is_no_fault() -> None:
    assert bad(of_router(replace(ROUTER, status=None), key=replace(KEY, role="worker"))) == []


# all of it


def test_a_failure_alone_makes_the_exit_code_and_the_summary_counts() -> None:
    good, poor, broken = (Finding("key", grade, "x", "y" * (grade is not Grade.OK)) for grade in Grade)
    assert [exit_code([good]), exit_code([good, poor]), exit_code([broken, good])] == [0, 0, 1]
    assert summary([good, good, poor]) == "2 ok, 1 warning, no failures"
    assert data("m", [poor, broken]) == {
        "mesh": "m",
        "ok": False,
        "counts": {"ok": 0, "warning": 1, "failure": 1},
        "findings": [
            {"check": "key", "grade": "warning", "text": "x", "advice": "y"},
            {"check": "key", "grade": "failure", "text": "x", "advice": "y"},
        ],
    }
    assert lines([good, broken]).plain.splitlines() == [
        "ok       key        x",
        "failure  key        x",
        "                    → y",
        "1 ok, no warnings, 1 failure",
    ]
