"""The periodic tasks in the code of an app: ``app.conf.beat_schedule``, ``app.add_periodic_task``, and its signals."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mesh.api.entry import (
    CALL_OPTIONS,
    NAME_LENGTH_MAX,
    POLICIES,
    WITHOUT_EFFECT,
    When,
    check_keys,
    is_of_script,
    name_of,
    new_entry,
)
from mesh.api.options import checked_args, checked_kwargs, checked_text
from mesh.api.task import Task
from mesh.entries import Entry
from mesh.errors import ConfigError, MeshError
from mesh.runtime.failure import users_call, users_line
from mesh.schedules import Once, describe

if TYPE_CHECKING:
    from mesh.api.app import Mesh

log = logging.getLogger("mesh.periodic")

H = TypeVar("H", bound=Callable[..., Any])
BEAT_KEYS = ("task", "schedule", "args", "kwargs", "options", "relative", *POLICIES)
IN_OPTIONS = (*CALL_OPTIONS, "expires", *WITHOUT_EFFECT)  # of an entry of beat_schedule, as in Celery


class Signal:
    """Calls what was connected, as Celery's does: each handler with ``sender=app``, once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._handlers: list[Callable[..., Any]] = []

    @overload
    def connect(self, handler: H, **options: Any) -> H: ...

    @overload
    def connect(self, handler: None = None, **options: Any) -> Callable[[H], H]: ...

    def connect(self, handler: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Have ``handler`` called, once; as a decorator too. Celery's ``weak`` and the like have no effect."""
        if handler is None:
            return self.connect
        self._handlers.append(handler)
        return handler

    def send(self, app: Mesh) -> None:
        """Call those that were not called yet. Raises ``ConfigError`` that names the one that failed."""
        while self._handlers:
            handler = self._handlers.pop(0)
            try:
                handler(sender=app)
            except Exception as error:
                where = f"{getattr(handler, '__module__', '?')}.{getattr(handler, '__qualname__', repr(handler))}"
                kind = "" if isinstance(error, MeshError) else f"{type(error).__name__}: "
                raise ConfigError(f"{self._name}: {users_line(error)}{where}: {kind}{error}") from error


class Periodic:
    """The periodic tasks in the code of one app."""

    def __init__(self, app: Mesh) -> None:
        self._app = app
        self._added: dict[str, Callable[[], Entry]] = {}
        self._places: dict[str, str] = {}  # where each was added
        self._of_script: set[str] = set()  # those whose task no worker can know
        self.configured, self.finalized = Signal("on_after_configure"), Signal("on_after_finalize")

    def add(
        self,
        schedule: When,
        task: Task[..., Any] | str,
        args: Sequence[Any] | None = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> str:
        """See ``Mesh.add_periodic_task``."""
        task_name = name_of(task)
        if name is None:
            named = (f"{key}={value!r}" for key, value in checked_kwargs(kwargs).items())
            name = f"{task_name}({', '.join([*map(repr, checked_args(args)), *named])})"
            # A name must not be another in each process.
            if len(name) > NAME_LENGTH_MAX or " at 0x" in name or _has_set([args, kwargs]):
                raise ConfigError(f"the periodic task {name[:80]}... needs a name: give it name=...")
        if name in self._added:
            raise ConfigError(f"entry {name!r} is there already: give each a name of its own with name=...")
        added = partial(new_entry, self._app, name, schedule, task_name, args, kwargs, options)
        # What is wrong is told here; what it becomes depends on what is defined and set later, too.
        if is_of_script(task_name):  # the file of the app may be run as a script, and not mean it
            self._of_script.add(name)
        else:
            added()
        self._added[name], self._places[name] = added, users_call()
        return name

    def entries(self, *, of_script: bool = True) -> list[Entry]:
        """All of them. Raises ``ConfigError`` that names the entry, or the handler of a signal, that is wrong.

        ``of_script=False``: without those of tasks that a script defines, which are wrong where a worker loads the app.
        """
        app = self._app
        self.configured.send(app)
        self.finalized.send(app)
        found = [_from_beat(app, name, row) for name, row in app.conf.beat_schedule.items()]
        if twice := sorted(self._added.keys() & app.conf.beat_schedule.keys()):
            raise ConfigError(f"entry {twice[0]!r} is in beat_schedule and was added by add_periodic_task too")
        found += [self._made(name) for name in self._added if of_script or name not in self._of_script]
        for entry in found:
            task_name = entry.options.name
            if task_name not in app.tasks and (near := get_close_matches(task_name, app.tasks, 1)):
                log.warning("entry %r: this app has no task %r; is %r meant?", entry.name, task_name, near[0])
            if isinstance(entry.schedule, Once) and entry.schedule.at <= time.time():
                text = "entry %r: %s: that is past; it is not fired unless a router had it before"
                log.warning(text, entry.name, describe(entry.schedule))
        return found

    def _made(self, name: str) -> Entry:
        try:
            return self._added[name]()
        except ConfigError as error:
            raise ConfigError(f"{self._places[name]}{error}") from error


def entries_of(app: Mesh) -> list[Entry]:
    """The periodic tasks in the code of an app, as it is loaded by now. Raises ``ConfigError``."""
    return app.periodic.entries()


def _has_set(value: object) -> bool:
    """Whether a set is shown in the value, in an order that is another in each process."""
    inside = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
    if isinstance(inside, set | frozenset):
        return len(inside) > 1
    return isinstance(inside, list | tuple) and any(map(_has_set, inside))


def _from_beat(app: Mesh, name: str, row: Mapping[str, Any]) -> Entry:
    checked_text("beat_schedule", name, NAME_LENGTH_MAX)
    what = f"entry {name!r}"
    if not isinstance(row, Mapping):
        raise ConfigError(f"{what}: expected a dict with task and schedule, got {row!r:.80}")
    if misplaced := [key for key in row if key in IN_OPTIONS]:
        raise ConfigError(f"{what}: {misplaced[0]} belongs into its options: 'options': {{{misplaced[0]!r}: ...}}")
    check_keys(what, row, BEAT_KEYS)
    for needed in ("task", "schedule"):
        if needed not in row:
            raise ConfigError(f"{what} has no {needed}")
    options = row.get("options") or {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"{what}: options={options!r:.80}: expected a dict")
    if misplaced := [key for key in options if key in BEAT_KEYS]:
        raise ConfigError(f"{what}: {misplaced[0]} belongs beside its options, not into them: {misplaced[0]!r}: ...")
    check_keys(what, options, IN_OPTIONS)
    policies = {key: row[key] for key in POLICIES if key in row}
    given = {**options, **policies}
    return new_entry(app, name, row["schedule"], row["task"], row.get("args"), row.get("kwargs"), given)
