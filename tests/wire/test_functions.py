"""Functions travel with what they need, under the digest of their bytes."""

from __future__ import annotations

import functools
import json
import math
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from mesh.errors import PayloadTooLarge, ProtocolError, Unpicklable, Unreadable
from mesh.model import Blob
from mesh.wire.functions import pack_function, unpack_function
from mesh.wire.parts import cut

OFFSET = 100


def helper(n: int) -> int:
    return n + OFFSET


def shifted(n: int) -> int:
    return helper(n)


def closure(factor: int):
    def scaled(n: int) -> int:
        return n * factor

    return scaled


@pytest.mark.parametrize(
    ("fn", "result"),
    [
        (lambda n: n + 1, 6),
        (closure(7), 35),
        (shifted, 105),
        (functools.partial(pow, 2), 32),
        (math.factorial, 120),
        (json.dumps, "5"),
    ],
)
def test_functions_come_back(fn, result):
    code = pack_function(fn)
    assert unpack_function(code)(5) == result
    assert code.python == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert len(code.digest) == 32


def test_the_same_function_has_the_same_digest():
    assert pack_function(shifted).digest == pack_function(shifted).digest
    assert pack_function(closure(1)).digest != pack_function(closure(2)).digest


def run_elsewhere(code, argument: str, tmp_path: Path) -> str:
    """Call a shipped function in a Python that has neither this file nor its directory."""
    (tmp_path / "code").write_bytes(msgspec.msgpack.encode(code))
    script = (
        "import msgspec, pathlib\n"
        "from mesh.model import FunctionCode\nfrom mesh.wire.functions import unpack_function\n"
        "code = msgspec.msgpack.decode(pathlib.Path('code').read_bytes(), type=FunctionCode)\n"
        f"print(unpack_function(code)({argument}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.processes
def test_a_function_of_the_users_own_module_needs_nothing_at_the_other_end(tmp_path):
    assert run_elsewhere(pack_function(shifted), "5", tmp_path) == "105"


@pytest.mark.processes
def test_a_function_of_main_needs_nothing_at_the_other_end(tmp_path):
    script = (
        "import sys, msgspec\nfrom mesh.wire.functions import pack_function\n"
        "def double(n): return helper(n) * 2\ndef helper(n): return n + 1\n"
        "sys.stdout.buffer.write(msgspec.msgpack.encode(pack_function(double)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    code = msgspec.msgpack.decode(done.stdout, type=type(pack_function(shifted)))
    assert unpack_function(code)(5) == 12


def test_installed_modules_go_by_name():
    assert len(pack_function(json.dumps).payload) < 100


def test_a_function_that_arrives_in_parts_is_read():
    code = pack_function(shifted)
    inline = code.payload
    code = msgspec.structs.replace(code, payload=Blob("f", [len(inline)]))
    assert unpack_function(code, cut(inline))(5) == 105


def test_a_damaged_function_is_refused():
    code = pack_function(shifted)
    with pytest.raises(ProtocolError, match="another digest"):
        unpack_function(msgspec.structs.replace(code, payload=code.payload[:-1]))
    with pytest.raises(ProtocolError, match="another digest"):
        unpack_function(msgspec.structs.replace(code, digest="0" * 32))


def test_a_function_for_another_python_is_refused():
    with pytest.raises(Unreadable, match=r"needs Python 3\.9"):
        unpack_function(msgspec.structs.replace(pack_function(shifted), python="3.9"))


def test_a_function_that_drags_much_data_along_is_refused():
    with pytest.raises(PayloadTooLarge, match="pass large data as an argument"):
        pack_function(functools.partial(len, b"x" * 2000), size_max=1000)


class Table:
    """Offers its bytes to pickle out of band, as a NumPy array does."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)

    def __reduce_ex__(self, protocol):
        return Table, (pickle.PickleBuffer(self.content),)


def test_what_a_function_drags_along_goes_with_it_or_is_refused_and_is_never_left_behind():
    def first(table: Table) -> int:
        return table.content[0]

    small = pack_function(functools.partial(first, Table(b"a" * 100)), size_max=10_000)
    assert unpack_function(small)() == ord("a")
    with pytest.raises(PayloadTooLarge, match="pass large data as an argument"):
        pack_function(functools.partial(first, Table(b"a" * 20_000)), size_max=10_000)


def test_a_function_that_cannot_be_pickled_is_named():
    lock = threading.Lock()
    with pytest.raises(Unpicklable, match="lambda"):
        pack_function(lambda: lock)
