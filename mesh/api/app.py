"""``Mesh``: the user's object that holds settings and task functions, and leads to the mesh."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, Unpack, overload

from mesh import __version__
from mesh.api import bulk
from mesh.api.conf import Conf
from mesh.api.control import Control
from mesh.api.eager import run_eagerly
from mesh.api.entries import Periodic, Signal
from mesh.api.entry import Options as EntryOptions
from mesh.api.entry import When as Due
from mesh.api.forking import on_fork_in_child
from mesh.api.hints import explain_absent
from mesh.api.ids import TaskIds
from mesh.api.options import (
    Seconds,
    When,
    a_kind,
    checked_args,
    checked_function,
    checked_headers,
    checked_kwargs,
    checked_limit,
    checked_new_id,
    checked_priority,
    checked_queue,
    checked_text,
    checked_timeout,
    ends_at,
    no_unknown,
    starts_at,
)
from mesh.api.result import AsyncResult as Result  # ``Mesh.AsyncResult`` is a method, as in Celery
from mesh.api.schedules import Schedules
from mesh.api.shipping import Shipped, function_name
from mesh.api.task import Task
from mesh.core.client import ClientMachine
from mesh.errors import ConfigError, Overloaded, Refused, Unavailable
from mesh.model import Buffer, FunctionCode, Role, TaskExtra, TaskOptions, TaskSpec
from mesh.net.dealer_transport import DealerTransport
from mesh.net.endpoints import parse_endpoint
from mesh.runtime.connection import Connection
from mesh.runtime.dialing import Dialer
from mesh.runtime.promises import Promise
from mesh.runtime.request import current_request
from mesh.settings import Settings
from mesh.wire.functions import PYTHON
from mesh.wire.payload import Encoded, encode_call

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

SEND_OPTIONS = "args countdown eta expires headers ignore_result kwargs priority queue task_id time_limit"


class Mesh:
    """An app. ``main`` names its module, also where that is run as a script; routers are found when first needed.

    ``mesh``: which mesh to join (else ``MESH_NAME``, else "default"). ``router``: addresses of routers, where they are
    not to be looked for. ``include``: modules with tasks, imported by workers. Other names are those of ``Settings``.
    Raises ``ConfigError``.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        mesh: str | None = None,
        router: str | Sequence[str] | None = None,
        include: Sequence[str] = (),
        broker: str | None = None,
        backend: str | None = None,
        **settings: Any,
    ) -> None:
        if broker is not None or backend is not None:
            warnings.warn(
                "broker= and backend= have no effect: routers play the broker and keep the results, and are found by "
                "themselves; give addresses with router=",
                stacklevel=2,
            )
        self.main = main
        self.include = list(include)
        self.routers = [router] if isinstance(router, str) else list(router or ())
        for address in self.routers:
            parse_endpoint(address)  # here, where it was written, and not at the first task
        self.settings = Settings.from_environment(mesh=mesh, **settings)
        self.tasks: dict[str, Task[..., Any]] = {}
        self.conf = Conf(changed=self._forget_options)
        self.control = Control(self)
        self.periodic = Periodic(self)
        self.schedules = Schedules(self)
        self.new_id = TaskIds()
        self.open_connection: Connection | None = None
        self.connector: Callable[[], Connection] = self._connect  # ``mesh.testing`` puts another in its place
        self.callbacks_lock = threading.Lock()
        self._connecting = threading.Lock()
        self._shipped = Shipped()
        self._is_closed = False
        on_fork_in_child(self._begin_anew)

    # defining tasks

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self, function: None = None, /, *, bind: Literal[True], **options: Any
    ) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...

    @overload
    def task(
        self, function: None = None, /, *, bind: Literal[False] = False, **options: Any
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, function: Callable[..., Any] | None = None, /, *, bind: bool = False, **options: Any) -> Any:
        """Make a task of a function: ``@app.task``, or ``@app.task(queue=..., bind=True, ...)``.

        Raises ``TypeError`` for unknown options, ``ConfigError`` for wrong values.
        """
        if function is None:
            return lambda decorated: self._add_task(decorated, bind, options)
        return self._add_task(function, bind, options)

    def _add_task(self, function: Callable[..., Any], bind: bool, options: dict[str, Any]) -> Task[..., Any]:
        options = dict(options)
        name = options.pop("name", None) or self._task_name(function)
        task: Task[..., Any] = Task(self, function, name=checked_text("name", name, 200), bind=bind, **options)
        self.tasks[name] = task
        return task

    def _task_name(self, function: Callable[..., Any]) -> str:
        module = function.__module__
        if module == "__main__" and self.main and self.main.rpartition(".")[2] == _script():
            module = self.main  # who imports the file knows the function by this name
        return f"{module}.{function.__qualname__}"

    # periodic tasks

    def add_periodic_task(
        self,
        schedule: Due,
        task: Task[..., Any] | str,
        args: Sequence[Any] | None = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Unpack[EntryOptions],
    ) -> str:
        """Have the mesh run a task by a schedule as long as this code is the newest of the app; the entry's name.

        Without a ``name`` it is that of the task with its arguments. Raises ``ConfigError``.
        """
        return self.periodic.add(schedule, task, args, kwargs, name, **options)

    @property
    def on_after_configure(self) -> Signal:
        """Handlers, called with ``sender=app`` once, by each process that reads the periodic tasks of the code."""
        return self.periodic.configured

    @property
    def on_after_finalize(self) -> Signal:
        """As ``on_after_configure``, and after that."""
        return self.periodic.finalized

    # submitting

    def send(
        self,
        options: TaskOptions,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        code: FunctionCode | None = None,
        *,
        task_id: str | None = None,
        eta: float | None = None,
        expires_at: float | None = None,
        headers: dict[str, str] | None = None,
        from_now: tuple[bool, bool] = (False, False),
    ) -> Result[Any]:
        """Submit one call; everything is checked already. This is the hot path of every submit.

        ``from_now``: whether ``eta`` and ``expires_at`` are so many seconds from now, by this host's clock.
        """
        connection = self.open_connection or self.connection
        new_id = task_id or self.new_id()
        settings = self.settings
        # A chosen id may be submitted again while its first payload is on its way: each goes by a name of its own.
        key = new_id if task_id is None else self.new_id()
        payload, parts = encode_call(
            args, kwargs, key=key, inline_max=settings.inline_bytes_max, total_max=settings.payload_bytes_max
        )
        parent = current_request.get()
        if parent is None and eta is None and expires_at is None and headers is None:
            spec = TaskSpec(new_id, 0, payload)
        else:
            spec = TaskSpec(new_id, 0, payload, eta, expires_at, _extra(headers, parent, from_now))
        # the outcome of a task that ignores its result is not sent; who asks for it anyway, watches it
        promise = None if options.ignore_result else Promise(new_id)
        return Result(new_id, self, connection.submit(options, spec, parts, promise, code, task_id is not None))

    def encode(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Encoded:
        """The arguments of a call as bytes, ``key`` naming them where they are large."""
        settings = self.settings
        return encode_call(
            args, kwargs, key=key, inline_max=settings.inline_bytes_max, total_max=settings.payload_bytes_max
        )

    def send_encoded(
        self, options: TaskOptions, spec: TaskSpec, parts: Sequence[Buffer], code: FunctionCode | None
    ) -> Result[Any]:
        """Submit one call whose arguments are bytes already."""
        return Result(spec.id, self, self.connection.submit(options, spec, parts, Promise(spec.id), code))

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        countdown: Seconds | None = None,
        eta: datetime | None = None,
        expires: When | None = None,
        queue: str | None = None,
        priority: int | None = None,
        task_id: str | None = None,
        time_limit: float | None = None,
        headers: Mapping[str, str] | None = None,
        ignore_result: bool | None = None,
        **unknown: object,
    ) -> Result[Any]:
        """Submit a call of a task by its name, which need not be defined here. Options as in ``Task.apply_async``."""
        no_unknown(f"send_task {name}", unknown, SEND_OPTIONS)
        if callable(name):
            raise TypeError(f"send_task takes the name of a task, got {a_kind(name)}: pass f.name, or write f.delay(x)")
        if name in self.tasks:
            return self.tasks[name].apply_async(
                args,
                kwargs,
                countdown=countdown,
                eta=eta,
                expires=expires,
                queue=queue,
                priority=priority,
                task_id=task_id,
                time_limit=time_limit,
                headers=headers,
                ignore_result=ignore_result,
            )
        options = self.options_for(name, queue, priority, time_limit, ignore_result)
        return self.send_with(options, args, kwargs, None, countdown, eta, expires, task_id, headers)

    def options_for(
        self,
        name: str,
        queue: str | None = None,
        priority: int | None = None,
        time_limit: float | None = None,
        ignore_result: bool | None = None,
        acks_late: bool | None = None,
    ) -> TaskOptions:
        """What a call of this task has that says these itself; None: as it is defined. Raises ``ConfigError``."""
        if name in self.tasks:
            return self.tasks[name].options_for(queue, priority, time_limit, ignore_result, acks_late)
        conf = self.conf
        return TaskOptions(
            checked_text("name", name, 200),
            conf.task_default_queue if queue is None else checked_queue(queue),
            checked_priority(0 if priority is None else priority),
            time_limit_s=conf.task_time_limit if time_limit is None else checked_limit("time_limit", time_limit),
            ignore_result=bool(conf.task_ignore_result if ignore_result is None else ignore_result),
            at_most_once=not (conf.task_acks_late if acks_late is None else acks_late),
            result_ttl_s=conf.result_expires,
        )

    def send_with(
        self,
        options: TaskOptions,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        code: FunctionCode | None,
        countdown: Seconds | None,
        eta: datetime | None,
        expires: When | None,
        task_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Result[Any]:
        """Check what users wrote for one call, then ``send`` it."""
        return self.send(
            options,
            checked_args(args),
            checked_kwargs(kwargs),
            code,
            task_id=None if task_id is None else checked_new_id(task_id),
            eta=starts_at(countdown, eta),
            expires_at=ends_at(expires),
            headers=None if headers is None else checked_headers(headers),
            from_now=(countdown is not None, expires is not None and not isinstance(expires, datetime)),
        )

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Submit a call of any callable; its code goes along, so nothing need be installed on workers.

        It is pickled once, see ``mesh.api.shipping``. Raises ``TypeError`` for what cannot be called, ``Unpicklable``,
        ``PayloadTooLarge``, ``Overloaded``, ``Unavailable``.
        """
        if isinstance(function, Task):
            return function.delay(*args, **kwargs)
        checked_function("submit", function)
        if self.conf.task_always_eager:
            return self._ad_hoc(function).apply(args, kwargs, throw=self.conf.task_eager_propagates)
        code = self._shipped.code(function)
        return self.send(self.shipped_options(function_name(function), code), args, kwargs, code)

    def _ad_hoc(self, function: Callable[P, R]) -> Task[P, R]:
        return Task(self, function, name=function_name(function), typing=False)

    def shipped_options(self, name: str, code: FunctionCode) -> TaskOptions:
        """What every call of a function that comes with its code has in common."""
        conf = self.conf
        return TaskOptions(
            name,
            conf.task_default_queue,
            0,
            code.digest,
            code.python,
            conf.task_time_limit,
            False,
            not conf.task_acks_late,
            conf.result_expires,
        )

    def pack(self, function: Callable[..., Any]) -> FunctionCode:
        """The code of a function or task, as it is shipped."""
        return self._shipped.code(function)

    def run_eagerly(
        self,
        task: Task[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        task_id: str | None,
        headers: Mapping[str, str] | None,
        throw: bool,
        retries: int,
    ) -> Result[Any]:
        """Run a task in this process; see ``Task.apply``."""
        return run_eagerly(
            task,
            task_id or self.new_id(),
            args,
            kwargs,
            headers=None if headers is None else dict(headers),
            throw=throw,
            retries=retries,
        )

    # many at once

    def map(
        self,
        function: Callable[..., R],
        *iterables: Iterable[Any],
        chunksize: int | None = None,
        window: int | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[R]:
        """The results of ``function`` for each element, in order, as they come; see ``mesh.api.bulk.map_ordered``."""
        return bulk.map_ordered(
            self,
            function,
            iterables,
            chunksize=chunksize,
            window=bulk.WINDOW if window is None else window,
            timeout=timeout,
            return_exceptions=return_exceptions,
        )

    def as_completed(self, results: Iterable[Result[T]], timeout: float | None = None) -> Iterator[Result[T]]:
        """Yield the results as their tasks finish. Raises ``TimeoutError`` after ``timeout`` seconds in all."""
        return bulk.as_completed(results, timeout)

    def gather(
        self,
        *results: Result[T] | Iterable[Result[T]],
        timeout: float | None = None,
        return_exceptions: bool = False,
    ) -> list[T]:
        """The values of all results, in order; the first error is raised unless they are to be returned."""
        return bulk.gather(results, timeout, return_exceptions)

    # asking

    def AsyncResult(self, id: str) -> Result[Any]:
        """The handle of a task that anybody submitted."""
        return Result(checked_text("task_id", id, 255), self)

    def look_up(self, result: Result[Any]) -> str | None:
        """The state of an unfinished task by the mesh's word; ``result`` is settled meanwhile where there is none.

        Either with the outcome, or with the answer that nobody knows the id. All of it takes ``connect_timeout_s`` at
        the most. Raises ``Unavailable``, ``Refused``, ``NoKey``.
        """
        limit = self.settings.connect_timeout_s
        deadline = time.monotonic() + limit
        connection = self.connection
        foreign = connection.is_foreign(result.id)
        result.watch()
        state: str | None = json.loads(connection.questions.query("states", [result.id], limit)).get(result.id)
        if state is not None:
            return state
        if not foreign:
            return None if result.is_settled() else "ready"  # submitted here, and not accepted yet
        if not result.wait_once(max(0.0, deadline - time.monotonic())) and connection.is_full:
            raise Unavailable(f"no router told of task {result.id} in {limit:g} s; {connection.situation()}")
        return None

    def status(self, timeout: float | None = None) -> dict[str, Any]:
        """What the router says of itself, its workers and its queues. Raises ``Unavailable``, ``NoKey``."""
        checked_timeout(timeout)
        found: dict[str, Any] = json.loads(self.connection.questions.query("status", timeout=timeout))
        return found

    def purge(self, *queues: str, timeout: float | None = None) -> int:
        """Cancel all tasks that wait in these queues (default: in all); how many they were.

        Raises ``Unavailable`` where nobody answers in time: it may be done all the same. Raises ``Overloaded`` while
        the store takes nothing, and ``NoKey`` or ``Refused`` where our key does not allow it: then nothing is done.
        """
        checked_timeout(timeout)
        answer = json.loads(
            self.connection.questions.query("purge", [checked_queue(q) for q in queues], timeout=timeout)
        )
        if "error" in answer:
            raise (Overloaded if answer.get("code") == "overloaded" else Refused)(answer["error"])
        return int(answer["purged"])

    # the connection

    @property
    def connection(self) -> Connection:
        """The connection to the mesh, made on first use. Raises ``ConfigError`` once the app is closed."""
        connection = self.open_connection  # looked at once: another thread may close the app meanwhile
        if connection is not None:
            return connection
        with self._connecting:
            if self._is_closed:
                raise ConfigError("this app is closed; make a new one")
            if self.open_connection is None:
                self.open_connection = self.connector()
            return self.open_connection

    def _connect(self) -> Connection:
        settings = self.settings
        transport = DealerTransport(outbox_bytes_max=settings.outbox_bytes_max)
        dialer = Dialer(transport, settings.mesh, Role.CLIENT, self.routers)
        return Connection(self.new_machine(), settings, transport, dialer)

    def new_machine(self) -> ClientMachine:
        """The decisions of a client, for one connection."""
        name = f"{self.main or 'client'}@{socket.gethostname()}:{os.getpid()}"
        return ClientMachine(uuid.uuid4().hex, name, self.settings, python=PYTHON, version=__version__)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything submitted so far is accepted; see ``Connection.flush``."""
        checked_timeout(timeout)
        connection = self.open_connection
        if connection is not None:
            connection.flush(timeout)

    def close(self) -> None:
        """Hand over what is submitted (``exit_flush_s`` at most) and disconnect. Done by itself at exit."""
        with self._connecting:
            self._is_closed = True
            connection, self.open_connection = self.open_connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _begin_anew(self) -> None:
        """In a forked child: the parent's connection is the parent's."""
        self.open_connection = None
        self.callbacks_lock = threading.Lock()
        self._connecting = threading.Lock()

    def _forget_options(self) -> None:
        for task in self.tasks.values():
            task.forget_options()

    def __repr__(self) -> str:
        return f"<Mesh {self.main or '__main__'} of mesh {self.settings.mesh!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return local_app, (self.main,)

    def local_app_maker(self) -> Callable[[], Mesh]:
        """A picklable function that gives the app of the process it is called in."""
        return _AppMaker(self.main)


explain_absent(Mesh)


class _AppMaker:
    def __init__(self, main: str | None) -> None:
        self._main = main

    def __call__(self) -> Mesh:
        return local_app(self._main)


def _script() -> str:
    """What the module of the script that runs is called where it is imported; empty in a notebook."""
    return Path(getattr(sys.modules["__main__"], "__file__", None) or "").stem


@cache
def local_app(main: str | None) -> Mesh:
    """This process's app for tasks that came with their code; it joins the mesh that the environment names."""
    return Mesh(main)


def _extra(headers: dict[str, str] | None, parent: Any, from_now: tuple[bool, bool]) -> TaskExtra | None:
    if parent is None or not parent.id:
        return TaskExtra(headers, None, None, *from_now) if headers is not None or any(from_now) else None
    return TaskExtra(headers, parent.id, parent.root_id or parent.id, *from_now)
