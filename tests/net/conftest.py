from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from mesh.net.arrivals import Arrivals
from mesh.net.dealer_transport import DealerTransport
from mesh.net.enrolment import EnrolledNode
from mesh.net.keys import MeshKey, new_key
from mesh.net.router_transport import RouterTransport
from tests.slow_cable import SlowCable

Transport = RouterTransport | DealerTransport
T = TypeVar("T", RouterTransport, DealerTransport)


class Net:
    """Makes transports that are closed when the test ends, and runs them until something holds."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.key = new_key()
        self._open: list[Transport] = []
        self._cables: list[SlowCable] = []
        self.seen: dict[int, Arrivals] = {}

    @property
    def ipc(self) -> str:
        return f"ipc://{self.place}/r.ipc"

    def router(
        self,
        ipc: bool = True,
        tcp: str | None = "tcp://127.0.0.1:*",
        key: MeshKey | None = None,
        outbox_bytes_max: int = 1 << 20,
        unread_bytes_max: int = 1 << 30,
        nodes: Sequence[EnrolledNode] = (),
    ) -> RouterTransport:
        transport = RouterTransport(
            ipc=self.ipc if ipc else None,
            tcp=tcp,
            key=key or self.key,
            outbox_bytes_max=outbox_bytes_max,
            unread_bytes_max=unread_bytes_max,
            nodes=nodes,
        )
        return self.keep(transport)

    def dealer(self, outbox_bytes_max: int = 1 << 20) -> DealerTransport:
        return self.keep(DealerTransport(outbox_bytes_max=outbox_bytes_max))

    def cable(self, port: int, bytes_per_s: int) -> SlowCable:
        """To a port of this host."""
        cable = SlowCable(port, bytes_per_s)
        self._cables.append(cable)
        return cable

    def keep(self, transport: T) -> T:
        self._open.append(transport)
        self.seen[id(transport)] = Arrivals()
        return transport

    def of(self, transport: Transport) -> Arrivals:
        """All that arrived at a transport so far."""
        return self.seen[id(transport)]

    def until(self, condition: Callable[[], object], *transports: Transport, within_s: float = 5.0) -> None:
        """Run the transports in turn until the condition holds; fail when it does not in time."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"did not happen within {within_s} s"
            for transport in transports:
                self.step(transport)

    def step(self, transport: Transport, timeout_s: float = 0.002) -> None:
        new, seen = transport.receive(timeout_s), self.of(transport)
        seen.messages += new.messages
        seen.heard += new.heard
        seen.lost += new.lost
        seen.connected += new.connected
        seen.problems += new.problems
        seen.readable += new.readable
        seen.writable += new.writable

    def close(self) -> None:
        for transport in self._open:
            transport.close(0)
        for cable in self._cables:
            cable.close()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name: ipc paths may not be long."""
    path = Path(tempfile.mkdtemp(prefix="m-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def net(place: Path) -> Iterator[Net]:
    made = Net(place)
    yield made
    made.close()


class Processes:
    """Starts ``peer_process`` and ends what it started."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("peer_process.py")
        process = subprocess.Popen([sys.executable, str(script), *arguments], stdout=subprocess.PIPE)
        self._started.append(process)
        return process

    def kill(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.kill()
