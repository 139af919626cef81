"""Ask users' objects about themselves, with an answer whatever they do.

What an exception, a result or an argument says of itself is told by its class's own code, which may raise anything:
SystemExit and KeyboardInterrupt too. That is no reason for the process that asks to end. The one ``except
BaseException`` round such questions is here; what the interpreter itself knows is asked of it, not of the object.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

_TRACEBACK = vars(BaseException)["__traceback__"]
_CAUSE = vars(BaseException)["__cause__"]


def ask(question: Callable[[], T], otherwise: Callable[[BaseException], T]) -> T:
    """The answer, or what to say instead; ``otherwise`` must not raise, and not log: see ``Runner.run``."""
    try:
        return question()
    except BaseException as refusal:
        return otherwise(refusal)


def type_name(kind: type) -> str:
    """The full name of a class. It runs no code of a metaclass."""
    return type.__repr__(kind)[len("<class '") : -len("'>")]


def message_of(error: BaseException | None) -> str:
    """What an exception says."""
    # A subclass of str would be one more object that may do anything, later.
    return ask(lambda: str.__str__(str(error)), lambda refusal: f"<its __str__ raised {type_name(type(refusal))}>")


def repr_of(value: object) -> str:
    """How an object is written."""
    return ask(lambda: str.__str__(repr(value)), lambda _: f"<{type_name(type(value))}>")


def traceback_of(error: BaseException) -> TracebackType | None:
    """Where an exception was raised. It runs no code of its class."""
    where: TracebackType | None = _TRACEBACK.__get__(error)
    return where


def cause_of(error: BaseException) -> BaseException | None:
    """What an exception was raised from. It runs no code of its class."""
    cause: BaseException | None = _CAUSE.__get__(error)
    return cause


def set_cause(error: BaseException, cause: BaseException) -> None:
    """Let an exception be raised from another one. It runs no code of its class."""
    _CAUSE.__set__(error, cause)
