"""What users write about times, priorities and limits, checked and turned into the units of the mesh."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from numbers import Real
from typing import Any

from mesh.api.hints import HINTS, with_hints
from mesh.entries import NOT_TO_CHOOSE, OWN_IDS
from mesh.errors import ConfigError, PayloadTooLarge
from mesh.model import INSTANT_MAX

Seconds = float | timedelta
When = float | timedelta | datetime  # seconds from now, or an instant

QUEUE_LENGTH_MAX = 200  # characters
HEADERS_BYTES_MAX = 64 << 10  # of one task: they travel in the envelope with it, each time


def starts_at(countdown: Seconds | None, eta: datetime | None) -> float | None:
    """UTC seconds before which the task may not start; None: at once. Raises ``ConfigError`` when both are given."""
    if countdown is not None and eta is not None:
        raise ConfigError("countdown and eta are both given: choose one")
    if countdown is not None:
        return from_now("countdown", countdown)
    return None if eta is None else instant("eta", eta)


def ends_at(expires: When | None) -> float | None:
    """UTC seconds after which the task may not start: ``expires`` is a datetime, or seconds from now."""
    if expires is None:
        return None
    return instant("expires", expires) if isinstance(expires, datetime) else from_now("expires", expires)


def from_now(name: str, seconds: Seconds) -> float:
    """UTC seconds, so much later than now. Raises ``ConfigError``."""
    return _checked_instant(name, time.time() + checked_seconds(name, seconds))


def instant(name: str, when: datetime) -> float:
    """UTC seconds. A datetime without a zone is taken to be UTC. Raises ``ConfigError``."""
    if not isinstance(when, datetime):
        raise ConfigError(f"{name}={when!r:.80}: expected a datetime; for seconds from now write countdown=")
    return _checked_instant(name, (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp())


def checked_seconds(name: str, seconds: Seconds) -> float:
    """A number or a timedelta as seconds. Raises ``ConfigError``."""
    if isinstance(seconds, timedelta):
        return seconds.total_seconds()
    if not is_number(seconds):
        or_instant = " or a datetime" if name == "expires" else ""
        raise ConfigError(f"{name}={seconds!r:.80}: expected seconds, as a number or a timedelta{or_instant}")
    return float(seconds)


def is_number(value: object) -> bool:
    """Whether it counts something: ``True`` does not, a NumPy number does."""
    return isinstance(value, Real) and not isinstance(value, bool)


def checked_timeout(timeout: float | None) -> None:
    """Raise ``ConfigError`` unless it is a number of seconds, or None to wait without end."""
    if timeout is not None and not is_number(timeout):
        raise ConfigError(f"timeout={timeout!r:.80}: expected seconds, or None to wait without end")


def _checked_instant(name: str, at: float) -> float:
    if not 0.0 <= at <= INSTANT_MAX:
        raise ConfigError(f"{name}: {at} is no instant in UTC seconds")
    return at


def checked_text(name: str, text: str, length_max: int) -> str:
    """The text. Raises ``ConfigError`` where it is empty, too long or cannot be UTF-8."""
    try:
        if isinstance(text, str) and 0 < len(text) <= length_max and text.encode():
            return text
    except UnicodeEncodeError:
        pass
    raise ConfigError(f"{name}={text!r}: expected text of 1 to {length_max} characters")


def checked_new_id(task_id: str) -> str:
    """The id that somebody chose for a task. Raises ``ConfigError``."""
    if checked_text("task_id", task_id, 255).startswith(OWN_IDS):
        raise ConfigError(f"task_id={task_id!r}: {NOT_TO_CHOOSE}")
    return task_id


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of one task.

    Raises ``TypeError`` unless they are in a mapping, ``ConfigError``, and ``PayloadTooLarge`` over HEADERS_BYTES_MAX.
    """
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a dict, got {headers!r:.80}")
    checked = {checked_text("headers", str(k), 10_000): checked_text(k, v, 10_000) for k, v in headers.items()}
    size = sum(len(k.encode()) + len(v.encode()) for k, v in checked.items())
    if size > HEADERS_BYTES_MAX:
        raise PayloadTooLarge(f"headers of {size} bytes; at most {HEADERS_BYTES_MAX}: pass large data as an argument")
    return checked


def checked_priority(priority: int) -> int:
    """The priority. Raises ``ConfigError`` outside of 0..255."""
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= 255:
        raise ConfigError(f"priority={priority!r}: expected a whole number from 0 to 255; higher goes first")
    return priority


def checked_limit(name: str, seconds: float | None) -> float | None:
    """A positive number of seconds, or None for no limit. Raises ``ConfigError``."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= INSTANT_MAX:
        raise ConfigError(f"{name}={seconds!r}: expected seconds above 0, or None for no limit")
    return float(seconds)


def checked_queue(queue: str) -> str:
    """The queue's name. Raises ``ConfigError`` unless it is text of 1 to 200 characters."""
    return checked_text("queue", queue, QUEUE_LENGTH_MAX)


def checked_args(args: Sequence[Any] | None) -> tuple[Any, ...]:
    """The positional arguments of a call. Raises ``TypeError`` unless they are in a tuple or list, as in Celery."""
    if args is None:
        return ()
    if not isinstance(args, tuple | list):
        raise TypeError(f"args must be a tuple or list, got {args!r:.80}: a single argument is written (x,)")
    return tuple(args)


def checked_kwargs(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The keyword arguments of a call. Raises ``TypeError`` unless they are in a mapping."""
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs must be a dict, got {kwargs!r:.80}: all positional arguments go into one tuple")
    return dict(kwargs)


def checked_function(verb: str, function: object) -> None:
    """Raise ``TypeError`` unless ``function`` can be called."""
    if not callable(function):
        raise TypeError(f"{verb} takes a function, got {a_kind(function)}: write {verb}(f, x), not {verb}(f(x))")


def a_kind(value: object) -> str:
    """What it is, for an error: the name of its type behind an article."""
    kind = type(value).__qualname__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def no_unknown(what: str, unknown: dict[str, object], known: str) -> None:
    """Raise ``TypeError`` that names every option in ``unknown``, with a hint for those of Celery."""
    if unknown:
        names = ", ".join(sorted(unknown))
        text = f"{what}: unknown option{'s' * (len(unknown) > 1)} {names}; known: {known}"
        near = {name: get_close_matches(name, known.split(), 1) for name in unknown if name not in HINTS}
        for name, (meant, *_) in [(name, found) for name, found in near.items() if found]:
            text += f"; {name}: did you mean {meant}?"
        raise TypeError(with_hints(text, unknown))
