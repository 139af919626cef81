from __future__ import annotations

import os

import pytest

from mesh.errors import ConfigError
from mesh.net.find import find_routers, parse_endpoint
from mesh.net.runtime_dir import RouterRecord, RuntimeDir


@pytest.fixture
def environ(place):
    return {"MESH_RUNTIME_DIR": str(place / "run")}


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


def test_what_was_tried_is_told_when_there_is_none(environ, running):
    search = find_routers("other", None, environ)
    assert search.found == []
    for part in ("MESH_ROUTERS is not set", environ["MESH_RUNTIME_DIR"], "no running router"):
        assert part in search.tried
    assert "tcp://a:1" in find_routers("lab", ["a:1"], environ).tried


@pytest.mark.parametrize(
    "address, endpoint",
    [
        ("host:5555", "tcp://host:5555"),
        (" tcp://10.0.0.1:1 ", "tcp://10.0.0.1:1"),
        ("[::1]:80", "tcp://[::1]:80"),
        ("ipc:///run/x", "ipc:///run/x"),
    ],
)
def test_an_address_may_be_written_in_several_ways(address, endpoint):
    assert parse_endpoint(address) == endpoint


@pytest.mark.parametrize("address", ["host", "host:", ":1", "host:0", "host:70000", "udp://h:1", "ipc://", "h:x", ""])
def test_an_address_that_cannot_be_one_is_refused_with_the_forms_that_can(address):
    with pytest.raises(ConfigError, match="host:port"):
        parse_endpoint(address)
