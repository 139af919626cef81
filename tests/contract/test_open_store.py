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
