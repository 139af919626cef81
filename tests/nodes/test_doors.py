"""Where the key that a rotation brings is asked for: beside the place of the one from before."""

from __future__ import annotations

import ipaddress

import pytest

from mesh.errors import ConfigError
from mesh.net.interfaces import Adapter
from mesh.net.keys import new_key
from mesh.net.lan import LanOptions
from mesh.net.sockets import AddressTaken
from nodes.doors import PORTS_TRIED, Doors

ETH0 = Adapter("eth0", True, (ipaddress.ip_interface("10.0.0.5/24"),))
OLD, NEW = new_key(), new_key()


class Transport:
    """Listens at every port but those that are ``taken``."""

    def __init__(self, *taken):
        self.taken = set(taken)

    def listen(self, tcp, key):
        port = int(tcp.rpartition(":")[2])
        assert 0 < port < 65_536
        if port in self.taken:
            raise AddressTaken(f"cannot listen at {tcp}")
        return tcp

    def unlisten(self, bound):
        pass


def doors(transport, *, tcp=None, lan=None):
    return Doors(transport, tcp, lan, [NEW, OLD], lambda: [NEW, OLD], lambda key_id: None, lambda: [ETH0])


def on_tcp(transport, port):
    return doors(transport, tcp=f"tcp://10.0.0.5:{port}").tcp


def on_lan(transport, port):
    return doors(transport, lan=LanOptions(port=port)).lan[0]


@pytest.mark.parametrize("listen", [on_tcp, on_lan])
@pytest.mark.parametrize(
    ("port", "taken", "chosen"),
    [
        (7_000, [], 7_001),
        (7_000, [7_001, 7_002], 7_003),
        (7_000, range(7_001, 7_000 + PORTS_TRIED), 7_000 + PORTS_TRIED),
        (65_533, [65_534], 65_535),
    ],
)
def test_the_next_free_port_is_the_new_keys(listen, port, taken, chosen):
    assert listen(Transport(*taken), port) == f"tcp://10.0.0.5:{chosen}"


@pytest.mark.parametrize("listen", [on_tcp, on_lan])
def test_where_all_that_are_tried_are_taken_it_is_said_what_to_do(listen):
    with pytest.raises(ConfigError, match=r"7008.*another port"):
        listen(Transport(*range(7_001, 7_001 + PORTS_TRIED)), 7_000)
    with pytest.raises(ConfigError, match="no port follows 65535"):
        listen(Transport(), 65_535)
