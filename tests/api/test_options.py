"""What users write for one call, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import pytest

from mesh import Mesh
from mesh.api.options import HEADERS_BYTES_MAX, checked_headers
from mesh.errors import ConfigError, PayloadTooLarge
from mesh.testing import eager, local_mesh

app = Mesh("options")


@app.task
def add(a: int, b: int = 0) -> int:
    return a + b


def test_headers_that_no_message_could_carry_are_refused_by_name() -> None:
    assert checked_headers({"trace": "x" * 10_000}) == {"trace": "x" * 10_000}
    with pytest.raises(PayloadTooLarge, match=f"headers of .* at most {HEADERS_BYTES_MAX}"):
        checked_headers({f"h{i}": "錯" * 10_000 for i in range(100)})
    with pytest.raises(ConfigError, match="headers"):
        checked_headers({"\ud800": "x"})


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: add.apply_async((1,), headers="x"), "headers must be a dict, got 'x'"),
        (lambda: app.gather([add(1)]), r"gather takes results of tasks, got an int: write f.delay\(x\)"),
        (lambda: app.gather(add(1)), "gather takes results of tasks, got an int"),
        (lambda: app.gather([numpy.zeros(3)]), "gather takes results of tasks, got a ndarray"),
        (lambda: app.as_completed([1, 2]).__next__(), "as_completed takes results of tasks, got an int"),
        (lambda: app.send_task(add), "send_task takes the name of a task, got a Task: pass f.name"),
        (lambda: app.send_task(len), "send_task takes the name of a task"),
        (lambda: local_mesh("tasks").__enter__(), r"local_mesh takes an app, got a str: write local_mesh\(app\)"),
        (lambda: eager("tasks").__enter__(), "eager takes an app, got a str"),
    ],
)
def test_another_thing_than_is_wanted_is_named(call: Callable[[], object], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        call()


@pytest.mark.parametrize(
    "wait",
    [
        lambda timeout: app.AsyncResult("x").get(timeout),
        lambda timeout: app.flush(timeout),
        lambda timeout: app.gather([], timeout=timeout),
        lambda timeout: app.as_completed([], timeout).__next__(),
        lambda timeout: app.map(add, [], timeout=timeout),
        lambda timeout: app.status(timeout),
        lambda timeout: app.purge(timeout=timeout),
    ],
)
def test_a_timeout_is_a_number_of_seconds(wait: Callable[[str], object]) -> None:
    with pytest.raises(ConfigError, match="timeout='5': expected seconds"):
        wait("5")


def test_an_id_that_is_for_routers_to_give_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ConfigError, match=r"task_id='due@1': ids that begin with 'due@' .* choose another"):
        add.apply_async((1,), task_id="due@1")
    with pytest.raises(ConfigError, match="ids that begin with"):
        app.send_task("t.add", task_id="due@1")
