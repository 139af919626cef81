from __future__ import annotations

import ipaddress

import pytest

from mesh.errors import ConfigError
from mesh.net.interfaces import Adapter
from mesh.net.lan import ADDRESSES_MAX, GONE_S, PORTS, LanOptions, LanPlaces
from mesh.net.sockets import AddressTaken


class Wire:
    """A transport that remembers where it listens; ``taken`` by others, ``missing`` where no address is usable."""

    def __init__(self):
        self.taken, self.missing, self.listening = set(), set(), []
        self.addresses = {"eth0": ["10.0.0.1/8"]}
        self.now = 1_000.0

    def listen(self, tcp):
        if tcp in self.taken:
            raise AddressTaken(f"cannot listen at {tcp}: taken")
        if tcp in self.missing:
            raise ConfigError(f"cannot listen at {tcp}: no such address")
        assert tcp not in self.listening
        self.listening.append(tcp)
        return tcp

    def unlisten(self, bound):
        self.listening.remove(bound)

    def adapters(self):
        return [
            Adapter(name, True, tuple(ipaddress.ip_interface(a) for a in addresses))
            for name, addresses in self.addresses.items()
        ]

    def places(self, **options):
        return LanPlaces(self, LanOptions(**options), self.adapters, lambda: self.now)


@pytest.fixture
def wire():
    return Wire()


def test_a_router_listens_at_all_its_addresses_with_one_port(wire):
    wire.addresses["eth0"].append("fd00::1/64")
    assert wire.places().endpoints == (f"tcp://10.0.0.1:{PORTS[0]}", f"tcp://[fd00::1]:{PORTS[0]}")
    assert wire.listening == [f"tcp://10.0.0.1:{PORTS[0]}", f"tcp://[fd00::1]:{PORTS[0]}"]


def test_where_a_port_is_taken_on_any_address_all_have_the_next(wire):
    wire.addresses["eth0"].append("10.0.0.2/8")
    wire.taken = {f"tcp://10.0.0.2:{PORTS[0]}"}
    assert wire.places().port == PORTS[1]
    assert wire.listening == [f"tcp://10.0.0.1:{PORTS[1]}", f"tcp://10.0.0.2:{PORTS[1]}"]


def test_where_all_ports_are_taken_it_is_said_what_to_do(wire):
    wire.taken = {f"tcp://10.0.0.1:{port}" for port in PORTS}
    with pytest.raises(ConfigError, match="--port"):
        wire.places()
    assert wire.listening == []


def test_a_port_that_was_asked_for_is_the_only_one_tried(wire):
    assert wire.places(port=7000).port == 7000
    wire.taken = {"tcp://10.0.0.1:7001"}
    with pytest.raises(ConfigError, match="--port"):
        wire.places(port=7001)


def test_addresses_that_come_later_are_listened_at_with_the_same_port(wire):
    wire.addresses = {}
    places = wire.places()
    assert places.endpoints == ()
    assert not places.look()
    wire.addresses = {"wlan0": ["10.0.0.9/8"]}
    assert places.look()
    wire.addresses["eth0"] = ["10.0.0.1/8"]
    assert places.look()
    assert not places.look()
    assert set(places.endpoints) == {f"tcp://10.0.0.9:{PORTS[0]}", f"tcp://10.0.0.1:{PORTS[0]}"}


def test_an_address_that_goes_is_told_to_nobody_and_comes_back_with_its_connections(wire):
    places = wire.places()
    wire.addresses = {}
    assert places.look()
    assert places.endpoints == ()
    assert wire.listening == [f"tcp://10.0.0.1:{PORTS[0]}"]
    wire.addresses = {"eth0": ["10.0.0.1/8"]}
    assert places.look()
    assert places.endpoints == (f"tcp://10.0.0.1:{PORTS[0]}",)


def test_an_address_that_does_not_come_back_is_left_and_can_come_later(wire):
    places = wire.places()
    wire.addresses = {"eth0": ["10.0.0.2/8"]}
    wire.now += GONE_S / 2
    places.look()
    wire.now += GONE_S - 1.0
    places.look()
    assert len(wire.listening) == 1, "the other one is there, however long"
    assert wire.listening == [f"tcp://10.0.0.2:{PORTS[0]}"]
    wire.addresses = {"eth0": ["10.0.0.1/8"]}
    assert places.look()
    assert places.endpoints == (f"tcp://10.0.0.1:{PORTS[0]}",)
    assert f"tcp://10.0.0.1:{PORTS[0]}" in wire.listening


def test_a_host_whose_addresses_change_for_ever_listens_at_a_bounded_number(wire):
    places = wire.places()
    for number in range(3 * ADDRESSES_MAX):
        wire.addresses = {"eth0": [f"10.1.0.{number}/8"]}
        places.look()
    assert len(wire.listening) == ADDRESSES_MAX
    assert wire.listening[-1] == places.endpoints[0]


def test_an_address_that_is_not_usable_yet_is_tried_again(wire):
    wire.addresses["eth0"].append("fd00::1/64")
    wire.missing = {f"tcp://[fd00::1]:{PORTS[0]}"}
    places = wire.places()
    assert places.addresses == ("10.0.0.1",)
    wire.missing = set()
    assert places.look()
    assert places.addresses == ("10.0.0.1", "fd00::1")


def test_an_address_that_others_took_meanwhile_is_complained_of_once(wire, caplog):
    places = wire.places()
    wire.addresses["eth0"].append("10.0.0.2/8")
    wire.taken = {f"tcp://10.0.0.2:{PORTS[0]}"}
    assert not places.look()
    assert not places.look()
    assert caplog.text.count("taken") == 1


def test_what_is_advertised_takes_the_place_of_our_own_addresses(wire):
    places = wire.places(advertise=("203.0.113.5", "fd00::9"), port=7000)
    assert places.endpoints == ("tcp://203.0.113.5:7000", "tcp://[fd00::9]:7000")
    assert wire.listening == ["tcp://10.0.0.1:7000"]


def test_an_address_of_a_container_bridge_that_is_advertised_is_listened_at(wire):
    wire.addresses["docker0"] = ["172.17.0.1/16"]
    assert wire.places(advertise=("172.17.0.1",), port=7000).endpoints == ("tcp://172.17.0.1:7000",)
    assert "tcp://172.17.0.1:7000" in wire.listening


def test_an_interface_that_is_not_there_is_an_error_at_the_start_only(wire):
    with pytest.raises(ConfigError, match="there are: eth0"):
        wire.places(interfaces=("eth1",))
    places = wire.places(interfaces=("eth0",))
    wire.addresses = {"wlan0": ["10.0.0.9/8"]}
    assert places.look()
    assert places.endpoints == ()
