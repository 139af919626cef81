"""Routers are heard of by other hosts, for as long as they are there; and only those of the same mesh."""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median

import psutil
import pytest

from mesh.net.heard import LEAVES_S, SHARE_MAX
from mesh.net.keys import MeshKey, new_key
from tests.cluster import wait_until
from tests.lan.hosts import Host, Lan, Process

pytestmark = pytest.mark.lan

BROWSE = str(Path(__file__).with_name("browse.py"))
FIRST_ANSWER = str(Path(__file__).with_name("first_answer.py"))
RUNS = 10
COLD_S, WARM_S = 2.5, 0.5  # to the first answer, on an idle machine: nothing is known of a router, or it was met before
ROUTER = ["mesh", "router", "--lan", "-l", "info", "--store", "memory://"]
HEARD_S = 2.5

KNOCK = """
import os, pathlib, time
from mesh.net.keys import parse_key
from mesh.net.knocking import knock
from mesh.net.mdns import Browser

key = parse_key(os.environ["MESH_KEY"])
browser = Browser(key.key_id)
print(knock(browser.found, key, 10.0).found is not None, flush=True)
while not pathlib.Path("killed").exists():
    time.sleep(0.01)
knocked = knock(browser.found, key, 1.0)
print(bool(browser.found()), knocked.found, knocked.tried)
"""

FLOOD = """
import sys, time, zeroconf

key_id, address = sys.argv[1:]
service = "_mesh-task._tcp.local."
speaker = zeroconf.Zeroconf(interfaces=[address])
for number in range(1_000):
    name = f"{number:08x}"
    texts = {"v": "1", "kid": key_id, "id": f"{name}0000", "inc": "1"}
    info = zeroconf.ServiceInfo(
        service, f"{key_id}-{name}.{service}", 6374, properties=texts, server=f"{name}.local.",
        parsed_addresses=[f"10.77.1.{number % 250 + 1}"],
    )
    speaker.send(speaker.generate_service_broadcast(info, 4_500))
    if number % 20 == 0:
        time.sleep(0.01)
print("sent", flush=True)
time.sleep(100)
"""


HOSTILE = """
import sys, time, zeroconf

key_id, address, real, seconds = sys.argv[1:]
service = "_mesh-task._tcp.local."
speaker = zeroconf.Zeroconf(interfaces=[address])


def say(router_id, at, ttl=120):
    texts = {"v": "1", "kid": key_id, "id": router_id, "inc": "1"}
    name = f"{key_id}-{router_id[:8]}.{service}"
    server = f"{key_id}-{router_id}.local."
    info = zeroconf.ServiceInfo(service, name, 6374, properties=texts, server=server, parsed_addresses=[at])
    speaker.send(speaker.generate_service_broadcast(info, ttl))


deadline = time.monotonic() + float(seconds)
number = 0
while time.monotonic() < deadline:
    number += 1
    say(f"{number % 1000:08x}0000", f"10.77.1.{number % 250 + 1}")
    if number % 10 == 0:
        say(real, f"10.77.2.{number % 250 + 1}")
        say(real, f"10.77.2.{number % 250 + 1}", ttl=0)
        time.sleep(0.02)
    if number == 1_000:
        print("under way", flush=True)
"""


class Ear:
    """A browser on a host."""

    def __init__(self, host: Host, key: MeshKey, *interfaces: str) -> None:
        self.process = host.start(["python", BROWSE, key.key_id, *interfaces])
        self.process.wait_said("mDNS on eth0")

    def lines(self) -> list[list]:
        return [json.loads(line) for line in self.process.text().splitlines() if line.endswith("]")]

    def endpoints(self) -> list[list[str]]:
        """Of each router that is heard of now."""
        return [endpoints for _, endpoints in self.lines()[-1][1]]

    def wait(self, endpoints: list[list[str]], within_s: float) -> float:
        """When it heard of just these routers, at these addresses before any others, by the monotonic clock."""

        def is_heard() -> bool:
            heard = self.endpoints()
            return len(heard) == len(endpoints) and all(h[: len(e)] == e for h, e in zip(heard, endpoints, strict=True))

        wait_until(is_heard, within_s, f"{endpoints}, heard {self.process.text()}")
        return self.lines()[-1][0]


def both(host: Host, port: int = 6374) -> list[str]:
    return [f"tcp://{host.address}:{port}", f"tcp://[{host.address6}]:{port}"]


def start_router(host: Host, key: MeshKey, *more: str) -> Process:
    router = host.start([*ROUTER, *more], MESH_KEY=key.text)
    router.wait_said("is up")
    return router


@pytest.fixture
def key() -> MeshKey:
    return new_key()


def test_a_router_is_heard_of_soon_after_its_start_and_until_it_says_goodbye(lan: Lan, key: MeshKey) -> None:
    a, b = lan.host("a"), lan.host("b")
    ear = Ear(b, key)
    started = time.monotonic()
    router = start_router(a, key)
    up = time.monotonic()
    heard = ear.wait([both(a)], HEARD_S)
    print(f"\nheard of {heard - started:.2f} s after its start was asked for, {heard - up:.2f} s after it was up")
    assert heard - started < HEARD_S
    late = time.monotonic()
    other = Ear(b, key)
    print(
        f"a browser that starts later heard of it after {other.wait([both(a)], HEARD_S) - late:.2f} s, Python included"
    )
    stopped = time.monotonic()
    router.terminate()
    print(f"goodbye believed after {ear.wait([], LEAVES_S + HEARD_S) - stopped:.3f} s")
    other.wait([], HEARD_S)
    assert router.wait() == 0


def test_a_router_that_was_killed_is_heard_of_where_it_is_started_anew(lan: Lan, key: MeshKey) -> None:
    a, b = lan.host("a"), lan.host("b")
    ear = Ear(b, key)
    store = f"sqlite://{a.home}/store.db"
    router = start_router(a, key, "--store", store)
    ear.wait([both(a)], HEARD_S)
    router.kill()
    later = Ear(b, key)
    start_router(a, key, "--store", store, "--port", "7000")
    ear.wait([both(a, 7000)], HEARD_S)
    later.wait([both(a, 7000)], HEARD_S)


def test_a_router_that_was_killed_is_still_heard_of_and_not_believed(lan: Lan, key: MeshKey) -> None:
    a, b = lan.host("a"), lan.host("b")
    router = start_router(a, key)
    knocker = b.start(["python", "-c", KNOCK], MESH_KEY=key.text)
    knocker.wait_said("True")
    router.kill()
    (b.home / "killed").touch()
    assert knocker.wait() == 0
    assert knocker.text().splitlines() == ["True", f"True None {both(a)}"]


def test_where_multicast_is_blocked_nothing_is_heard_and_nothing_fails(lan: Lan, key: MeshKey) -> None:
    a, b = lan.host("a"), lan.host("b")
    lan.block_multicast()
    ear = Ear(b, key)
    router = start_router(a, key)
    own = Ear(a, key)
    own.wait([both(a)], HEARD_S)
    assert ear.endpoints() == []
    assert "WARNING" not in router.text() and "ERROR" not in router.text()
    assert len(ear.process.text().splitlines()) <= 2
    lan.block_multicast(False)
    Ear(b, key).wait([both(a)], HEARD_S)


def test_a_node_finds_a_router_it_never_met_and_sooner_one_it_has_met(lan: Lan, key: MeshKey) -> None:
    a, b = lan.host("a"), lan.host("b")
    start_router(a, key)
    b.run(["mesh", "join", key.text])
    (met,) = (b.home / ".config/taskmesh").glob("*.routers.json")

    def first_answers(cold: bool) -> list[float]:
        times = []
        for _ in range(RUNS):
            if cold:
                met.unlink()
            times.append(json.loads(b.run(["python", FIRST_ANSWER]).stdout))
        what = "cold" if cold else "warm"
        imports, answers = (sorted(column) for column in zip(*times, strict=True))
        print(
            f"\n{what}: first answer after {median(answers):.3f} s (median of {RUNS}), {answers[-1]:.3f} s at worst;",
            end="",
        )
        print(f" imports before it {median(imports):.3f} s", end="")
        return answers

    assert median(first_answers(cold=True)) < COLD_S
    assert median(first_answers(cold=False)) < WARM_S


def test_who_announces_false_routers_all_the_time_keeps_no_node_from_a_router_it_never_met(
    lan: Lan, key: MeshKey
) -> None:
    a, b, c = lan.host("a"), lan.host("b"), lan.host("c")
    router = start_router(a, key)
    router_id = router.text().partition("mesh.router: router ")[2].split()[0]
    hostile = c.start(["python", "-c", HOSTILE, key.key_id, c.address, router_id, "60"])
    hostile.wait_said("under way")
    answers = []
    for _ in range(5):
        answers.append(json.loads(b.run(["python", FIRST_ANSWER], environ={"MESH_KEY": key.text}).stdout)[1])
        (b.home / ".config/taskmesh/default.routers.json").unlink()
    print(f"\nfirst answers after {answers}")
    assert max(answers) < 3 * COLD_S
    assert psutil.Process(router.pid).memory_info().rss < 100 << 20
    status = json.loads(b.run(["mesh", "status", "--json"], environ={"MESH_KEY": key.text}).stdout)
    assert sum(status["router"]["transport"]["lan"].values()) > 0


def test_the_address_of_a_container_bridge_is_told_to_nobody_unless_it_is_named(lan: Lan, key: MeshKey) -> None:
    a, b = lan.host("a"), lan.host("b")
    a.add_interface("docker0", "172.17.0.1/16")
    ear = Ear(b, key)
    start_router(a, key)
    ear.wait([both(a)], HEARD_S)
    listening = a.run(["ss", "-ltn"]).stdout
    assert f"{a.address}:6374" in listening and "172.17" not in listening
    start_router(a, key, "--advertise", "172.17.0.1")
    wait_until(lambda: ["tcp://172.17.0.1:6375"] in ear.endpoints(), HEARD_S)


def test_who_announces_a_thousand_routers_fills_no_memory_and_drives_no_real_one_out(lan: Lan, key: MeshKey) -> None:
    a, b, c = lan.host("a"), lan.host("b"), lan.host("c")
    ear = Ear(b, key)
    start_router(a, key)
    ear.wait([both(a)], HEARD_S)
    before = psutil.Process(ear.process.pid).memory_info().rss
    flood = c.start(["python", "-c", FLOOD, key.key_id, c.address])
    flood.wait_said("sent")
    wait_until(lambda: len(ear.endpoints()) == SHARE_MAX + 1, 5.0)
    assert both(a) in ear.endpoints()
    assert psutil.Process(ear.process.pid).memory_info().rss - before < 20 << 20
    assert "Traceback" not in ear.process.text()


def test_two_meshes_on_one_wire_do_not_hear_each_other(lan: Lan, key: MeshKey) -> None:
    a, b = lan.host("a"), lan.host("b")
    other = new_key()
    ears = Ear(b, key), Ear(b, other)
    start_router(a, key)
    start_router(b, other)
    ears[0].wait([both(a)], HEARD_S)
    ears[1].wait([both(b)], HEARD_S)


def test_a_host_whose_address_changes_is_heard_of_at_the_new_one(lan: Lan, key: MeshKey) -> None:
    a, b = lan.host("a", ipv6=False), lan.host("b")
    ear = Ear(b, key)
    router = start_router(a, key)
    ear.wait([[f"tcp://{a.address}:6374"]], HEARD_S)
    a.change_address("10.77.0.99")
    changed = time.monotonic()
    heard = ear.wait([["tcp://10.77.0.99:6374"]], 10.0)
    print(f"\nheard of at the new address {heard - changed:.2f} s after the change")
    router.wait_said("now listens on the LAN at: tcp://10.77.0.99:6374")


def test_a_host_that_gets_its_network_late_is_heard_of_then(lan: Lan, key: MeshKey) -> None:
    a, b = lan.host("a"), lan.host("b")
    ear = Ear(b, key)
    a.link(up=False)
    router = start_router(a, key)
    assert ear.endpoints() == []
    a.link(up=True)
    router.wait_said("now listens on the LAN at")
    wait_until(lambda: ear.endpoints() and ear.endpoints()[0][0] == both(a)[0], 10.0)
