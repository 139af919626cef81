"""The store on what stands for a Redis server: a socket of this host, a Redis Cluster, sentinels with a failover."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from bench.redis_server import free_port, running_redis
from mesh.core.commands import AppendBatch, DropBatches, RecordOutcomes, SaveFunction, SaveMarks
from mesh.errors import StoreUnavailable
from mesh.model import FunctionCode, TaskMark
from mesh.store.redis.store import RedisStore
from tests.contract.stores import BLOB, PARTS, append, outcome_of
from tests.redis_server import need_server, open_redis, redis_server

pytestmark = pytest.mark.processes

PATIENCE_S = 30.0


@pytest.fixture
def running() -> Iterator[ExitStack]:
    need_server()
    with ExitStack() as stack:
        yield stack


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def use(url: str) -> None:
    """Do once what a router does."""
    store = open_redis(url)
    assert store.recover().boot == 1
    store.put_blob(BLOB, PARTS)
    store.commit([append(1, "a", "b"), SaveFunction(FunctionCode("d", "3.11", b"code"), 1.0)])
    store.commit([RecordOutcomes([outcome_of("a", batch=1, payload=BLOB)]), SaveMarks([TaskMark("b", 1, 1, 0, 0)])])
    assert store.usage().batches == 1
    store.close()
    store = open_redis(url)
    found = store.recover()
    assert (found.boot, found.batches[0].settled, [mark.id for mark in found.marks]) == (2, {"a"}, ["b"])
    assert store.read_blob(BLOB) == PARTS
    store.commit([DropBatches([1])])
    assert store.prune(1e9, 10) == 1
    assert store.read_blob(BLOB) is None
    store.close()


def test_a_socket_of_this_host(running: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    running.enter_context(running_redis(tmp_path, "process", options=["--unixsocket", str(path)]))
    use(f"unix://{path}")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_server_over_tls_with_a_password(running: ExitStack, tmp_path: Path) -> None:
    key, certificate, port = tmp_path / "key.pem", tmp_path / "certificate.pem", free_port()
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    command = ["openssl", *made.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    options = ["--tls-port", str(port), "--tls-auth-clients", "no", "--user", "u", "on", ">s3cret", "~*", "+@all"]
    for name, path in (("cert", certificate), ("key", key), ("ca-cert", certificate)):
        options += [f"--tls-{name}-file", str(path)]
    running.enter_context(running_redis(tmp_path, "process", options=options))
    use(f"rediss://u:s3cret@127.0.0.1:{port}?ca={certificate}")
    with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
        open_redis(f"rediss://u:s3cret@127.0.0.1:{port}")


def test_a_port_that_speaks_no_tls_is_asked_about() -> None:
    with pytest.raises(StoreUnavailable, match=r"rediss:// speaks TLS, .*is this the server's TLS port"):
        open_redis(redis_server().url.replace("redis://", "rediss://"), timeout_s=0.2)


def test_a_cluster(running: ExitStack, tmp_path: Path) -> None:
    options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    server = running.enter_context(running_redis(tmp_path, "process", options=options))
    admin = redis.Redis(port=server.port)
    admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    until(lambda: b"cluster_state:ok" in admin.execute_command("CLUSTER INFO") or _is_ok(admin))
    use(f"redis+cluster://127.0.0.1:{server.port}")
    assert len({admin.execute_command("CLUSTER", "KEYSLOT", key) for key in admin.scan_iter()}) == 1


def _is_ok(admin: redis.Redis) -> bool:
    found = admin.execute_command("CLUSTER INFO")
    return isinstance(found, dict) and found.get("cluster_state") == "ok"


def test_a_failover_that_sentinels_see(running: ExitStack, tmp_path: Path) -> None:
    for name in ("master", "replica", "sentinel"):
        (tmp_path / name).mkdir()
    master = running.enter_context(running_redis(tmp_path / "master", "process"))
    follows = ["--replicaof", f"127.0.0.1 {master.port}"]
    replica = running.enter_context(running_redis(tmp_path / "replica", "process", options=follows))
    config = tmp_path / "sentinel" / "sentinel.conf"
    config.write_text(
        f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
    )
    sentinel = running.enter_context(running_redis(tmp_path / "sentinel", "memory", sentinel=config)).port
    watcher = redis.Redis(port=sentinel)
    until(lambda: len(watcher.execute_command("SENTINEL", "REPLICAS", "main")) == 1)
    url = f"redis+sentinel://127.0.0.1:{sentinel}/main"
    store = open_redis(url)
    store.recover()
    store.commit([append(1, "a")])
    other = redis.Redis(port=replica.port)
    until(lambda: other.info("replication").get("master_link_status") == "up")
    redis.Redis(port=master.port).wait(1, 5000)
    watcher.execute_command("SENTINEL", "FAILOVER", "main")
    until(lambda: other.info("replication")["role"] == "master")
    until(lambda: committed(store, [append(2, "b")]))
    assert [batch.seq for batch in store.recover().batches] == [1, 2]
    assert other.keys("*journal"), "it is the new master that has it"
    store.close()


def committed(store: RedisStore, records: list[AppendBatch]) -> bool:
    try:
        store.commit(records)
    except StoreUnavailable:
        return False
    return True
