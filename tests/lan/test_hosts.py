"""The hosts of these tests are apart from each other and from this machine, and can be disturbed."""

from __future__ import annotations

import subprocess

import pytest

from tests.cluster import wait_until
from tests.lan.hosts import NETWORK, PREFIX, Host, Lan, remove_leftovers

pytestmark = pytest.mark.lan

REACH = """
import socket, sys, time
began = time.monotonic()
try:
    socket.create_connection((sys.argv[1], 8000), 0.5).close()
    print(time.monotonic() - began)
except OSError:
    print(-1)
"""

GET = """
import sys, urllib.request
print(len(urllib.request.urlopen(sys.argv[1]).read()))
"""


def reach_s(host: Host, address: str) -> float:
    """Seconds to connect; -1 where it cannot be."""
    return float(host.run(["python", "-c", REACH, address]).stdout)


@pytest.fixture
def pair(lan: Lan) -> tuple[Host, Host]:
    a, b = lan.host("a"), lan.host("b")
    a.start(["python", "-m", "http.server", "8000", "--bind", "::"])
    wait_until(lambda: reach_s(b, a.address) >= 0, 10.0)
    return a, b


def test_hosts_reach_each_other_and_have_names_of_their_own(pair: tuple[Host, Host]) -> None:
    a, b = pair
    assert reach_s(b, a.address6) >= 0
    assert reach_s(b, b.address) < 0
    assert [host.run(["uname", "-n"]).stdout.strip() for host in pair] == ["a", "b"]
    here = subprocess.check_output(["ip", "-o", "address"], text=True)
    there = b.run(["ip", "-o", "address"]).stdout
    assert f" {b.address}/" in there and f" {NETWORK}." not in here


def test_a_cable_can_be_bad_and_a_good_one_again(pair: tuple[Host, Host]) -> None:
    a, b = pair
    a.worsen(delay_s=0.05)
    assert reach_s(b, a.address) >= 0.1
    assert reach_s(b, a.address6) >= 0.1
    a.worsen(loss=1.0)
    assert reach_s(b, a.address) < 0
    a.worsen(delay_s=0.005, jitter_s=0.003, loss=0.05)
    (a.home / "large").write_bytes(bytes(3_000_000))
    got = b.run(["python", "-c", GET, f"http://{a.address}:8000/large"], timeout_s=60.0)
    assert got.stdout.strip() == "3000000"
    a.mend()
    assert 0 <= reach_s(b, a.address) < 0.1


def test_a_cable_can_be_pulled_and_a_host_be_silenced(pair: tuple[Host, Host]) -> None:
    a, b = pair
    for disturb, mend in (
        (lambda: a.link(up=False), lambda: a.link(up=True)),
        (a.silence, lambda: a.silence(False)),
    ):
        disturb()
        assert reach_s(b, a.address) < 0
        mend()
        wait_until(lambda: reach_s(b, a.address) >= 0, 10.0)


def test_an_address_can_be_changed(pair: tuple[Host, Host]) -> None:
    a, b = pair
    before = a.address
    a.change_address("10.77.0.50")
    assert reach_s(b, before) < 0
    assert reach_s(b, "10.77.0.50") >= 0


def test_what_a_killed_run_has_left_is_removed_and_what_others_run_is_not(lan: Lan) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = f"{PREFIX}-{gone.pid}-a"
    subprocess.run(["ip", "netns", "add", left], check=True)
    forgotten = subprocess.Popen(["ip", "netns", "exec", left, "sleep", "100"])
    host = lan.host("a")
    wait_until(lambda: subprocess.check_output(["ip", "netns", "pids", left]), 5.0)
    remove_leftovers()
    assert forgotten.wait(5.0) != 0
    listed = subprocess.check_output(["ip", "netns", "list"], text=True)
    assert left not in listed and host.namespace in listed


def test_leaving_a_lan_leaves_nothing(hosts_allowed: None) -> None:
    with Lan() as lan:
        host = lan.host("a")
        process = host.start(["sleep", "100"])
    assert not process.is_running and not lan.place.exists()
    listed = subprocess.check_output(["ip", "netns", "list"], text=True)
    assert host.namespace not in listed and lan.switch_namespace not in listed
