"""Checks a call against a function's signature before it is sent, at the price of one empty Python call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

Check = Callable[..., None]

PREFIXES: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}

POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)


def call_check(function: Callable[..., Any], *, skip_first: bool = False) -> Check | None:
    """An empty function with the parameters of ``function``: calling it raises the ``TypeError`` a call would.

    None where the signature cannot be read. ``skip_first``: without the first parameter (``self`` of a bound task).
    Raises ``TypeError`` where there is none that could be ``self``.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if skip_first and not (parameters and parameters[0].kind in POSITIONAL):
        raise TypeError(
            f"{_name(function)}() takes no argument that could be the task, which bind=True gives it: add self"
        )
    if skip_first and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        del parameters[0]
    check: Check = eval(f"lambda {_parameter_list(parameters)}: None")
    check.__name__ = check.__qualname__ = _name(function)
    return check


def binding_hint(function: Callable[..., Any], bind: bool) -> str:
    """What may be wrong with a call that the function does not take: ``self`` where there is none, or none for it."""
    first = next(iter(inspect.signature(function).parameters), "")
    if first == "self" and not bind:
        return "; only with bind=True is the task itself given, as self"
    if first != "self" and bind:
        return f"; with bind=True the first argument, {first!r}, is the task itself"
    return ""


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", "task"))


def _parameter_list(parameters: list[inspect.Parameter]) -> str:
    """The parameters as source text: names are the only part taken over, defaults become None."""
    parts: list[str] = []
    star = slash = False
    for i, parameter in enumerate(parameters):
        kind = parameter.kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            star = True
        elif kind is inspect.Parameter.KEYWORD_ONLY and not star:
            star = True
            parts.append("*")
        prefix = PREFIXES.get(kind, "")
        default = "" if parameter.default is inspect.Parameter.empty else "=None"
        parts.append(prefix + parameter.name + default)
        following = parameters[i + 1].kind if i + 1 < len(parameters) else None
        if kind is inspect.Parameter.POSITIONAL_ONLY and following is not kind and not slash:
            slash = True
            parts.append("/")
    return ", ".join(parts)
