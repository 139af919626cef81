"""Exceptions ↔ data. Whatever an exception's class does, packing gives an ErrorInfo and rebuilding an exception.

Pickle rebuilds an exception by calling its class with ``args``, which fails for a class whose ``__init__`` takes
other arguments than it hands to ``super().__init__``. Such an exception travels as (class, args, attributes) and is
rebuilt without its ``__init__``. Which of the two works is tried here, where the exception was raised.
"""

from __future__ import annotations

import contextlib
from typing import Any

from mesh.errors import TaskFailed
from mesh.model import ErrorInfo
from mesh.wire import pickled
from mesh.wire.asking import ask, message_of, set_cause, type_name

PICKLED_BYTES_MAX = 64 << 10
MESSAGE_CHARACTERS_MAX = 4 << 10
TRACEBACK_CHARACTERS_MAX = 64 << 10
ARGUMENTS_CHARACTERS_MAX = 1 << 10


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in another process; its text is the traceback there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def pack_exception(exc: BaseException, traceback_text: str, arguments: str = "") -> ErrorInfo:
    """Describe ``exc``; never raises for what its class does. Texts that are too long lose their middle."""
    return ErrorInfo(
        type=_clean(type_name(type(exc)), MESSAGE_CHARACTERS_MAX),
        message=_clean(message_of(exc), MESSAGE_CHARACTERS_MAX),
        traceback=_clean(traceback_text, TRACEBACK_CHARACTERS_MAX),
        pickled=_pickled(exc),
        arguments=_clean(arguments, ARGUMENTS_CHARACTERS_MAX),
    )


def rebuild_exception(error: ErrorInfo) -> BaseException:
    """The exception that was raised, its ``__cause__`` the remote traceback, also in ``remote_traceback``.

    It is a ``TaskFailed`` where that one cannot be rebuilt here, or would end this process or its event loop
    (``SystemExit``, ``KeyboardInterrupt``, ``CancelledError``).
    """
    exc = _unpickled(error.pickled) if error.pickled is not None else None
    if exc is None or not issubclass(type(exc), Exception):
        exc = TaskFailed(f"{error.type}: {error.message}" if error.message else error.type, type_name=error.type)
    # Not by assignment: a class may forbid that, as frozen dataclasses do; or have a property of this name.
    with contextlib.suppress(Exception):
        BaseException.__setattr__(exc, "remote_traceback", error.traceback)
    if error.traceback:
        set_cause(exc, RemoteTraceback(error.traceback))
    return exc


def _pickled(exc: BaseException) -> bytes | None:
    return ask(lambda: _tried(exc, exc), _nothing) or ask(
        lambda: _tried((type(exc), exc.args, dict(vars(exc))), exc), _nothing
    )


def _tried(form: Any, exc: BaseException) -> bytes | None:
    """``form`` as bytes, where ``exc`` comes back from them."""
    data, _ = pickled.pack(form, "the exception", outside_min=PICKLED_BYTES_MAX)
    if len(data) > PICKLED_BYTES_MAX:
        return None
    again = _unpickled(data)
    same = type_name(type(again)) == type_name(type(exc)) and message_of(again) == message_of(exc)
    return data if same else None


def _nothing(refusal: BaseException) -> None:
    return None


def _unpickled(data: bytes) -> BaseException | None:
    """The exception, or None where this process cannot have it."""
    try:
        form: Any = pickled.unpack(data)
        if isinstance(form, BaseException):
            return form
        kind, args, attributes = form
        exc: BaseException = kind.__new__(kind)
        BaseException.__setattr__(exc, "args", args)
        vars(exc).update(attributes)
    except Exception:  # the class's own code, or no such class any more
        return None
    return exc if isinstance(exc, BaseException) else None


def _clean(text: str, length_max: int) -> str:
    """``text`` as UTF-8 can carry it, without its middle where it is too long."""
    if len(text) > length_max:
        half = length_max // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
