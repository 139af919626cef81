"""What stores with files promise to the processes of their host: a payload may be handed over as a file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path

import pytest
from msgspec.structs import replace

from mesh.core.commands import AppendBatch
from mesh.model import Blob
from mesh.runtime.depot import Depot
from mesh.store import blob_file
from mesh.store.base import Store
from mesh.store.blob_file import file_name
from mesh.store.blobs import LEFT_S
from mesh.store.memory import MemoryStore
from mesh.store.sqlite import SqliteStore
from tests.contract.stores import BLOB, PARTS, Disk, submit_of


@pytest.fixture(params=["process", "disk"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(lambda: SqliteStore(tmp_path / "m.db", level=request.param, ballast_bytes=0), request.param)
    yield disk
    if disk.store is not None:
        disk.store.close()


@pytest.fixture
def store(disk: Disk) -> Store:
    return disk.start()


def leave(store: Store, blob: Blob, parts: Sequence[bytes]) -> Blob:
    """Do what a process does that hands over a payload as a file."""
    assert store.depot is not None
    left = Depot(str(store.depot)).leave(blob, parts)
    assert left is not None
    return left


def files_in(store: Store) -> list[str]:
    assert store.depot is not None
    return sorted(os.listdir(store.depot))


def test_a_file_that_was_left_becomes_the_stores_own(disk: Disk, store: Store) -> None:
    left = leave(store, BLOB, PARTS)
    store.adopt_blob(left)
    store.commit([AppendBatch(1, submit_of("a"), None, 1.0)])
    assert store.read_blob(BLOB) == PARTS
    assert disk.reopen().read_blob(BLOB) == PARTS
    found = Depot(str(store.depot)).find(replace(BLOB, file=file_name(BLOB.key)))
    assert isinstance(found, list) and b"".join(map(bytes, found)) == b"".join(PARTS)


def test_a_disk_that_takes_little_at_a_time_gets_all(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    write = os.write

    class Slow(FileIO):
        def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
            return write(self.fileno(), bytes(data[:100_000]))

    monkeypatch.setattr(blob_file, "open", lambda fd, mode, buffering: Slow(fd, mode), raising=False)
    left = leave(store, BLOB, PARTS)
    monkeypatch.undo()
    assert store.adopt_blob(left)
    assert store.read_blob(BLOB) == PARTS


def test_what_was_not_left_or_is_not_what_was_announced_is_not_adopted(store: Store) -> None:
    left = leave(store, BLOB, PARTS)
    for wrong in (
        replace(left, file=f"{'0' * 40}.{'1' * 16}"),
        replace(left, key="other"),
        replace(left, sizes=[5, 0, BLOB.sizes[2] + 1]),
        replace(left, file=None),
    ):
        with pytest.raises(LookupError):
            store.adopt_blob(wrong)
    store.adopt_blob(left)


def test_a_link_that_was_left_is_not_adopted(store: Store, tmp_path: Path) -> None:
    left = leave(store, BLOB, PARTS)
    path = Path(str(store.depot), left.file or "")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LookupError):
        store.adopt_blob(left)


def test_a_pipe_in_place_of_a_file_holds_up_nobody(store: Store) -> None:
    left = leave(store, BLOB, PARTS)
    path = Path(str(store.depot), left.file or "")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(LookupError):
        store.adopt_blob(left)


def test_the_payload_that_was_committed_first_stays_and_the_file_goes(store: Store) -> None:
    store.put_blob(BLOB, PARTS)
    store.commit([AppendBatch(1, submit_of("a"), None, 1.0)])
    store.adopt_blob(leave(store, BLOB, [b"ABCDE", *PARTS[1:]]))
    assert store.read_blob(BLOB) == PARTS
    assert files_in(store) == [file_name(BLOB.key)]


def test_a_file_nobody_speaks_of_goes(store: Store) -> None:
    store.discard_blob(leave(store, BLOB, PARTS))
    assert files_in(store) == []
    leave(store, BLOB, PARTS)
    store.prune(time.time(), 10)
    assert len(files_in(store)) == 1, "whoever left it may still speak of it"
    store.prune(time.time() + 2 * LEFT_S, 10)
    assert files_in(store) == []


def test_a_store_without_files_has_nothing_to_adopt() -> None:
    with pytest.raises(LookupError):
        MemoryStore().adopt_blob(BLOB)
