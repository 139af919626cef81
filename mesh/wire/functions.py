"""Shipped functions ↔ bytes, addressed by the digest of what they are.

cloudpickle takes a function of ``__main__``, a lambda or a closure by value, and one of an imported module by its
name. A name is of use only where the module is, and nothing needs to be installed on a worker: so modules that are
not installed packages here (the user's own files) go by value too, with the rest of their package.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import cloudpickle

from mesh.errors import PayloadTooLarge, ProtocolError, Unreadable
from mesh.model import Buffer, FunctionCode
from mesh.wire import pickled
from mesh.wire.parts import group, join

FUNCTION_BYTES_MAX = 1 << 20
"""A function goes in an envelope, and routers and workers keep it: large data belongs into its arguments."""

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

_INSTALLED = tuple(
    path.rstrip("/") + "/"
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name))
)
_registry_lock = threading.Lock()  # cloudpickle's set of modules that go by value is the whole process's


def pack_function(fn: Callable[..., Any], *, size_max: int = FUNCTION_BYTES_MAX) -> FunctionCode:
    """Pickle ``fn``; always inline. Raises ``Unpicklable``, or ``PayloadTooLarge`` over ``size_max`` bytes."""
    name = getattr(fn, "__qualname__", type(fn).__qualname__)
    with _by_value(_own_module(fn)):
        data, _ = pickled.pack(fn, f"the function {name}", outside_min=None)
    if len(data) > size_max:
        raise PayloadTooLarge(
            f"the function {name} has {len(data)} bytes with all it refers to, the limit is {size_max}: "
            "pass large data as an argument, not as a global or a closure"
        )
    return FunctionCode(_digest(data), PYTHON, data)


def unpack_function(code: FunctionCode, parts: Sequence[Buffer] = ()) -> Callable[..., Any]:
    """The function. Raises ``ProtocolError`` when its bytes are not those of its digest, else ``Unreadable``."""
    data = code.payload if isinstance(code.payload, bytes) else join([*map(join, group(code.payload.sizes, parts))])
    if _digest(data) != code.digest:
        raise ProtocolError(f"function {code.digest} is damaged: its bytes have another digest")
    if code.python != PYTHON:
        raise Unreadable(f"function {code.digest} needs Python {code.python}, this process is {PYTHON}")
    fn = pickled.unpack(data)
    if not callable(fn):
        raise ProtocolError(f"function {code.digest} is a {type(fn).__qualname__} and cannot be called")
    return fn  # type: ignore[no-any-return]


def _digest(data: Buffer) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _own_module(fn: Any) -> ModuleType | None:
    """The root package of ``fn``, where it is the user's own file and not an installed package."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    root = str(getattr(fn, "__module__", "")).partition(".")[0]
    module = sys.modules.get(root)
    if module is None or root in ("__main__", "mesh") or root in sys.stdlib_module_names:
        return None
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    if any(place.startswith(_INSTALLED) for place in places):
        return None
    return module


@contextmanager
def _by_value(module: ModuleType | None) -> Iterator[None]:
    if module is None:
        yield
        return
    with _registry_lock:
        known = module.__name__ in cloudpickle.list_registry_pickle_by_value()
        if not known:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            if not known:
                cloudpickle.unregister_pickle_by_value(module)
