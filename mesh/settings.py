"""Every number a user may change, with its unit and its reason, in one frozen object.

Precedence: an argument in code or on the command line, then ``MESH_<NAME>`` in the environment, then the default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any

from mesh.errors import ConfigError

INLINE_BYTES_MOST = 512 << 10  # an envelope may have 2 MiB
FIRINGS_MOST = 1_000  # with the longest names they are 1 MiB

MAY_BE_ZERO = frozenset(
    {
        "free_bytes_min",
        "store_wait_s",
        "commit_delay_s",
        "grace_s",
        "adopt_grace_s",
        "schedule_done_s",
        "schedule_settle_s",
        "schedule_takeover_s",
        "drain_s",
        "exit_flush_s",
        "connect_timeout_s",
        "submit_timeout_s",
        "unknown_grace_s",
        "kill_grace_s",
        "result_ttl_s",
        "inline_bytes_max",
        "watched_ids_max",
        "queued_tasks_max",
        "queued_bytes_max",
    }
)

PARTITIONS = ("fire", "majority")  # what routers do that hear no majority of them: fire all the same, or wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits, waits and retries of all roles."""

    mesh: str = "default"  # which mesh a node joins

    # liveness
    heartbeat_s: float = 2.0  # a node speaks at least this often
    liveness: int = 3  # heartbeats missed before a node is gone: 6 s for a cable, a process is noticed at once
    hello_retry_s: float = 1.0  # an unanswered HELLO is sent again
    router_ttl_s: float = 600.0  # a router away so long, and not found while others are, is given up
    grace_s: float = 5.0  # after a restart a router waits this long for workers to say what they still run

    # limits of a router
    nodes_max: int = 10_000  # workers with a session, and as many clients; beyond, the HELLO of another is refused
    queued_tasks_max: int = 5_000_000  # accepted and unfinished; beyond: Overloaded
    queued_bytes_max: int = 4 << 30  # of their payloads
    outbox_bytes_max: int = 64 << 20  # unsent to one peer; beyond: it is cut off and must come anew
    unwritten_bytes_max: int = 64 << 20  # results at a router that wait for its store; beyond: workers keep theirs
    unread_bytes_max: int = 256 << 20  # memory for one peer on TCP, besides one largest payload; beyond: it is cut off
    commit_delay_s: float = 0.001  # new tasks just delivered are committed no later, with what comes meanwhile
    free_bytes_min: int = 64 << 20  # of disk; below: submits are Overloaded, completions still fit
    store_timeout_s: float = 2.0  # a Redis store answers by then; less than heartbeat_s * (liveness - 1)
    store_wait_s: float = 60.0  # so long a Redis store is waited for that fails in a start, or refuses a login
    store_lock_s: float = 4.0  # a router silent to its Redis store so long, half as long if it died, loses its journal
    adopt_grace_s: float = 0.5  # a journal seen without a router for so long is adopted by another on the same store
    losses_max: int = 10  # worker nodes, or deliveries, lost with a task before it is taken for poison, too
    deaths_max: int = 3  # worker processes a task may take with it before it is dead-lettered
    result_ttl_s: float = 86_400.0  # outcomes are kept this long
    function_ttl_s: float = 86_400.0  # a shipped function is kept this long after its last use, longer for its tasks
    functions_max: int = 100_000  # shipped functions a router keeps; beyond, a batch with another is Overloaded
    watched_ids_max: int = 1_000_000  # ids one client may wait for besides its own

    # periodic tasks
    schedule_lease_ttl_s: float = 10.0  # a leader that says nothing for so long is the leader no more
    schedule_ahead_s: float = 60.0  # a due time so far ahead of the router's clock is not believed
    schedule_entries_max: int = 10_000  # entries a router keeps; more are refused
    schedule_firings_max: int = 500  # due times in one FIRE
    schedule_settle_s: float = 10.0  # a router that starts looks so long for others before it fires
    schedule_takeover_s: float = 5.0  # so long after three heartbeats, or without a leader, its entries are others'
    schedule_partition: str = "fire"  # or "majority": fire only while most of schedule_routers are heard
    schedule_routers: int = 1  # how many routers the mesh has, where schedule_partition is "majority"
    schedule_gone_s: float = 604_800.0  # that an entry was removed is kept in mind so long, for routers that are away
    schedule_done_s: float = 86_400.0  # an entry that is due once and was added at run time goes so long after that

    # workers
    credit_s: float = 0.020  # work a worker wants at hand
    credit_max: int = 8_192  # deliveries a worker may hold at the most
    chunk_s: float = 0.002  # work handed to an executor at once
    chunk_max: int = 512  # tasks handed to an executor at once
    unacked_max: int = 30_000  # settlements a worker keeps for a router; beyond: it takes no new tasks from it
    finished_max: int = 100_000  # small results kept for a second router that delivers the same task
    finished_bytes_max: int = 64 << 20  # of them
    drain_s: float = 30.0  # SIGTERM: running tasks may finish this long
    executor_start_s: float = 60.0  # an executor that is not ready by then is killed and started anew
    kill_grace_s: float = 2.0  # an executor that was told to end, by another signal than SIGKILL, gets SIGKILL then

    # clients
    submit_tasks_max: int = 20_000  # submitted and not yet accepted; beyond: submit blocks
    submit_bytes_max: int = 64 << 20  # of their payloads
    batch_tasks_max: int = 1_000  # tasks in one SUBMIT
    submit_timeout_s: float = 10.0  # a submit blocked by a limit fails after this with Overloaded or Unavailable
    connect_timeout_s: float = 5.0  # no router by then: say what was tried
    exit_flush_s: float = 10.0  # a program that ends, and met a router, waits so long for its submits to be accepted
    unknown_grace_s: float = 2.0  # an id may be unknown this long: its submitter may be slower than its reader

    # payloads
    inline_bytes_max: int = 64 << 10  # above this a payload travels in frames of its own
    payload_bytes_max: int = 256 << 20  # above this: PayloadTooLarge

    def __post_init__(self) -> None:
        """Raise ``ConfigError`` for a value that can mean nothing."""
        for f in fields(self):
            value = getattr(self, f.name)
            if str(f.type) == "str":
                good = isinstance(value, str) and bool(value)
            else:
                number = int if str(f.type) == "int" else (int, float)
                good = isinstance(value, number) and not isinstance(value, bool) and isfinite(value)
                good = good and (value > 0 or (value == 0 and f.name in MAY_BE_ZERO))
            if not good:
                raise ConfigError(f"setting {f.name} = {value!r}: expected {_wanted(f.name, str(f.type))}")

        if self.schedule_partition not in PARTITIONS:
            choices = " or ".join(map(repr, PARTITIONS))
            raise ConfigError(f"setting schedule_partition = {self.schedule_partition!r}: expected {choices}")
        if self.schedule_partition == "majority" and self.schedule_routers < 2:
            raise ConfigError(
                "setting schedule_partition = 'majority': schedule_routers is to say of how many, 2 or more, or "
                "`mesh up --lan --routers N` where it starts them"
            )
        if self.inline_bytes_max > INLINE_BYTES_MOST:
            most = f"at most {INLINE_BYTES_MOST} bytes fit into a message"
            raise ConfigError(f"setting inline_bytes_max = {self.inline_bytes_max}: {most}")
        if self.schedule_firings_max > FIRINGS_MOST:
            raise ConfigError(
                f"setting schedule_firings_max = {self.schedule_firings_max}: at most {FIRINGS_MOST} fit into a message"
            )

    def with_overrides(self, **values: Any) -> Settings:
        """A copy with the values that are not None. Raises ``ConfigError`` for a name it does not know."""
        known = {f.name for f in fields(self)}
        for name in values:
            if name not in known:
                raise ConfigError(f"there is no setting {name!r}; known: {', '.join(sorted(known))}")
        return replace(self, **{k: v for k, v in values.items() if v is not None})

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
        """Defaults, then ``MESH_<NAME>``, then the overrides that are not None. Raises ``ConfigError``."""
        found: dict[str, Any] = {}
        for f in fields(cls):
            variable = variable_of(f.name)
            text = environ.get(variable)
            if text is None:
                continue
            kind = {"str": str, "int": int, "float": float}[str(f.type)]
            try:
                found[f.name] = kind(text)
            except ValueError:
                raise ConfigError(f"{variable}={text!r}: expected {_wanted(f.name, str(f.type))}") from None
        return cls(**found).with_overrides(**overrides)


DEFAULT_MESH = Settings().mesh


def command_of(mesh: str) -> str:
    """What to type for this mesh, before a verb."""
    return "mesh" if mesh == DEFAULT_MESH else f"mesh --mesh {mesh}"


def variable_of(setting: str) -> str:
    """The environment variable of a setting."""
    return "MESH_NAME" if setting == "mesh" else "MESH_" + setting.upper()


VARIABLES = frozenset(
    {"MESH_KEY", "MESH_ROUTERS", "MESH_RUNTIME_DIR", "MESH_STORE", *(variable_of(f.name) for f in fields(Settings))}
)
"""Everything that is read from the environment."""


def _wanted(name: str, kind: str) -> str:
    """What a setting may be, in words for people."""
    if kind == "str":
        return "a name"
    unit = " of seconds" if name.endswith("_s") else " of bytes" if "_bytes_" in name else ""
    least = "0 or more" if name in MAY_BE_ZERO else "more than 0"
    return f"{'a whole number' if kind == 'int' else 'a number'}{unit}, {least}"
