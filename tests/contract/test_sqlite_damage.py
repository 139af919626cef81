"""What is lost or changed on disk is reported, never served: damage of every kind, done to a real file."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from mesh.core.commands import (
    AppendBatch,
    DropBatches,
    RecordOutcomes,
    SaveEntry,
    SaveFunction,
    SaveMarks,
    SavePositions,
)
from mesh.entries import Entry, Position
from mesh.errors import RowDamaged, StoreDamaged, StoreError, StoreFull, StoreLocked
from mesh.model import Blob, FunctionCode, TaskMark, TaskOptions
from mesh.schedules import Every
from mesh.store.salvage import rebuild
from mesh.store.sqlite import SqliteStore
from tests.contract.stores import BLOB, ERROR, PARTS, outcome_of, submit_of

RAW = b"the arguments of some tasks " * 20


def open_store(path: Path, *, salvage: bool = False, level: str = "process") -> SqliteStore:
    return SqliteStore(path, level=level, ballast_bytes=0, salvage=salvage)


def fill(store: SqliteStore, first: int, last: int) -> None:
    for seq in range(first, last + 1):
        outcome = outcome_of(f"t{seq}", payload=b"result" * 20 + str(seq).encode(), batch=seq)
        store.commit([AppendBatch(seq, submit_of(f"t{seq}"), RAW + str(seq).encode(), 1.0), RecordOutcomes([outcome])])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.db"


@pytest.fixture
def crashed(path: Path, tmp_path: Path) -> Path:
    """The files of a store with 40 commits as a killed router leaves them: some in the database, most in the log."""
    store = open_store(path)
    store.recover()
    fill(store, 1, 10)
    store.close()
    store = open_store(path)
    store.recover()
    fill(store, 11, 40)
    copy = tmp_path / "crashed"
    copy.mkdir()
    for name in ("m.db", "m.db-wal", "m.db.tail"):
        shutil.copy(tmp_path / name, copy / name)
    store.close()
    return copy / "m.db"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def flip_text(path: Path, text: bytes) -> None:
    """Change one byte in the middle of a text that occurs in the file."""
    at = path.read_bytes().find(text)
    assert at >= 0
    flip(path, at + len(text) // 2)


def seqs(store: SqliteStore) -> list[int]:
    return [batch.seq for batch in store.recover().batches]


# the tail of the journal


def test_a_killed_router_loses_nothing(crashed):
    store = open_store(crashed)

    assert seqs(store) == list(range(1, 41))
    assert len(store.outcomes([f"t{i}" for i in range(1, 41)])) == 40
    store.close()


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_a_damaged_log_is_refused_and_can_be_salvaged(crashed, damage, part):
    log = Path(f"{crashed}-wal")
    if damage == "flip":
        flip(log, int(log.stat().st_size * part))
    else:
        os.truncate(log, int(log.stat().st_size * part))

    for _ in range(2):
        with pytest.raises(StoreDamaged, match=r"the journal lost its tail.*rows \d+\.\.40.*salvage"):
            open_store(crashed)

    store = open_store(crashed, salvage=True)
    assert any("commits" in line and "are lost" in line for line in store.salvaged)
    recovered = store.recover()
    left = [batch.seq for batch in recovered.batches]
    assert left == list(range(1, len(left) + 1))
    assert 10 <= len(left) < 40
    assert recovered.next_seq == 41
    fill(store, 41, 42)
    store.close()

    store = open_store(crashed)
    assert store.salvaged == []
    assert seqs(store) == [*left, 41, 42]
    store.close()


def test_a_removed_log_is_refused(crashed):
    Path(f"{crashed}-wal").unlink()

    with pytest.raises(StoreDamaged, match=r"rows 11\.\.40"):
        open_store(crashed)


def test_a_removed_database_is_refused(crashed):
    crashed.unlink()

    with pytest.raises(StoreDamaged, match=r"rows 1\.\.40"):
        open_store(crashed)


def test_lost_outcomes_are_noticed_although_no_batch_was_lost(path, tmp_path):
    store = open_store(path)
    store.recover()
    fill(store, 1, 3)
    before = tmp_path / "before.db"
    store.close()
    shutil.copy(path, before)
    store = open_store(path)
    store.commit([RecordOutcomes([outcome_of("late")])])
    store.close()
    shutil.copy(before, path)

    with pytest.raises(StoreDamaged, match="outcomes only"):
        open_store(path)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_taken_away_while_it_is_in_use_is_noticed(path, replaced):
    store = SqliteStore(path, ballast_bytes=0)
    store.usage()
    path.rename(path.with_suffix(".moved"))
    if replaced:
        path.touch()
    with pytest.raises(StoreError, match="removed or replaced while it was in use"):
        store.usage()
    path.with_suffix(".moved").replace(path)
    store.usage()
    store.close()


def test_a_store_that_was_copied_without_its_side_files_opens(crashed, tmp_path):
    open_store(crashed).close()
    shutil.copy(crashed, tmp_path / "moved.db")

    store = open_store(tmp_path / "moved.db")
    assert seqs(store) == list(range(1, 41))
    store.close()


@pytest.mark.parametrize("content", [b"", b"rubbish", b"00000000000000000099 00000000000000000099 00000000\n"])
def test_an_unreadable_tail_file_says_nothing_against_the_journal(crashed, content):
    Path(f"{crashed}.tail").write_bytes(content)

    store = open_store(crashed)
    assert seqs(store) == list(range(1, 41))
    store.close()
    assert len(Path(f"{crashed}.tail").read_bytes().split()) == 3


# rows


@pytest.fixture
def settled(path: Path) -> Path:
    """A store that was closed in good order, with a row of every kind."""
    store = open_store(path)
    store.recover()
    fill(store, 1, 3)
    store.put_blob(BLOB, PARTS)
    store.commit(
        [
            SaveMarks([TaskMark("t9", 3, 1, 2, 0, None, b"arguments of the next attempt")]),
            SaveFunction(FunctionCode("d1", "3.11", b"the code of a function")),
            SaveEntry(Entry("e1", Every(1.0), TaskOptions("work"), b"arguments of an entry")),
            SavePositions([Position("e1", 7)]),
            RecordOutcomes([outcome_of("failed", error=ERROR), outcome_of("large", payload=BLOB)]),
        ]
    )
    store.close()
    return path


def test_a_changed_journal_row_is_refused_and_can_be_salvaged(settled):
    flip_text(settled, RAW + b"2")

    store = open_store(settled)
    with pytest.raises(StoreDamaged, match="journal rows changed since they were written: 2"):
        store.recover()
    store.close()

    store = open_store(settled, salvage=True)
    assert [line for line in store.salvaged if line.startswith("journal: row 2")]
    assert seqs(store) == [1, 3]
    store.close()
    rows = sqlite3.connect(settled).execute("SELECT source, key FROM damaged").fetchall()
    assert rows == [("journal", "2")]


def test_a_changed_mark_is_refused_and_can_be_salvaged(settled):
    flip_text(settled, b"arguments of the next attempt")

    store = open_store(settled)
    with pytest.raises(StoreDamaged, match=r"marks of tasks changed.*t9"):
        store.recover()
    store.close()

    store = open_store(settled, salvage=True)
    assert store.recover().marks == []
    store.close()


def test_a_changed_entry_is_refused_and_can_be_salvaged(settled):
    flip_text(settled, b"arguments of an entry")

    store = open_store(settled)
    with pytest.raises(StoreDamaged, match=r"entries of periodic tasks changed.*e1"):
        store.recover()
    store.close()

    store = open_store(settled, salvage=True)
    assert store.recover().entries == []
    store.close()


def test_a_changed_position_is_refused_and_can_be_salvaged(settled):
    with closing(sqlite3.connect(settled)) as connection, connection:
        connection.execute("UPDATE positions SET raw = ?", [msgspec.msgpack.encode(Position("e1", 1))])

    store = open_store(settled)
    with pytest.raises(StoreDamaged, match=r"positions of entries changed.*e1"):
        store.recover()
    store.close()

    store = open_store(settled, salvage=True)
    recovered = store.recover()
    assert ([entry.name for entry in recovered.entries], recovered.positions) == (["e1"], [])
    store.close()


def test_a_position_that_is_whole_and_nobody_can_read_is_refused_and_can_be_salvaged(settled):
    raw = msgspec.msgpack.encode(Position("e1", 1, fired=2**63))
    with closing(sqlite3.connect(settled)) as connection, connection:
        connection.execute("UPDATE positions SET raw = ?, crc = ?", [raw, crc32(raw)])

    store = open_store(settled)
    with pytest.raises(StoreDamaged, match=r"positions of entries .*nobody can read.*e1"):
        store.recover()
    store.close()

    store = open_store(settled, salvage=True)
    assert store.salvaged and store.recover().positions == []
    store.close()


@pytest.mark.parametrize("text", [b"result" * 20 + b"2", b"ValueError"])
def test_a_changed_result_is_never_served(settled, text):
    flip_text(settled, text)
    task_id = "failed" if text == b"ValueError" else "t2"

    store = open_store(settled)
    store.recover()
    with pytest.raises(RowDamaged, match=f"task {task_id}:"):
        store.outcomes([task_id])
    assert len(store.outcomes(["t1", "t3", "large"])) == 3
    store.close()

    store = open_store(settled, salvage=True)
    assert store.outcomes([task_id]) == []
    assert store.usage().outcomes == 4
    store.close()


def test_a_changed_function_is_never_served(settled):
    flip_text(settled, b"the code of a function")

    store = open_store(settled)
    with pytest.raises(RowDamaged, match="function d1"):
        store.function("d1")
    store.close()


def test_a_changed_function_is_mended_by_submitting_it_again(settled):
    flip_text(settled, b"the code of a function")
    code = FunctionCode("d1", "3.11", b"the code of a function")

    store = open_store(settled)
    store.commit([SaveFunction(code)])
    assert store.function("d1") == code
    store.close()


def test_changed_counters_are_refused(settled):
    connection = sqlite3.connect(settled)
    connection.execute("UPDATE meta SET last_seq = last_seq + 1")
    connection.commit()
    connection.close()

    with pytest.raises(StoreDamaged, match="counters"):
        open_store(settled)


def test_a_vanished_journal_row_is_refused(settled):
    connection = sqlite3.connect(settled)
    connection.execute("DELETE FROM journal WHERE seq = 2")
    connection.commit()
    connection.close()

    store = open_store(settled)
    with pytest.raises(StoreDamaged, match="batches in the journal: 2 where 3 were written"):
        store.recover()
    store.close()


def test_a_file_that_sqlite_cannot_read_is_refused_and_rebuilt_by_salvage(path):
    store = open_store(path)
    store.recover()
    fill(store, 1, 200)
    store.close()
    connection = sqlite3.connect(path)
    (page,) = connection.execute(
        "SELECT max(pageno) FROM dbstat WHERE name = 'journal' AND pagetype = 'leaf'"
    ).fetchone()
    connection.close()
    with open(path, "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(bytes(4096))

    with pytest.raises(StoreDamaged, match="salvage"):
        open_store(path)

    store = open_store(path, salvage=True)
    left = seqs(store)
    assert 150 < len(left) < 200
    assert len(store.outcomes([f"t{i}" for i in range(1, 201)])) == 200
    assert any("moved to" in line for line in store.salvaged)
    fill(store, 201, 202)
    store.close()
    store = open_store(path)
    assert seqs(store) == [*left, 201, 202]
    assert store.prune(1e9, 10_000) == 200 - len(left)
    store.close()


def test_of_a_file_that_nothing_of_can_be_read_it_is_said_once(path):
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(StoreDamaged, match=r"start once with salvage$"):
        open_store(path)

    store = open_store(path, salvage=True)
    moved, said = store.salvaged
    assert "moved to" in moved
    assert said == "nothing of it could be read: the store begins empty"
    assert seqs(store) == []
    store.close()


# blob files


@pytest.mark.parametrize("at", [0, 10, 64, 500_000, -1])
def test_a_changed_blob_file_is_never_served(settled, at):
    (file,) = Path(f"{settled}.blobs").iterdir()
    flip(file, at)

    store = open_store(settled)
    with pytest.raises(StoreDamaged, match="blob t1:result"):
        store.read_blob(BLOB)
    store.close()


@pytest.mark.parametrize("change", [-1, 1])
def test_a_blob_file_of_another_length_is_never_served(settled, change):
    (file,) = Path(f"{settled}.blobs").iterdir()
    os.truncate(file, file.stat().st_size + change)

    store = open_store(settled)
    with pytest.raises(StoreDamaged, match="blob t1:result"):
        store.read_blob(BLOB)
    store.close()


def test_a_removed_blob_file_reads_as_gone(settled):
    (file,) = Path(f"{settled}.blobs").iterdir()
    file.unlink()

    store = open_store(settled)
    store.recover()
    assert store.read_blob(BLOB) is None
    store.close()


def test_files_that_no_commit_refers_to_are_removed_at_start(settled):
    blobs = Path(f"{settled}.blobs")
    (blobs / "0123.new").write_bytes(b"torn")
    (blobs / "4567").write_bytes(b"orphan")

    store = open_store(settled)
    store.recover()
    assert len(list(blobs.iterdir())) == 1
    assert store.read_blob(BLOB) == PARTS
    store.close()


# who may open it


def test_files_are_for_their_owner_only(path):
    store = open_store(path.parent / "new" / "m.db", level="disk")
    store.recover()
    fill(store, 1, 1)
    store.put_blob(BLOB, PARTS)
    directory = path.parent / "new"

    assert directory.stat().st_mode & 0o777 == 0o700
    modes = {p.name: p.stat().st_mode & 0o777 for p in directory.rglob("*") if p.is_file()}
    assert set(modes.values()) == {0o600}, modes
    assert (directory / "m.db.blobs").stat().st_mode & 0o777 == 0o700
    store.close()


@pytest.mark.parametrize("suffix", ["", "-wal", ".tail", ".lock", ".ballast", ".blobs"])
@pytest.mark.parametrize("how", ["link", "open to others", "of another user"])
def test_what_others_may_have_put_in_place_of_a_store_is_refused(path, suffix, how):
    store = SqliteStore(path)
    store.recover()
    store.close()
    own = Path(f"{path}{suffix}")
    if not own.exists():
        own.touch(0o600)
    if how == "link":
        own.rename(path.with_name("elsewhere"))
        own.symlink_to(path.with_name("elsewhere"))
    elif how == "open to others":
        own.chmod(0o777 if own.is_dir() else 0o666)
    elif os.geteuid() == 0:
        os.chown(own, 65534, 65534)
    else:
        pytest.skip("only root can give a file away")
    if how == "link" and not suffix:
        SqliteStore(path).close()  # the file itself may have another name
        return
    with pytest.raises(StoreError, match=r"of your own|others may write"):
        SqliteStore(path)


def test_a_second_start_in_this_process_is_refused(path):
    store = open_store(path)

    with pytest.raises(StoreLocked, match=f"pid {os.getpid()} on "):
        open_store(path)
    store.close()
    open_store(path).close()


def test_two_names_of_one_file_are_one_store(path):
    path.parent.joinpath("elsewhere").mkdir()
    other = path.parent / "elsewhere" / "link.db"
    other.symlink_to(path)
    store = open_store(other)
    store.recover()
    fill(store, 1, 3)

    assert (store.path, store.url) == (path, f"sqlite://{path}?level=process")
    with pytest.raises(StoreLocked, match=f"pid {os.getpid()} on "):
        open_store(path)
    assert [entry.name for entry in other.parent.iterdir()] == ["link.db"]
    store.close()


def test_a_name_that_leads_to_itself_is_a_store_error(path):
    path.symlink_to(path)

    with pytest.raises(StoreError, match=r"m\.db"):
        open_store(path)


def make_older(path: Path) -> None:
    """As a version wrote it that did not keep runtimes yet."""
    connection = sqlite3.connect(path)
    (view,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'finished_tasks'").fetchone()
    connection.execute("DROP VIEW finished_tasks")
    connection.execute("ALTER TABLE results DROP COLUMN runtime_s")
    connection.execute(view.replace("round(runtime_s, 6)", "round(finished_at - started_at, 6)"))
    connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'keep_runtimes'")
    connection.commit()
    connection.close()


def test_an_older_store_is_upgraded_and_its_results_stay(settled):
    make_older(settled)

    store = open_store(settled)
    try:
        store.recover()
        [outcome] = store.outcomes(["t1"])
        assert (outcome.name, outcome.runtime_s) == ("tasks.add", 0.0)
        store.commit([RecordOutcomes([outcome_of("new")])])
        assert store.outcomes(["new"])[0].runtime_s == 1.125
    finally:
        store.close()


def test_the_functions_of_an_older_store_have_their_time_from_the_upgrade_on(settled):
    connection = sqlite3.connect(settled)
    connection.execute("DROP TABLE function_uses")
    connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'keep_uses_of_functions'")
    connection.commit()
    connection.close()
    began = time.time()

    store = open_store(settled)
    try:
        [(digest, used_at)] = store.recover().functions.items()
        assert digest == "d1" and began - 2.0 < used_at < began + 60.0
    finally:
        store.close()


def test_a_function_whose_use_is_not_known_was_used_long_ago(settled):
    connection = sqlite3.connect(settled)
    connection.execute("DELETE FROM function_uses")
    connection.execute("INSERT INTO function_uses VALUES ('gone', 5.0)")
    connection.commit()
    connection.close()

    store = open_store(settled)
    try:
        assert store.recover().functions == {"d1": 0.0}
    finally:
        store.close()
    assert sqlite3.connect(settled).execute("SELECT digest FROM function_uses").fetchall() == []


def test_an_older_store_can_be_salvaged(settled):
    make_older(settled)

    rebuild(settled)

    store = open_store(settled)
    try:
        store.recover()
        assert [outcome.id for outcome in store.outcomes(["t1"])] == ["t1"]
    finally:
        store.close()


def test_a_newer_schema_is_refused_and_left_as_it_is(settled):
    connection = sqlite3.connect(settled)
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('taskmesh', 'from_the_future', '')"
    )
    connection.commit()
    connection.close()

    with pytest.raises(StoreError, match=r"newer version.*from_the_future"):
        open_store(settled)


def test_the_file_of_another_program_is_refused(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()

    with pytest.raises(StoreError, match="another program"):
        open_store(path)


def test_a_file_that_is_no_database_is_refused(path):
    path.write_bytes(b"not a database, but long enough to look at " * 100)

    with pytest.raises(StoreDamaged, match="not a database"):
        open_store(path)


def test_the_file_can_be_read_by_people_while_the_router_writes(path):
    store = open_store(path)
    store.recover()
    fill(store, 1, 3)
    store.commit([RecordOutcomes([outcome_of("failed", error=ERROR, finished_at=86400.5)]), DropBatches([1])])
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    row = reader.execute(
        "SELECT name, finished_at, error_type, error FROM finished_tasks WHERE id = 'failed'"
    ).fetchone()

    assert row == ("tasks.add", "1970-01-02T00:00:00.500Z", "ValueError", ERROR.message)
    reader.close()
    store.close()


def test_the_file_shrinks_when_results_are_forgotten(path):
    store = open_store(path)
    store.recover()
    outcomes = [outcome_of(f"t{i}", payload=bytes(1000), expires_at=1.0) for i in range(10_000)]
    store.commit([RecordOutcomes(outcomes)])
    store.close()
    full = path.stat().st_size
    store = open_store(path)
    while store.prune(2.0, 1000):
        pass
    store.close()

    assert full > 10_000_000
    assert path.stat().st_size < full / 4


# a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "small"
    directory.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(directory)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"cannot mount a small file system here: {made.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


@pytest.mark.chaos
@pytest.mark.parametrize("level", ["disk", "process"])
def test_on_a_full_disk_completions_still_fit_and_work_goes_on_when_there_is_room(small_disk, level):
    path = small_disk / "m.db"
    store = SqliteStore(path, level=level, free_bytes_min=0)
    store.recover()
    written = 0
    with pytest.raises(StoreFull):
        while written < 1000:
            store.commit([AppendBatch(written + 1, submit_of("x"), os.urandom(200_000), 1.0)])
            written += 1
    assert 20 < written < 240  # as many as the disk could ever hold
    assert not Path(f"{path}.ballast").exists()

    done = [outcome_of(f"t{i}", batch=i) for i in range(1, written + 1)]
    store.commit([RecordOutcomes(done), DropBatches(list(range(1, written + 1)))])
    assert store.usage().batches == 0
    with pytest.raises(StoreFull):
        store.put_blob(Blob("huge", [64 << 20]), [bytes(1 << 20)] * 64)
    assert len(list(Path(f"{path}.blobs").iterdir())) == 0

    store.close()
    store = SqliteStore(path, level=level, free_bytes_min=0)
    recovered = store.recover()
    assert (recovered.batches, recovered.next_seq) == ([], written + 1)
    assert len(store.outcomes([o.id for o in done])) == written
    deadline = time.monotonic() + 20
    while not Path(f"{path}.ballast").exists():  # room comes back as the file shrinks, and the reserve is taken anew
        assert time.monotonic() < deadline
        store.prune(0.0, 1)
        store.usage()
        time.sleep(0.01)
    store.commit([AppendBatch(written + 1, submit_of("x"), os.urandom(200_000), 1.0)])
    store.close()


@pytest.mark.chaos
@pytest.mark.parametrize("level", ["disk", "process"])
def test_a_store_starts_on_a_full_disk_from_its_own_reserve(small_disk, level):
    path = small_disk / "m.db"
    store = SqliteStore(path, level=level, free_bytes_min=0)
    store.recover()
    fill(store, 1, 3)
    store.close()
    with open(small_disk / "stuff", "wb", buffering=0) as stuff, suppress(OSError):
        while True:
            stuff.write(bytes(4096))

    store = SqliteStore(path, level=level, free_bytes_min=0)
    assert [batch.seq for batch in store.recover().batches] == [1, 2, 3]
    store.commit([DropBatches([1, 2, 3])])
    store.close()


@pytest.mark.parametrize("there", ["while it writes", "when it commits"])
def test_no_file_left_to_open_counts_as_a_full_store(path, there):
    child = os.fork()  # the threads of other tests must not want a file meanwhile
    if child == 0:
        status = 1
        try:
            run_out_of_files(path, there)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def run_out_of_files(path, there):
    store = open_store(path, level="disk")
    store.recover()
    if there == "when it commits":
        store.put_blob(BLOB, PARTS)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(StoreFull, match="Too many open files"):
            if there == "when it commits":
                store.commit([RecordOutcomes([outcome_of("large", payload=BLOB)])])
            else:
                store.put_blob(BLOB, PARTS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    store.put_blob(BLOB, PARTS)
    store.commit([RecordOutcomes([outcome_of("large", payload=BLOB)])])
    assert store.read_blob(BLOB) == PARTS
    store.close()


# kill -9

CHILD = """
import os, sys
from mesh.core.commands import AppendBatch, RecordOutcomes
from mesh.model import Outcome, TaskState
from mesh.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1], level=sys.argv[2], ballast_bytes=0)
seq = store.recover().next_seq
while True:
    outcomes = [Outcome(f"{seq}-{i}", TaskState.SUCCEEDED, b"x" * 50, batch=seq) for i in range(20)]
    store.commit([AppendBatch(seq, None, os.urandom(3000), 1.0), RecordOutcomes(outcomes)])
    os.write(1, b"%d\\n" % seq)
    seq += 1
"""


@pytest.mark.processes
@pytest.mark.parametrize("level", ["disk", "process"])
def test_whatever_was_acknowledged_is_there_after_kill_9(path, level):
    rng = random.Random(7)
    acknowledged = 0
    for _ in range(10):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), level], stdout=subprocess.PIPE)
        stop_at = acknowledged + rng.randint(1, 400)
        assert child.stdout is not None
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged >= stop_at:
                break
        with pytest.raises(StoreLocked, match=f"pid {child.pid} on "):
            open_store(path, level=level)
        child.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in child.stdout.read().split())])
        child.wait()

        store = open_store(path, level=level)
        found = store.recover()
        assert [b.seq for b in found.batches] == list(range(1, found.next_seq))
        assert all(len(b.settled) == 20 for b in found.batches)
        assert acknowledged < found.next_seq <= acknowledged + 2
        acknowledged = found.next_seq - 1
        store.close()
