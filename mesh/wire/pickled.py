"""Objects ↔ pickle protocol 5, by cloudpickle, with large buffers left outside of it and uncopied."""

from __future__ import annotations

import pickle
import sys
from collections import ChainMap
from collections.abc import Iterable
from io import BytesIO
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

from mesh.errors import ProtocolError, Unpicklable, Unreadable
from mesh.model import Buffer
from mesh.wire.asking import message_of, type_name

PICKLED = b"\x03"

OUTSIDE_BYTES_MIN = 64 << 10
"""Smaller buffers are copied into the pickle: a frame of their own would cost more."""

OUTSIDE_MAX = 512
"""Buffers of one payload that stay outside; each needs a frame at least."""

_NO_FILE = "<dynamic-code>"
_OWN, *_OTHERS = cloudpickle.Pickler.dispatch_table.maps


def _code_with_its_file(code: CodeType) -> tuple[Any, ...]:
    """As cloudpickle, which leaves out the name of the file: without it no traceback on a worker says where."""
    make, parts = _OWN[CodeType](code)
    name = "".join(code.co_filename)  # a string of its own: shared ones make other bytes of the same function
    return make, tuple(name if type(part) is str and part == _NO_FILE else part for part in parts)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    dispatch_table: ClassVar = ChainMap({**_OWN, CodeType: _code_with_its_file}, *_OTHERS)  # no deeper: it costs time


def pack(value: Any, what: str, outside_min: int | None = OUTSIDE_BYTES_MIN) -> tuple[bytes, list[memoryview]]:
    """The pickle with its format byte, and the buffers outside of it: views of the objects' own memory.

    Those are of more than ``outside_min`` bytes; None: there are none outside.

    Raises ``Unpicklable``, saying ``what`` could not be pickled and why.
    """
    outside: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if outside_min is None or view.nbytes <= outside_min or len(outside) >= OUTSIDE_MAX:
            return True
        outside.append(view)
        return False

    try:
        with BytesIO() as file:
            file.write(PICKLED)
            _Pickler(file, protocol=5, buffer_callback=keep_inside).dump(value)
            return file.getvalue(), outside
    except Exception as error:  # whatever the objects' own __reduce__ raises
        raise Unpicklable(f"{what} cannot be pickled: {type_name(type(error))}: {message_of(error)}") from error


def unpack(data: Buffer, outside: Iterable[Buffer] = ()) -> Any:
    """The value of PICKLED ``data``. Raises ``ProtocolError`` for damage, ``Unreadable`` where code is missing."""
    try:
        return pickle.loads(memoryview(data)[1:], buffers=outside)
    except (pickle.UnpicklingError, EOFError) as error:
        raise ProtocolError(f"damaged payload: {error}") from error
    except ModuleNotFoundError as error:
        raise Unreadable(
            f"the payload needs the module {error.name!r}, which the process that reads it (Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}) cannot import: install it there, or send plain data"
        ) from error
    except (ImportError, AttributeError) as error:
        raise Unreadable(
            f"the payload needs code that its reader does not have, or another version: {error}"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the classes' own code raises
        text = f"{type_name(type(error))}: {message_of(error)}"
        raise Unreadable(f"the payload cannot be unpickled: {text}") from error
