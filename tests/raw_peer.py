"""A bare ZeroMQ socket that speaks our protocol and keeps to none of its rules."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import count

import zmq

from mesh.messages import Hello, Identify, Message, WorkerInfo
from mesh.model import Role
from mesh.net.keys import CurvePair
from mesh.wire.codec import decode_from_router, encode

ANSWER_MS = 5_000


class RawPeer:
    """Over TCP: ``own`` is its key pair, ``server`` the public key that it expects there."""

    def __init__(self, endpoint: str, own: CurvePair, server: bytes) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.CURVE_PUBLICKEY, own.public)
        self._socket.set(zmq.CURVE_SECRETKEY, own.secret)
        self._socket.set(zmq.CURVE_SERVERKEY, server)
        self._socket.connect(endpoint)
        self._session = 0
        self._node_id = secrets.token_hex(8)
        self._number = 0
        self.flooded_bytes = 0

    def greet(self, role: Role) -> Message | None:
        """Say HELLO in a new session; the answer."""
        self._session += 1
        self._number = 0
        worker = WorkerInfo(["default"], ["no.such.task"], 1, 1) if role is Role.WORKER else None
        self._send(Hello(role, self._node_id, "raw", "3.11", "0", worker), 0)
        return self.hear()

    def say(self, message: Message, *, answered: bool = True) -> Message | None:
        """Send ``message``; the next answer, where there is to be one."""
        self._number += 1
        self._send(message, self._number)
        return self.hear() if answered else None

    def send_raw(self, frames: list[bytes]) -> None:
        """Send frames that may mean nothing."""
        self._socket.send_multipart(frames)

    def flood(self, make: Callable[[int], Message], until: Callable[[], bool]) -> None:
        """Send what ``make`` gives for 0, 1, … as fast as it goes, and read nothing."""
        for turn in count():
            if turn % 100 == 0 and until():
                return
            message = make(turn)
            outside = type(message) is Identify
            session, number = (0, 0) if outside else (self._session, self._number + 1)
            try:
                frames = [bytes(frame) for frame in encode(message, session, number)]
                self._socket.send_multipart(frames, zmq.NOBLOCK)
            except zmq.Again:
                self._socket.poll(1, zmq.POLLOUT)
                continue
            self._number += not outside
            self.flooded_bytes += sum(map(len, frames))

    def flood_raw(self, frames: list[bytes], until: Callable[[], bool], *, reading: bool = True) -> None:
        """Send a message of these again and again as fast as it goes; ``reading``: and take what is answered."""
        while not until():
            for _ in range(max(1, 1_000 // len(frames))):
                try:
                    self._socket.send_multipart(frames, zmq.NOBLOCK)
                except zmq.Again:
                    self._socket.poll(1, zmq.POLLOUT)
            while reading and self._socket.poll(0):
                self._socket.recv_multipart()

    def hear(self, within_ms: int = ANSWER_MS) -> Message | None:
        """The next message that is no heartbeat or probe; None where none comes."""
        while self._socket.poll(within_ms):
            frames = self._socket.recv_multipart()
            if frames == [b""]:
                continue
            message = decode_from_router(frames).message
            if type(message).__name__ != "Heartbeat":
                return message
        return None

    def close(self) -> None:
        self._context.destroy(linger=0)

    def _send(self, message: Message, number: int) -> None:
        self._socket.send_multipart([bytes(frame) for frame in encode(message, self._session, number)])
