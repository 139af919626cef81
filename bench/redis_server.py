"""A Redis server of one's own, for peers of the bench and for tests: on a free loopback port, ended by pid."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mesh.errors import Unavailable
from nodes.supervised import end_with

REDIS_START_S = 10.0  # it has nothing to load, so it listens at once
STOP_S = 5.0
NAMES = ("redis-server", "valkey-server")
NO_SERVER = "no Redis server is installed: `make bench-peers` says how"

PERSISTENCE = {
    "memory": ("--save", "", "--appendonly", "no"),
    "process": ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
    "disk": ("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
}
"""By what accepted tasks survive. Redis writes to its file before it answers, so that a killed server loses nothing."""


@dataclass(frozen=True)
class RedisServer:
    """``command``: how it was started, as it is stated; ``pid``: for its processor time."""

    url: str
    pid: int
    command: str
    port: int


def find_server() -> str | None:
    """The path of a Redis server, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def running_redis(
    directory: Path, level: str, *, port: int | None = None, options: Sequence[str] = (), sentinel: Path | None = None
) -> Iterator[RedisServer]:
    """A server that keeps its files in ``directory``, at ``port`` or a free one. Raises ``Unavailable``.

    With ``sentinel``, a file of its settings, it is a sentinel.
    """
    program = find_server()
    if program is None:
        raise Unavailable(NO_SERVER)
    port = port or free_port()
    arguments = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory), *PERSISTENCE[level], *options]
    if sentinel is not None:
        arguments = [str(sentinel), "--sentinel", *arguments[:6]]
    log = directory / "redis.log"
    with log.open("ab") as out:
        server = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            preexec_fn=partial(end_with, os.getpid()),  # a bench that is killed ends nothing
        )
    try:
        _wait_until_ready(server, port, log)
        stated = " ".join(argument or '""' for argument in PERSISTENCE[level])
        yield RedisServer(f"redis://127.0.0.1:{port}", server.pid, f"{_version(program)} {stated}", port)
    finally:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def free_port() -> int:
    """A port of this host that nobody has now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + REDIS_START_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return
        except OSError:
            pass
        if server.poll() is not None or time.monotonic() > deadline:
            raise Unavailable(f"the Redis server did not start: {log.read_text(errors='replace')[-300:].strip()}")
        time.sleep(0.02)


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    word = next((word for word in said.split() if word.startswith("v=")), "v=?")
    return f"{os.path.basename(program)} {word[2:]}"
