"""Connections on which nothing comes through any more, and which nobody closes: as where a NAT forgot a flow."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from mesh.net.runtime_dir import RuntimeDir
from tests.cluster import Cluster, send, wait_until

pytestmark = pytest.mark.processes

QUICK = {"heartbeat_s": 0.5}


class Way:
    """Passes bytes on between nodes and a router; ``silence`` has the connections that there are lead nowhere."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._other_end: dict[socket.socket, socket.socket] = {}
        self._silent: set[socket.socket] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def silence(self) -> int:
        """Take what is sent on them, and pass nothing on; how many these are."""
        self._silent |= self._other_end.keys()
        return len(self._silent) // 2

    def close(self) -> None:
        self._closing = True
        self._thread.join(10.0)
        for connection in [self._listening, *self._other_end]:
            connection.close()

    def _run(self) -> None:
        while not self._closing:
            for ready in select.select([self._listening, *self._other_end], [], [], 0.05)[0]:
                if ready is self._listening:
                    node, router = self._listening.accept()[0], socket.create_connection(("127.0.0.1", self._port))
                    self._other_end |= {node: router, router: node}
                elif ready in self._other_end:
                    self._pass_on(ready)

    def _pass_on(self, ready: socket.socket) -> None:
        other = self._other_end[ready]
        data = b""
        with suppress(OSError):
            data = ready.recv(65_536)
            if data and ready not in self._silent:
                other.sendall(data)
        if not data:
            del self._other_end[ready]
            ready.close()
            if ready not in self._silent:
                del self._other_end[other]
                other.close()


@pytest.fixture
def way(cluster: Cluster) -> Iterator[Way]:
    """To a router of the cluster."""
    cluster.router(**QUICK)
    (record,) = RuntimeDir(os.environ).routers("t")
    with closing(Way(int(str(record.tcp).rpartition(":")[2]))) as made:
        yield made


def test_a_worker_and_a_client_come_back_where_their_connections_lead_nowhere(cluster: Cluster, way: Way) -> None:
    worker = cluster.worker("w", "--router", way.address, **QUICK)
    app = cluster.client(router=way.address, **QUICK)
    assert send(app, "echo", 1).get(timeout=10.0) == 1
    for times in (2, 3):
        results = [send(app, "work", i, 0.01) for i in range(20)]
        assert way.silence() >= 2
        results += [send(app, "work", i, 0.01) for i in range(20, 40)]
        assert [result.get(timeout=20.0) for result in results] == list(range(40))
        wait_until(lambda n=times: worker.text().count("welcomed by") >= n, 10.0, "it is welcomed again")
    assert "trying it anew" in worker.text()
    assert [one["name"].split("@")[0] for one in app.status()["workers"]] == ["w"], "the earlier ones are given up"
