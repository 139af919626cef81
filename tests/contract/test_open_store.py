"""Which store an address leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.errors import ConfigError, StoreError
from mesh.settings import Settings
from mesh.store.open import open_store
from mesh.store.place import default_url, path_of


def test_an_sqlite_address_opens_the_file_at_level_disk(tmp_path):
    store = open_store(f"sqlite://{tmp_path}/a%20b.db", settings=Settings())

    assert store.level == "disk"
    assert store.url == f"sqlite://{tmp_path}/a%20b.db"
    assert (tmp_path / "a b.db").exists()
    store.close()
    open_store(store.url, settings=Settings()).close()


def test_the_level_can_be_chosen_in_the_address(tmp_path):
    url = f"sqlite://{tmp_path}/a.db?level=process"
    store = open_store(url, settings=Settings())

    assert (store.level, store.url) == ("process", url)
    store.close()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///a/b.db?level=process", "/a/b.db"),
        ("sqlite:///100%25/%231%3F/b.db", "/100%/#1?/b.db"),
        ("sqlite://", None),
        ("memory://", None),
        ("", None),
    ],
)
def test_the_file_of_an_address_is_told_without_opening_it(url, path):
    assert path_of(url) == (path and Path(path))


def test_memory_is_chosen_by_name():
    assert open_store("memory://", settings=Settings()).level == "memory"


@pytest.mark.parametrize(
    "url", ["", "/tmp/a.db", "mysql://host/db", "sqlite:///", "sqlite://relative.db", "sqlite:///a.db?level=some"]
)
def test_any_other_address_is_refused_saying_what_there_is(url):
    with pytest.raises(ConfigError, match="level="):
        open_store(url, settings=Settings())


def test_a_directory_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match=r"file/a\.db"):
        open_store(f"sqlite://{tmp_path}/file/a.db", settings=Settings())


def test_the_default_is_a_file_of_the_mesh_in_the_state_directory():
    assert default_url("m", {"HOME": "/home/u"}) == "sqlite:///home/u/.local/state/taskmesh/m.db"
    assert default_url("m", {"HOME": "/home/u", "XDG_STATE_HOME": "/s"}) == "sqlite:///s/taskmesh/m.db"
    assert default_url("m", {"MESH_STORE": "memory://"}) == "memory://"


def test_an_address_without_a_path_means_the_default_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    store = open_store("sqlite://?level=process", settings=Settings(mesh="m"))

    assert store.level == "process"
    assert (tmp_path / "taskmesh" / "m.db").exists()
    store.close()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"store_timeout_s": 4.0, "store_lock_s": 60.0},
            r"store_timeout_s = 4: .* heartbeat_s \* \(liveness - 1\) = 4",
        ),
        ({"heartbeat_s": 0.5}, r"store_timeout_s = 2: .* given up by its nodes"),
        ({"store_lock_s": 3.9}, r"store_lock_s = 3.9: .* lose its journal .*: 4$"),
        ({"store_timeout_s": 0.1, "store_lock_s": 0.9}, r"store_lock_s = 0.9: .*: 1$"),
    ],
)
def test_times_by_which_a_slow_server_would_cost_a_router_its_nodes_or_its_journal_are_refused(settings, text):
    with pytest.raises(ConfigError, match=text):
        open_store("redis://127.0.0.1:1", settings=Settings(**settings))


def test_times_of_a_shared_store_mean_nothing_to_one_in_a_file(tmp_path):
    open_store(f"sqlite://{tmp_path}/a.db", settings=Settings(heartbeat_s=0.1, store_lock_s=0.1)).close()
