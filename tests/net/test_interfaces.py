from __future__ import annotations

import ipaddress

import pytest

from mesh.errors import ConfigError
from mesh.net.adapters import local_adapters
from mesh.net.interfaces import Adapter, is_for_others, lan_addresses, parse_address


def adapter(name, *addresses, is_up=True):
    return Adapter(name, is_up, tuple(ipaddress.ip_interface(address) for address in addresses))


LOOPBACK = adapter("lo", "127.0.0.1/8", "::1/128")
CABLE = adapter("eth0", "fd00::2/64", "192.168.1.5/24", "fe80::1/64")
DOCKER = adapter("docker0", "172.17.0.1/16")


def texts(found):
    return [(a.interface, a.text) for a in found]


def test_addresses_that_others_may_reach_are_chosen_and_ipv4_comes_first():
    assert texts(lan_addresses([LOOPBACK, CABLE])) == [("eth0", "192.168.1.5"), ("eth0", "fd00::2")]


def test_an_interface_that_is_down_has_no_addresses_for_others():
    assert lan_addresses([adapter("eth0", "192.168.1.5/24", is_up=False)]) == []


@pytest.mark.parametrize(
    "name", ["docker0", "br-12ab", "veth1", "virbr0", "tun0", "tap1", "wg0", "tailscale0", "zt7nn", "cni0"]
)
def test_containers_and_tunnels_are_passed_over_unless_they_are_named(name):
    behind = adapter(name, "172.17.0.1/16")
    assert texts(lan_addresses([behind, CABLE])) == texts(lan_addresses([CABLE]))
    assert texts(lan_addresses([behind, CABLE], [name])) == [(name, "172.17.0.1")]


def test_a_bridge_of_the_host_itself_is_none_of_containers():
    assert texts(lan_addresses([adapter("br0", "10.0.0.1/8")])) == [("br0", "10.0.0.1")]


def test_named_interfaces_are_the_only_ones():
    wifi = adapter("wlan0", "192.168.2.5/24")
    assert texts(lan_addresses([CABLE, wifi], ["wlan0"])) == [("wlan0", "192.168.2.5")]


def test_a_name_that_no_interface_has_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"no interface 'eth9'; there are: docker0, eth0, lo"):
        lan_addresses([LOOPBACK, CABLE, DOCKER], ["eth9"])


@pytest.mark.parametrize("text", ["host", "10.0.0.1:80", "127.0.0.1", "fe80::1", "0.0.0.0", "224.0.0.1", ""])
def test_what_nobody_else_reaches_cannot_be_advertised(text):
    with pytest.raises(ConfigError, match="advertised"):
        parse_address(text)


@pytest.mark.parametrize(
    "endpoint, expected",
    [
        ("tcp://10.0.0.1:1", True),
        ("tcp://[fd00::2]:1", True),
        ("tcp://host:1", True),
        ("tcp://127.0.0.1:1", False),
        ("tcp://localhost:1", False),
        ("tcp://[::1]:1", False),
        ("tcp://0.0.0.0:1", False),
        ("ipc:///run/x", False),
    ],
)
def test_endpoints_for_others_are_told_from_those_of_this_host(endpoint, expected):
    assert is_for_others(endpoint) is expected


def test_the_interfaces_of_this_host_are_listed_with_their_networks():
    loopback = next(a for a in local_adapters() if ipaddress.ip_interface("127.0.0.1/8") in a.addresses)
    assert loopback.is_up
    assert all(a.interface != loopback.name for a in lan_addresses(local_adapters()))
