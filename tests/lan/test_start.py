"""From nothing to a result, as people type it on two machines."""

from __future__ import annotations

import re
import shlex
import shutil
import time

import pytest

from mesh.net.keys import new_key
from tests.lan.hosts import COMMANDS, Host, Lan, Process

pytestmark = pytest.mark.lan

TASKS = """
import platform
from mesh import Mesh
app = Mesh("tasks")

@app.task
def where(number):
    return platform.node(), number * number
"""

SCRIPT = """
from tasks import where
print(where.delay(12).get(timeout=20))
"""


def give_tasks(host: Host) -> None:
    (host.home / "tasks.py").write_text(TASKS)
    (host.home / "script.py").write_text(SCRIPT)


def up(host: Host, *more: str) -> tuple[Process, str]:
    """Start a mesh, wait until it is up; its key."""
    give_tasks(host)
    process = host.start(["mesh", "up", "--lan", "-A", "tasks", "-c", "1", *more])
    process.wait_said("is up")
    return process, host.key()


def test_a_script_on_another_machine_that_has_joined_gets_a_result(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    process, key = up(a)
    assert "mesh join KEY, with the key that `mesh key show --secret` prints" in process.text()
    assert key not in process.text(), "a log holds the key"
    give_tasks(b)
    began = time.monotonic()
    said = b.run(["mesh", "join", key]).stdout
    joined = time.monotonic()
    assert f"a router answers at tcp://{a.address}:6374 (announced on the LAN)" in said
    assert b.run(["python", "script.py"]).stdout.strip() == "('a', 144)"
    print(f"\njoined in {joined - began:.2f} s, first result {time.monotonic() - joined:.2f} s later, Python included")


def test_hosts_with_ipv6_only_find_each_other(lan: Lan) -> None:
    a, b = lan.host("a", ipv4=False), lan.host("b", ipv4=False)
    _, key = up(a)
    give_tasks(b)
    said = b.run(["mesh", "join", key]).stdout
    assert f"a router answers at tcp://[{a.address6}]:6374 (announced on the LAN)" in said
    assert b.run(["python", "script.py"]).stdout.strip() == "('a', 144)"


def test_two_meshes_on_one_wire_run_each_its_own_tasks(lan: Lan) -> None:
    hosts = {name: lan.host(name) for name in "abcd"}
    for one, other in ("ac", "bd"):
        hosts[one].run(["mesh", "key", "new"])
        _, key = up(hosts[one])
        give_tasks(hosts[other])
        hosts[other].run(["mesh", "join", key])
    assert [hosts[name].run(["python", "script.py"]).stdout.strip() for name in "cd"] == ["('a', 144)", "('b', 144)"]


def test_a_terminal_is_told_the_whole_command_that_others_type(lan: Lan) -> None:
    a = lan.host("a")
    command = shlex.join([*COMMANDS["mesh"], "up", "--lan", "-c", "1"])
    process = a.start(["script", "-qefc", command, "/dev/null"])
    process.wait_said("is up")
    assert f"mesh join {a.key()}" in process.text()


def test_a_worker_on_another_machine_that_has_joined_runs_tasks(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    give_tasks(a)
    router = a.start(["mesh", "router", "--lan"])
    router.wait_said("is up")
    give_tasks(b)
    lan.share_key(a)
    b.start(["mesh", "worker", "-A", "tasks", "-c", "1"])
    assert a.run(["python", "script.py"]).stdout.strip() == "('b', 144)"


def test_a_bad_network_is_enough(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    a.worsen(delay_s=0.02, jitter_s=0.01, loss=0.1)
    _, key = up(a)
    give_tasks(b)
    b.run(["mesh", "join", key, "--router", f"{a.address}:6374"])
    script = b.run(["python", "script.py"], environ={"MESH_ROUTERS": f"{a.address}:6374"})
    assert script.stdout.strip() == "('a', 144)"


def test_without_multicast_one_address_is_enough(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    lan.block_multicast()
    _, key = up(a)
    give_tasks(b)
    began = time.monotonic()
    said = b.run(["mesh", "join", key]).stdout
    assert "no router answers yet" in said and "mDNS on eth0" in said and "kept all the same" in said
    assert "multicast is blocked" in said and "--router HOST:6374" in said
    assert time.monotonic() - began < 6.0
    b.ip("-6", "neigh", "flush", "dev", "eth0")
    assert "a router answers" in b.run(["mesh", "join", key, "--router", f"{a.address}:6374"]).stdout
    assert b.run(["python", "script.py"]).stdout.strip() == "('a', 144)", "it is remembered"


def test_a_router_of_another_mesh_is_told_from_none(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    up(a)
    said = b.run(["mesh", "join", new_key().text, "--router", f"{a.address}:6374"], check=False)
    assert said.returncode == 2
    assert "another mesh key" in said.stderr and "`mesh join --force`" in said.stderr


def test_a_machine_whose_router_listens_to_itself_alone_says_so(lan: Lan) -> None:
    a = lan.host("a")
    a.start(["mesh", "up", "-c", "1"]).wait_said("is up")
    said = a.run(["mesh", "up", "--lan"], check=False)
    assert said.returncode == 2
    assert "listens to this machine only: stop it first" in said.stderr


def test_a_machine_that_has_not_joined_makes_no_second_mesh_of_the_same_name_unasked(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    up(a)
    key_id = a.run(["mesh", "key"]).stdout.split()[4]
    for verb in ("up", "router"):
        said = b.run(["mesh", verb, "--lan"], check=False)
        assert said.returncode == 2 and said.stderr.count("\n") == 1, said
        assert f"a mesh named 'default' with key id {key_id} is announced by " in said.stderr
        assert "`mesh join`" in said.stderr and "`mesh key new`" in said.stderr
        assert "no key" in b.run(["mesh", "key"], check=False).stderr, "none was made"
    b.start(["mesh", "--mesh", "other", "up", "--lan", "-c", "1"]).wait_said("mesh 'other' is up")
    b.run(["mesh", "key", "new"])
    b.start(["mesh", "up", "--lan", "-c", "1"]).wait_said("mesh 'default' is up")


def test_whoever_has_another_key_than_the_mesh_that_is_announced_is_told_so_by_all(lan: Lan) -> None:
    a, b, wrong = lan.host("a"), lan.host("b"), new_key()
    up(a)
    key_id = a.run(["mesh", "key"]).stdout.split()[4]
    sentence = rf"a mesh named 'default' with key id {key_id} is announced by \S+, and key {wrong.key_id} is here: to"
    give_tasks(b)
    joined = b.run(["mesh", "join", wrong.text]).stdout
    assert re.search(sentence, joined) and "firewall" not in joined and "up --lan" not in joined
    for command in (["mesh", "status"], ["mesh", "call", "tasks.where"], ["python", "script.py"]):
        said = b.run(command, check=False)
        assert said.returncode and re.search(sentence, said.stderr) and "up` running?" not in said.stderr
    b.start(["mesh", "worker"]).wait_said(sentence)
    doctor = b.run(["mesh", "doctor"], check=False).stdout
    assert re.search(rf"warning +multicast +a mesh named 'default' with key id {key_id} is announced by", doctor)


def test_a_router_that_makes_a_second_mesh_of_the_name_says_so(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    up(a)
    b.run(["mesh", "key", "new"])
    for verb in ("up", "router"):
        process = b.start(["mesh", verb, "--lan"])
        process.wait_said(r"note: a mesh named 'default' with key id \w+ is announced by \S+, and key \w+ is here")
        process.end()


def test_a_router_whose_multicast_goes_nowhere_says_so(lan: Lan) -> None:
    if shutil.which("nft") is None:
        pytest.skip("no nft here: apt-get install nftables")
    a = lan.host("a")
    a.run(["nft", "add table inet filter"])
    a.run(["nft", "add chain inet filter input { type filter hook input priority 0; policy accept; }"])
    a.run(["nft", "add rule inet filter input udp dport 5353 drop"])
    a.run(["mesh", "key", "new"])
    a.start(["mesh", "up", "--lan", "-c", "1"]).wait_said("note: multicast does not come back on eth0: .*--router HOST")


def test_a_router_on_a_machine_without_a_network_says_that_nobody_reaches_it(lan: Lan) -> None:
    a = lan.host("a", ipv4=False, ipv6=False)
    a.start(["mesh", "up", "--lan", "-c", "1"]).wait_said("note: there is no address yet that others can reach")


def test_the_banner_of_a_second_router_names_one_router_with_its_own_addresses(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    _, key = up(a)
    b.run(["mesh", "join", key])
    give_tasks(b)
    second, _ = up(b, "--routers", "2")
    (line,) = [line for line in second.text().splitlines() if line.startswith("  router ")]
    named, other = (b, a) if "router@b " in line else (a, b)
    assert f"router@{named.name} " in line and f"tcp://{named.address}:6374" in line
    assert f"tcp://{other.address}:6374" not in line


def test_the_banner_of_a_worker_names_the_router_that_it_has(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    _, key = up(a)
    b.run(["mesh", "join", key])
    third, _ = up(b)
    (line,) = [line for line in third.text().splitlines() if line.startswith("  router ")]
    assert line.startswith("  router   router@a ") and f"tcp://{a.address}:6374" in line


def test_a_router_that_is_announced_and_silent_is_told_with_who_knows_more(lan: Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    _, key = up(a)
    for family in ("-4", "-6"):  # as a firewall that drops what comes in for its port
        a.ip(family, "rule", "add", "ipproto", "tcp", "sport", "6374", "blackhole")
    give_tasks(b)
    for command in (["mesh", "join", key], ["mesh", "status"], ["python", "script.py"]):
        done = b.run(command, check=False)
        said = done.stdout + done.stderr
        assert f"tcp://{a.address}:6374" in said and "answer nothing" in said and "`mesh doctor` looks" in said
        assert "up` running?" not in said and "up --lan" not in said
