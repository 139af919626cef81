"""Moves a store to another place. It can be stopped at any moment and goes on when it is asked for again.

A note is put on the target first and on the source last, each before a router could start on the wrong one: at no
moment can a router start on both by mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, time
from typing import Protocol

import msgspec

from mesh.core.commands import DropBatches, DropBlobs
from mesh.errors import ConfigError, StoreDamaged, StoreError, StoreMoved
from mesh.model import Blob
from mesh.store.base import Store
from mesh.store.check import check
from mesh.store.copying import Copied, copy
from mesh.store.moved import Move
from mesh.store.reading import Facts, Reader, cut, needed_blobs, new_arguments

RENEW_S = 1.0  # between two renewals of the locks

Told = Callable[[str, int], None]


class Held(Protocol):
    """A store that no router can start on meanwhile."""

    def usage(self) -> object:
        """Renew the lock."""

    def note_move(self, move: Move | None) -> None:
        """Write down that the store moves, or take that back."""


class Target(Store, Protocol):
    """A store that another moves to."""

    def note_move(self, move: Move | None) -> None:
        """Write down that the store moves, or take that back."""

    def become(self, router_id: str) -> None:
        """Be the store of this router. Raises ``ConfigError`` where its journal is there under another name."""

    def empty(self) -> None:
        """Have nothing in the journal. Raises ``ConfigError`` where people have to see to that."""

    def count_on(self, boot: int) -> None:
        """Go on counting starts from ``boot``."""


@dataclass(slots=True, frozen=True)
class Ends:
    """The two stores, each as it is read and as it is held."""

    source: Reader
    held: Held
    target: Target
    target_reader: Reader


def migrate(ends: Ends, told: Told, *, force: bool = False) -> Copied:
    """Copy everything, verify it, and note on the source where it went.

    Raises ``StoreError``: what is in the target then is gone on with by the next call. ``force``: also where the source
    was moved elsewhere before.
    """
    source, target = ends.source, ends.target
    facts, there = source.facts(), ends.target_reader.facts()
    if facts.shared == there.shared:
        raise ConfigError(
            f"{source.url} and {target.url} have their results in one place: give TO a ?prefix= of its own"
        )
    _refuse_source(facts, source.url, target.url, force=force)
    comes_back = _comes_back(facts, there, source.url)
    resumed = not comes_back and _goes_on(facts, there, source.url, target.url)
    if faults := source.faults():
        raise StoreDamaged(f"{source.url}: {'; '.join(faults)}; `mesh router --salvage` goes on with what is left")
    target.become(facts.router_id)
    renewing = _renewing(ends, told)
    if comes_back:  # before the note that has the next call go on with what is there
        _empty(target, ends.target_reader, renewing)
    coming = Move("from", source.url, time(), facts.boot, facts.commits)
    if not resumed:
        target.note_move(coming)
    known = ends.target_reader.seqs() if resumed else ()
    copied = copy(source, target, renewing, known, of_all=not facts.others)
    target.count_on(facts.boot)
    problems = copied.missing_in(check(ends.target_reader, renewing))
    if problems:
        raise StoreError(f"{target.url}: not all has arrived: {'; '.join(problems)}; {source.url} is as it was")
    ends.held.note_move(Move("to", target.url, time(), facts.boot, facts.commits))
    target.note_move(None)
    return copied


def _refuse_source(facts: Facts, url: str, target: str, *, force: bool) -> None:
    move = facts.move
    if move is None or (move.way == "to" and (force or move.other == target)):
        return
    if move.way == "from":
        raise StoreMoved(f"{url} is {move.sentence}: it is not all there")
    raise StoreMoved(f"{url} was {move.sentence}: migrate from there, or give --force to move what is here once more")


def _comes_back(facts: Facts, there: Facts, source: str) -> bool:
    """Whether what is left in the target was moved to the source, where all of it is, or what became of it."""
    move = there.move
    return (
        facts.move is None
        and move is not None
        and (move.way, move.other) == ("to", source)
        and there.router_id == facts.router_id
        and facts.boot >= move.boot
    )


def _empty(target: Target, reader: Reader, told: Told) -> None:
    payloads = new_arguments(reader)
    for count, some in enumerate(cut(reader.seqs()), 1):
        blobs: list[Blob] = []
        for _, batch in reader.batches(some):
            with suppress(msgspec.MsgspecError):
                blobs += [] if batch is None else needed_blobs(batch, payloads)
        target.commit([DropBlobs(blobs), DropBatches(list(some))])
        told("parts of what was left there", count)
    target.empty()


def _goes_on(facts: Facts, there: Facts, source: str, target: str) -> bool:
    """Whether a part of the source is in the target already. Raises where anything else is."""
    move = there.move
    if move is None and there.is_empty:
        return False
    if move is None and facts.move is not None and facts.move.other == target:
        raise StoreMoved(f"{source} was {facts.move.sentence}: all of it is there already")
    if move is None or move.way == "to" or move.other != source:
        what = "it has been used" if move is None else f"it {'is' if move.way == 'from' else 'was'} {move.sentence}"
        raise ConfigError(f"{target} is not empty ({what}): give the address of a store that nobody used yet")
    if (move.boot, move.commits) != (facts.boot, facts.commits):
        raise StoreMoved(
            f"{target} has a part of {source} from before a router ran on that again: give another address"
        )
    return True


def _renewing(ends: Ends, told: Told) -> Told:
    """``told``, which also keeps the locks from running out."""
    last = monotonic()

    def tell(kind: str, count: int) -> None:
        nonlocal last
        told(kind, count)
        if monotonic() - last >= RENEW_S:
            ends.held.usage()
            ends.target.usage()
            last = monotonic()

    return tell
