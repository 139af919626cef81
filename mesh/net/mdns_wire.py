"""The threads of ``mesh.net.mdns``: what is said and heard by zeroconf. Imported only where it is needed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

import zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from mesh.errors import ConfigError
from mesh.net.adapters import local_adapters
from mesh.net.interfaces import LanAddress, lan_addresses
from mesh.net.mdns import ROUTERS_MAX, SERVICE, About, Closing, Heard, Record, Shown

LOOK_S = 3.0  # between two looks at the interfaces
RETRY_S = 10.0  # after a failure
ASK_MS = 3_000  # for what an announcement left out
ASK_AGAIN_S = 60.0  # where nobody has answered

FAILURES = (OSError, RuntimeError, zeroconf.Error)

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
            with suppress(*FAILURES):
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
        except FAILURES as error:
            retry_s = RETRY_S
            if not complained:
                log.warning(
                    "this router cannot be announced on the LAN (%s): nodes find it by its address only; trying on",
                    str(error) or type(error).__name__,
                )
            complained = True


def _announce(about: About, shown: Shown) -> zeroconf.Zeroconf:
    speaker = zeroconf.Zeroconf(interfaces=list(shown.through))
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
    asyncio.run(_listen(heard, interfaces, closing))


async def _listen(heard: Heard, interfaces: Sequence[str], closing: Closing) -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    closing.watch(lambda: loop.call_soon_threadsafe(over.set))
    complained = False
    try:
        while not over.is_set():
            try:
                places = _places(interfaces)
                heard.listens(places)
                async with Ear(heard, places) as ear:
                    while not over.is_set() and _places(interfaces) == places:
                        await _wait(over, LOOK_S)
                        ear.refresh()
            except (*FAILURES, ConfigError) as error:
                why = str(error) or type(error).__name__
                heard.fails(why)
                if not complained:
                    log.warning("routers on the LAN are not heard: %s; trying on", why)
                complained = True
                await _wait(over, RETRY_S)
    finally:
        closing.watch(None)


def _places(interfaces: Sequence[str]) -> list[LanAddress]:
    return lan_addresses(local_adapters(), interfaces)


async def _wait(over: asyncio.Event, at_most_s: float) -> None:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(over.wait(), at_most_s)


class Ear:
    """Listens at some addresses of this host, for as long as it is entered.

    zeroconf tells of names that come and go, and of addresses that come; an address that goes it only forgets, within
    two minutes. So what it remembers is looked at again and again: a router that was killed is gone by then, though its
    name stays for an hour.
    """

    def __init__(self, heard: Heard, places: Sequence[LanAddress]) -> None:
        self._heard = heard
        self._places = places
        self._zeroconf: AsyncZeroconf | None = None
        self._names: dict[str, float] = {}  # announced, and not before when they are asked about
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Ear:
        if self._places:
            self._zeroconf = AsyncZeroconf(interfaces=[place.text for place in self._places])
            self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._on_change])
        return self

    async def __aexit__(self, *raised: object) -> None:
        for task in list(self._asking.values()):
            task.cancel()
        if self._zeroconf is not None:
            with suppress(*FAILURES):
                await self._browser.async_cancel()
                await self._zeroconf.async_close()

    def refresh(self) -> None:
        """Look at all that was heard again."""
        if self._zeroconf is not None:
            for name in list(self._names):
                self._look(self._zeroconf.zeroconf, name)

    def _on_change(
        self,
        zeroconf: zeroconf.Zeroconf,
        service_type: str,
        name: str,
        state_change: zeroconf.ServiceStateChange,
    ) -> None:
        if not self._heard.is_ours(name):
            return
        if state_change.name == "Removed":
            self._names.pop(name, None)
            self._heard.remove(name)
        elif name in self._names or len(self._names) < ROUTERS_MAX:
            self._names[name] = 0.0
            self._look(zeroconf, name)

    def _look(self, zeroconf: zeroconf.Zeroconf, name: str) -> None:
        info = AsyncServiceInfo(SERVICE, name)
        if info.load_from_cache(zeroconf):
            self._names[name] = 0.0
            self._take(info)
        elif name not in self._asking and time.monotonic() >= self._names[name]:
            self._names[name] = time.monotonic() + ASK_AGAIN_S
            task = self._asking[name] = asyncio.get_running_loop().create_task(self._ask(zeroconf, info))
            task.add_done_callback(partial(self._asked, name))

    async def _ask(self, zeroconf: zeroconf.Zeroconf, info: AsyncServiceInfo) -> None:
        with suppress(*FAILURES):
            if await info.async_request(zeroconf, ASK_MS):
                self._take(info)
                return
        self._heard.remove(info.name)

    def _asked(self, name: str, task: asyncio.Task[None]) -> None:
        self._asking.pop(name, None)

    def _take(self, info: AsyncServiceInfo) -> None:
        if info.name not in self._names:
            return  # it has said goodbye meanwhile
        texts = {
            key.decode(errors="replace"): (value or b"").decode(errors="replace")
            for key, value in info.properties.items()
        }
        self._heard.put(Record(info.name, info.port or 0, tuple(info.parsed_addresses()), texts))
