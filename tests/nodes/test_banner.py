"""What is said once a mesh is up, and by whom while it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.banner import block

WAITS = """
import sys
from mesh.settings import Settings
from nodes.banner import print_banner

print_banner(Settings(), [sys.argv[1]], "worker", None)
"""


def test_what_there_is_one_of_is_said_in_the_singular() -> None:
    worker = {"name": "w@h", "slots": 1, "queues": ["default"], "tasks": 1}
    router = {"name": "r@h", "durability": "disk"}
    assert "1 slot, queues: default, 1 task known" in block("default", router, "ipc://x", worker, "memory://")


def test_how_others_join_is_said_where_they_can() -> None:
    worker = {"name": "w@h", "slots": 1, "queues": ["default"], "tasks": 1}
    router = {"name": "r@h", "durability": "disk"}
    assert "join" not in block("default", router, "ipc://x", worker, "memory://")
    assert "      mesh join KEY\n" in block("default", router, "ipc://x", worker, "memory://", "mesh join KEY")


def test_a_mesh_with_a_name_is_looked_at_by_that() -> None:
    worker = {"name": "w@h", "slots": 1, "queues": ["default"], "tasks": 1}
    router = {"name": "r@h", "durability": "disk"}
    assert "look:  mesh --mesh lab status  " in block("lab", router, "ipc://x", worker, "memory://")


@pytest.mark.processes
def test_whoever_waits_to_print_the_banner_says_nothing_of_routers(tmp_path: Path) -> None:
    # In a process of its own, where nobody has configured logging: what nobody handles goes to standard error.
    command = [sys.executable, "-c", WAITS, f"ipc://{tmp_path}/nobody.ipc"]
    environ = {**os.environ, "MESH_CONNECT_TIMEOUT_S": "0.5"}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60.0, check=True)
    assert ended.stderr == "", "the nodes say themselves what they miss"
