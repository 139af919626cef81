"""``Task``: a function that can be called elsewhere. Made by ``@app.task``."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import update_wrapper
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar

from msgspec.structs import replace

from mesh.api.arity import binding_hint, call_check
from mesh.api.hints import explain_absent
from mesh.api.options import (
    Seconds,
    When,
    checked_args,
    checked_kwargs,
    checked_limit,
    checked_priority,
    checked_queue,
    checked_seconds,
    ends_at,
    from_now,
    instant,
    no_unknown,
)
from mesh.api.retrying import Exceptions, RetryPolicy, backoff_factor
from mesh.errors import ConfigError, MaxRetriesExceededError, Retry
from mesh.model import FunctionCode, TaskOptions
from mesh.runtime.request import Request, current_request
from mesh.wire.asking import repr_of

if TYPE_CHECKING:
    from mesh.api.app import Mesh
    from mesh.api.result import AsyncResult

P = ParamSpec("P")
R = TypeVar("R")

DIRECT_CALL = Request(called_directly=True)

TASK_OPTIONS = (
    "acks_late autoretry_for bind default_retry_delay dont_autoretry_for expires ignore_result max_retries name "
    "priority queue retry_backoff retry_backoff_max retry_jitter retry_kwargs time_limit typing"
)
CALL_OPTIONS = (
    "acks_late args countdown eta expires headers ignore_result kwargs priority queue retry retry_policy task_id "
    "time_limit"
)


class Task(Generic[P, R]):
    """A function with a name in the mesh; calling it runs it here, ``delay`` runs it there."""

    def __init__(
        self,
        app: Mesh,
        function: Callable[..., R],
        *,
        name: str,
        bind: bool = False,
        queue: str | None = None,
        priority: int = 0,
        max_retries: int | None = 3,
        default_retry_delay: Seconds = 180.0,
        autoretry_for: Iterable[type[BaseException]] = (),
        dont_autoretry_for: Iterable[type[BaseException]] = (),
        retry_backoff: bool | float = False,
        retry_backoff_max: Seconds = 600.0,
        retry_jitter: bool = True,
        retry_kwargs: Mapping[str, Any] | None = None,
        time_limit: float | None = None,
        expires: When | None = None,
        ignore_result: bool | None = None,
        acks_late: bool | None = None,
        typing: bool = True,
        **unknown: object,
    ) -> None:
        no_unknown(f"task {name}", unknown, TASK_OPTIONS)
        update_wrapper(self, function)
        self.app = app
        self.name = name
        self.run = function
        self.bind = bind
        self.queue = None if queue is None else checked_queue(queue)
        self.priority = checked_priority(priority)
        self.time_limit = checked_limit("time_limit", time_limit)
        self.expires = expires
        ends_at(expires)  # so that a wrong value is refused here
        self.ignore_result = ignore_result
        self.acks_late = acks_late
        self.typing = typing
        self.policy = RetryPolicy(
            max_retries=max_retries,
            default_delay_s=checked_seconds("default_retry_delay", default_retry_delay),
            retry_for=_exceptions("autoretry_for", autoretry_for),
            dont_retry_for=_exceptions("dont_autoretry_for", dont_autoretry_for),
            backoff=backoff_factor(retry_backoff),
            backoff_max_s=checked_seconds("retry_backoff_max", retry_backoff_max),
            jitter=retry_jitter,
            arguments=dict(retry_kwargs or {}),
        )
        self._check = call_check(function, skip_first=bind) if typing else None
        self._code: FunctionCode | None = None
        self._plain: TaskOptions | None = None  # what a call without options of its own sends; None: not known yet

    # calling it elsewhere

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Submit a call with these arguments."""
        options = self._plain
        if options is None:
            return self.apply_async(args, kwargs)
        if self._check is not None:
            try:
                self._check(*args, **kwargs)
            except TypeError as error:
                raise self._explained(error) from None
        return self.app.send(options, args, kwargs, self._code)

    def apply_async(
        self,
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
        acks_late: bool | None = None,
        retry: bool = True,
        retry_policy: Mapping[str, Any] | None = None,
        **unknown: object,
    ) -> AsyncResult[R]:
        """Submit a call, with options for this call alone.

        ``countdown`` and ``expires`` are seconds from now or a timedelta; ``eta`` is, and ``expires`` may be, a
        datetime (UTC unless it has a zone). ``retry`` and ``retry_policy`` are accepted for Celery's sake: a submit is
        always tried again until ``submit_timeout_s``. Raises ``TypeError`` for arguments the function does not take and
        for unknown options, ``ConfigError``, ``Overloaded``, ``Unavailable``, ``PayloadTooLarge``.
        """
        no_unknown(f"task {self.name}", unknown, CALL_OPTIONS)
        args, kwargs = checked_args(args), checked_kwargs(kwargs)
        self.check_arguments(args, kwargs)
        if self.app.conf.task_always_eager:
            return self.apply(args, kwargs, task_id=task_id, headers=headers, throw=self.app.conf.task_eager_propagates)
        options = self.options_for(queue, priority, time_limit, ignore_result, acks_late)
        expires = self.expires if expires is None else expires
        return self.app.send_with(options, args, kwargs, self._code, countdown, eta, expires, task_id, headers)

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise ``TypeError`` for arguments the function does not take, where it is to be looked at."""
        if self._check is not None:
            try:
                self._check(*args, **kwargs)
            except TypeError as error:
                raise self._explained(error) from None

    def _explained(self, error: TypeError) -> TypeError:
        return TypeError(f"{error}{binding_hint(self.run, self.bind)}")

    def options_for(
        self,
        queue: str | None,
        priority: int | None,
        time_limit: float | None,
        ignore_result: bool | None,
        acks_late: bool | None,
    ) -> TaskOptions:
        """What a call has that says these itself; None: as it is defined. Raises ``ConfigError``."""
        options = self.base_options()
        changes: dict[str, Any] = {}
        if queue is not None:
            changes["queue"] = checked_queue(queue)
        if priority is not None:
            changes["priority"] = checked_priority(priority)
        if time_limit is not None:
            changes["time_limit_s"] = checked_limit("time_limit", time_limit)
        if ignore_result is not None:
            changes["ignore_result"] = bool(ignore_result)
        if acks_late is not None:
            changes["at_most_once"] = not acks_late
        return replace(options, **changes) if changes else options

    def base_options(self) -> TaskOptions:
        """What every call of this task has in common, with the app's defaults filled in."""
        if self._plain is not None:
            return self._plain
        conf = self.app.conf
        if self.is_shipped and self._code is None:
            self._code = self.app.pack(self)
        options = TaskOptions(
            self.name,
            self.queue if self.queue is not None else conf.task_default_queue,
            self.priority,
            self._code.digest if self._code is not None else None,
            self._code.python if self._code is not None else None,
            self.time_limit if self.time_limit is not None else conf.task_time_limit,
            bool(conf.task_ignore_result if self.ignore_result is None else self.ignore_result),
            not (conf.task_acks_late if self.acks_late is None else self.acks_late),
            conf.result_expires,
        )
        if not conf.task_always_eager and self.expires is None:
            self._plain = options
        return options

    @property
    def code(self) -> FunctionCode | None:
        """The code that travels with the calls of a shipped task."""
        self.base_options()
        return self._code

    def forget_options(self) -> None:
        """The app's defaults changed: work the options out anew at the next call."""
        self._plain = None

    @property
    def is_shipped(self) -> bool:
        """Whether its code travels with its calls: no worker can import what a script or a notebook defines."""
        return self.run.__module__ == "__main__"

    # calling it here

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function in this process, now."""
        if not self.bind:
            return self.run(*args, **kwargs)
        token = current_request.set(DIRECT_CALL)
        try:
            return self.run(self, *args, **kwargs)
        finally:
            current_request.reset(token)

    def apply(
        self,
        args: Sequence[Any] | None = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        throw: bool = False,
        retries: int = 0,
    ) -> AsyncResult[R]:
        """Run the task in this process, retries and all but without their pauses; with ``throw`` errors are raised."""
        return self.app.run_eagerly(self, checked_args(args), checked_kwargs(kwargs), task_id, headers, throw, retries)

    def execute(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one attempt, as a worker does. ``request`` is the current one."""
        if not self.policy.retry_for:
            return self.run(self, *args, **kwargs) if self.bind else self.run(*args, **kwargs)
        try:
            return self.run(self, *args, **kwargs) if self.bind else self.run(*args, **kwargs)
        except Exception as error:
            if not self.policy.retries_on(error):
                raise
            self._retry_automatically(request, error)

    def _retry_automatically(self, request: Request, error: Exception) -> NoReturn:
        arguments = self.policy.arguments
        raise self.retry(
            exc=error,
            eta=arguments.get("eta"),
            countdown=None if "eta" in arguments else self.policy.delay_s(request.retries, random.random()),
            max_retries=arguments.get("max_retries"),
            throw=False,
        )

    # inside the function

    @property
    def request(self) -> Request:
        """The call that is running in this thread; an empty one with ``called_directly`` outside of tasks."""
        return current_request.get() or DIRECT_CALL

    @property
    def max_retries(self) -> int | None:
        return self.policy.max_retries

    @property
    def default_retry_delay(self) -> float:
        return self.policy.default_delay_s

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: Seconds | None = None,
        max_retries: int | None = None,
        **unknown: object,
    ) -> Retry:
        """Leave the task, to be run again after ``countdown`` seconds (default ``default_retry_delay``) or at ``eta``.

        Raises ``Retry``; with ``throw=False`` returns it, to be raised. Once ``max_retries`` are used up it raises
        ``exc``, or ``MaxRetriesExceededError``.
        """
        no_unknown("retry", unknown, "args countdown eta exc kwargs max_retries throw")
        request = self.request
        limit = self.policy.max_retries if max_retries is None else max_retries
        if request.called_directly:
            direct = Retry(f"{self.name} was called directly and cannot be retried")
            raise direct if exc is None else exc
        if limit is not None and request.retries >= limit:
            used_up = f"task {request.id} ({self.name}) was retried {request.retries} times, the limit is {limit}"
            raise MaxRetriesExceededError(used_up) if exc is None else exc
        retry = Retry(
            f"task {request.id} ({self.name}) asked to be retried" + (f": {repr_of(exc)}" if exc is not None else ""),
            from_now("countdown", self._countdown(countdown)) if eta is None else instant("eta", eta),
            None if args is None else checked_args(args),
            None if kwargs is None else checked_kwargs(kwargs),
            from_now=eta is None,
        )
        if exc is not None:
            retry.__cause__ = exc
        if throw:
            raise retry
        return retry

    def _countdown(self, countdown: Seconds | None) -> Seconds:
        return self.policy.default_delay_s if countdown is None else countdown

    # identity

    def __repr__(self) -> str:
        return f"<Task {self.name} of {self.app.main or '__main__'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """A task travels without its app: by name where its module can be imported, else with its function.

        Where it arrives it belongs to an app of that process, bound to that process's mesh.
        """
        if self.is_shipped or "<" in self.run.__qualname__:
            return _rebuilt, (self.app.local_app_maker(), self.run, self._own_options())
        return _imported, (self.run.__module__, self.run.__qualname__)

    def _own_options(self) -> dict[str, Any]:
        policy = self.policy
        return {
            "name": self.name,
            "bind": self.bind,
            "queue": self.queue,
            "priority": self.priority,
            "max_retries": policy.max_retries,
            "default_retry_delay": policy.default_delay_s,
            "autoretry_for": policy.retry_for,
            "dont_autoretry_for": policy.dont_retry_for,
            "retry_backoff": policy.backoff or False,
            "retry_backoff_max": policy.backoff_max_s,
            "retry_jitter": policy.jitter,
            "retry_kwargs": dict(policy.arguments),
            "time_limit": self.time_limit,
            "expires": self.expires,
            "ignore_result": self.ignore_result,
            "acks_late": self.acks_late,
            "typing": self.typing,
        }


explain_absent(Task)


def _exceptions(name: str, types: Iterable[type[BaseException]] | type[BaseException]) -> Exceptions:
    found = tuple(types) if isinstance(types, Iterable) else (types,)
    if not all(isinstance(one, type) and issubclass(one, BaseException) for one in found):
        raise ConfigError(f"{name}={types!r:.80}: expected exceptions, as in {name}=(OSError,)")
    return found


def _rebuilt(local_app: Callable[[], Mesh], function: Callable[..., Any], options: dict[str, Any]) -> Task[..., Any]:
    return Task(local_app(), function, **options)


def _imported(module: str, qualname: str) -> Any:
    found: Any = import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
