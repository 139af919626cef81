"""A router with two keys is announced with each, at the port where that one is good."""

from __future__ import annotations

import pytest

from mesh.net.heard import LEAVES_S
from mesh.net.keys import MeshKey, parse_key
from tests.lan.hosts import Host, Lan
from tests.lan.test_discovery import HEARD_S, Ear, both

pytestmark = pytest.mark.lan

LOOK_S = 2.0  # a router looks at its keys once a second


def key_of(host: Host) -> MeshKey:
    key = parse_key(host.key())
    assert isinstance(key, MeshKey)
    return key


def test_each_key_is_announced_until_it_goes(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    a.start(["mesh", "router", "--lan", "-l", "info", "--store", "memory://"]).wait_said("is up")
    old = Ear(b, key_of(a))
    old.wait([both(a)], HEARD_S)

    a.run(["mesh", "key", "rotate"])
    new = Ear(b, key_of(a))
    new.wait([both(a, 6375)], LOOK_S + HEARD_S)
    assert old.endpoints() == [both(a)]
    said = b.run(["mesh", "join", key_of(a).text]).stdout
    assert "a router answers at" in said and ":6375" in said

    a.run(["mesh", "key", "rotate", "--finish"])
    old.wait([], LOOK_S + LEAVES_S + HEARD_S)
    new.wait([both(a)], LOOK_S + HEARD_S)
