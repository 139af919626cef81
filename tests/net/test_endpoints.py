from __future__ import annotations

import pytest

from mesh.errors import ConfigError
from mesh.net.endpoints import parse_endpoint, place_of, tcp_endpoint

NOT_IPV6 = ["::1:80", "fd00::2:80", "fd00::2", "[::1:80", "[host]:80", "[]:80", "[fe80::1%eth0]:80"]


@pytest.mark.parametrize(
    "address, endpoint",
    [
        ("host:5555", "tcp://host:5555"),
        (" tcp://10.0.0.1:1 ", "tcp://10.0.0.1:1"),
        ("[::1]:80", "tcp://[::1]:80"),
        ("tcp://[fd00::2]:80", "tcp://[fd00::2]:80"),
        ("ipc:///run/x", "ipc:///run/x"),
        ("10.0.0.1", "tcp://10.0.0.1:6374"),
        ("tcp://host", "tcp://host:6374"),
        ("[fd00::2]", "tcp://[fd00::2]:6374"),
    ],
)
def test_an_address_may_be_written_in_several_ways(address, endpoint):
    assert parse_endpoint(address) == endpoint


@pytest.mark.parametrize(
    "address", ["6374", "host:", ":1", "host:0", "host:70000", "udp://h:1", "ipc://", "h:x", "", *NOT_IPV6]
)
def test_an_address_that_cannot_be_one_is_refused_with_the_forms_that_can(address):
    with pytest.raises(ConfigError, match="host:port"):
        parse_endpoint(address)


@pytest.mark.parametrize("host, endpoint", [("10.0.0.1", "tcp://10.0.0.1:1"), ("fd00::2", "tcp://[fd00::2]:1")])
def test_a_host_and_a_port_become_an_endpoint_and_it_those_again(host, endpoint):
    assert tcp_endpoint(host, 1) == endpoint
    assert place_of(endpoint) == (host, 1)
