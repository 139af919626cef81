"""Large payloads that are handed over as files: left once, mapped by whoever needs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesh.errors import StoreDamaged, StoreError
from mesh.model import Blob
from mesh.runtime.depot import Depot, PayloadFile, depot_beside, depot_link, show_depot
from mesh.store.blob_file import ALIGNMENT, file_name

BLOB = Blob("t1", [5, 1 << 20, 3])
BUFFERS = [b"abcde", bytes(range(256)) * (1 << 12), b"xyz"]


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return Depot(str(tmp_path))


def left_in(depot: Depot) -> Blob:
    left = depot.leave(BLOB, BUFFERS)
    assert left is not None
    return left


def test_what_was_left_is_found_in_its_buffers(depot: Depot) -> None:
    left = left_in(depot)
    found = depot.find(left)
    assert isinstance(found, list)
    assert [bytes(buffer) for buffer in found] == BUFFERS
    assert (left.key, left.sizes) == (BLOB.key, BLOB.sizes)


def test_the_bytes_that_are_kept_for_sending_are_those_that_were_left(depot: Depot) -> None:
    array = bytearray(BUFFERS[1])
    left = depot.leave(BLOB, [BUFFERS[0], array, BUFFERS[2]])
    assert left is not None
    kept = depot.keep(left)
    array[:4] = b"new!"
    depot.remove(left)
    assert b"".join(map(bytes, kept)) == b"".join(BUFFERS)
    assert depot.keep(left) == []


def test_results_that_nobody_lets_go_of_take_a_bounded_number_of_descriptors(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.runtime.depot.OPEN_FILES_MAX", 3)
    blob = Blob("large", [2 << 20])
    left = depot.leave(blob, [b"x" * (1 << 20), b"y" * (1 << 20)])
    assert left is not None
    before = len(os.listdir("/proc/self/fd"))
    files = [depot.open(left) for _ in range(10)]
    assert len(os.listdir("/proc/self/fd")) - before == 3
    for file in files:
        assert isinstance(file, PayloadFile)
        assert [len(buffer) for buffer in file.read()] == [2 << 20]
    depot.remove(left)
    first, last = files[0], files[-1]
    assert isinstance(first, PayloadFile) and isinstance(last, PayloadFile)
    assert first.read()
    with pytest.raises(StoreError, match="payload large cannot be read"):
        last.read()
    del files, file, first, last
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_writes_into_what_he_found_changes_nothing_for_others(depot: Depot) -> None:
    left = left_in(depot)
    mine = depot.find(left)
    assert isinstance(mine, list)
    memoryview(mine[1])[:3] = b"new"
    others = depot.find(left)
    assert isinstance(others, list)
    assert bytes(others[1]) == BUFFERS[1]


def test_buffers_lie_where_arrays_can_be_used(depot: Depot) -> None:
    left = left_in(depot)
    text = Path(depot.directory, left.file or "").read_bytes()
    assert text.index(BUFFERS[1]) % ALIGNMENT == 0


def test_what_is_not_there_is_said(depot: Depot) -> None:
    found = depot.find(Blob("t1", [3], file_name("t1")))
    assert isinstance(found, StoreError) and "t1" in str(found)


@pytest.mark.parametrize("at", [0, 20, 64, 500_000, -1])
def test_what_was_changed_is_said(depot: Depot, at: int) -> None:
    left = left_in(depot)
    path = Path(depot.directory, left.file or "")
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert isinstance(depot.find(left), StoreDamaged)


def test_where_nothing_can_be_written_nothing_is_left(tmp_path: Path) -> None:
    assert Depot(str(tmp_path / "gone")).leave(BLOB, BUFFERS) is None


def test_parts_that_do_not_fit_the_announcement_leave_no_file(depot: Depot) -> None:
    assert depot.leave(BLOB, BUFFERS[:2]) is None
    assert os.listdir(depot.directory) == []


def test_a_depot_is_found_beside_its_router_and_nowhere_else(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/default.1234.ipc"
    (tmp_path / "blobs").mkdir()
    assert depot_beside(endpoint) is None
    show_depot(endpoint, tmp_path / "blobs")
    found = depot_beside(endpoint)
    assert found is not None and found.directory == str(tmp_path / "blobs")
    (tmp_path / "blobs").rename(tmp_path / "elsewhere")
    (tmp_path / "blobs").mkdir()
    assert depot_beside(endpoint) is None, "a directory of that name, and not the one that is meant"
    show_depot(endpoint, tmp_path / "blobs")
    assert depot_beside("tcp://127.0.0.1:1") is None
    show_depot(endpoint, None)
    assert depot_beside(endpoint) is None and not depot_link(endpoint).exists()


def test_nothing_is_left_where_too_little_room_would_stay(depot: Depot) -> None:
    assert depot.leave(BLOB, BUFFERS, spare_bytes=1 << 60) is None
    assert os.listdir(depot.directory) == []
