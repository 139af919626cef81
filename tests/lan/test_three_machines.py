"""What docs/LAN.md has a sysadmin type on three machines, with what systemd would start started here."""

from __future__ import annotations

import json
import shlex

import pytest

from tests.cluster import wait_until
from tests.lan.hosts import Host, Lan, Process

pytestmark = pytest.mark.lan

TASKS = """
from mesh import Mesh
app = Mesh("tasks")

@app.task
def add(x, y):
    return x + y
"""


def serve(host: Host, *options: str) -> Process:
    """Start what the unit of `mesh service install` says."""
    (host.home / "tasks.py").write_text(TASKS)
    unit = host.run(["mesh", "service", "install", "--user", "--print", *options]).stdout
    (command,) = [line.partition("=")[2] for line in unit.splitlines() if line.startswith("ExecStart=")]
    _, *arguments = shlex.split(command)
    return host.start(["python", *arguments])


def test_three_machines_become_a_mesh_that_comes_back_after_a_power_cut(lan: Lan) -> None:
    a, b, c = hosts = [lan.host(name) for name in "abc"]
    first = serve(a, "up", "--lan", "-A", "tasks", "-c", "1")
    first.wait_said("is up")
    key = a.run(["mesh", "key", "show", "--secret"]).stdout
    for host in (b, c):
        assert "a router answers" in host.run(["mesh", "join"], input=key).stdout
        serve(host, "up", "--lan", "-A", "tasks", "-c", "1")

    def workers() -> set[str]:
        said = json.loads(c.run(["mesh", "status", "--json"]).stdout)
        return {worker["name"].partition("@")[2] for worker in said["workers"]}

    wait_until(lambda: workers() == {"a", "b", "c"}, 20.0, "three workers")
    assert b.run(["mesh", "doctor"], check=False).returncode == 0
    assert [host.run(["mesh", "call", "tasks.add", "-a", "[1, 2]", "--wait"]).stdout for host in hosts] == ["3\n"] * 3
    accepted = a.run(["mesh", "call", "tasks.add", "-a", "[5, 6]", "--queue", "later", "--no-wait"]).stdout.strip()
    first.kill()
    serve(a, "up", "--lan", "-A", "tasks", "-c", "1").wait_said("is up")
    assert b.run(["mesh", "call", "tasks.add", "-a", "[3, 4]", "--wait"]).stdout == "7\n"
    c.start(["mesh", "worker", "-A", "tasks", "-Q", "later", "-c", "1"])
    assert b.run(["mesh", "result", accepted]).stdout == "11\n"
