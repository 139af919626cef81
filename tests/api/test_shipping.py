"""Functions that travel are pickled once, and anew when what they name is replaced."""

from __future__ import annotations

import functools
import gc

from mesh.api.shipping import Shipped, function_name


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

    def gone():
        return None

    shipped.code(gone)
    assert len(shipped._codes) == 1
    del gone
    gc.collect()

    assert len(shipped._codes) == 0


def test_every_callable_has_a_name_and_a_code():
    class Adder:
        def __call__(self, a, b):
            return a + b

    for function in (len, functools.partial(max, 1), Adder(), "x".join, Adder):
        assert Shipped().code(function).digest
        assert "." in function_name(function)
