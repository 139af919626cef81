"""What is told of a task that failed: its exception, the traceback from the user's function on, its arguments."""

from __future__ import annotations

import reprlib
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mesh.errors import MeshError, NotRegistered, TaskFailed
from mesh.model import ErrorInfo
from mesh.wire.exceptions import pack_exception

TRACEBACK_CHARS_MAX = 16_384
ARGUMENTS_CHARS_MAX = 200
MESH_DIRECTORY = str(Path(__file__).parents[1])


def describe(error: BaseException, args: Sequence[Any], kwargs: Mapping[str, Any], doing: str = "") -> ErrorInfo:
    """Pack an exception that a task raised; ``doing`` says what we did for it where it was not its function."""
    text = "" if isinstance(error, NotRegistered) else _traceback_text(error)
    if doing and not isinstance(error, MeshError):
        error = TaskFailed(f"{doing}: {type(error).__name__}: {_message(error)}", type(error).__name__)
    return pack_exception(error, text, describe_call(args, kwargs))


def describe_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments as in a call, cut to a bound; what has no repr is named by its type."""
    shown: list[str] = []
    room = ARGUMENTS_CHARS_MAX
    for prefix, value in [*(("", value) for value in args), *((f"{name}=", value) for name, value in kwargs.items())]:
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
    try:
        return _ShortRepr().repr(value)
    except Exception:  # the repr of a user's type is the user's code too
        return f"<{type(value).__name__}>"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def _traceback_text(error: BaseException) -> str:
    where = _first_own_frame(error.__traceback__)
    try:
        text = "".join(traceback.format_exception(type(error), error, where))
    except Exception:
        text = f"{type(error).__name__} (its traceback cannot be shown)"
    return _without_middle(text, TRACEBACK_CHARS_MAX)


def _first_own_frame(where: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of the mesh itself, down to the user's function."""
    while where is not None and where.tb_frame.f_code.co_filename.startswith(MESH_DIRECTORY):
        where = where.tb_next
    return where


def _without_middle(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    head = size // 4
    return f"{text[:head]}\n… {len(text) - size} characters left out …\n{text[head - size :]}"
