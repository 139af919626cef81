"""Packets on the loopback, where nobody else is: what strangers say there, and what routers and browsers make of it."""

from __future__ import annotations

import ipaddress
import secrets
import tracemalloc

import pytest
import zeroconf

from mesh.net import mdns_wire
from mesh.net.interfaces import LanAddress
from mesh.net.mdns import SERVICE, About, Announcement, Browser
from mesh.net.mdns_socket import open_at, send
from tests.cluster import wait_until

PLACE = LanAddress("lo", ipaddress.ip_interface("127.0.0.1/8"))
WITHIN_S = 10.0


class Stranger:
    """Says anything."""

    def __init__(self, key_id):
        self.key_id = key_id
        self._socket = open_at(PLACE)

    def close(self):
        self._socket.close()

    def announce(self, router_id, address, ttl=120, **texts):
        about = About(self.key_id, router_id)
        server = f"{self.key_id}-{router_id}.local."
        info = zeroconf.ServiceInfo(
            SERVICE, about.name, 6374, properties=about.texts | texts, server=server, parsed_addresses=[address]
        )
        self.say(info.dns_pointer(), info.dns_service(), info.dns_text(), *info.dns_addresses(), ttl=ttl)

    def say(self, *records, ttl=120):
        said = zeroconf.DNSOutgoing(0x8400)
        for record in records:
            record.ttl = ttl
            said.add_answer_at_time(record, 0)
        for packet in said.packets():
            send(self._socket, packet)


@pytest.fixture
def key_id():
    return secrets.token_hex(4)


@pytest.fixture
def stranger(key_id):
    made = Stranger(key_id)
    yield made
    made.close()


@pytest.fixture
def browser(key_id, monkeypatch):
    monkeypatch.setattr(mdns_wire, "_places", lambda interfaces: [PLACE])
    made = Browser(key_id)
    yield made
    made.close()


@pytest.fixture
def router(key_id):
    made = Announcement(About(key_id, "0123456789ab"))
    made.show(6374, ["10.0.0.1"], through=["127.0.0.1"])
    yield made
    made.close()


def endpoints(browser):
    return {endpoint for found in browser.found() for endpoint in found.endpoints}


@pytest.mark.processes
def test_a_router_that_announces_itself_is_found(browser, router):
    wait_until(lambda: endpoints(browser) == {"tcp://10.0.0.1:6374"}, WITHIN_S)


@pytest.mark.processes
def test_who_begins_to_listen_later_asks(router, browser):
    wait_until(lambda: endpoints(browser) == {"tcp://10.0.0.1:6374"}, WITHIN_S)


@pytest.mark.processes
def test_another_address_in_the_name_of_a_router_does_not_hide_its_own(browser, router, stranger):
    wait_until(lambda: endpoints(browser), WITHIN_S)
    stranger.announce("0123456789ab", "10.66.0.1")
    wait_until(lambda: "tcp://10.66.0.1:6374" in endpoints(browser), WITHIN_S)
    assert "tcp://10.0.0.1:6374" in endpoints(browser)


@pytest.mark.processes
def test_after_a_goodbye_of_a_stranger_the_router_is_asked_and_stays(browser, router, stranger, monkeypatch):
    monkeypatch.setattr("mesh.net.heard.LEAVES_S", 1.0)
    monkeypatch.setattr(mdns_wire, "DOUBT_S", 0.05)
    wait_until(lambda: endpoints(browser), WITHIN_S)
    stranger.announce("ffffffffffff", "10.66.0.1")
    wait_until(lambda: len(endpoints(browser)) == 2, WITHIN_S)
    stranger.announce("ffffffffffff", "10.66.0.1", ttl=0)
    stranger.announce("0123456789ab", "10.0.0.1", ttl=0)
    wait_until(lambda: endpoints(browser) == {"tcp://10.0.0.1:6374"}, WITHIN_S)


@pytest.mark.processes
def test_who_says_much_that_is_not_for_us_fills_the_memory_of_nobody(browser, router, stranger):
    wait_until(lambda: endpoints(browser), WITHIN_S)

    def last_is_heard():  # said again and again: the system drops packets while the browser is behind
        stranger.announce("eeeeeeeeeeee", "10.66.0.2")
        return "tcp://10.66.0.2:6374" in endpoints(browser)

    tracemalloc.start()
    try:
        for number in range(300):
            name = f"{number:08x}.{SERVICE}"
            stranger.say(zeroconf.DNSText(name, 16, 1, 4_500, secrets.token_bytes(8_000)))
            stranger.announce("ffffffffffff", "10.66.0.1", more="x" * 200)
        wait_until(last_is_heard, WITHIN_S)
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


class Unforeseen(Exception):
    pass


def test_what_fails_again_after_it_went_is_logged_again(key_id, monkeypatch, caplog):
    said = []

    def places(interfaces):
        said.append(len(said))
        if said[-1] in (0, 1, 4):
            raise OSError("no network")
        return [PLACE]

    monkeypatch.setattr(mdns_wire, "_places", places)
    monkeypatch.setattr(mdns_wire, "RETRY_S", 0.0)
    monkeypatch.setattr(mdns_wire, "LOOK_S", 0.0)
    browser = Browser(key_id)
    wait_until(lambda: len(said) > 6, WITHIN_S, "it has listened again")
    browser.close()
    assert [record.message for record in caplog.records].count(
        "routers on the LAN are not heard: no network; trying on"
    ) == 2


def test_a_browser_that_ends_by_what_nobody_foresaw_says_so(key_id, monkeypatch, caplog):
    def places(interfaces):
        raise Unforeseen("a bug")

    monkeypatch.setattr(mdns_wire, "_places", places)
    browser = Browser(key_id)
    wait_until(lambda: "fails (Unforeseen: a bug)" in browser.tried, WITHIN_S, "it says so")
    wait_until(lambda: "routers on the LAN are heard no more" in caplog.text, WITHIN_S, "it is logged")
    browser.close()


def test_an_announcement_that_ends_by_what_nobody_foresaw_says_so_and_can_be_shown_on(key_id, monkeypatch, caplog):
    def announce(about, shown):
        raise Unforeseen("a bug")

    monkeypatch.setattr(mdns_wire, "_announce", announce)
    made = Announcement(About(key_id, "0123456789ab", 1))
    made.show(6374, ["10.0.0.1"], through=["127.0.0.1"])
    wait_until(lambda: "announced on the LAN no more" in caplog.text, WITHIN_S, "it is logged")
    made.show(6374, ["10.0.0.2"], through=["127.0.0.1"])
    made.close()


@pytest.mark.processes
def test_another_mesh_of_the_same_name_is_heard_of(key_id, monkeypatch):
    monkeypatch.setattr(mdns_wire, "_places", lambda interfaces: [PLACE])
    mesh = f"mesh-{key_id}"
    browser, other = Browser(key_id, mesh=mesh), secrets.token_hex(4)
    announcement = Announcement(About(other, "0123456789ab", mesh))
    try:
        announcement.show(6374, ["10.0.0.1"], through=["127.0.0.1"])
        wait_until(lambda: browser.mistaken, WITHIN_S)
        said = f"a mesh named '{mesh}' with key id {other} is announced by 127.0.0.1, and key {key_id} is here"
        assert browser.mistaken.startswith(said) and f"`mesh --mesh {mesh} join --force`" in browser.mistaken
        assert browser.found() == []
    finally:
        announcement.close()
        browser.close()
