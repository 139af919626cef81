"""What a commit to this Redis survives, as far as the server says."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.errors import StoreError, StoreUnavailable
from mesh.store.redis.link import Link, as_text


@dataclass(frozen=True, slots=True)
class Durability:
    """``level`` as stores have it; ``promise`` and ``warning`` are for people."""

    level: str
    promise: str
    warning: str = ""


def look_up(link: Link) -> Durability:
    """Ask the server how it keeps what it is told. Raises ``StoreUnavailable``."""
    try:
        found = {**link.command("CONFIG GET", "append*"), **link.command("CONFIG GET", "save")}
        found |= link.command("CONFIG GET", "maxmemory*")
    except StoreUnavailable:
        raise
    except StoreError:  # this user may not ask, or the service knows no CONFIG
        return _UNKNOWN
    config = {as_text(key): as_text(value) for key, value in found.items()}
    return _judge(config)


_UNKNOWN = Durability("process", "unknown, for the server does not tell its CONFIG: its restart may lose all")


def _judge(config: dict[str, str]) -> Durability:
    policy = config.get("maxmemory-policy", "noeviction")
    warnings = []
    if config.get("appendonly") != "yes" and not config.get("save"):
        warnings.append('appendonly is no and save is "": a restart of the server loses all; set appendonly to yes')
    if config.get("maxmemory", "0") != "0" and policy != "noeviction":
        warnings.append(
            f"maxmemory-policy is {policy}: a full server throws tasks and results away; set it to noeviction"
        )
    warning = "; ".join(warnings)
    if config.get("appendonly") != "yes":
        kept = f"what its snapshots have (save {config['save']})" if config.get("save") else "nothing"
        return Durability("process", f"appendonly no: a restart of the server keeps {kept}", warning)
    match config.get("appendfsync"):
        case "always":
            return Durability("disk", "appendfsync always: all that was committed survives a power cut", warning)
        case "everysec":
            promise = "appendfsync everysec: a power cut may take the last 2 s, a killed server nothing"
            return Durability("process", promise, warning)
        case other:
            promise = f"appendfsync {other}: a power cut takes what the system had not written, a killed server nothing"
            return Durability("process", promise, warning)
