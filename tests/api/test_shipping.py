"""Functions that travel are pickled once, and anew when what they name is replaced."""

from __future__ import annotations

import functools
import gc
import weakref

from mesh import Mesh
from mesh.api import shipping
from mesh.api.shipping import Shipped, function_name
from mesh.testing import local_mesh
from mesh.wire.functions import unpack_function
from tests.api.waiting import wait_until


class Thing:
    """Something a function may name."""


def naming_a_thing():
    """A function, and a look at the thing it names, which is gone with what is kept of the function."""
    space = {"thing": Thing()}
    exec("def look():\n    return thing", space)
    return space["look"], weakref.ref(space["thing"])


def test_a_function_is_pickled_once():
    shipped = Shipped()

    def double(n):
        return 2 * n

    assert shipped.code(double) is shipped.code(double)


def test_a_closure_is_pickled_anew_when_its_variable_is_another():
    shipped = Shipped()
    factor = 2

    def scale(n):
        return factor * n

    first = shipped.code(scale)
    factor = 3

    assert shipped.code(scale).digest != first.digest


def test_the_code_is_forgotten_with_the_function():
    shipped = Shipped()
    function, named = naming_a_thing()
    shipped.code(function)
    assert named() is not None
    del function
    gc.collect()

    assert named() is None


def test_every_callable_has_a_name_and_a_code():
    class Adder:
        def __call__(self, a, b):
            return a + b

    for function in (len, functools.partial(max, 1), Adder(), "x".join, Adder):
        assert Shipped().code(function).digest
        assert "." in function_name(function)


def test_what_a_global_was_bound_to_last_is_sent_however_often_it_was_bound_anew():
    shipped = Shipped()
    space: dict[str, object] = {}
    exec("def report():\n    return FIGURES", space)
    report = space["report"]

    for n in range(30):
        for figures in (n, 10 * n):  # the second may get the address that the one sent before had
            space["FIGURES"] = [figures]
        assert unpack_function(shipped.code(report))() == [10 * n]


def test_a_function_that_calls_itself_is_forgotten_too():
    shipped = Shipped()

    def ship():
        def factorial(n):
            return n * factorial(n - 1) if n else 1

        shipped.code(factorial)
        return weakref.ref(factorial)

    factorial = ship()
    gc.collect()

    assert factorial() is None


def test_no_more_functions_are_kept_than_the_limit(monkeypatch):
    monkeypatch.setattr(shipping, "SHIPPED_MAX", 4)
    shipped = Shipped()
    functions, named = zip(*[naming_a_thing() for _ in range(10)])
    for function in functions:
        shipped.code(function)
        function.__globals__["thing"] = None  # now only what is kept of the function holds it
    gc.collect()

    assert 1 <= sum(thing() is not None for thing in named) <= 4


def test_a_function_that_the_router_let_go_is_sent_again_by_itself():
    app = Mesh("shipped", function_ttl_s=0.1, heartbeat_s=0.2, liveness=50)

    def double(n):
        return 2 * n

    with local_mesh(app) as mesh:
        digest = app.pack(double).digest
        for n in range(3):
            assert app.submit(double, n).get(timeout=10) == 2 * n
            wait_until(lambda: mesh.store.function(digest) is None)
