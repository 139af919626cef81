"""One periodic task as somebody wrote it, checked and turned into an entry; errors say its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

import msgspec
from msgspec.structs import replace

from mesh import schedules
from mesh.api.options import (
    Seconds,
    checked_args,
    checked_kwargs,
    checked_seconds,
    checked_text,
    no_unknown,
)
from mesh.api.task import Task
from mesh.entries import ENTRY_PAYLOAD_BYTES_MAX, Catchup, Entry, Overlap
from mesh.errors import ConfigError, MeshError, PayloadTooLarge
from mesh.model import TaskOptions
from mesh.schedules import Schedule
from mesh.wire.payload import decode_call, encode_call, is_pickled

if TYPE_CHECKING:
    from mesh.api.app import Mesh

When = Schedule | float | timedelta | datetime | str
"""What ``mesh.schedules.as_schedule`` takes."""

NAME_LENGTH_MAX = 255
CALL_OPTIONS = ("queue", "priority", "time_limit", "ignore_result", "acks_late")
WITHOUT_EFFECT = ("retry", "retry_policy")  # a router makes the task itself, and so need not send it
POLICIES = ("catchup", "catchup_max", "catchup_window", "overlap", "jitter", "timezone", "enabled")
OPTIONS = (*CALL_OPTIONS, "expires", *WITHOUT_EFFECT, *POLICIES)
TIMES = ("countdown", "eta")


class Options(TypedDict, total=False):
    """What may be said of an entry beside its schedule, its task and the arguments."""

    queue: str | None
    priority: int | None
    time_limit: float | None
    ignore_result: bool | None
    acks_late: bool | None
    expires: Seconds | None
    catchup: Literal["latest", "all", "skip"]
    catchup_max: int
    catchup_window: Seconds
    overlap: Literal["allow", "skip", "queue_one"]
    jitter: Seconds
    timezone: str | tzinfo | None
    enabled: bool
    retry: bool
    retry_policy: Mapping[str, Any] | None


def check_keys(what: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise ``ConfigError`` for what nobody may write there."""
    times = [key for key in given if key in TIMES]
    if times:
        raise ConfigError(f"{what}: {times[0]}: a periodic task has its times from its schedule; jitter puts them off")
    try:
        no_unknown(what, {str(key): None for key in given if key not in known}, " ".join(known))
    except TypeError as error:
        raise ConfigError(str(error)) from None


def new_entry(
    app: Mesh,
    name: str,
    schedule: When,
    task: Task[..., Any] | str,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    given: Mapping[str, Any],
) -> Entry:
    """One entry from what somebody wrote; ``given`` is as in ``Options``. Raises ``ConfigError`` that names it."""
    checked_text("name", name, NAME_LENGTH_MAX)
    if "options" in given:
        raise ConfigError(
            f"entry {name!r}: options: what stands there in beat_schedule is given as arguments: queue=..."
        )
    check_keys(f"entry {name!r}", given, OPTIONS)
    try:
        task_name = name_of(task)
        options = _options(app, task_name, given)
        definition = app.tasks.get(task_name)
        if given.get("expires") is None and definition is not None and definition.expires is not None:
            given = {**given, "expires": definition.expires}
        return Entry(
            name,
            schedules.as_schedule(schedule, _zone(app, schedule, given.get("timezone"))),
            options,
            _payload(app, task_name, args, kwargs),
            **_policies(given),
        )
    except (MeshError, TypeError) as error:
        raise ConfigError(f"entry {name!r}: {error}") from error


def changed_entry(app: Mesh, entry: Entry, changes: Mapping[str, Any]) -> Entry:
    """The entry with ``changes``: of its schedule, task, args, kwargs, or as in ``Options``. Raises ``ConfigError``.

    The options of another task are those of its definition here, as far as they are not among the changes; the zone
    of another schedule is the one it had, unless that or the changes name one.
    """
    check_keys(f"entry {entry.name!r}", changes, ("schedule", "task", "args", "kwargs", *OPTIONS))
    try:
        schedule, zone = entry.schedule, changes.get("timezone")
        if "schedule" in changes:
            if zone is None and isinstance(schedule, schedules.Cron | schedules.CronLine):
                zone = schedule.zone
            schedule = schedules.as_schedule(changes["schedule"], _zone(app, changes["schedule"], zone))
        elif zone is not None and isinstance(schedule, schedules.Cron | schedules.CronLine):
            schedule = schedules.in_zone(replace(schedule, zone=""), zone)
            schedules.check(schedule)
        options, task_name = entry.options, entry.options.name
        if "task" in changes:
            task_name = name_of(changes["task"])
            options = _options(app, task_name, changes)
        elif any(changes.get(key) is not None for key in CALL_OPTIONS):
            options = _changed_options(app, entry.options, changes)
        payload = entry.payload
        if not {"task", "args", "kwargs"}.isdisjoint(changes):
            payload = _changed_payload(app, task_name, payload, changes)
        return replace(entry, schedule=schedule, options=options, payload=payload, **_policies(changes))
    except (MeshError, TypeError) as error:
        raise ConfigError(f"entry {entry.name!r}: {error}") from error


def name_of(task: Task[..., Any] | str) -> str:
    """The name of a task that is given as itself, or by its name. Raises ``ConfigError``."""
    if isinstance(task, str):
        return checked_text("task", task, 200)
    name = getattr(task, "name", None)
    if not isinstance(name, str):
        raise ConfigError(f"task={task!r:.80}: expected a task or the name of one; its arguments are args and kwargs")
    return name


def is_of_script(task_name: str) -> bool:
    """Whether no worker can know the task: who runs the app's file as a script calls its tasks so, too."""
    return task_name.startswith("__main__.")


def _options(app: Mesh, name: str, given: Mapping[str, Any]) -> TaskOptions:
    options = app.options_for(name, **{key: given[key] for key in CALL_OPTIONS if key in given})
    if is_of_script(name):
        raise ConfigError(
            f"task {name} is of a script or a notebook: a periodic task runs when that has ended, so it must be in "
            "a module that workers load"
        )
    return replace(options, function=None, python=None)  # workers know the module that runs as a script here


def _changed_options(app: Mesh, options: TaskOptions, changes: Mapping[str, Any]) -> TaskOptions:
    """``options`` with those of the changes that are given; a task that is known here need not be."""
    made = _options(app, options.name, changes)
    fields = {
        "queue": "queue",
        "priority": "priority",
        "time_limit": "time_limit_s",
        "ignore_result": "ignore_result",
        "acks_late": "at_most_once",
    }
    given = [fields[key] for key in CALL_OPTIONS if changes.get(key) is not None]
    return replace(options, **{field: getattr(made, field) for field in given})


def _changed_payload(app: Mesh, task_name: str, payload: bytes, changes: Mapping[str, Any]) -> bytes:
    """What is a pickle stays one, unread: who declared the entry may be another than who changes it."""
    if {"args", "kwargs"} <= changes.keys():
        args, kwargs = changes["args"], changes["kwargs"]
    elif not is_pickled(payload):
        args, kwargs = decode_call(payload)
        args, kwargs = changes.get("args", args), changes.get("kwargs", kwargs)
    elif {"args", "kwargs"}.isdisjoint(changes):
        return payload
    else:
        raise ConfigError("its arguments are pickled, and not read to be changed: give both args and kwargs")
    return _payload(app, task_name, args, kwargs)


def _payload(app: Mesh, task_name: str, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> bytes:
    checked = checked_args(args), checked_kwargs(kwargs)
    definition = app.tasks.get(task_name)
    if definition is not None:
        definition.check_arguments(*checked)
    most = ENTRY_PAYLOAD_BYTES_MAX
    try:
        payload, _ = encode_call(*checked, key="the arguments", inline_max=most, total_max=most)
    except PayloadTooLarge:
        advice = "pass a path or a reference to the data"
        raise ConfigError(f"arguments of a periodic task: {most >> 10} KiB at most; {advice}") from None
    assert isinstance(payload, bytes)
    return payload


def _zone(app: Mesh, schedule: When, given: str | tzinfo | None) -> str | tzinfo | None:
    """The zone that counts for a schedule which names none: the entry's, else the app's."""
    if given is not None:
        return given
    conf = app.conf
    needs_one = isinstance(schedule, str) or not getattr(schedule, "zone", "-")
    if conf.timezone is None and not conf.enable_utc and needs_one:
        raise ConfigError(
            "enable_utc=False needs a timezone, which is the same on each node: conf.timezone='Europe/Paris'"
        )
    return conf.timezone


def _policies(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an entry that are given. Raises ``ConfigError`` for a wrong value."""
    found: dict[str, Any] = {}
    for key, make in _FIELDS.items():
        if key in given and (given[key] is not None or key == "expires"):
            field, value = make(key, given[key])
            try:
                found[field] = msgspec.convert(value, _TYPES[field])
            except msgspec.ValidationError:
                raise ConfigError(f"{key}={given[key]!r:.80}: expected {_EXPECTED[key]}") from None
    return found


def _seconds(field: str) -> Callable[[str, Any], tuple[str, Any]]:
    def make(key: str, value: Any) -> tuple[str, Any]:
        if isinstance(value, datetime):
            raise ConfigError(f"{key}={value!r:.80}: expected seconds or a timedelta, counted from each due time")
        return field, None if value is None else checked_seconds(key, value)

    return make


def _expires(key: str, value: Any) -> tuple[str, Any]:
    field, seconds = _seconds("expires_s")(key, value)
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"{key}={value!r:.80}: it would never run; expected {_EXPECTED[key]}")
    return field, seconds


def _enabled(key: str, value: Any) -> tuple[str, Any]:
    return "paused", not value if isinstance(value, bool) else value


def _same(key: str, value: Any) -> tuple[str, Any]:
    return key, value


_FIELDS: dict[str, Callable[[str, Any], tuple[str, Any]]] = {
    "catchup": _same,
    "catchup_max": _same,
    "catchup_window": _seconds("catchup_window_s"),
    "overlap": _same,
    "jitter": _seconds("jitter_s"),
    "expires": _expires,
    "enabled": _enabled,
}
_TYPES = {field.name: field.type for field in msgspec.structs.fields(Entry)} | {"catchup": Catchup, "overlap": Overlap}
_EXPECTED = {
    "catchup": ", ".join(map(repr, get_args(Catchup))),
    "catchup_max": "a whole number from 1 to 10000",
    "catchup_window": "0 to 1000000000 seconds",
    "overlap": ", ".join(map(repr, get_args(Overlap))),
    "jitter": "0 to 1000000000 seconds",
    "expires": "seconds above 0, after each due time, or None: never",
    "enabled": "True or False",
}
