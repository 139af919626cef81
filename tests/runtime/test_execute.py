from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from mesh.errors import PayloadTooLarge, Retry, Unreadable
from mesh.model import Blob, Delivery, Ending, ErrorInfo, Settlement, TaskExtra, TaskOptions
from mesh.runtime.execute import Runner
from mesh.runtime.failure import describe
from mesh.runtime.request import Request, current_request
from mesh.wire.exceptions import rebuild_exception
from mesh.wire.functions import pack_function
from mesh.wire.payload import decode, decode_call, encode_call
from tests.runtime.task_functions import INLINE_MAX, TOTAL_MAX, call, named, runner_of


def run(runner: Runner, delivery: Delivery, name: str, **options: Any) -> Settlement:
    settlement, _ = runner.run(delivery, named(name, **options))
    return settlement


def error_of(settlement: Settlement) -> ErrorInfo:
    assert settlement.ending is Ending.FAILED, settlement
    assert settlement.error is not None
    return settlement.error


def add(x: int, y: int = 0) -> int:
    return x + y


def divide(x: int, y: int) -> float:
    return x / y


def test_a_task_is_called_with_its_arguments_and_settled_with_its_result() -> None:
    settlement = run(runner_of(add), call("t1", 2, y=3, attempt=4), "add")

    assert (settlement.id, settlement.attempt, settlement.ending) == ("t1", 4, Ending.SUCCEEDED)
    assert decode(settlement.payload) == 5
    assert settlement.started_at > 1_700_000_000
    assert 0 < settlement.runtime_s < 1


def test_what_a_worker_cannot_read_is_said_of_that_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    helper = ModuleType("helper2")
    exec("class Thing: pass", vars(helper))
    monkeypatch.setitem(sys.modules, "helper2", helper)
    delivery = call("t1", helper.Thing())
    monkeypatch.delitem(sys.modules, "helper2")

    error = rebuild_exception(error_of(run(runner_of(add), delivery, "add")))
    assert type(error) is Unreadable
    assert str(error).startswith("worker 'w1': this task cannot be read: the payload needs the module 'helper2'")
    assert "here" not in str(error).replace("there", "")


def test_a_task_knows_its_request() -> None:
    seen: list[Request | None] = []

    def look(request: Request) -> None:
        seen.extend([request, current_request.get()])

    delivery = Delivery(
        "t1", 0, 3, call("t1").payload, retries=1, expires_at=99.0, extra=TaskExtra({"k": "v"}, "parent", "root")
    )
    run(runner_of(look, bound=True), delivery, "look", queue="images", priority=7, time_limit_s=5.0)

    request, current = seen
    assert request is current
    assert request is not None
    assert (request.id, request.task, request.retries, request.hostname) == ("t1", "look", 1, "w1")
    assert (request.headers, request.parent_id, request.root_id) == ({"k": "v"}, "parent", "root")
    assert (request.expires, request.time_limit) == (99.0, 5.0)
    assert request.delivery_info == {"queue": "images", "priority": 7, "redelivered": True}


def test_an_exception_becomes_a_failure_with_its_traceback_and_arguments() -> None:
    settlement = run(runner_of(divide), call("t1", 1, y=0), "divide")

    error = error_of(settlement)
    assert error.type == "ZeroDivisionError"
    assert "return x / y" in error.traceback
    assert "mesh/runtime/execute.py" not in error.traceback, "the mesh's own frames tell the user nothing"
    assert error.arguments == "(1, y=0)"
    assert isinstance(rebuild_exception(error), ZeroDivisionError)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_the_process_is_only_a_failure(error: BaseException) -> None:
    def leave() -> None:
        raise error

    assert type(error).__name__ in error_of(run(runner_of(leave), call("t1"), "leave")).type


def test_endless_recursion_is_a_failure_of_bounded_size() -> None:
    def dive(n: int) -> int:
        return dive(n + 1) + 1

    error = error_of(run(runner_of(dive), call("t1", 0), "dive"))

    assert error.type == "RecursionError"
    assert len(error.traceback) < 20_000


def test_a_huge_message_and_huge_arguments_are_bounded() -> None:
    def fail(data: bytes, more: list[str]) -> None:
        raise ValueError("x" * 5_000_000)

    delivery = call("t1", b"x" * 500, ["y" * 100] * 4)
    error = error_of(run(runner_of(fail), delivery, "fail"))

    assert len(error.message) < 10_000
    assert len(error.traceback) < 20_000
    assert len(error.arguments) <= 200
    assert error.arguments.startswith("(b'xxx")


class Nameless:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_an_argument_whose_repr_raises_is_named_by_its_type() -> None:
    def fail(value: object) -> None:
        raise ValueError

    assert "Nameless" in error_of(run(runner_of(fail), call("t1", Nameless()), "fail")).arguments


def test_an_unknown_name_is_not_registered_and_says_what_is_known() -> None:
    error = error_of(run(runner_of(add), call("t1", 1), "tasks.missing"))

    assert error.type == "mesh.errors.NotRegistered"
    assert "'tasks.missing'" in error.message
    assert "add" in error.message


def test_arguments_that_need_code_this_worker_lacks_are_a_failure_that_says_so() -> None:
    delivery = Delivery("t1", 0, 1, b"\x03" + b"cno_such_module\nThing\n.")

    assert "no_such_module" in error_of(run(runner_of(add), delivery, "add")).message


def test_damaged_arguments_are_a_failure() -> None:
    assert "damaged" in error_of(run(runner_of(add), Delivery("t1", 0, 1, b"\xff"), "add")).message


def test_a_result_that_cannot_be_pickled_is_a_failure_that_says_so() -> None:
    def make() -> Any:
        return (n for n in range(3))

    error = error_of(run(runner_of(make), call("t1"), "make"))

    assert "result" in error.message
    assert "generator" in error.message


def test_a_result_over_the_limit_is_a_failure_that_says_so() -> None:
    def make() -> bytes:
        return b"x" * (TOTAL_MAX + 1)

    error = error_of(run(runner_of(make), call("t1"), "make"))

    assert isinstance(rebuild_exception(error), PayloadTooLarge)
    assert "payload_bytes_max" in error.message


def test_an_exception_that_cannot_be_pickled_still_comes_with_its_type_and_message() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one}-{two}")
            self.lock = sys._getframe()

    def fail() -> None:
        raise Odd(1, 2)

    error = error_of(run(runner_of(fail), call("t1"), "fail"))

    assert error.type.endswith("Odd")
    assert error.message == "1-2"


def refusing(name: str, raised: type[BaseException], base: type[BaseException] = Exception) -> type[Any]:
    """An exception class that raises when its objects are asked for this attribute, or called by it."""

    def refuse(self: object, *args: object) -> Any:
        raise raised("no")

    called = ("__str__", "__repr__", "__reduce__", "__reduce_ex__", "__getattribute__", "__bool__", "__len__")
    return type("Odd", (base,), {name: refuse if name in called else property(refuse)})


ENDS = [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit]
ASKED = [
    "__str__", "__repr__", "__reduce__", "__reduce_ex__", "__getattribute__", "__bool__", "__len__", "args",
    "__traceback__", "__class__", "__dict__", "__cause__", "__context__", "__notes__",
]  # fmt: skip


class BrokenHandler(logging.StreamHandler[Any]):
    """As one whose stream is closed; it says so as ``logging`` does, with the exception that is being handled."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.seen = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.seen += 1
        try:
            raise ValueError("I/O operation on closed file")
        except ValueError:
            self.handleError(record)


@pytest.fixture
def broken_log() -> Iterator[BrokenHandler]:
    """The log of tasks has a handler that fails, as in a process whose standard error is gone."""
    log = logging.getLogger("mesh.task")
    level, handler = log.level, BrokenHandler()
    log.addHandler(handler)
    log.setLevel("DEBUG")
    yield handler
    log.setLevel(level)
    log.removeHandler(handler)


@pytest.mark.parametrize("raised", ENDS)
@pytest.mark.parametrize("name", ASKED)
def test_a_task_whose_exception_refuses_to_be_shown_is_a_failure(
    name: str, raised: type[BaseException], broken_log: BrokenHandler
) -> None:
    def fail() -> None:
        raise refusing(name, raised)("odd")

    error = error_of(run(runner_of(fail), call("t1"), "fail"))

    assert error.type == f"{__name__}.Odd"
    assert error.message == (f"<its __str__ raised {raised.__name__}>" if name == "__str__" else "odd")
    assert "in fail" in error.traceback, "where it was raised can be told all the same"
    assert broken_log.seen, "the log was asked, and its trouble did no harm"
    assert issubclass(type(rebuild_exception(error)), Exception)


@pytest.mark.parametrize("raised", ENDS)
@pytest.mark.parametrize("name", ["__qualname__", "__module__", "__name__", "__instancecheck__", "__hash__"])
def test_a_task_whose_exception_has_a_class_that_refuses_to_be_named_is_a_failure(
    name: str, raised: type[BaseException], broken_log: BrokenHandler
) -> None:
    class Meta(type):
        def __getattribute__(cls, asked: str) -> Any:
            if asked == name:
                raise raised("no")
            return super().__getattribute__(asked)

        def __hash__(cls) -> int:
            if name == "__hash__":
                raise raised("no")
            return super().__hash__()

    def fail() -> None:
        raise Meta("Odd", (Exception,), {})("odd")

    error = error_of(run(runner_of(fail), call("t1"), "fail"))

    assert (error.type, error.message) == (f"{__name__}.Odd", "odd")
    assert "in fail" in error.traceback


@pytest.mark.parametrize("raised", ENDS)
@pytest.mark.parametrize("name", ["eta", "new_args", "__str__", "__class__", "__getattribute__"])
def test_a_retry_that_refuses_to_be_read_is_a_failure_or_a_retry(
    name: str, raised: type[BaseException], broken_log: BrokenHandler
) -> None:
    def later() -> None:
        odd = refusing("__str__" if name in ("eta", "new_args") else name, raised, Retry)

        class Later(odd):  # type: ignore[misc]
            def __init__(self) -> None:
                Exception.__init__(self, "later")
                if name != "__getattribute__":
                    self.__dict__.update(eta=5.0, new_args=None, new_kwargs=None)
                if name in ("eta", "new_args"):
                    del self.__dict__[name]

        raise Later

    settlement = run(runner_of(later), call("t1"), "later")

    assert settlement.ending is (Ending.RETRY if name in ("__str__", "__class__") else Ending.FAILED)


@pytest.mark.parametrize("raised", ENDS)
def test_a_result_whose_pickling_would_end_the_process_is_a_failure_that_says_so(
    raised: type[BaseException], broken_log: BrokenHandler
) -> None:
    odd = refusing("__reduce_ex__", raised)

    def make() -> Any:
        return odd()

    def later() -> Any:
        raise Retry(eta=5.0, args=(odd(),))

    def maybe(n: int) -> Any:
        return odd() if n == 1 else n

    runner = runner_of(make, later, maybe)
    assert raised.__name__ in error_of(run(runner, call("t1"), "make")).message
    assert raised.__name__ in error_of(run(runner, call("t1"), "later")).message
    results = map_results(runner, "maybe", None, [(0,), (1,), (2,)])
    assert [kind for kind, _ in results] == ["ok", "error", "ok"]
    assert raised.__name__ in ErrorInfo(*results[1][1]).message


@pytest.mark.parametrize("raised", ENDS)
def test_a_failing_element_of_map_whose_exception_refuses_to_be_shown_fails_no_other(
    raised: type[BaseException], broken_log: BrokenHandler
) -> None:
    def fail(name: str) -> str:
        if name in ASKED:
            raise refusing(name, raised)("odd")
        if name == "end":
            raise raised("end")
        return name

    results = map_results(runner_of(fail), "fail", None, [(name,) for name in [*ASKED, "end", "fine"]])

    assert [kind for kind, _ in results] == ["error"] * (len(ASKED) + 1) + ["ok"]


@pytest.mark.parametrize("raised", ENDS)
def test_an_argument_whose_repr_would_end_the_process_is_named_by_its_type(raised: type[BaseException]) -> None:
    odd = refusing("__repr__", raised)

    def fail() -> None:
        raise ValueError

    def raise_later(*args: Any) -> None:
        raise Retry(eta=odd())

    assert "Odd" in describe(ValueError(), (odd(), 1), {"x": odd()}).arguments
    assert error_of(run(runner_of(raise_later), call("t1"), "raise_later"))


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_a_coroutine_that_would_end_the_process_is_only_a_failure(raised: type[BaseException]) -> None:
    async def leave() -> None:
        raise raised("no")

    assert error_of(run(runner_of(leave), call("t1"), "leave")).type == raised.__name__


def test_a_large_result_comes_in_parts() -> None:
    def make() -> bytes:
        return b"x" * (INLINE_MAX + 1)

    settlement, parts = runner_of(make).run(call("t1"), named("make"))

    assert isinstance(settlement.payload, Blob)
    assert decode(settlement.payload, parts) == b"x" * (INLINE_MAX + 1)


def test_an_ignored_result_is_not_even_encoded() -> None:
    def make() -> Any:
        return (n for n in range(3))

    settlement = run(runner_of(make), call("t1"), "make", ignore_result=True)

    assert settlement.ending is Ending.SUCCEEDED
    assert settlement.payload == b""


def test_a_retry_is_settled_with_its_time_and_new_arguments() -> None:
    def later(x: int, y: int = 0) -> None:
        raise Retry("not now", eta=123.0, args=(9,))

    settlement = run(runner_of(later), call("t1", 1, y=2), "later")

    assert settlement.ending is Ending.RETRY
    assert settlement.retry is not None
    assert settlement.retry.eta == 123.0
    assert settlement.retry.payload is not None
    assert decode_call(settlement.retry.payload) == ((9,), {"y": 2})


def test_a_retry_without_new_arguments_keeps_the_old_ones() -> None:
    def later() -> None:
        raise Retry(eta=5.0)

    settlement = run(runner_of(later), call("t1"), "later")

    assert settlement.retry is not None
    assert settlement.retry.payload is None


def test_a_retry_whose_new_arguments_cannot_be_sent_is_a_failure() -> None:
    def later() -> None:
        raise Retry(eta=5.0, args=((n for n in range(3)),))

    assert "generator" in error_of(run(runner_of(later), call("t1"), "later")).message


@pytest.mark.parametrize("eta", [float("inf"), float("nan"), 1e13, -1e13, "soon"])
def test_a_retry_at_no_instant_is_a_failure_that_says_so(eta: Any) -> None:
    def later() -> None:
        raise Retry(eta=eta)

    assert f"{eta!r}" in error_of(run(runner_of(later), call("t1"), "later")).message


def test_each_large_payload_has_a_key_of_its_own_that_is_never_too_long() -> None:
    def make() -> bytes:
        return b"x" * (INLINE_MAX + 1)

    def later() -> None:
        raise Retry(eta=5.0, args=(make(),))

    keys: set[str] = set()
    for runner in (runner_of(make, later), runner_of(make, later)):  # a router that starts anew counts attempts anew
        for _ in range(2):
            made, asked = run(runner, call("t" * 255), "make"), run(runner, call("t" * 255), "later")
            assert isinstance(made.payload, Blob)
            assert asked.retry is not None
            assert isinstance(asked.retry.payload, Blob)
            keys |= {made.payload.key, asked.retry.payload.key}

    assert len(keys) == 8
    assert max(map(len, keys)) <= 255


def test_a_shipped_lambda_runs_by_its_digest() -> None:
    runner = runner_of()
    code = pack_function(lambda n: n * n)
    runner.add_function(code, ())

    settlement = run(runner, call("t1", 12), "lambda", function=code.digest)
    again = run(runner, call("t2", 3), "lambda", function=code.digest)

    assert (decode(settlement.payload), decode(again.payload)) == (144, 9)


def test_the_traceback_of_a_shipped_function_says_where_its_file_and_line_are() -> None:
    def outer() -> None:
        def inner() -> None:
            raise ValueError("of a nested function")

        inner()

    runner = runner_of()
    code = pack_function(outer)
    runner.add_function(code, ())
    text = error_of(run(runner, call("t1"), "outer", function=code.digest)).traceback

    assert text.count(f'File "{__file__}", line ') == 2
    assert 'raise ValueError("of a nested function")' in text


def test_a_shipped_coroutine_function_is_awaited() -> None:
    async def double(n: int) -> int:
        return 2 * n

    runner = runner_of()
    code = pack_function(double)
    runner.add_function(code, ())

    assert decode(run(runner, call("t1", 4), "double", function=code.digest).payload) == 8


def test_a_registered_name_goes_before_shipped_code() -> None:
    runner = runner_of(add)
    code = pack_function(lambda x: "shipped")
    runner.add_function(code, ())

    assert decode(run(runner, call("t1", 1), "add", function=code.digest).payload) == 1


def test_shipped_code_that_never_came_is_a_failure() -> None:
    assert error_of(run(runner_of(), call("t1"), "f", function="abc")).type == "mesh.errors.NotRegistered"


def map_results(runner: Runner, name: str, digest: str | None, elements: list[Any]) -> list[Any]:
    payload, parts = encode_call((elements,), {}, key="m", inline_max=INLINE_MAX, total_max=TOTAL_MAX)
    settlement, parts = runner.run(Delivery("m", 0, 1, payload), TaskOptions(name, function=digest, mapped=True), parts)
    assert settlement.ending is Ending.SUCCEEDED, settlement
    results: list[Any] = decode(settlement.payload, parts)
    return results


def test_map_runs_a_function_over_many_arguments() -> None:
    assert map_results(runner_of(add), "add", None, [(1, 2), (3, 4)]) == [["ok", 3], ["ok", 7]]


def test_map_takes_shipped_functions() -> None:
    runner = runner_of()
    code = pack_function(lambda n: n + 1)
    runner.add_function(code, ())

    assert [value for _, value in map_results(runner, "f", code.digest, [(1,), (2,)])] == [2, 3]


def test_a_failing_element_of_map_fails_no_other() -> None:
    results = map_results(runner_of(divide), "divide", None, [(1, 1), (1, 0), (4, 2)])

    assert [kind for kind, _ in results] == ["ok", "error", "ok"]
    error = ErrorInfo(*results[1][1])
    assert error.type == "ZeroDivisionError"
    assert error.arguments == "(1, 0)"


def test_an_element_of_map_whose_result_cannot_be_sent_fails_no_other() -> None:
    def make(n: int) -> Any:
        return (i for i in range(n)) if n == 1 else n

    results = map_results(runner_of(make), "make", None, [(0,), (1,), (2,)])

    assert [kind for kind, _ in results] == ["ok", "error", "ok"]
    assert "generator" in ErrorInfo(*results[1][1]).message


def test_an_element_of_map_that_asks_for_a_retry_fails_with_what_it_was_for() -> None:
    def later() -> None:
        try:
            raise OSError("disk away")
        except OSError as error:
            raise Retry("again") from error

    ((kind, fields),) = map_results(runner_of(later), "later", None, [()])

    assert kind == "error"
    assert ErrorInfo(*fields).type == "OSError"


def test_a_map_over_an_unknown_function_fails_as_a_whole() -> None:
    settlement, _ = runner_of().run(call("m", [(1,)]), TaskOptions("missing", mapped=True))

    assert error_of(settlement).type == "mesh.errors.NotRegistered"


def test_a_coroutine_function_is_run_to_its_end() -> None:
    async def double(n: int) -> int:
        return 2 * n

    assert decode(run(runner_of(double), call("t1", 21), "double").payload) == 42


def test_a_task_that_fails_is_logged_as_an_error_with_where_it_did(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no")

    log = logging.getLogger("mesh.task")
    log.addHandler(caplog.handler)  # others may have cut the way to the root
    try:
        run(runner_of(fail), call("t1"), "fail")
    finally:
        log.removeHandler(caplog.handler)
    record = caplog.records[0]
    assert record.levelname == "ERROR"
    assert (
        record.getMessage().startswith("fail[t1] failed: ValueError: no\nTraceback")
        and "in fail" in record.getMessage()
    )
