"""A bench that is killed: its processes end by themselves, and the next one removes its directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.redis_server import find_server
from bench.scenarios.directory import scratch_directory

GONE_S = 30.0

DIRECTORY = """
import sys
from bench.scenarios.directory import scratch_directory
with scratch_directory() as directory:
    print(directory, flush=True)
    sys.stdin.read()
"""

MICRO = """
import sys
from bench.micro.stopwatch import Stopwatch
from bench.micro.store import run_store
class Waiting(Stopwatch):
    def call(self, *anything, **more):
        print("ready", flush=True)
        sys.stdin.read()
run_store(1_000, Waiting(), "process")
"""

MESH = """
import sys
from pathlib import Path
from bench.meshes import running_mesh
with running_mesh(Path(sys.argv[1]), level="process", concurrency=1) as mesh:
    print("ready", flush=True)
    sys.stdin.read()
"""

REDIS = """
import sys
from pathlib import Path
from bench.redis_server import running_redis
with running_redis(Path(sys.argv[1]), "memory"):
    print("ready", flush=True)
    sys.stdin.read()
"""


def started(script: str, place: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that keeps what the script has made until its input ends, and the line it said then."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(place)],
        env=os.environ | {"TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.chaos
def test_the_directory_of_a_bench_that_was_killed_is_removed_by_the_next_and_no_other(place: Path):
    dead, left = started(DIRECTORY, place)
    alive, kept = started(DIRECTORY, place)
    (Path(left) / "mesh.db").touch()
    users = place / "taskmesh-bench-results"
    users.mkdir()
    killed(dead)
    with scratch_directory() as ours, scratch_directory():
        assert not Path(left).exists()
        assert Path(kept).is_dir() and ours.is_dir() and users.is_dir()
    alive.communicate()
    assert [*place.iterdir()] == [users]


@pytest.mark.chaos
def test_the_directory_of_a_measurement_of_the_store_alone_that_was_killed_is_removed_too(place: Path):
    process, said = started(MICRO, place)
    assert said == "ready" and [*place.iterdir()]
    killed(process)
    with scratch_directory() as ours:
        assert [*place.iterdir()] == [ours.parent]


@pytest.mark.chaos
@pytest.mark.parametrize("script", [MESH, REDIS], ids=["mesh", "redis"])
def test_processes_end_when_the_bench_that_started_them_is_killed(script: str, place: Path):
    if script is REDIS and find_server() is None:
        pytest.skip("no Redis server is installed")
    bench, said = started(script, place)
    assert said == "ready"
    children = psutil.Process(bench.pid).children(recursive=True)
    assert children
    killed(bench)
    _, living = psutil.wait_procs(children, GONE_S)
    for process in living:
        process.kill()
    assert not living
