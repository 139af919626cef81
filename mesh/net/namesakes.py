"""Another mesh of the same name on the LAN: who has its key, or means to, takes it for his own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mesh.settings import command_of


class Namesake(NamedTuple):
    """The key id of such a mesh, and a host that announces a router of it, as anybody can."""

    key_id: str
    source: str


def announced(mesh: str, namesake: Namesake) -> str:
    """What is known of it, for people."""
    return f"a mesh named {mesh!r} with key id {namesake.key_id} is announced by {namesake.source}"


def each_once(namesakes: Iterable[Namesake]) -> list[Namesake]:
    """One for each key, for a host has several addresses: that of IPv4, where it has both."""
    by_key: dict[str, Namesake] = {}
    for one in sorted(namesakes, key=lambda one: (one.key_id, ":" in one.source, one.source)):
        by_key.setdefault(one.key_id, one)
    return list(by_key.values())


def mistaken(mesh: str, key_id: str, namesakes: Sequence[Namesake]) -> str:
    """That key ``key_id`` may be the wrong one, and what to do then; empty where there is no namesake."""
    if not namesakes:
        return ""
    there = "; ".join(announced(mesh, one) for one in each_once(namesakes))
    return f"{there}, and key {key_id} is here: {how_to_join(mesh)}"


def how_to_join(mesh: str) -> str:
    """For a machine that has another key."""
    command = command_of(mesh)
    return f"to join it, type `{command} join --force`, with the key that `{command} key show --secret` prints there"
