"""What is told of a task that failed: its exception, the traceback from the user's function on, its arguments."""

from __future__ import annotations

import importlib
import os
import reprlib
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mesh.errors import MeshError, NotRegistered, ProtocolError, StoreError, TaskFailed, Unreadable
from mesh.model import ErrorInfo
from mesh.wire.asking import ask, message_of, traceback_of, type_name
from mesh.wire.exceptions import pack_exception

TRACEBACK_CHARS_MAX = 16_384
ARGUMENTS_CHARS_MAX = 200
UNREAD = (Unreadable, ProtocolError, StoreError)
_HEAD = "Traceback (most recent call last):\n"
MESH_DIRECTORY = f"{Path(__file__).parents[1]}{os.sep}"
_NOT_USERS = (MESH_DIRECTORY, importlib.__file__, "<frozen ")


def describe(error: BaseException, args: Sequence[Any], kwargs: Mapping[str, Any], doing: str = "") -> ErrorInfo:
    """Pack an exception that a task raised; ``doing`` says who did what for it where it was not its function."""
    kind = type(error)  # not isinstance, which asks the object for its class
    text = "" if issubclass(kind, NotRegistered) else _traceback_text(error)
    if doing and issubclass(kind, UNREAD):  # read where the caller is, it would seem to be said of that process
        error = kind(f"{doing}: {message_of(error)}")
    elif doing and not issubclass(kind, MeshError):
        error = TaskFailed(f"{doing}: {type_name(kind)}: {message_of(error)}", type_name(kind))
    return pack_exception(error, text, describe_call(args, kwargs))


def describe_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments as in a call, cut to a bound; what has no repr is named by its type."""
    shown: list[str] = []
    room = ARGUMENTS_CHARS_MAX
    for prefix, value in [
        *(("", value) for value in args),
        *((str.__add__(name, "="), value) for name, value in kwargs.items()),
    ]:
        shown.append(prefix + _safe_repr(value))
        room -= len(shown[-1]) + 2
        if room < 0:
            break
    text = f"({', '.join(shown)})"
    return text if len(text) <= ARGUMENTS_CHARS_MAX else text[: ARGUMENTS_CHARS_MAX - 1] + "…"


class _ShortRepr(reprlib.Repr):
    """``reprlib`` that does not spell out large bytes before it cuts them."""

    maxstring = maxother = maxlong = 80

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value) if len(value) <= 40 else f"{value[:40]!r}…({len(value)} bytes)"

    def repr_bytearray(self, value: bytearray, level: int) -> str:
        return f"<bytearray of {len(value)} bytes>"


def _safe_repr(value: Any) -> str:
    return ask(lambda: str.__str__(_ShortRepr().repr(value)), lambda _: f"<{type_name(type(value))}>")


def _traceback_text(error: BaseException) -> str:
    where = _first_own_frame(traceback_of(error))
    last = f"{type_name(type(error))}: {message_of(error)}\n"
    text = ask(
        lambda: "".join(traceback.format_exception(type(error), error, where)),
        # without what it knows itself: its causes, notes, members
        lambda _: ask(lambda: "".join([_HEAD, *traceback.format_tb(where), last]), lambda _: last),
    )
    return without_middle(text, TRACEBACK_CHARS_MAX)


def users_line(error: BaseException, *besides: str) -> str:
    """``file:line: `` of the innermost code outside of the mesh, and of files ``besides``, that led to an error.

    It is empty where there is none.
    """
    others = (*_NOT_USERS, *besides)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(others)]
    return f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""


def users_call() -> str:
    """``file:line: `` of the code outside of the mesh that calls it now; empty where there is none."""
    for frame, line in traceback.walk_stack(None):
        if not frame.f_code.co_filename.startswith(_NOT_USERS):
            return f"{frame.f_code.co_filename}:{line}: "
    return ""


def _first_own_frame(where: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of the mesh itself, down to the user's function."""
    while where is not None and where.tb_frame.f_code.co_filename.startswith(MESH_DIRECTORY):
        where = where.tb_next
    return where


def without_middle(text: str, size: int) -> str:
    """The text; of one with more than ``size`` characters, as many from its two ends."""
    if len(text) <= size:
        return text
    head = size // 4
    return f"{text[:head]}\n… {len(text) - size} characters left out …\n{text[head - size :]}"
