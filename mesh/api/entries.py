"""The periodic tasks in the code of an app, as entries for routers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from msgspec.structs import replace

from mesh.api.app import Mesh
from mesh.api.options import checked_args, checked_kwargs
from mesh.entries import ENTRY_PAYLOAD_BYTES_MAX, Catchup, Entry
from mesh.errors import ConfigError
from mesh.model import Blob, TaskOptions
from mesh.schedules import as_schedule
from mesh.wire.payload import encode_call

KEYS = frozenset({"task", "schedule", "args", "kwargs", "catchup"})


def entries_of(app: Mesh) -> list[Entry]:
    """What ``app.conf.beat_schedule`` says. Raises ``ConfigError`` that names the entry."""
    found = app.conf.beat_schedule
    if not isinstance(found, Mapping):
        raise ConfigError(f"beat_schedule={found!r:.80}: expected a dictionary of entries by name")
    return [_entry(app, name, one) for name, one in found.items()]


def _entry(app: Mesh, name: str, found: Mapping[str, Any]) -> Entry:
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise ConfigError(f"beat_schedule: {name!r:.80} is no name of 1 to 255 characters")
    what = f"beat_schedule[{name!r}]"
    if not isinstance(found, Mapping) or not {"task", "schedule"} <= found.keys() <= KEYS:
        raise ConfigError(f"{what}: expected task and schedule, and perhaps args, kwargs and catchup")
    catchup = found.get("catchup", "latest")
    if catchup not in get_args(Catchup):
        raise ConfigError(f"{what}: catchup={catchup!r:.80}: expected {', '.join(get_args(Catchup))}")
    try:
        schedule = as_schedule(found["schedule"])
        args, kwargs = checked_args(found.get("args")), checked_kwargs(found.get("kwargs"))
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{what}: {error}") from error
    most = ENTRY_PAYLOAD_BYTES_MAX
    encoded = encode_call(args, kwargs, key="too large", inline_max=most, total_max=app.settings.payload_bytes_max)
    payload, _ = encoded
    if isinstance(payload, Blob):
        raise ConfigError(f"{what}: its arguments take more than {most} bytes: give the task a name for them instead")
    task = app.tasks.get(found["task"])
    options = TaskOptions(found["task"], app.conf.task_default_queue) if task is None else task.base_options()
    return Entry(name, schedule, replace(options, function=None, python=None), payload, catchup=catchup)
