from __future__ import annotations

import os
from dataclasses import replace

import pytest

from mesh.net.find import NAMES_MAX, Found, Source, find_routers
from mesh.net.keys import key_path, new_key, save
from mesh.net.known import KnownRouter, remember
from mesh.net.runtime_dir import RouterRecord, RuntimeDir


class Heard:
    """What a browser heard, at once."""

    tried = "mDNS on nothing"
    mistaken = ""

    def __init__(self, *found):
        self.routers = list(found)

    def found(self):
        return self.routers


@pytest.fixture
def environ(place):
    found = {"MESH_RUNTIME_DIR": str(place / "run"), "XDG_CONFIG_HOME": str(place / "config")}
    save(key_path("lab", found), new_key())
    return found


@pytest.fixture
def running(environ):
    record = RouterRecord(
        mesh="lab", router_id="r1", pid=os.getpid(), ipc="ipc:///r", tcp="tcp://127.0.0.1:7", key_id="k", started_at=1.0
    )
    file = RuntimeDir(environ).publish(record)
    yield record
    file.withdraw()


def test_addresses_given_win_over_the_environment_and_over_what_runs(environ, running):
    environ["MESH_ROUTERS"] = "b:2, tcp://c:3"
    assert [f.endpoints for f in find_routers("lab", ["a:1"], environ).found] == [("tcp://a:1",)]
    assert [f.endpoints for f in find_routers("lab", None, environ).found] == [("tcp://b:2",), ("tcp://c:3",)]
    del environ["MESH_ROUTERS"]
    found = find_routers("lab", [], environ).found
    assert [(f.endpoints, f.router_id) for f in found] == [(("ipc:///r", "tcp://127.0.0.1:7"), "r1")]


def test_routers_of_this_host_come_first_then_announced_ones_then_those_met_before(environ, running):
    remember("lab", environ, [KnownRouter("r3", ("tcp://10.0.0.3:1",))])
    heard = Heard(Found(("tcp://10.0.0.2:1",), "r2", "announced"))
    assert [f.router_id for f in find_routers("lab", None, environ, heard).found] == ["r1", "r2", "r3"]
    assert [f.router_id for f in find_routers("lab", None, environ).found] == ["r1", "r3"]
    assert [f.router_id for f in find_routers("lab", ["a:1"], environ, heard).found] == [None]
    tried = find_routers("lab", None, environ, heard).tried
    for part in ("ipc:///r", "mDNS on nothing announces tcp://10.0.0.2:1", "met before: tcp://10.0.0.3:1"):
        assert part in tried


def test_a_router_that_several_places_know_is_found_once_with_the_best_address_first(environ, running):
    remember("lab", environ, [KnownRouter(name, ("tcp://10.0.0.9:1",)) for name in ("r1", "r2")])
    heard = Heard(Found(("tcp://10.0.0.2:1",), "r2", "announced"))
    here, other = find_routers("lab", None, environ, heard).found
    assert here.endpoints == ("ipc:///r", "tcp://127.0.0.1:7", "tcp://10.0.0.9:1")
    assert other == Found(("tcp://10.0.0.2:1", "tcp://10.0.0.9:1"), "r2", "announced")


def test_what_is_announced_in_the_name_of_a_router_comes_before_few_addresses_where_it_was_met(environ):
    remember("lab", environ, [KnownRouter("r2", ("tcp://10.0.0.9:1",))])
    false = tuple(f"tcp://10.66.0.{number}:1" for number in range(100))
    (found,) = find_routers("lab", None, environ, Heard(Found(false, "r2", "announced", Source.ANNOUNCED))).found
    assert found.endpoints[:2] == ("tcp://10.66.0.0:1", "tcp://10.0.0.9:1")


def test_what_was_tried_is_short_however_many_are_announced(environ):
    heard = Heard(*[Found((f"tcp://10.66.0.{number}:1",), f"r{number}", "announced") for number in range(200)])
    tried = find_routers("lab", None, environ, heard).tried
    assert f"{200 - NAMES_MAX} more" in tried
    assert len(tried) < 1_000


def test_a_router_on_the_lan_names_those_addresses_too(environ, running):
    file = RuntimeDir(environ).publish(replace(running, router_id="r2", started_at=2.0, lan=("tcp://10.0.0.1:6374",)))
    assert find_routers("lab", None, environ).found[1].endpoints[-1] == "tcp://10.0.0.1:6374"
    file.withdraw()


def test_what_was_tried_is_told_when_there_is_none(environ, running):
    search = find_routers("other", None, environ)
    assert search.found == []
    for part in ("MESH_ROUTERS is not set", environ["MESH_RUNTIME_DIR"], "no running router"):
        assert part in search.tried
    assert "tcp://a:1" in find_routers("lab", ["a:1"], environ).tried
