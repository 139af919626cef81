"""Functions that travel with their tasks: each is pickled once, for as long as somebody holds it."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any
from weakref import WeakKeyDictionary

from mesh.model import FunctionCode
from mesh.wire.functions import pack_function

Named = tuple[Any, ...]

SHIPPED_MAX = 512
"""Functions kept; beyond, all are pickled anew. One that its own closure refers to does not go by itself."""


class Shipped:
    """The code of the functions an app has sent."""

    def __init__(self) -> None:
        self._codes: WeakKeyDictionary[Callable[..., Any], tuple[Named, FunctionCode]] = WeakKeyDictionary()

    def code(self, function: Callable[..., Any]) -> FunctionCode:
        """The code of ``function``, pickled anew only where a global or a closure it names is another object now.

        What such an object holds inside is not looked at: a list that grows is sent as it was the first time.
        Raises ``Unpicklable``, ``PayloadTooLarge``.
        """
        named = _named_by(function)
        try:
            known = self._codes.get(function)
        except TypeError:  # cannot be hashed or weakly referred to
            return pack_function(function)
        if known is not None and len(known[0]) == len(named) and all(map(is_, known[0], named)):
            return known[1]
        code = pack_function(function)
        if len(self._codes) >= SHIPPED_MAX:
            self._codes.clear()
        self._codes[function] = (named, code)
        return code


def function_name(function: Callable[..., Any]) -> str:
    """The name a function is shown by: its module and its qualified name."""
    qualname = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or type(function).__module__}.{qualname}"


def _named_by(function: Callable[..., Any]) -> Named:
    """The objects that the function's own code names: in a notebook they are replaced while the function stays.

    The objects and not their addresses: an address is used again once its object is gone.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return ()
    names, cells = function.__globals__, function.__closure__ or ()
    found = (
        code,
        *(names.get(name) for name in code.co_names),
        *(cell.cell_contents for cell in cells if _is_filled(cell)),
    )
    return tuple(None if one is function else one for one in found)  # else it would keep itself alive


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
