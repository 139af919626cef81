"""What a router has in memory of payloads that come over the network."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import pytest

from mesh import Mesh
from mesh.core.commands import Record
from mesh.model import Blob, Buffer
from mesh.net.runtime_dir import RuntimeDir
from mesh.settings import Settings
from mesh.store.memory import MemoryStore
from nodes.router import RouterConfig, RouterNode
from tests.cluster import Cluster


class Watched(MemoryStore):
    """``left``: the frames of payloads that were still there at the first commit after they came."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[weakref.ref[Any]] = []
        self.left: list[object] | None = None

    def put_blob(self, blob: Blob, parts: Iterable[Buffer]) -> bool:
        views = list(parts)
        self.came += [weakref.ref(view.obj) for view in views if isinstance(view, memoryview)]
        return super().put_blob(blob, views)

    def commit(self, records: Sequence[Record], held_back: Collection[str] = ()) -> None:
        super().commit(records, held_back)
        if self.came and self.left is None:
            self.left = [frame() for frame in self.came if frame() is not None]


@pytest.fixture
def signals_as_they_were() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def submit(payload: bytes) -> None:
    """Have a task with this payload accepted over the network, then stop the router of this process."""
    (record,) = RuntimeDir(os.environ).routers("t")
    try:
        with Mesh("far", router=str(record.tcp).removeprefix("tcp://")) as app:
            app.send_task("work", (payload,))
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.processes
@pytest.mark.timeout(30)
@pytest.mark.usefixtures("signals_as_they_were")
def test_the_frames_of_a_payload_are_gone_when_it_is_in_the_store(cluster: Cluster) -> None:
    store = Watched()
    node = RouterNode(RouterConfig(settings=Settings.from_environment()), store)
    client = threading.Thread(target=submit, args=(bytes(3 << 20),), daemon=True)
    client.start()
    assert node.run() == 0
    client.join()
    assert len(store.came) > 1
    assert store.left == []
