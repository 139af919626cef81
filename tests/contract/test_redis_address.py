"""What an address of a Redis store says, and what is shown of it."""

from __future__ import annotations

import sys

import pytest

from mesh.errors import ConfigError
from mesh.settings import Settings
from mesh.store.open import open_store
from mesh.store.redis.address import is_redis, parse_address
from mesh.store.redis.sealing import Signer, find_row_key, new_row_key, seal, unseal

SECRETS = ("s3cret", "s%40cret", "s@cret")


@pytest.mark.parametrize(
    ("url", "kind", "nodes", "db"),
    [
        ("redis://", "single", (("127.0.0.1", 6379),), 0),
        ("redis://h", "single", (("h", 6379),), 0),
        ("redis://u:p@h:7000/3", "single", (("h", 7000),), 3),
        ("redis://[::1]:7000/", "single", (("::1", 7000),), 0),
        ("valkey://h/1", "single", (("h", 6379),), 1),
        ("rediss://h", "single", (("h", 6379),), 0),
        ("unix:///run/redis.sock?db=2", "unix", (), 2),
        ("redis+sentinel://a,b:7/main/4", "sentinel", (("a", 26379), ("b", 7)), 4),
        ("redis+cluster://a,b:7", "cluster", (("a", 6379), ("b", 7)), 0),
        ("rediss+cluster://a", "cluster", (("a", 6379),), 0),
    ],
)
def test_an_address_names_servers_and_a_database(url, kind, nodes, db):
    address = parse_address(url)
    assert is_redis(url)
    assert (address.kind, address.nodes, address.db) == (kind, nodes, db)
    assert address.tls == url.startswith("rediss")


def test_options_name_the_prefix_the_journal_and_the_certificates():
    address = parse_address("rediss://h?prefix=x&router=one&ca=/etc/ca.pem")
    assert (address.prefix, address.router, address.ca) == ("x", "one", "/etc/ca.pem")
    assert parse_address("redis+sentinel://h/main?sentinel_password=s3cret").sentinel_password == "s3cret"
    assert parse_address("redis+sentinel://h/main").service == "main"
    assert parse_address("unix:///a%20b").path == "/a b"


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:s3cret@h:7000/3?prefix=x",
        "redis://:s%40cret@h",
        "redis://u:s@cret@h",
        "redis+sentinel://u:s3cret@h/main?sentinel_password=s3cret",
    ],
)
def test_no_password_is_shown(url):
    address = parse_address(url)
    for text in (address.name, repr(address)):
        assert not any(secret in text for secret in SECRETS)
    assert address.password in ("s3cret", "s@cret")


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:s3cret@h/x",
        "redis://u:s3cret@h:port",
        "redis://u:s3cret@h/1/2",
        "redis://u:s3cret@h?speed=1",
        "redis://u:s3cret@h?prefix={a}",
        "redis://u:s3cret@h?router=",
        "redis+sentinel://u:s3cret@h",
        "redis+cluster://u:s3cret@h/1",
        "unix://u:s3cret@h",
        "redsi://u:s3cret@h",
    ],
)
def test_a_wrong_address_is_refused_without_its_password(url):
    with pytest.raises(ConfigError) as error:
        open_store(url, settings=Settings())
    assert "s3cret" not in str(error.value)


def test_without_redis_py_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'taskmesh\[redis\]'"):
        open_store("redis://h", settings=Settings())


def test_the_key_of_the_rows_is_sealed_with_the_mesh_key():
    row_key = new_row_key()
    sealed = seal(row_key, b"one")
    assert row_key not in sealed
    assert unseal(sealed, b"one") == row_key
    assert unseal(sealed, b"two") is None
    assert unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), b"one") is None
    assert unseal(b"", b"one") is None
    assert find_row_key({"old": sealed}, [("new", b"two"), ("old", b"one")]) == row_key
    assert find_row_key({"old": sealed}, [("new", b"two")]) is None


def test_a_row_counts_only_as_what_it_was_signed_for():
    row_key = new_row_key()
    signer = Signer(row_key, "journal/a")
    row = signer.sign(b"body")
    assert signer.body(row) == b"body"
    assert Signer(row_key, "journal/b").body(row) is None
    assert Signer(new_row_key(), "journal/a").body(row) is None
    assert [signer.body(other) for other in (row + b"x", row[:-1], b"", None, 5)] == [None] * 5


@pytest.mark.parametrize("password", ["s/kret", "s?kret", "s#kret", "s@x/kret", "s/kre?r@et"])
@pytest.mark.parametrize("scheme", ["redis://", "redis+sentinel://", "redis:/", "reddis://"])
def test_a_password_that_is_not_written_as_it_must_be_is_not_shown_either(scheme: str, password: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(f"{scheme}me:{password}@127.0.0.1/0", settings=Settings())
    assert "***@127.0.0.1" in str(caught.value)
    assert "kret" not in str(caught.value) and "r@et" not in str(caught.value)
    if scheme in ("redis://", "redis+sentinel://"):
        assert "write / as %2F" in str(caught.value)
