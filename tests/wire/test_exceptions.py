"""Whatever an exception's class does, its story arrives; and the exception itself wherever that is possible."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import Overloaded, Retry, TaskFailed
from mesh.model import ErrorInfo
from mesh.wire.exceptions import RemoteTraceback, pack_exception, rebuild_exception


class ManyArguments(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class ReadOnly(Exception):
    @property
    def remote_traceback(self) -> str:
        return "mine"


class HoldsLock(Exception):
    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()


class LosesItself(Exception):
    def __reduce__(self):
        return dict, ()


class RefusesItsArguments(Exception):
    def __new__(cls, *args):
        if args != ("good",):
            raise ValueError("only good")
        return super().__new__(cls, *args)

    def __reduce__(self):
        return RefusesItsArguments, ("bad",)


def packed(exc: BaseException) -> ErrorInfo:
    """As it comes over the wire."""
    try:
        raise exc
    except BaseException as caught:
        info = pack_exception(caught, "".join(traceback.format_exception(caught)), "(1, 'a')")
    return msgspec.msgpack.decode(msgspec.msgpack.encode(info), type=ErrorInfo)


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("bad", 5),
        KeyError("k"),
        OSError(2, "No such file", "a.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        ManyArguments(5, "five"),
        KeywordOnly(code=7),
        Frozen(3),
        Unprintable(1),
        ReadOnly("x"),
        LosesItself("lost"),
        Overloaded("full", 3.0),
        Retry("later", 5.0),
        ExceptionGroup("two", [ValueError(1), KeyError(2)]),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_exceptions_come_back_as_themselves(exc):
    info = packed(exc)
    got = rebuild_exception(info)
    assert type(got) is type(exc) and repr(got.args) == repr(exc.args)
    assert {k: v for k, v in vars(got).items() if k != "remote_traceback"}.keys() == vars(exc).keys()
    assert isinstance(got.__cause__, RemoteTraceback)
    assert info.arguments == "(1, 'a')"


def test_what_an_exception_knows_comes_back():
    got = rebuild_exception(packed(ManyArguments(5, "five")))
    assert (str(got), got.code) == ("5: five", 5)
    assert str(rebuild_exception(packed(KeywordOnly(code=7)))) == "code 7"
    noted = ValueError("x")
    noted.add_note("look here")
    assert rebuild_exception(packed(noted)).__notes__ == ["look here"]


def test_the_remote_traceback_is_shown_and_kept():
    got = rebuild_exception(packed(ValueError("bad")))
    assert "in packed" in got.remote_traceback
    assert "in packed" in "".join(traceback.format_exception(got))


def test_types_are_named_in_full():
    assert packed(ValueError()).type == "ValueError"
    assert packed(ManyArguments(1, "")).type == f"{__name__}.ManyArguments"


@pytest.mark.parametrize("exc", [HoldsLock(), RefusesItsArguments("good")], ids=repr)
def test_an_exception_that_cannot_be_pickled_is_told(exc):
    info = packed(exc)
    assert info.pickled is None
    got = rebuild_exception(info)
    assert isinstance(got, TaskFailed)
    assert got.type_name == f"{__name__}.{type(exc).__name__}"
    assert str(exc) in str(got) and type(exc).__name__ in str(got)
    assert "in packed" in got.remote_traceback


def test_an_exception_of_a_class_unknown_here_is_told():
    info = packed(ManyArguments(1, "one"))
    info = msgspec.structs.replace(info, pickled=info.pickled.replace(b"ManyArguments", b"FewerArgument"))
    got = rebuild_exception(info)
    assert isinstance(got, TaskFailed) and "1: one" in str(got)


@pytest.mark.parametrize(
    "exc", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()], ids=repr
)
def test_what_would_end_the_process_here_is_a_failure(exc):
    got = rebuild_exception(packed(exc))
    assert isinstance(got, TaskFailed) and type(exc).__name__ in str(got)


@given(st.binary(max_size=50))
def test_damaged_pickles_are_told(data):
    got = rebuild_exception(ErrorInfo("app.Broken", "it broke", "Traceback", b"\x03" + data[:5]))
    assert isinstance(got, Exception)


def test_texts_are_bounded_and_can_be_sent():
    info = pack_exception(ValueError("\ud800" + "x" * 1_000_000), "start" + "y" * 1_000_000 + "end", "z" * 100_000)
    assert len(msgspec.msgpack.encode(info)) < 150_000
    assert info.message.startswith("\\ud800") and info.pickled is None
    assert info.traceback.startswith("start") and info.traceback.endswith("end")
    assert "characters left out" in info.traceback


def test_threads_may_pack_at_once():
    with ThreadPoolExecutor(4) as pool:
        infos = [*pool.map(lambda n: packed(ManyArguments(n, "n")), range(50))]
    assert [rebuild_exception(info).code for info in infos] == [*range(50)]
