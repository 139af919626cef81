"""Makes the sockets; every option with its reason."""

from __future__ import annotations

import errno
import resource
import secrets
import socket as system_socket
from collections.abc import Mapping

import zmq
import zmq.utils.garbage  # else at the first large frame, where perhaps no descriptor is free to read it
from zmq import SocketOption

from mesh.errors import ConfigError
from mesh.net.keys import CurvePair, Entry

Socket = zmq.Socket[bytes]


class AddressTaken(ConfigError):
    """Another process listens there."""


FRAME_BYTES_MAX = 2 << 20
"""A larger frame ends the connection, before it is read. Payload parts are at most half of it."""

SILENCE_MS = 6_000  # for so long may nothing come back on a connection

ZAP_ENDPOINT = "inproc://zeromq.zap.01"  # the address libzmq asks
IPC_PATH_BYTES_MAX = 107  # sockaddr_un

_OLDEST_LIBZMQ = (4, 3, 5)  # earlier ones can be crashed by strangers

_COMMON: dict[SocketOption, int] = {
    # Acknowledgements prove delivery, so nothing is worth waiting for; an orderly close gives a bound of its own.
    zmq.LINGER: 0,
    # Worst memory a stranger can claim before a key is checked: this, for each connection.
    zmq.MAXMSGSIZE: FRAME_BYTES_MAX,
    # A connection that does not finish its greeting is dropped.
    zmq.HANDSHAKE_IVL: 5_000,
    # Messages, not bytes: shallow, so that what is unsent waits in our own outbox, which is bounded in bytes.
    zmq.SNDHWM: 64,
    # None. With a limit libzmq stops reading from a peer that floods us, and if that peer dies then, the next
    # heartbeat aborts this process (stream_engine_base.cpp, "!_io_error"). Credit and window sizes are the bound.
    zmq.RCVHWM: 0,
    # What the other kernel has not acknowledged for as long ends the connection (TCP_USER_TIMEOUT): an address of ours
    # that is gone, or a flow that is dropped on its way. Else retransmissions go on for a quarter of an hour.
    zmq.TCP_MAXRT: SILENCE_MS,
}

_ROUTER: dict[SocketOption, int] = _COMMON | {
    # A peer that is not there is an error, and a peer that is full is EAGAIN: otherwise both are silent losses.
    zmq.ROUTER_MANDATORY: 1,
    # Off, and nodes choose no routing ids: each connection gets a new one. Taking an id over leaves the earlier
    # connection without a pipe, and if that one then speaks and ends, the next heartbeat aborts this process, as
    # above. A peer's connection is noticed as lost in milliseconds, so nobody needs its old id.
    zmq.ROUTER_HANDOVER: 0,
    # A host that vanished is noticed here; the other end is told to expect the next ping, and does so only where a
    # ping was the last it received, so nodes judge silence themselves. Pings run in the I/O thread, so a busy process
    # still answers. Routers alone send them, so that no user's process has the timer that can abort it.
    zmq.HEARTBEAT_IVL: 2_000,
    zmq.HEARTBEAT_TIMEOUT: SILENCE_MS,
    zmq.HEARTBEAT_TTL: SILENCE_MS,
    # After a router's restart all nodes come at once; with the default of 100 some wait for a second.
    zmq.BACKLOG: 4_096,
}

_DEALER: dict[SocketOption, int] = _COMMON | {
    # No pipe before there is a connection: "no router" is visible and nothing is queued for one that is gone.
    zmq.IMMEDIATE: 1,
    # Back 0.1 s after a router is; while it is away one try a second.
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 1_000,
    # Else one try lasts for two minutes where nothing comes back, from an address that we may have no more.
    zmq.CONNECT_TIMEOUT: 5_000,
}


def new_context() -> zmq.Context[Socket]:
    """A context of its own for one transport. Raises ``ConfigError`` where libzmq is too old to be safe."""
    version = zmq.zmq_version_info()
    if version < _OLDEST_LIBZMQ:
        raise ConfigError(f"libzmq {zmq.zmq_version()} has known holes: type `pip install -U pyzmq` (needs 4.3.5)")
    return zmq.Context()


def router_socket(context: zmq.Context[Socket], curve: CurvePair | None, domain: bytes = b"mesh") -> Socket:
    """A ROUTER; with ``curve`` it admits only keys the ZAP handler of the same context accepts for ``domain``."""
    socket = _socket(context, zmq.ROUTER, _ROUTER)
    if curve is not None:
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, curve.secret)
        socket.set(zmq.ZAP_DOMAIN, domain)
        # Without it libzmq lets everybody in when no handler answers.
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
    return socket


def dealer_socket(context: zmq.Context[Socket], entry: Entry | None = None) -> Socket:
    """A DEALER; with ``entry`` it speaks only to the router named there."""
    socket = _socket(context, zmq.DEALER, _DEALER)
    if entry is not None:
        socket.set(zmq.CURVE_PUBLICKEY, entry.own.public)
        socket.set(zmq.CURVE_SECRETKEY, entry.own.secret)
        socket.set(zmq.CURVE_SERVERKEY, entry.router)
    return socket


def monitor_socket(socket: Socket, events: int) -> Socket:
    """A PAIR that tells the ``events`` of ``socket``."""
    endpoint = f"inproc://monitor-{secrets.token_hex(8)}"
    socket.monitor(endpoint, events)
    # No limit: libzmq's I/O thread would wait for us when it is reached.
    monitor = _socket(socket.context, zmq.PAIR, {zmq.LINGER: 0, zmq.RCVHWM: 0})
    monitor.connect(endpoint)
    return monitor


def zap_socket(context: zmq.Context[Socket]) -> Socket:
    """The socket libzmq asks whether a key may come in."""
    socket = _socket(context, zmq.REP, {zmq.LINGER: 0, zmq.RCVHWM: 0})
    socket.bind(ZAP_ENDPOINT)
    return socket


def bind(socket: Socket, endpoint: str) -> str:
    """Bind and give back the address as bound. Raises ``AddressTaken``, or ``ConfigError`` where it cannot be."""
    if endpoint.startswith("ipc://"):
        _check_ipc_free(endpoint.removeprefix("ipc://"))
    set_family(socket, endpoint)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        kind = AddressTaken if error.errno == errno.EADDRINUSE else ConfigError
        raise kind(f"cannot listen at {endpoint}: {error.strerror}") from None
    return bytes(socket.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()


def set_family(socket: Socket, endpoint: str) -> None:
    """Use IPv6 only where the address is written in it: else ``localhost`` would be a place where nobody listens."""
    socket.set(zmq.IPV6, int("[" in endpoint))


# Plain numbers: arithmetic on zmq's enums costs more than the calls they are for.
POLLIN, POLLOUT, NOBLOCK = int(zmq.POLLIN), int(zmq.POLLOUT), int(zmq.NOBLOCK)
MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)


def events_of(socket: Socket) -> int:
    """What the socket can do now (POLLIN, POLLOUT); also makes it notice what its I/O thread did."""
    return int(socket.getsockopt(_EVENTS))


def raise_fd_limit() -> int:
    """Allow this process as many open files as the system lets it; give back how many. One per connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _socket(context: zmq.Context[Socket], kind: int, options: Mapping[SocketOption, int]) -> Socket:
    socket = context.socket(kind)
    for option, value in options.items():
        socket.set(option, value)
    return socket


def _check_ipc_free(path: str) -> None:
    """libzmq replaces whatever is at the path, so it would take the place of a router that lives."""
    if len(path.encode()) > IPC_PATH_BYTES_MAX:
        raise ConfigError(
            f"ipc path of more than {IPC_PATH_BYTES_MAX} bytes: {path}; set MESH_RUNTIME_DIR to a short one"
        )
    with system_socket.socket(system_socket.AF_UNIX, system_socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            pass  # a full backlog: somebody is there
        except OSError:
            return
    raise ConfigError(f"another router listens at ipc://{path}: stop it first, or use another mesh name")
