"""Can each router be reached, and does it fit to this host? Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from mesh.net.find import Source
from mesh.net.lan import PORTS
from nodes.counts import count_of
from nodes.doctor import firewalls
from nodes.doctor.facts import (
    AddressFacts,
    Greeting,
    HostFacts,
    KeyFacts,
    Reach,
    RouterFacts,
    StatusFacts,
)
from nodes.doctor.findings import JOIN, Finding, Grade, failure, ok, warning

AHEAD_S_WARN, AHEAD_S_MAX = 1.0, 30.0  # etas and expiries mean what they say up to there
ROUND_TRIP_S_WARN = 0.25
BYTES_PER_S_WARN = 1_000_000
FREE_BYTES_WARN = 1 << 30

KEEP_SMALL = "keep arguments and results small"


def judge_search(routers: Sequence[RouterFacts], tried: str, *, mistaken: bool = False) -> list[Finding]:
    """Whether any router lets this host in. ``mistaken``: another mesh of this name is announced.

    One more router is no help where there is one: what is said of that, or of the key, has advice of its own.
    """
    if any(router.used for router in routers):
        return []
    is_there = mistaken or any(_is_there(router) for router in routers)
    advice = f"start one: `mesh up --lan`; where one runs that is not found by itself: --router HOST:{PORTS[0]}"
    return [failure("router", f"no router of this mesh answers; {tried}", "" if is_there else advice)]


def _is_there(router: RouterFacts) -> bool:
    """Whether there should be one: only one that was met some time ago, and says nothing now, may be gone."""
    return router.source is not Source.MET or any(address.reach is Reach.OPEN for address in router.addresses)


def judge(router: RouterFacts, host: HostFacts, key: KeyFacts) -> list[Finding]:
    """All that is to be said of one router."""
    findings = _addresses(router, key)
    if not router.used:
        return findings
    findings += _key(router, key)
    if router.refused:
        findings.append(failure("protocol", f"{router.named}: {router.refused}", "install the same version on both"))
        return findings
    findings += _speed(router)
    if router.status is not None:
        status = router.status
        findings += [_clock(router, status), *_store(router, status), *_versions(router, status, host)]
    elif key.role == "worker":
        findings.append(ok("store", f"{router.named}: a worker's key does not ask for its clock, store and versions"))
    else:
        findings.append(
            warning("status", f"{router.named}: it did not say how it is in time", "look at its log; is it overloaded?")
        )
    return findings


def _addresses(router: RouterFacts, key: KeyFacts) -> list[Finding]:
    """One that answers is enough, and the others are said; else it is as bad as where the address is from."""
    findings = []
    for address in router.addresses:
        text, advice = _of_address(address, key)
        if address.greeting is Greeting.DONE:
            name = f": {router.status.name}" if router.status else ""
            findings.append(ok("router", f"{address.endpoint} ({router.how}) {text}{name}"))
            continue
        expected = router.source not in (Source.MET, Source.TOLD) and not router.used
        grade = Grade.FAILURE if expected else Grade.WARNING
        findings.append(Finding("router", grade, f"{address.endpoint} ({router.how}) {text}", advice))
    return findings


def _of_address(address: AddressFacts, key: KeyFacts) -> tuple[str, str]:
    """What came of it, and what to do."""
    port = address.endpoint.rpartition(":")[2]
    ports = [int(port)] if port.isdecimal() and int(port) not in PORTS else PORTS
    open_it = f"on that machine, {firewalls.advice_there(ports)}"
    if address.greeting is Greeting.DONE:
        return "answers, and has the same key" if address.reach else "answers", ""
    if address.reach is Reach.SILENT:
        text = "does not answer: nothing comes back, so a firewall drops it, or that machine is off"
        return text, f"is it on? If so, {open_it}"
    if address.reach is Reach.UNREACHABLE:
        return (
            f"cannot be reached: {address.problem}",
            f"is it on, and in this network? If so, {open_it}",
        )
    if address.reach is Reach.CLOSED:
        return "has nobody listening at that port", "start it there: `mesh up --lan`, or look for its port in its log"
    if address.reach is Reach.UNNAMED:
        return f"is no name of a host: {address.problem}", "write its IP address"
    return _of_greeting(address, key)


def _of_greeting(address: AddressFacts, key: KeyFacts) -> tuple[str, str]:
    if address.greeting is Greeting.DENIED:
        return f"does not let us in: {address.problem}", (
            f"to let this node in, on the router's machine: `mesh node allow NAME {key.role} {key.public}`, with the "
            "name it is to have (`mesh node list` shows those that are in); to make it a new key, `mesh node enroll "
            "--force NAME` here first"
        )
    if address.greeting is Greeting.WRONG_KEY:
        return f"does not let us in: {address.problem}", JOIN
    if address.greeting is Greeting.NO_ROUTER:
        return f"is something else than a router of a mesh: {address.problem}", "look for the router's port in its log"
    if address.problem:
        return f"was not greeted: {address.problem}", ""
    return "is open, and nobody greets us there in time", "is that router stopped, or something else?"


def _key(router: RouterFacts, key: KeyFacts) -> list[Finding]:
    """A handshake over TCP proves that the keys are equal; over this user's own socket it proves nothing."""
    if router.key_id is None or not key.key_id or router.key_id == key.key_id:
        return []
    text = f"{router.named} has key {router.key_id}, and key {key.key_id} is here: who joins with that is not let in"
    return [failure("key", text, "end the router, and start it again")]


def _speed(router: RouterFacts) -> list[Finding]:
    findings = []
    if router.round_trips_s:
        typical = median(router.round_trips_s)
        text = f"{router.named}: {typical * 1000:.2f} ms there and back (median of {len(router.round_trips_s)})"
        slow = typical > ROUND_TRIP_S_WARN
        findings.append(warning("round-trip", text, "a task takes a few of them") if slow else ok("round-trip", text))
    if router.sent_bytes and router.sent_in_s > 0:
        per_s = router.sent_bytes / router.sent_in_s
        text = f"{router.named}: {per_s / 1e6:,.1f} MB/s there, with {router.sent_bytes / 1e6:.1f} MB"
        slow = per_s < BYTES_PER_S_WARN
        findings.append(warning("bandwidth", text, KEEP_SMALL) if slow else ok("bandwidth", text))
    elif router.round_trips_s:
        findings.append(warning("bandwidth", f"{router.named}: nothing large arrived in time", KEEP_SMALL))
    else:
        findings.append(failure("round-trip", f"{router.named} let us in, and answers nothing", "look at its log"))
    return findings


def _clock(router: RouterFacts, status: StatusFacts) -> Finding:
    """What the measurement does not exclude is no fault."""
    sure_s = max(0.0, abs(status.ahead_s) - status.ahead_error_s)
    which = "ahead of" if status.ahead_s >= 0 else "behind"
    known = f"{abs(status.ahead_s):.3f} s {which} this one, give or take {status.ahead_error_s:.3f} s"
    text = f"{router.named}: its clock is {known}"
    advice = "on the machine that is wrong: sudo timedatectl set-ntp true. Etas and expiries are off by as much"
    if sure_s > AHEAD_S_MAX:
        return failure("clock", text, advice)
    return warning("clock", text, advice) if sure_s > AHEAD_S_WARN else ok("clock", text)


def _store(router: RouterFacts, status: StatusFacts) -> list[Finding]:
    store = status.store
    findings = []
    if store.full:
        findings.append(
            failure(
                "store",
                f"{router.named}: its store is full or away, it accepts nothing",
                "its log says which: make room there, or see to its server; it goes on by itself",
            )
        )
    if store.given_up:
        lost = count_of(store.given_up, "thing")
        findings.append(
            warning("store", f"{router.named}: {lost} were lost when its store was salvaged", "its log says which")
        )
    free = store.free_bytes
    room = "" if free is None else f", {free / (1 << 30):,.1f} GiB free"
    if not store.full and free is not None and free < max(FREE_BYTES_WARN, store.free_bytes_min):
        findings.append(
            warning(
                "store",
                f"{router.named}: its disk has {free / (1 << 20):,.0f} MiB left",
                f"make room there: below {store.free_bytes_min >> 20} MiB it accepts nothing",
            )
        )
    if not findings:
        findings.append(ok("store", f"{router.named}: level {store.level}{room}"))
    return findings


def _versions(router: RouterFacts, status: StatusFacts, host: HostFacts) -> list[Finding]:
    findings = []
    advice = "install the same version everywhere; end a router before its store is used by an older one"
    if status.version == host.version:
        findings.append(ok("version", f"{router.named}: taskmesh {status.version}, as here"))
    else:
        text = f"{router.named} has taskmesh {status.version}, here is {host.version}"
        findings.append(warning("version", text, advice))
    by_version: defaultdict[str, list[str]] = defaultdict(list)
    by_python: defaultdict[str, list[str]] = defaultdict(list)
    for worker in status.workers:
        by_version[worker.version].append(worker.name)
        by_python[_minor(worker.python)].append(worker.name)
    for version, names in sorted(by_version.items()):
        if version != status.version:
            text = f"{', '.join(names)} has taskmesh {version}, the router {status.version}"
            findings.append(warning("version", text, advice))
    own = _minor(host.python)
    for python, names in sorted(by_python.items()):
        if python != own:
            text = f"{', '.join(names)} has Python {python}, here is {own}"
            findings.append(
                warning("version", text, "functions that travel with their code run where the Python is the caller's")
            )
    if status.workers and by_python.keys() == {own}:
        findings.append(ok("version", f"{count_of(len(status.workers), 'worker')} with Python {own}, as here"))
    elif not status.workers:
        findings.append(warning("worker", f"{router.named} has no worker: tasks wait", "start one: mesh worker -A APP"))
    return findings


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])
