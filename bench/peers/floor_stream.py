"""The floor of streamed payloads: bare ZeroMQ over TCP and CURVE over the mesh's hops, in its frames.

    client DEALER → router ROUTER → worker DEALER, and back

``python -m bench.peers.floor_stream BULK_BYTES SIZES``, each a process. The worker sends back the frames that it got,
the router passes on those that it got; nobody else knows of a payload, nothing is typed, remembered, retried or written
down. Only the client joins the parts to a payload again, as anybody must who wants it back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import zmq

from bench.ending import end_with_starter
from bench.peers.echoing import echo_all
from bench.peers.floor import forked
from bench.peers.floor_nodes import BATCH, CLIENT, READY, WORKER, zmq_socket
from mesh.errors import Unavailable
from mesh.model import Buffer
from mesh.net.frames import read_frames, write_frames
from mesh.wire.parts import cut

PATIENCE_S = 120.0
FLOOR_START_S = 20.0  # forks of this process that import nothing more: later, one of them has died

Keys = tuple[bytes, bytes]
"""Public and secret."""


class StreamClient:
    """The client's end. Payloads come back in the order in which they were sent."""

    def __init__(self, address: str, server: bytes) -> None:
        self._dealer = _dealer(address, server, CLIENT)
        self._dealer.send_multipart([READY])
        self._receive(FLOOR_START_S)

    def submit(self, payload: bytes) -> Callable[[], bytes]:
        """Send a payload; what is given back waits for the next one to come back."""
        write_frames(self._dealer, [BATCH, *cut(payload)])
        return lambda: b"".join(self._receive(PATIENCE_S)[1:])

    def _receive(self, patience_s: float) -> Sequence[Buffer]:
        if not self._dealer.poll(round(patience_s * 1000)):
            raise Unavailable(f"the floor has answered nothing in {patience_s:g} s")
        return _next(self._dealer)


@contextmanager
def running_stream() -> Iterator[StreamClient]:
    """All processes of the floor; ended at the end. Raises ``Unavailable``."""
    server = zmq.curve_keypair()
    ours, theirs = Pipe()
    with forked([(run_router, (theirs, server))]):
        address = _told(ours)
        with forked([(run_worker, (address, server[0]))]):
            _told(ours)  # the worker is there: before, what is for it would be dropped
            yield StreamClient(address, server[0])


def run_router(starter: Connection, keys: Keys) -> None:
    """Tell the address and when the worker is there, then pass on what comes from the one to the other."""
    router = zmq_socket(zmq.Context(), zmq.ROUTER)
    router.set(zmq.CURVE_SERVER, 1)
    router.set(zmq.CURVE_SECRETKEY, keys[1])
    router.bind("tcp://127.0.0.1:*")
    starter.send(bytes(router.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode())
    while True:
        sender, *frames = _next(router)
        if frames != [READY]:
            write_frames(router, [CLIENT if sender == WORKER else WORKER, *frames])
        elif sender == WORKER:
            starter.send(True)
        else:
            router.send_multipart([CLIENT, READY])


def run_worker(address: str, server: bytes) -> None:
    """Send back what comes."""
    dealer = _dealer(address, server, WORKER)
    dealer.send_multipart([READY])
    while True:
        write_frames(dealer, _next(dealer))


def _dealer(address: str, server: bytes, identity: bytes) -> zmq.Socket[bytes]:
    dealer = zmq_socket(zmq.Context(), zmq.DEALER, identity)
    public, secret = zmq.curve_keypair()
    dealer.set(zmq.CURVE_PUBLICKEY, public)
    dealer.set(zmq.CURVE_SECRETKEY, secret)
    dealer.set(zmq.CURVE_SERVERKEY, server)
    dealer.connect(address)
    return dealer


def _next(connection: zmq.Socket[bytes]) -> Sequence[Buffer]:
    frames = read_frames(connection, connection.recv(copy=False))
    assert frames is not None, "the floor was given a payload that no message of the mesh can hold"
    return frames


def _told(starter: Connection) -> Any:
    if not starter.poll(FLOOR_START_S):
        raise Unavailable(f"the floor was not ready in {FLOOR_START_S:g} s")
    return starter.recv()


def main(bulk_bytes: str, sizes: str) -> None:
    """Measure, and print what was found as JSON."""
    end_with_starter()
    with running_stream() as client:
        found = echo_all(client.submit, "bytes", sizes.split(","), int(bulk_bytes))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
