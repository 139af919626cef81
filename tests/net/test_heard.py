"""What is heard of routers: hints of anybody's, of which none hides another."""

from __future__ import annotations

import ipaddress

import pytest

from mesh.messages import PROTOCOL
from mesh.net.find import Found, Source
from mesh.net.heard import (
    ADDRESSES_MAX,
    LEAVES_S,
    LIVES_S_MAX,
    NAMESAKES_MAX,
    SERVICE,
    SHARE_MAX,
    SOURCES_MAX,
    Heard,
    Record,
)
from mesh.net.interfaces import LanAddress
from mesh.net.mdns import About
from mesh.net.namesakes import Namesake

OURS = About("aaaaaaaa", "0123456789ab")
HOST, STRANGER = "10.0.0.1", "10.0.0.66"


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def heard(clock):
    return Heard("aaaaaaaa", clock)


def record(about=OURS, port=6374, addresses=("10.0.0.1",), name=None, **texts):
    return Record(name or about.name, port, tuple(addresses), about.texts | texts)


def test_a_router_of_our_mesh_is_found(heard):
    heard.put(record(), HOST)
    assert heard.found() == [Found(("tcp://10.0.0.1:6374",), "0123456789ab", "announced on the LAN", Source.ANNOUNCED)]


def test_what_is_not_said_again_is_forgotten_whatever_it_said_of_its_life(heard, clock):
    heard.put(Record(OURS.name, 6374, ("10.0.0.1",), OURS.texts, lives_s=4_000_000.0), HOST)
    clock.now += LIVES_S_MAX - 1
    assert heard.found()
    clock.now += 1
    assert heard.found() == []


def test_a_goodbye_is_believed_if_the_router_is_not_heard_of_again(heard, clock):
    heard.put(record(), HOST)
    heard.leave(OURS.name, HOST)
    assert heard.found(), "anybody can say goodbye in its name"
    heard.put(record(), HOST)
    clock.now += LEAVES_S
    assert heard.found()
    heard.leave(OURS.name, HOST)
    clock.now += LEAVES_S
    assert heard.found() == []


def test_a_goodbye_of_another_host_says_nothing(heard, clock):
    heard.put(record(), HOST)
    heard.leave(OURS.name, STRANGER)
    clock.now += LEAVES_S
    assert heard.found()


@pytest.mark.parametrize("source", [HOST, STRANGER])
def test_what_is_said_in_the_name_of_a_router_hides_none_of_its_addresses(heard, source):
    heard.put(record(addresses=["10.0.0.1", "fd00::1"]), HOST)
    for number in range(10):
        heard.put(record(addresses=[f"10.66.0.{number}"], port=1), source)
    (found,) = heard.found()
    assert {"tcp://10.0.0.1:6374", "tcp://[fd00::1]:6374"} < set(found.endpoints)


def test_what_a_router_says_anew_comes_first_and_the_rest_is_kept_for_its_time(heard, clock):
    heard.put(record(), HOST)
    clock.now += 1.0
    heard.put(record(addresses=["10.0.0.9"]), HOST)
    assert [f.endpoints for f in heard.found()] == [("tcp://10.0.0.9:6374", "tcp://10.0.0.1:6374")]
    clock.now += LIVES_S_MAX - 1.0
    assert [f.endpoints for f in heard.found()] == [("tcp://10.0.0.9:6374",)]


def test_routers_of_other_meshes_are_let_be(heard):
    heard.put(record(About("bbbbbbbb", "0123456789ab")), HOST)
    heard.put(record(kid="bbbbbbbb"), HOST)
    assert heard.found() == []


def test_a_router_of_another_protocol_is_told_of_and_not_found(heard, clock):
    heard.put(record(v="9"), HOST)
    assert heard.found() == []
    assert f"routers of protocol 9, this is {PROTOCOL}" in heard.tried
    clock.now += LIVES_S_MAX
    assert "protocol" not in heard.tried


@pytest.mark.parametrize(
    "bad",
    [
        record(port=0),
        record(addresses=[]),
        record(addresses=["127.0.0.1", "fe80::1", "224.0.0.251"]),
        record(id="ffffffffffff"),
        record(id=""),
        record(id="0123456789ab" * 9),
        record(id="01234567/../x"),
        record(name=f"aaaaaaaa-{'0' * 30}.{SERVICE}"),
        record(name=f"aaaaaaaa.{SERVICE}"),
        Record(OURS.name, 6374, ("10.0.0.1",), {}),
    ],
)
def test_what_cannot_be_a_router_is_let_be(heard, bad):
    heard.put(bad, HOST)
    assert heard.found() == []
    heard.put(record(), HOST)
    heard.put(bad, HOST)
    assert [f.router_id for f in heard.found()] == ["0123456789ab"]


def test_who_announces_a_thousand_routers_hides_none_of_another_host(heard):
    heard.put(record(), HOST)
    for number in range(1_000):
        heard.put(record(About("aaaaaaaa", f"{number:08x}"), addresses=[f"10.66.0.{number % 250}"]), STRANGER)
    assert [f.router_id for f in heard.found()][1] == "0123456789ab", "after one of who was heard of last"
    assert len(heard.found()) == SHARE_MAX + 1
    assert heard.left_out == 1_000 - SHARE_MAX


def test_each_host_has_its_turn_also_in_the_addresses_of_one_router(heard):
    heard.put(record(addresses=["10.0.0.1"]), HOST)
    heard.put(record(addresses=[f"10.66.0.{number}" for number in range(ADDRESSES_MAX)]), STRANGER)
    (found,) = heard.found()
    assert found.endpoints[1] == "tcp://10.0.0.1:6374"


def test_nobody_can_make_us_remember_without_bounds(heard):
    for number in range(2 * SOURCES_MAX):
        source = f"10.66.{number % 250}.{number // 250}"
        addresses = [f"10.0.1.{n}" for n in range(3 * ADDRESSES_MAX)]
        for router in range(4):
            heard.put(record(About("aaaaaaaa", f"{number:07x}{router}"), addresses=addresses), source)
            heard.put(record(About("aaaaaaaa", f"f{number:06x}{router}"), v="9" * 1000), source)
    assert sum(len(f.endpoints) for f in heard.found()) <= SOURCES_MAX * SHARE_MAX
    assert all(len(f.endpoints) <= ADDRESSES_MAX for f in heard.found())
    assert heard.left_out > 0
    assert len(heard.tried) < 1000


def test_addresses_in_a_network_of_ours_come_first_and_ipv4_before_ipv6(heard):
    heard.listens(LanAddress("eth0", ipaddress.ip_interface(a)) for a in ("192.168.1.2/24", "fd00::2/64"))
    heard.put(record(addresses=["2001:db8::1", "10.0.0.1", "fd00::1", "192.168.1.1"]), HOST)
    (found,) = heard.found()
    assert found.endpoints == tuple(
        f"tcp://{host}:6374" for host in ("192.168.1.1", "[fd00::1]", "10.0.0.1", "[2001:db8::1]")
    )


def test_where_it_is_listened_is_said_and_whether_anything_was_heard(heard):
    assert not heard.is_silent, "it does not listen yet"
    heard.listens([LanAddress("eth0", ipaddress.ip_interface("10.0.0.2/8"))])
    assert "eth0" in heard.tried
    assert heard.is_silent
    heard.put(record(), HOST)
    assert not heard.is_silent
    heard.listens([])
    assert "no interface is up" in heard.tried
    heard.fails("no such device")
    assert "no such device" in heard.tried


def test_other_meshes_of_this_name_are_told_apart_from_ours_and_from_those_of_other_names(clock):
    heard = Heard("aaaaaaaa", clock, mesh="lab")
    for key_id, mesh in (("aaaaaaaa", "lab"), ("bbbbbbbb", "lab"), ("cccccccc", "lab2"), ("no key!!", "lab")):
        heard.put(record(About(key_id, "0123456789ab", mesh)), HOST)
    assert heard.namesakes == [Namesake("bbbbbbbb", HOST)]
    assert len(heard.found()) == 1
    clock.now += LIVES_S_MAX
    assert heard.namesakes == []


def test_a_namesake_that_says_goodbye_is_told_no_more(clock):
    heard = Heard("aaaaaaaa", clock, mesh="lab")
    about = About("bbbbbbbb", "0123456789ab", "lab")
    heard.put(record(about), HOST)
    heard.leave(about.name, HOST)
    clock.now += LEAVES_S
    assert heard.namesakes == []


def test_few_namesakes_are_remembered_whoever_announces_how_many(clock):
    heard = Heard("aaaaaaaa", clock, mesh="lab")
    for number in range(2 * NAMESAKES_MAX):
        heard.put(record(About(f"{number:08x}", "0123456789ab", "lab")), STRANGER)
    assert len(heard.namesakes) == NAMESAKES_MAX
