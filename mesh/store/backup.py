"""Makes a copy of a store while a router runs on it: a store file with its large payloads beside it, ready to be used.

It is made in a directory of its own beside its place and put there when it was read through. What fails on the way
leaves nothing.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mesh.errors import ConfigError, StoreError, StoreFull, StoreMoved
from mesh.store.blob_file import file_name
from mesh.store.check import Checked, check
from mesh.store.copying import copy
from mesh.store.lock import FileLock
from mesh.store.moved import sync_directory
from mesh.store.reading import Reader
from mesh.store.salvage import note_left_out
from mesh.store.sqlite import SqliteStore
from mesh.store.sqlite_reader import WAIT_S, SqliteReader, read_only, translated

PASSES = 10  # over payloads that come while others are copied
HELD_BYTES_MAX = 32 << 20  # of payloads copied while the router has to wait
HELD_FILES_MAX = 1_000  # and how many
STEP_PAGES = 4_096  # pages of a file copied between two words of how far it is

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_BESIDE = ("-wal", "-shm", ".tail", ".ballast", ".moved")

Told = Callable[[str, int], None]


@dataclass(slots=True)
class BackedUp:
    """What is in the copy, and how much was left out because it could not be read."""

    checked: Checked
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the store is damaged or lost."""
        return self.checked.is_whole and not self.left_out


def backup(reader: Reader, place: Path, told: Told, *, force: bool = False) -> BackedUp:
    """Copy the store to ``place``. Raises ``ConfigError`` where something is there and ``force`` is not given.

    ``StoreFull`` where there is no room, ``StoreLocked`` where a router has what is to be replaced.
    """
    place = place.absolute()
    move = reader.facts().move
    if move is not None and move.way == "from":
        raise StoreMoved(f"{reader.url} is {move.sentence}: it is not all there")
    _refuse_taken(place, force=force)
    with _errors(place), _draft(place) as directory:
        made = directory / "store.db"
        left_out: dict[str, int] = {}
        if isinstance(reader, SqliteReader):
            _copy_file(reader.path, made, told)
        else:
            left_out = _copy_rows(reader, made, told)
        with closing(SqliteReader(made)) as copied:
            checked = check(copied, told)
        _put(made, place, force=force)
    return BackedUp(checked, left_out)


def _refuse_taken(place: Path, *, force: bool) -> None:
    if not place.parent.is_dir():
        raise ConfigError(f"{place.parent}: there is no such directory")
    taken = [path for path in (place, *_beside(place)) if os.path.lexists(path)]
    if taken and not force:
        raise ConfigError(f"{taken[0]} is there already; --force replaces it")
    if place.is_dir():
        raise ConfigError(f"{place} is a directory: give the name of a file")


def _beside(place: Path) -> list[Path]:
    return [Path(f"{place}{suffix}") for suffix in (*_BESIDE, ".blobs")]


@contextmanager
def _errors(place: Path) -> Iterator[None]:
    try:
        yield
    except StoreFull:
        raise StoreFull(f"{place}: the disk is full; nothing was left there") from None
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFull(f"{place}: the disk is full; nothing was left there") from None
        raise StoreError(f"{place}: {error}") from error


@contextmanager
def _draft(place: Path) -> Iterator[Path]:
    directory = place.parent / f".{place.name}.{secrets.token_hex(4)}.draft"
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _put(made: Path, place: Path, *, force: bool) -> None:
    """Put what was made in its place, and what was there away."""
    with _unused(place, force=force):
        for old in _beside(place):
            with suppress(FileNotFoundError):
                old.rename(made.parent / f"old{old.name}")
        Path(f"{made}.blobs").rename(f"{place}.blobs")
        made.rename(place)
        sync_directory(place.parent)


@contextmanager
def _unused(place: Path, *, force: bool) -> Iterator[None]:
    lock = FileLock(Path(f"{place}.lock"), moving=True) if force and place.exists() else None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _copy_rows(reader: Reader, made: Path, told: Told) -> dict[str, int]:
    store = SqliteStore(made, ballast_bytes=0)
    try:
        copied = copy(reader, store, told)
        facts = reader.facts()
        store.become(facts.router_id)
        store.count_on(facts.boot)
    finally:
        store.close()
    for beside in (".tail", ".lock"):
        Path(f"{made}{beside}").unlink(missing_ok=True)
    with translated(made), closing(sqlite3.connect(made, isolation_level=None)) as connection:
        if payloads := copied.left_out.get("payloads"):
            note_left_out(connection, payloads)
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    return copied.left_out


def _copy_file(source: Path, made: Path, told: Told) -> None:
    """Copy the file as it is at one moment, and the payloads there are at that moment.

    A router removes a payload after the commit that says so. While nobody can commit, what the file names is there.
    """
    payloads = _Payloads(source, made)
    payloads.take_most()
    os.close(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with translated(source), closing(read_only(source)) as snapshot:
        with _nobody_commits(source):
            snapshot.execute("BEGIN")
            keys = [key for (key,) in snapshot.execute("SELECT key FROM blobs")]
            payloads.take(keys)
        with closing(sqlite3.connect(made, isolation_level=None)) as target:
            snapshot.backup(
                target, pages=STEP_PAGES, progress=lambda _, left, total: told("pages", total - left), sleep=0.0
            )
            target.execute("PRAGMA journal_mode = DELETE").fetchall()
        payloads.keep(keys, told)


@contextmanager
def _nobody_commits(source: Path) -> Iterator[None]:
    uri = f"{source.as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT_S)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


class _Payloads:
    """The files of large payloads: held by a link where the copy is on the same disk, and copied after."""

    def __init__(self, source: Path, made: Path) -> None:
        self._source = source
        self._from = Path(f"{source}.blobs")
        self._to = Path(f"{made}.blobs")
        self._to.mkdir(mode=0o700)
        self._held = made.parent / "held"
        self._held.mkdir(mode=0o700)
        self._links = self._from.is_dir() and self._from.stat().st_dev == self._held.stat().st_dev

    def take_most(self) -> None:
        """Take what is there, until what came meanwhile is little. Raises ``StoreError`` where it stays much."""
        for _ in range(PASSES):
            with translated(self._source), closing(read_only(self._source)) as connection:
                names = self._missing(key for (key,) in connection.execute("SELECT key FROM blobs"))
            size = 0 if self._links else sum(map(self._size, names))
            if len(names) <= HELD_FILES_MAX and size <= HELD_BYTES_MAX:
                return
            for name in names:
                self._take(name)
        raise StoreError(
            f"{self._source}: large payloads come and go faster than they can be copied; give a file on the same disk"
        )

    def take(self, keys: list[str]) -> None:
        """Take the rest."""
        for name in self._missing(iter(keys)):
            self._take(name)

    def keep(self, keys: list[str], told: Told) -> None:
        """Have a copy of each of these, and of no other."""
        kept = {file_name(key) for key in keys}
        for count, name in enumerate(sorted(kept), 1):
            held = self._held / name
            if held.exists():
                _copy_synced(held, self._to / name)
            told("payloads", count)
        for entry in list(os.scandir(self._to)):
            if entry.name not in kept:
                os.unlink(entry.path)
        sync_directory(self._to)

    def _missing(self, keys: Iterator[str]) -> list[str]:
        names = map(file_name, keys)
        return [name for name in names if not (self._held / name).exists() and not (self._to / name).exists()]

    def _size(self, name: str) -> int:
        with suppress(FileNotFoundError):
            return (self._from / name).stat().st_size
        return 0

    def _take(self, name: str) -> None:
        with suppress(FileNotFoundError):  # lost, or dropped before nobody could commit
            if self._links:
                os.link(self._from / name, self._held / name)
            else:
                _copy_synced(self._from / name, self._to / name)


def _copy_synced(source: Path, target: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with open(source, "rb") as old, open(target, "wb", opener=lambda name, _: os.open(name, flags, 0o600)) as new:
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fdatasync(new.fileno())
