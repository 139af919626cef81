"""The connection to Redis: bounded waits, one meaning for each of its errors, and a pause after each failure.

A router's loop waits for its store, so no answer may take longer than ``timeout_s``, nor may the server to take a part
of what it is sent; after a call that failed the next are refused at once for as long as that one took: what a router
owes to its nodes is done in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1
from math import inf
from time import monotonic
from typing import Any, NoReturn, Protocol, TypeVar, cast

from mesh.errors import ConfigError, StoreDamaged, StoreError, StoreFull, StoreUnavailable
from mesh.store.reading import CHUNK
from mesh.store.redis.address import RedisAddress
from mesh.store.redis.kinds import WAY_OUT, wrong_kind, wrong_number

PAUSE_S = 0.5  # at least so long after a failure nothing is asked
LOGIN_PAUSE_MAX_S = 5.0  # between two tries of a login that is refused

_PASSES = frozenset(
    ("READONLY", "LOADING", "MISCONF", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MOVED", "ASK")
)
_LOGIN = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})
_STALE = frozenset({"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN"})  # another server may be the right one now
_IN_SCRIPT = re.compile(r"-(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|NOPERM)\b")  # as servers before 7.0 say it
_DAMAGED = re.compile(r"DAMAGED\{(\S*) (.*)\}")  # as our scripts say it: the field, empty where it is the type; the key
_TYPES = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "AuthenticationError": "NOAUTH",
    "NoPermissionError": "NOPERM",
}

T = TypeVar("T")
Value = bytes | str | int | float


class Pipeline(Protocol):
    """What is used of a pipeline of redis-py."""

    def execute_command(self, *args: Value) -> object:
        """Add one."""

    def execute(self, raise_on_error: bool) -> list[Any]:
        """Send them; the answers, errors among them."""


class Client(Protocol):
    """What is used of a client of redis-py, single or cluster."""

    def execute_command(self, *args: Value) -> Any:
        """Do one; the answer."""

    def pipeline(self, transaction: bool) -> Pipeline:
        """Some commands in one round trip."""

    def close(self) -> None:
        """Cut the connections."""


class Link:
    """To one server, or what stands for one. Raises ``ConfigError`` where redis-py is missing.

    A login that is refused is an error, unless it is ``proven``: then somebody is changing it at the server, and the
    server counts as away for ``login_wait_s``.

    Each method raises ``StoreFull``, ``StoreUnavailable``, and ``StoreError`` for what cannot be mended by waiting:
    ``StoreDamaged``, which names the key, where that is not of the type that a router writes.
    """

    def __init__(
        self,
        address: RedisAddress,
        timeout_s: float,
        clock: Callable[[], float] = monotonic,
        *,
        login_wait_s: float = 0.0,
    ) -> None:
        try:
            import redis  # noqa: PLC0415  an extra
            from redis.exceptions import RedisClusterException  # noqa: PLC0415
        except ImportError:
            raise ConfigError(
                f"store {address.name}: this takes redis-py, which is not installed: pip install 'taskmesh[redis]'"
            ) from None
        self.name = address.name
        self._tls = address.tls
        self.is_cluster = address.kind == "cluster"
        self._tells_of_clients = not self.is_cluster
        self._clock = clock
        self._quiet_until = 0.0
        self._why = ""
        self.proven = False
        self._login_wait_s = login_wait_s
        self._refused = (-inf, -inf)  # since when the login is, and when it was last
        self._errors = (redis.RedisError, RedisClusterException, OSError)
        self._disconnects = (redis.ConnectionError, OSError)
        self._timeout = (redis.TimeoutError, TimeoutError)
        self._reply = redis.exceptions.ResponseError
        self._no_script = redis.exceptions.NoScriptError
        self._not_allowed = redis.exceptions.NoPermissionError
        self._client = self._guarded(lambda: _connect(address, timeout_s))

    def command(self, *args: Value) -> Any:
        """Do one command."""

        def run() -> Any:
            try:
                return self._client.execute_command(*args)
            except self._reply as error:
                raise self._named(error, args) from error

        return self._guarded(run)

    def commands(self, commands: Sequence[Sequence[Value]]) -> list[Any]:
        """Do some commands in one round trip, not as one."""
        return self._guarded(lambda: self._piped(commands)) if commands else []

    def scan(self, key: str, after_each: Callable[[], None] = lambda: None) -> Iterator[dict[bytes, bytes]]:
        """All rows of a hash, some at a time; some may come twice."""
        cursor = -1
        while cursor != 0:
            at, some = self.command("HSCAN", key, max(cursor, 0), "COUNT", CHUNK)
            cursor = int(at)
            if some:
                yield some
            after_each()

    def script(self, text: str, keys: Sequence[Value], args: Sequence[Value]) -> list[Any]:
        """Do a script; its answer begins with a word, which comes as text. A script must be safe to be repeated."""

        def run() -> list[Any]:
            try:
                found = self._client.execute_command("EVALSHA", _sha_of(text), len(keys), *keys, *args)
            except self._no_script:
                found = self._client.execute_command("EVAL", text, len(keys), *keys, *args)
            return [cast(bytes, found[0]).decode(), *found[1:]]

        return self._guarded(run)

    def number(self) -> int:
        """By what the server knows this connection; 0 where that cannot be learnt."""
        return int(self._asked_of_clients("CLIENT ID") or 0)

    def has(self, number: int) -> bool:
        """Whether the server has that connection; also where that cannot be learnt."""
        return not number or self._asked_of_clients("CLIENT LIST", "ID", number) != []

    def close(self) -> None:
        """Cut the connections."""
        self._client.close()

    def _asked_of_clients(self, *question: Value) -> Any:
        """None where there is more than one connection, the service does not tell, or this user may not ask."""

        def ask() -> Any:
            try:
                return self._client.execute_command(*question)
            except self._not_allowed:  # of this alone: the login is as good as it was
                self._tells_of_clients = False
                return None

        if not self._tells_of_clients:
            return None
        try:
            return self._guarded(ask)
        except StoreUnavailable:
            raise
        except StoreError:
            self._tells_of_clients = False
            return None

    def _piped(self, commands: Sequence[Sequence[Value]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers = pipeline.execute(raise_on_error=False)
        for command, answer in zip(commands, answers):
            if isinstance(answer, Exception):
                raise self._named(answer, command)
        return answers

    def _named(self, error: Exception, command: Sequence[Value]) -> Exception:
        """The error, with the key where it is of another type: the server does not say which."""
        if _word(error) != "WRONGTYPE":
            return error
        key = cast(bytes | str, command[1])
        return StoreDamaged(f"{self.name}: {wrong_kind(as_text(key))}; {WAY_OUT}")

    def _guarded(self, call: Callable[[], T]) -> T:
        started = self._clock()
        if started < self._quiet_until:
            raise StoreUnavailable(f"{self.name}: {self._why}; asked again soon")
        try:
            try:
                return call()
            except self._disconnects as error:
                if isinstance(error, self._timeout) or _word(error) in _STALE | _LOGIN:
                    raise
                return call()  # a connection may be older than the server at its other end
        except self._errors as error:
            self._translate(error, started)

    def _translate(self, error: Exception, started: float) -> NoReturn:
        word = _word(error)
        why = str(error) or type(error).__name__
        if damaged := _DAMAGED.search(why):
            field, key = damaged.groups()
            what = f"key {key}: {wrong_number(field)}" if field else wrong_kind(key)
            raise StoreDamaged(f"{self.name}: {what}; {WAY_OUT}") from error
        if type(error).__name__ in _TYPES and word not in why:
            why = f"{word} {why}"
        if self._tls and not self.proven and isinstance(error, self._timeout):
            why = (
                f"{why}; rediss:// speaks TLS, to which a port without it says nothing: is this the server's TLS port?"
            )
        text = f"{self.name}: {why}"
        if word == "OOM":
            raise StoreFull(text) from error
        if word in _LOGIN:
            self._refuse(error, why)
        if isinstance(error, (*self._disconnects, *self._timeout)) or word in _PASSES or not _is_reply(error):
            now = self._clock()
            self._quiet_until, self._why = now + max(PAUSE_S, now - started), why
            if word in _STALE:
                self._client.close()
            raise StoreUnavailable(text) from error
        raise StoreError(text) from error

    def _refuse(self, error: Exception, why: str) -> NoReturn:
        now = self._clock()
        since, last = self._refused
        if now - last > 3 * LOGIN_PAUSE_MAX_S:  # one answer is no end of it: a user may be let do some things
            since = now
        self._refused = since, now
        why = f"login refused: {why}"
        if self.proven and now - since < self._login_wait_s:
            self._quiet_until, self._why = now + min(max(PAUSE_S, now - since), LOGIN_PAUSE_MAX_S), why
            self._client.close()  # what it may do can depend on when it was opened
            raise StoreUnavailable(
                f"{self.name}: {why}; it worked before: give this user its password and rights back, or start this "
                "router with a --store that has the new ones"
            ) from error
        raise StoreError(
            f"{self.name}: {why}; look at user and password in --store or MESH_STORE, and at what the server lets "
            "this user do (ACL)"
        ) from error


def as_text(value: bytes | str) -> str:
    """What the server says, for people and as names: bytes that are no text come from who is no router."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _sha_of(script: str) -> str:
    """By what Redis knows a script that it has seen."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


def _word(error: Exception) -> str:
    """The word that Redis begins an error with; redis-py takes some of them off and has a type for each."""
    text = str(error)
    found = _IN_SCRIPT.search(text)
    word = found[1] if found else _TYPES.get(type(error).__name__) or text.partition(" ")[0]
    return "WRONGPASS" if word == "NOAUTH" and text.startswith("invalid ") else word  # one type stands for both


def _is_reply(error: Exception) -> bool:
    """Whether the server itself said no, to this command."""
    return any(kind.__name__ == "ResponseError" for kind in type(error).__mro__)


def _connect(address: RedisAddress, timeout_s: float) -> Client:
    import redis  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.cluster import ClusterNode  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415
    from redis.sentinel import Sentinel  # noqa: PLC0415

    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.user is not None:
        options["username"] = address.user
    if address.password is not None:
        options["password"] = address.password
    tls: dict[str, Any] = {"ssl": True} if address.tls else {}
    if address.tls and address.ca is not None:
        tls["ssl_ca_certs"] = address.ca
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.nodes]  # type: ignore[no-untyped-call]
        return cast(Client, redis.RedisCluster(startup_nodes=nodes, **options, **tls))
    if address.kind == "sentinel":
        own = {key: value for key, value in options.items() if key not in ("username", "password")} | tls
        if address.sentinel_password is not None:
            own["password"] = address.sentinel_password
        sentinel = Sentinel(list(address.nodes), sentinel_kwargs=own)  # type: ignore[no-untyped-call]
        master = sentinel.master_for(address.service, db=address.db, **options, **tls)  # type: ignore[no-untyped-call]
        return cast(Client, master)
    if address.kind == "unix":
        return cast(Client, redis.Redis(unix_socket_path=address.path, db=address.db, **_without_keepalive(options)))
    ((host, port), *_) = address.nodes
    return cast(Client, redis.Redis(host=host, port=port, db=address.db, **options, **tls))


def _without_keepalive(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "socket_keepalive"}
