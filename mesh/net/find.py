"""Finds routers: the addresses given, else those in the environment, else all that this host and the LAN know of."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Protocol, TypeVar

from mesh.errors import ConfigError
from mesh.net.endpoints import parse_endpoint
from mesh.net.known import recall
from mesh.net.runtime_dir import RuntimeDir

NAMES_MAX = 8  # of routers, that a message for people has

T = TypeVar("T")


class Source(enum.Enum):
    """Where an address is from, and so what it means that nobody of this mesh answers there."""

    NAMED = "named"  # by whoever started this node: it should be right
    HERE = "here"  # it runs on this host
    ANNOUNCED = "announced"  # on the LAN, where anybody can announce anything
    TOLD = "told"  # by a router of this mesh
    MET = "met"  # some time ago; it may be somebody else's by now


@dataclass(frozen=True, slots=True)
class Found:
    """A router that may be there: its addresses, best first. ``how`` it was found is for people."""

    endpoints: tuple[str, ...]
    router_id: str | None
    how: str
    source: Source = Source.NAMED


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, and what was tried, for an error message. ``unfit``: what keeps this node from any of it.

    ``mistaken``: what this node was told that is mostly wrong, the key or the name of a host, and what to do then.
    """

    found: list[Found]
    tried: str
    unfit: ConfigError | None = None
    mistaken: str = ""


class Suggestions(Protocol):
    """Where routers announce themselves. Whatever is found there may be gone, or be somebody else."""

    @property
    def tried(self) -> str:
        """Where it looks, for an error message."""
        ...

    @property
    def mistaken(self) -> str:
        """Which other meshes of this name are announced, and what to do about it; empty where none is."""
        ...

    def found(self) -> list[Found]:
        """What is announced just now; on any thread, and at once."""
        ...


def find_routers(
    mesh: str, explicit: Sequence[str] | None, environ: Mapping[str, str], browser: Suggestions | None = None
) -> Search:
    """Look where a router may be: what is named is the only thing used, else each router is once among what is found.

    This user's routers on this host come first, then those that ``browser`` heard of, then those that were met before.
    Raises ``ConfigError``.
    """
    named = named_routers(explicit, environ)
    if named is not None:
        return named
    here = routers_here(mesh, environ)
    announced = [] if browser is None else browser.found()
    met = [Found(router.endpoints, router.router_id, "met before", Source.MET) for router in recall(mesh, environ)]
    tried = [
        "no address was given, MESH_ROUTERS is not set",
        f"{' and '.join(map(str, RuntimeDir(environ).places))} names {_names(here, 'no running router')}",
        f"met before: {_names(met, 'none')}",
    ]
    if browser is not None:
        tried.append(f"{browser.tried} announces {_names(announced, 'none')}")
    mistaken = "" if browser is None else browser.mistaken
    return Search(_each_once([*here, *announced, *met]), "; ".join(tried), mistaken=mistaken)


def named_routers(explicit: Sequence[str] | None, environ: Mapping[str, str]) -> Search | None:
    """The addresses given, else those of ``MESH_ROUTERS``; None where there are none. Raises ``ConfigError``."""
    if explicit:
        return _given(explicit, "given")
    listed = [address for address in environ.get("MESH_ROUTERS", "").split(",") if address.strip()]
    return _given(listed, "MESH_ROUTERS") if listed else None


def routers_here(mesh: str, environ: Mapping[str, str]) -> list[Found]:
    """This user's routers that run on this host. Raises ``ConfigError``."""
    found = []
    for record in RuntimeDir(environ).routers(mesh):
        endpoints = tuple(address for address in (record.ipc, record.tcp, *record.lan) if address is not None)
        found.append(Found(endpoints, record.router_id, f"running here as process {record.pid}", Source.HERE))
    return found


def unanswered(endpoints: Sequence[str], command: str) -> str:
    """What to say of addresses of which neither a greeting came nor a refusal. ``command``: what people type."""
    at, s = ", ".join(endpoints[:NAMES_MAX]), "s" * (len(endpoints) == 1)
    return (
        f"{at} answer{s} nothing: is that machine off, a firewall in the way, or something else than a router there? "
        f"`{command} doctor` looks"
    )


def in_turns(lines: Iterable[Sequence[T]]) -> list[T]:
    """The first of each line, then the second of each and so on: a long line makes no other wait. Each thing once."""
    nothing = object()
    turns = zip_longest(*lines, fillvalue=nothing)
    return list(dict.fromkeys(one for turn in turns for one in turn if one is not nothing))  # type: ignore[misc]


def _each_once(found: Sequence[Found]) -> list[Found]:
    """Two connections to one router would be two nodes to it: the addresses that come first are the best."""
    by_id: dict[str | None, Found] = {}
    for router in found:
        first = by_id.setdefault(router.router_id, router)
        if first is not router:
            lines = [first.endpoints, router.endpoints]
            # What anybody may have announced in its name does not come before all that it proved to have.
            is_hearsay = first.source is Source.ANNOUNCED
            endpoints = tuple(in_turns(lines) if is_hearsay else dict.fromkeys(chain(*lines)))
            by_id[router.router_id] = Found(endpoints, first.router_id, first.how, first.source)
    return list(by_id.values())


def _names(found: Sequence[Found], none: str) -> str:
    names = [f"{f.endpoints[0]} ({f.how})" for f in found if f.endpoints]
    more = [f"{len(names) - NAMES_MAX} more"] if len(names) > NAMES_MAX else []
    return ", ".join(names[:NAMES_MAX] + more) or none


def _given(addresses: Sequence[str], how: str) -> Search:
    found = [Found((parse_endpoint(address),), None, how) for address in addresses]
    return Search(found, f"{how}: " + ", ".join(f.endpoints[0] for f in found))
