"""Where the mesh under test keeps its store: on the disk that is measured."""

from __future__ import annotations

import errno
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.disk import place
from bench.room import INSTEAD
from mesh.errors import StoreFull

PREFIX = "taskmesh-bench-"
NOT_YET_LOCKED = "new-"
INNER = "d"  # short: it holds sockets, and their paths may have 107 bytes
LOCK = "owner.lock"
"""Locked by the owner, from before the directory has its name until all beside it is removed; the kernel unlocks it
when that process is gone."""


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory of this run, removed at its end. ``TMPDIR`` chooses the disk. Raises ``StoreFull``, ``ConfigError``.

    Directories whose owners were killed are removed before.
    """
    there = place()
    _remove_abandoned(there)
    try:
        with _owned_directory(there) as owned:
            yield owned / INNER
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreFull(f"no room is left in {there}. {INSTEAD}") from None


@contextmanager
def _owned_directory(there: Path) -> Iterator[Path]:
    owned = Path(tempfile.mkdtemp(prefix=NOT_YET_LOCKED + PREFIX, dir=there))
    with ExitStack() as locked:
        try:
            (owned / INNER).mkdir()
            lock = locked.enter_context((owned / LOCK).open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            owned = owned.rename(owned.with_name(owned.name.removeprefix(NOT_YET_LOCKED)))
            yield owned
        finally:
            _remove(owned)


def _remove_abandoned(there: Path) -> None:
    for lock in there.glob(f"{PREFIX}*/{LOCK}"):
        # It is locked, another's, or gone just now; or a node that is about to end writes there: the next bench sees.
        with suppress(OSError), lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock.parent)


def _remove(owned: Path) -> None:
    if (owned / INNER).exists():
        shutil.rmtree(owned / INNER)
    shutil.rmtree(owned)
