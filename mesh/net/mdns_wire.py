"""The threads of ``mesh.net.mdns``: what is said and heard by zeroconf. Imported only where it is needed."""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

import zeroconf
from zeroconf import DNSAddress, DNSIncoming, DNSPointer, DNSService, DNSText  # type: ignore[attr-defined]  # it has them
from zeroconf._handlers.record_manager import RecordManager

from mesh.errors import ConfigError
from mesh.net.adapters import local_adapters
from mesh.net.heard import SERVICE, Heard, Record
from mesh.net.interfaces import LanAddress, lan_addresses
from mesh.net.mdns import About, Closing, Shown
from mesh.net.mdns_socket import PACKET_BYTES_MAX, new_question, open_at, send, texts_of

LOOK_S = 3.0  # between two looks at the interfaces
RETRY_S = 10.0  # after a failure
ASK_PAUSES_S = (0.25, 0.75, 2.0, 6.0, 18.0, 45.0)  # after each question; the last again and again
DOUBT_S = 1.0  # between a question, and one because of a goodbye
PACKETS_AT_ONCE = 64  # of one socket; what else the kernel has no room for is lost
COMPLAIN_S = 60.0  # between two lines about what found no room

_FAMILIES = {4: socket.AF_INET, 16: socket.AF_INET6}  # by how many bytes an address has

# ``Zeroconf()`` raises RuntimeError for an address that this host had a moment before.
SPEAK_FAILURES = (OSError, RuntimeError, zeroconf.Error)
LISTEN_FAILURES = (OSError, ConfigError)

log = logging.getLogger("mesh.mdns")


def speak(about: About, shown: SimpleQueue[Shown | None]) -> None:
    """Announce what is shown last, until it is None."""
    spoken: zeroconf.Zeroconf | None = None
    wanted: Shown | None = None
    retry_s: float | None = None
    complained = False
    while True:
        with suppress(Empty):
            wanted = shown.get(timeout=retry_s)
            while not shown.empty():
                wanted = shown.get()
        if spoken is not None:
            with suppress(*SPEAK_FAILURES):
                spoken.close()
            spoken = None
        if wanted is None:
            return
        retry_s = None
        if not wanted.addresses or not wanted.through:
            continue
        try:
            spoken = _announce(about, wanted)
            complained = False
        except SPEAK_FAILURES as error:
            retry_s = RETRY_S
            if not complained:
                log.warning(
                    "this router cannot be announced on the LAN (%s): nodes find it by its address only; trying on",
                    str(error) or type(error).__name__,
                )
            complained = True


class _Deaf(RecordManager):
    """Takes in nothing that others answer, to keep it for an hour: who only speaks needs no more than questions."""

    def async_updates_from_response(self, msg: DNSIncoming) -> None:
        pass


class _Speaker(zeroconf.Zeroconf):
    def start(self) -> None:
        self.record_manager = _Deaf(self)  # before there is a socket, and anything reads it
        super().start()


def _announce(about: About, shown: Shown) -> zeroconf.Zeroconf:
    speaker = _Speaker(interfaces=list(shown.through))
    info = zeroconf.ServiceInfo(
        SERVICE,
        about.name,
        port=shown.port,
        properties=dict(about.texts),
        # Of its own for each key: the goodbye of one would take the addresses of the other along.
        server=f"{about.key_id}-{about.router_id}.local.",
        parsed_addresses=list(shown.addresses),
    )
    try:
        # The name is unique by construction: to ask first whether anybody has it would take a second.
        speaker.register_service(info, cooperating_responders=True)
    except BaseException:
        speaker.close()
        raise
    return speaker


def listen(heard: Heard, interfaces: Sequence[str], closing: Closing) -> None:
    """Hear of routers until it is over."""
    tells, told = socket.socketpair()
    closing.watch(lambda: tells.send(b"."))
    complained = False
    try:
        while not _is_over(told):
            try:
                places = _places(interfaces)
                heard.listens(places)
                with Ear(heard, places, told) as ear:
                    complained = False
                    while not _is_over(told) and _places(interfaces) == places:
                        ear.listen(LOOK_S)
            except LISTEN_FAILURES as error:
                why = str(error) or type(error).__name__
                heard.fails(why)
                if not complained:
                    log.warning("routers on the LAN are not heard: %s; trying on", why)
                complained = True
                _is_over(told, RETRY_S)
    finally:
        closing.watch(None)
        tells.close()
        told.close()


def _places(interfaces: Sequence[str]) -> list[LanAddress]:
    return lan_addresses(local_adapters(), interfaces)


def _is_over(told: socket.socket, within_s: float = 0.0) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(told, selectors.EVENT_READ)
        return bool(selector.select(within_s))


class Ear:
    """Listens at some addresses of this host, for as long as it is entered; ``over`` is readable when it is to end.

    By sockets of its own: zeroconf keeps all that anybody says, and lets what came last take the place of the rest.
    Raises ``OSError`` where it can listen at none of them.
    """

    def __init__(self, heard: Heard, places: Sequence[LanAddress], over: socket.socket) -> None:
        self._heard = heard
        self._over = over
        self._selector = selectors.DefaultSelector()
        self._selector.register(over, selectors.EVENT_READ)
        self._sockets: list[socket.socket] = []
        self._question = new_question()
        self._asked = 0
        self._asked_at = self._ask_at = 0.0
        self._left_out, self._complain_at = heard.left_out, 0.0
        problem: OSError | None = None
        # Several addresses in one network hear the same.
        for place in {(place.interface, place.address.version): place for place in reversed(places)}.values():
            try:
                self._sockets.append(open_at(place))
                self._selector.register(self._sockets[-1], selectors.EVENT_READ)
            except OSError as error:
                problem = error
        if problem is not None and not self._sockets:
            self._selector.close()
            raise problem

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *raised: object) -> None:
        self._selector.close()
        for opened in self._sockets:
            opened.close()

    def listen(self, for_s: float) -> None:
        """Ask when it is time to, and hear what is said; ends early when it is over."""
        deadline = time.monotonic() + for_s
        while (now := time.monotonic()) < deadline:
            if now >= self._ask_at:
                self._ask(now)
            wait_s = max(0.0, min(deadline, self._ask_at) - now)
            readable = [key.fileobj for key, _ in self._selector.select(wait_s)]
            if self._over in readable:
                break
            for receiver in self._sockets:
                if receiver in readable:
                    self._take(receiver)
        self._complain(time.monotonic())

    def _ask(self, now: float) -> None:
        self._asked_at = now
        self._ask_at = now + ASK_PAUSES_S[min(self._asked, len(ASK_PAUSES_S) - 1)]
        self._asked += 1
        for sender in self._sockets:
            with suppress(OSError):  # no route yet, say: it is asked again
                send(sender, self._question)

    def _take(self, receiver: socket.socket) -> None:
        for _ in range(PACKETS_AT_ONCE):
            try:
                data, source = receiver.recvfrom(PACKET_BYTES_MAX)
            except OSError:
                return
            if not self._heard.concerns(data):
                continue
            host = source[0].partition("%")[0]
            for record in _records_of(data, self._heard):
                if record.lives_s > 0.0:
                    self._heard.put(record, host)
                else:
                    self._heard.leave(record.name, host)
                    self._ask_at = min(self._ask_at, self._asked_at + DOUBT_S)

    def _complain(self, now: float) -> None:
        more = self._heard.left_out - self._left_out
        if more and now >= self._complain_at:
            self._left_out, self._complain_at = self._left_out + more, now + COMPLAIN_S
            log.warning(
                "more routers are announced on the LAN than there can be: %d addresses of them are left out", more
            )


def _records_of(data: bytes, heard: Heard) -> Iterator[Record]:
    """The announcements of our mesh that are whole in this packet, what else says a mesh's name, and the goodbyes."""
    said = DNSIncoming(data)
    if not said.valid or said.is_query():
        return
    answers = said.answers()
    texts = {record.name: record.text for record in answers if isinstance(record, DNSText)}
    for pointer in answers:
        if isinstance(pointer, DNSPointer) and pointer.ttl == 0 and pointer.key == SERVICE:
            yield Record(pointer.alias, 0, (), {}, 0.0)
    for text in answers:
        if isinstance(text, DNSText) and text.ttl > 0 and text.key.endswith(SERVICE) and not heard.is_ours(text.name):
            yield Record(text.name, 0, (), texts_of(text.text), float(text.ttl))
    for service in answers:
        if not isinstance(service, DNSService) or not heard.is_ours(service.name) or service.ttl == 0:
            continue
        at = [r for r in answers if isinstance(r, DNSAddress) and r.name == service.server and r.ttl > 0]
        if at and service.name in texts:
            addresses = tuple(
                socket.inet_ntop(_FAMILIES[len(r.address)], r.address) for r in at if len(r.address) in _FAMILIES
            )
            lives_s = float(min(service.ttl, *(r.ttl for r in at)))
            yield Record(service.name, service.port, addresses, texts_of(texts[service.name]), lives_s)
