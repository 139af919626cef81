from __future__ import annotations

import stat

import pytest

from mesh.net import known
from mesh.net.keys import key_path, new_key, save
from mesh.net.known import AGE_S_MAX, ROUTERS_MAX, SAID_AGAIN_S, KnownRouter, known_path, recall, remember


@pytest.fixture
def environ(place):
    found = {"XDG_CONFIG_HOME": str(place)}
    save(key_path("lab", found), new_key())
    return found


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1_000_000.0

    monkeypatch.setattr(known.time, "time", lambda: Clock.now)
    return Clock


def router(name, *endpoints):
    return KnownRouter(name, endpoints or (f"tcp://10.0.0.1:{6000 + len(name)}",))


def test_routers_that_were_met_are_recalled_the_last_one_first(environ):
    first, second = router("aa", "tcp://10.0.0.1:1", "tcp://[fd00::1]:1"), router("bb", "tcp://10.0.0.2:1")
    remember("lab", environ, [first])
    remember("lab", environ, [second])
    assert recall("lab", environ) == [second, first]
    assert stat.S_IMODE(known_path("lab", environ).stat().st_mode) == 0o600
    assert recall("other", environ) == []


def test_a_router_at_new_addresses_is_known_by_those_only(environ):
    remember("lab", environ, [router("aa", "tcp://10.0.0.1:1")])
    remember("lab", environ, [router("aa", "tcp://10.0.0.9:1")])
    assert recall("lab", environ) == [router("aa", "tcp://10.0.0.9:1")]


def test_addresses_of_this_host_alone_are_not_kept(environ):
    remember("lab", environ, [router("aa", "ipc:///run/x", "tcp://127.0.0.1:1"), router("bb", "tcp://10.0.0.1:1")])
    assert recall("lab", environ) == [router("bb", "tcp://10.0.0.1:1")]
    remember("lab", environ, [router("bb", "ipc:///run/x")])
    assert recall("lab", environ) == [router("bb", "tcp://10.0.0.1:1")]


def test_no_more_are_kept_than_there_is_room_for(environ):
    for number in range(ROUTERS_MAX + 5):
        remember("lab", environ, [router(f"{number:04}")])
    assert [r.router_id for r in recall("lab", environ)] == [f"{n:04}" for n in range(ROUTERS_MAX + 4, 4, -1)]


def test_what_is_known_already_is_not_written_again_for_a_while(environ, clock):
    remember("lab", environ, [router("aa")])
    written = known_path("lab", environ).stat().st_ino
    clock.now += SAID_AGAIN_S / 2
    remember("lab", environ, [router("aa")])
    assert known_path("lab", environ).stat().st_ino == written
    clock.now += SAID_AGAIN_S
    remember("lab", environ, [router("aa")])
    assert known_path("lab", environ).stat().st_ino != written


def test_a_router_that_nobody_met_for_long_is_forgotten(environ, clock):
    remember("lab", environ, [router("aa")])
    clock.now += AGE_S_MAX
    assert recall("lab", environ) == []


def test_routers_of_another_key_are_none_of_this_mesh(environ):
    remember("lab", environ, [router("aa")])
    key_path("lab", environ).unlink()
    remember("lab", environ, [router("bb")])
    assert recall("lab", environ) == []
    save(key_path("lab", environ), new_key())
    assert recall("lab", environ) == []
    remember("lab", environ, [router("cc")])
    assert recall("lab", environ) == [router("cc")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff{",
        b"[]",
        b'{"key_id": 1, "routers": []}',
        b'{"key_id": "k", "routers": [{"router_id": "r", "endpoints": ["ipc:///x"], "met_at": 1}]}',
    ],
)
def test_a_file_that_cannot_be_read_is_complained_of_once_and_does_no_harm(environ, caplog, content):
    known_path("lab", environ).write_bytes(content)
    assert recall("lab", environ) == recall("lab", environ) == []
    assert caplog.text.count("cannot be read") == 1
    remember("lab", environ, [router("aa")])
    assert recall("lab", environ) == [router("aa")]


def test_where_nothing_can_be_written_nothing_fails(environ, caplog):
    known_path("lab", environ).mkdir()
    remember("lab", environ, [router("aa")])
    assert recall("lab", environ) == []
    assert not list(known_path("lab", environ).parent.glob(".*"))
