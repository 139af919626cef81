from __future__ import annotations

import ipaddress
import subprocess
import sys

import pytest

from mesh.messages import PROTOCOL
from mesh.net.find import Found, Source
from mesh.net.interfaces import LanAddress
from mesh.net.mdns import ADDRESSES_MAX, ROUTERS_MAX, SERVICE, About, Announcement, Closing, Heard, Record

OURS = About("aaaaaaaa", "0123456789ab", 3)


@pytest.fixture
def heard():
    return Heard("aaaaaaaa")


def record(about=OURS, port=6374, addresses=("10.0.0.1",), name=None, **texts):
    return Record(name or about.name, port, tuple(addresses), about.texts | texts)


def test_a_router_of_our_mesh_is_found_until_it_says_goodbye(heard):
    heard.put(record())
    assert heard.found() == [Found(("tcp://10.0.0.1:6374",), "0123456789ab", "announced on the LAN", Source.ANNOUNCED)]
    heard.remove(OURS.name)
    assert heard.found() == []


def test_what_a_router_says_anew_takes_the_place_of_what_it_said(heard):
    heard.put(record())
    heard.put(record(addresses=["10.0.0.9"]))
    assert [f.endpoints for f in heard.found()] == [("tcp://10.0.0.9:6374",)]


def test_routers_of_other_meshes_are_let_be(heard):
    heard.put(record(About("bbbbbbbb", "0123456789ab", 1)))
    heard.put(record(kid="bbbbbbbb"))
    assert heard.found() == []


def test_a_router_of_another_protocol_is_told_of_and_not_found(heard):
    heard.put(record(v="9"))
    assert heard.found() == []
    assert f"routers of protocol 9, this is {PROTOCOL}" in heard.tried
    heard.remove(OURS.name)
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
    heard.put(record())
    heard.put(bad)
    assert [f.router_id for f in heard.found()] in ([], ["0123456789ab"])
    heard.remove(OURS.name)
    heard.put(bad)
    assert heard.found() == []


def test_nobody_can_make_us_remember_without_bounds(heard):
    for number in range(2 * ROUTERS_MAX):
        heard.put(record(About("aaaaaaaa", f"{number:08x}", 1), addresses=[f"10.0.1.{n}" for n in range(200)]))
        heard.put(record(About("aaaaaaaa", f"f{number:07x}", 1), v="9" * 1000))
    assert len(heard.found()) == ROUTERS_MAX
    assert all(len(f.endpoints) == ADDRESSES_MAX for f in heard.found())
    assert len(heard.tried) < 1000


def test_addresses_in_a_network_of_ours_come_first_and_ipv4_before_ipv6(heard):
    heard.listens(LanAddress("eth0", ipaddress.ip_interface(a)) for a in ("192.168.1.2/24", "fd00::2/64"))
    heard.put(record(addresses=["2001:db8::1", "10.0.0.1", "fd00::1", "192.168.1.1"]))
    (found,) = heard.found()
    assert found.endpoints == tuple(
        f"tcp://{host}:6374" for host in ("192.168.1.1", "[fd00::1]", "10.0.0.1", "[2001:db8::1]")
    )


def test_where_it_is_listened_is_said_and_what_was_heard_elsewhere_is_forgotten(heard):
    heard.put(record())
    heard.listens([LanAddress("eth0", ipaddress.ip_interface("10.0.0.2/8"))])
    assert heard.found() == []
    assert "eth0" in heard.tried
    heard.listens([])
    assert "no interface is up" in heard.tried
    heard.fails("no such device")
    assert "no such device" in heard.tried


def test_an_announcement_has_no_secret_and_fits_into_one_packet():
    assert OURS.texts == {"v": str(PROTOCOL), "kid": "aaaaaaaa", "id": "0123456789ab", "inc": "3"}
    assert len(OURS.name) < 63


def test_who_waits_is_told_of_the_end_before_and_while_it_waits():
    told = []
    before, during, gone = Closing(), Closing(), Closing()
    before.close()
    before.watch(lambda: told.append("before"))
    during.watch(lambda: told.append("during"))
    during.close()
    during.close()
    gone.watch(lambda: told.append("gone"))
    gone.watch(None)
    gone.close()
    assert told == ["before", "during"]


def test_an_announcement_that_shows_nothing_can_be_closed():
    Announcement(OURS).close()


@pytest.mark.processes
def test_a_mesh_on_one_machine_imports_nothing_of_mdns():
    code = (
        "import sys, mesh, mesh.runtime.connection, nodes.router, nodes.worker;"
        "print({'zeroconf', 'asyncio', 'ifaddr'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
