"""The address of a Redis store: which server, which mesh's keys, which router's journal.

    redis://[user:password@]host[:port][/db]      valkey:// means the same
    rediss://...                                  the same over TLS
    unix:///path/to/socket[?db=0]
    redis+sentinel://[user:password@]host[:port],host[:port]/service[/db]
    redis+cluster://[user:password@]host[:port],host[:port]
    rediss+sentinel://, rediss+cluster://         the same over TLS

Options of all: ``prefix`` of the keys, ``router`` names the journal, ``ca`` is a file of certificates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from mesh.errors import ConfigError

KNOWN = (
    "redis://[user:password@]host:port/db, rediss://, valkey://, unix:///path, redis+sentinel://host,host/service/db, "
    "redis+cluster://host,host, all with ?prefix=... and ?router=..."
)
PREFIX = "taskmesh"

_SCHEMES = {
    "redis": ("single", False),
    "valkey": ("single", False),
    "rediss": ("single", True),
    "valkeys": ("single", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_PORTS = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_OPTIONS = {"prefix", "router", "ca", "sentinel_password"}
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """``kind``: single, unix, sentinel or cluster; ``name`` is what can be shown: it has no password."""

    kind: str
    tls: bool = False
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    ca: str | None = None
    prefix: str = PREFIX
    router: str | None = None
    name: str


def is_redis(url: str) -> bool:
    """Whether an address is one of these."""
    return url.partition("://")[0] in _SCHEMES


def parse_address(url: str) -> RedisAddress:
    """Read an address. Raises ``ConfigError``, which never repeats a password."""
    kind, tls = _SCHEMES[url.partition("://")[0]]
    parts = urlsplit(url)
    shown = masked(url)
    if "@" in parts.path + parts.query + parts.fragment:  # it is in the password that the host was found
        raise ConfigError(
            f"store {shown}: write / as %2F, # as %23, ? as %3F and @ as %40, in a password and elsewhere"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - _OPTIONS - ({"db"} if kind == "unix" else set())
    if unknown:
        raise ConfigError(f"store {shown}: no such option: {', '.join(sorted(unknown))}; known: {KNOWN}")
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    service, path = "", ""
    if kind == "unix":
        path, segments = unquote(parts.path), [options["db"]] if "db" in options else []
        if hosts or not path:
            raise ConfigError(f"store {shown}: give the absolute path of a socket, with three slashes")
    elif kind == "sentinel":
        if not segments:
            raise ConfigError(
                f"store {shown}: name the service that the sentinels watch: redis+sentinel://host/service"
            )
        service, *segments = segments
    elif kind == "cluster" and segments:
        raise ConfigError(f"store {shown}: a Redis Cluster has no numbered databases; use ?prefix=...")
    prefix = options.get("prefix", PREFIX)
    if not _PREFIX.fullmatch(prefix):
        raise ConfigError(f"store {shown}: a prefix is 1 to 64 letters, digits and any of _.:-")
    router = options.get("router")
    if router == "":
        raise ConfigError(f"store {shown}: ?router= is without a name: leave it away for the journal of this machine")
    return RedisAddress(
        kind=kind,
        tls=tls,
        nodes=() if kind == "unix" else tuple(_node(host, _PORTS[kind], shown) for host in hosts.split(",")),
        path=path,
        service=service,
        db=_number(segments, shown),
        user=unquote(user) or None,
        password=unquote(password) or None,
        sentinel_password=options.get("sentinel_password"),
        ca=options.get("ca"),
        prefix=prefix,
        router=router,
        name=shown,
    )


def _node(text: str, port: int, shown: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        return parts.hostname or "127.0.0.1", parts.port or port
    except ValueError:  # which names the address, and with it the password
        raise ConfigError(f"store {shown}: {text!r} is not host or host:port; known: {KNOWN}") from None


def _number(segments: list[str], shown: str) -> int:
    if not segments:
        return 0
    if len(segments) > 1 or not segments[0].isascii() or not segments[0].isdigit():
        raise ConfigError(f"store {shown}: the database is a number; known: {KNOWN}")
    return int(segments[0])


def masked(url: str) -> str:
    """The address with each password masked, also one that is no address: all before the last @ may be of it."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, separator, rest = url.partition(":")
    login, at, rest = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    where, mark, query = rest.partition("?")
    masked = [
        f"{key}={'***' if key.endswith('password') else quote(value, safe='/:')}" for key, value in parse_qsl(query)
    ]
    return f"{scheme}{separator}{user}{':***' if colon else ''}{at}{where}{mark}{'&'.join(masked)}"
