"""Which router's journal an address names, and by which name people ask for it."""

from __future__ import annotations

from hashlib import blake2b
from urllib.parse import quote

from mesh.errors import ConfigError, StoreDamaged
from mesh.store.identity import this_machine
from mesh.store.redis.address import RedisAddress
from mesh.store.redis.kinds import read_count
from mesh.store.redis.link import Link, as_text
from mesh.store.redis.rows import Rows, is_router_id


def name_of(address: RedisAddress) -> str:
    """By which name an address asks for a journal: that of this machine, where it has none."""
    return address.router if address.router is not None else this_machine()


def id_of(name: str) -> str:
    """The id of the router that a journal of this name is of, unless another was moved there."""
    return blake2b(name.encode(), digest_size=6).hexdigest()


def router_at(link: Link, base: str, address: RedisAddress, becomes: str | None = None) -> str:
    """Which router's journal an address names: that of its name, or the one that was moved there under this name.

    The id of a router that has one stands for that, too, unless there is one of this name. ``becomes``: the router
    whose journal is to come here, if nothing is here yet.
    """
    name = name_of(address)
    own = id_of(name)
    moved = link.command("HGET", f"{base}names", own)
    if moved is not None and not is_router_id(moved):
        raise StoreDamaged(f"{link.name} key {base}names: what {own} stands for is no router's id; delete that field")
    if moved is not None:
        return as_text(moved)
    if is_router_id(name.encode()):
        is_there, of_name = link.commands([("EXISTS", f"{base}r:{one}:meta") for one in (name, own)])
        if is_there and not of_name:
            return name
    if becomes is None or becomes == own or _is_used(link, f"{base}r:{own}:"):
        return own
    if link.command("EXISTS", f"{base}r:{becomes}:meta"):
        return own
    link.command("HSET", f"{base}names", own, becomes)
    return becomes


def _is_used(link: Link, mine: str) -> bool:
    """Whether a router has a journal, or keeps anything in it."""
    (seq, batches), *rest = link.commands(
        [
            ("HMGET", f"{mine}meta", "seq", "batches"),
            ("EXISTS", f"{mine}lock", f"{mine}marks", f"{mine}functions", f"{mine}schedules", f"{mine}moved"),
        ]
    )
    where = f"{link.name} key {mine}meta"
    return any((read_count(seq, "seq", where), read_count(batches, "batches", where), *rest))


def refuse_another(link: Link, base: str, router_id: str, becomes: str, rows: Rows) -> bool:
    """Raise ``ConfigError`` where router ``becomes`` has a journal there under another name than that of ``router_id``.

    Returns whether ``router_id`` has none yet.
    """
    meta = f"{base}r:{becomes}:meta"
    name, there = link.commands([("HGET", meta, "name"), ("EXISTS", meta)])
    if there and becomes != router_id:
        known = None if name is None else rows.read_name(becomes, name)
        raise ConfigError(
            f"{link.name}: router {becomes} has a journal there already, under another name: give TO "
            f"?router={quote(known or becomes, safe=':')}, or a ?prefix= of its own"
        )
    return not link.command("EXISTS", f"{base}r:{router_id}:meta")


def keep_name(link: Link, base: str, router_id: str, name: str, rows: Rows) -> None:
    """For people: the name cannot be told from the id."""
    if name != router_id:  # it was asked for by that
        link.command("HSET", f"{base}r:{router_id}:meta", "name", rows.name(name))
