"""What ``@app.task`` makes: names, options, checks of arguments, running here."""

from __future__ import annotations

import pickle
import sys
import time
from datetime import UTC, datetime, timedelta

import cloudpickle
import pytest

from mesh import ConfigError, MaxRetriesExceededError, Mesh, Retry, Task
from mesh.api.options import ends_at, starts_at
from mesh.testing import eager

app = Mesh("shop")


@app.task
def add(a, b=1, *, c=0):
    """Add."""
    return a + b + c


@app.task(bind=True, max_retries=2, default_retry_delay=5)
def stubborn(self, succeed_at):
    if self.request.retries < succeed_at:
        raise self.retry(exc=OSError("not yet"))
    return self.request.retries


# names


def test_a_task_is_named_after_its_module_and_function():
    assert add.name == "tests.api.test_task.add"
    assert app.tasks[add.name] is add
    assert (add.__name__, add.__doc__) == ("add", "Add.")


@pytest.mark.parametrize(
    ("script", "main", "name"),
    [
        ("/home/me/shop.py", "shop", "shop.pay"),
        ("proj/shop.py", "proj.shop", "proj.shop.pay"),
        ("/home/me/other.py", "shop", "__main__.pay"),
        ("/home/me/shop.py", None, "__main__.pay"),
        (None, "shop", "__main__.pay"),
    ],
)
def test_only_the_script_that_is_the_apps_module_has_its_tasks_under_the_modules_name(monkeypatch, script, main, name):
    """Workers run what they know by a name: another script's function must not have the name of one of theirs."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", script, raising=False)

    def pay():
        return None

    pay.__module__ = "__main__"
    pay.__qualname__ = "pay"

    assert Mesh(main).task(pay).name == name
    assert Mesh(main).task(name="other")(pay).name == "other"


def test_an_app_without_a_name_is_shown_as_that_of_the_main_module():
    assert repr(Mesh(mesh="m")) == "<Mesh __main__ of mesh 'm'>"
    assert repr(Mesh().task(name="t")(len)) == "<Task t of __main__>"
    assert repr(Mesh("shop", mesh="m")) == "<Mesh shop of mesh 'm'>"


# options


@pytest.mark.parametrize(
    ("given_", "field", "value"),
    [
        ({}, "queue", "default"),
        ({"queue": "images"}, "queue", "images"),
        ({"priority": 9}, "priority", 9),
        ({"time_limit": 3}, "time_limit_s", 3.0),
        ({"ignore_result": True}, "ignore_result", True),
        ({}, "at_most_once", False),
        ({"acks_late": False}, "at_most_once", True),
        ({}, "function", None),
    ],
)
def test_options_of_a_task_reach_its_description(given_, field, value):
    task = Mesh().task(**given_)(lambda: None)

    assert getattr(task.base_options(), field) == value


def test_defaults_of_the_app_count_until_a_task_says_otherwise():
    mine = Mesh()
    plain, own = mine.task(name="plain")(add.run), mine.task(name="own", queue="q", time_limit=1)(add.run)
    assert plain.base_options().queue == "default"

    mine.conf.update(task_default_queue="elsewhere", task_time_limit=60, result_expires=30, task_acks_late=False)

    options = plain.base_options()
    assert (options.queue, options.time_limit_s, options.result_ttl_s) == ("elsewhere", 60, 30)
    assert options.at_most_once
    assert (own.base_options().queue, own.base_options().time_limit_s) == ("q", 1)


@pytest.mark.parametrize(
    "wrong", [{"priority": 256}, {"priority": -1}, {"time_limit": 0}, {"queue": ""}, {"queue": "\ud800"}]
)
def test_wrong_values_are_refused_where_they_are_written(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Mesh().task(**wrong)(lambda: None)
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        add.apply_async((1,), **wrong)


@pytest.mark.parametrize("call", [lambda app: app.control.revoke(["fine", "x" * 256]), lambda app: app.AsyncResult("")])
def test_ids_that_no_task_can_have_are_refused_where_they_are_written(call):
    with pytest.raises(ConfigError, match="task_id"):
        call(Mesh())


@pytest.mark.parametrize("is_eager", [False, True])
@pytest.mark.parametrize(("value", "got"), [(1.5, "a float"), (1, "an int"), (None, "a NoneType")])
def test_what_cannot_be_called_is_refused_where_it_is_written(value, got, is_eager):
    mine = Mesh()
    mine.conf.task_always_eager = is_eager
    with pytest.raises(TypeError, match=f"submit takes a function, got {got}"):
        mine.submit(value)
    with pytest.raises(TypeError, match=f"map takes a function, got {got}"):
        mine.map(value, [1])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("task_default_queue", ""), ("task_time_limit", "x"), ("task_time_limit", 0), ("result_expires", -1)],
)
def test_a_default_is_checked_where_it_is_set(name, wrong):
    mine = Mesh()
    before = getattr(mine.conf, name)
    with pytest.raises(ConfigError, match=name):
        setattr(mine.conf, name, wrong)
    with pytest.raises(ConfigError, match=name):
        mine.conf.update({name: wrong})
    assert getattr(mine.conf, name) == before


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("autoretry_for", "IOError"),
        ("autoretry_for", 5),
        ("dont_autoretry_for", (OSError, "IOError")),
        ("expires", "tomorrow"),
        ("default_retry_delay", "3"),
        ("max_retries", "3"),
        ("retry_backoff", "3"),
        ("retry_kwargs", {"countdown": "3"}),
        ("retry_kwargs", {"eta": 3}),
    ],
)
def test_a_wrong_value_is_refused_in_the_definition(name, wrong):
    with pytest.raises(ConfigError, match=name):
        Mesh().task(**{name: wrong})(len)


def test_unknown_options_are_named():
    with pytest.raises(TypeError, match="quue"):
        Mesh().task(quue="x")(lambda: None)
    with pytest.raises(TypeError, match=r"countdwon, link; known: .*countdown"):
        add.apply_async((1,), countdwon=3, link=None)
    with pytest.raises(ConfigError, match="task_always_eager"):
        app.conf.update(task_alwayseager=True)


def test_times():
    later = datetime.now(UTC) + timedelta(hours=1)

    assert starts_at(10, None) == pytest.approx(time.time() + 10, abs=1)
    assert starts_at(None, later) == later.timestamp()
    assert starts_at(None, later.replace(tzinfo=None)) == later.timestamp()
    assert starts_at(None, later.astimezone()) == later.timestamp()
    assert ends_at(10) == pytest.approx(time.time() + 10, abs=1)
    assert ends_at(later) == later.timestamp()
    with pytest.raises(ConfigError, match="both"):
        starts_at(1, later)
    assert starts_at(timedelta(minutes=1), None) == pytest.approx(time.time() + 60, abs=1)
    assert ends_at(timedelta(minutes=1)) == pytest.approx(time.time() + 60, abs=1)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"countdown": float("nan")}, "countdown"),
        ({"countdown": "3"}, "countdown='3': expected seconds, as a number or a timedelta"),
        ({"countdown": datetime.now()}, "countdown=.*: expected seconds"),
        ({"eta": 5}, "eta=5: expected a datetime; for seconds from now write countdown="),
        ({"eta": "2020-01-01"}, "eta='2020-01-01': expected a datetime"),
        ({"expires": "tomorrow"}, "expires='tomorrow': expected seconds, as a number or a timedelta or a datetime"),
        ({"expires": True}, "expires=True"),
    ],
)
def test_what_is_no_time_is_refused(given_, said):
    with pytest.raises(ConfigError, match=said):
        add.apply_async((1,), **given_)


# arguments


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"d": 1}), ((1,), {"a": 1}), ((), {"b": 1})]
)
def test_arguments_the_function_does_not_take_are_refused_before_anything_is_sent(args, kwargs):
    with pytest.raises(TypeError, match=r"add\(\)"):
        add.delay(*args, **kwargs)
    with pytest.raises(TypeError, match=r"add\(\)"):
        add.apply_async(args, kwargs)


@pytest.mark.parametrize("call", [add.apply_async, add.apply, lambda *call: app.send_task("by name", *call)])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((1, 2), "args must be a tuple or list, got 1"),
        ((0,), "args must be a tuple or list, got 0"),
        (("ab",), "args must be a tuple or list, got 'ab'"),
        (((1,), 2), "kwargs must be a dict, got 2"),
        (((1,), 0), "kwargs must be a dict, got 0"),
    ],
)
def test_arguments_that_are_not_in_a_tuple_are_refused(call, wrong, said):
    with pytest.raises(TypeError, match=said):
        call(*wrong)


def test_the_check_knows_bound_tasks_and_every_kind_of_parameter():
    def every(a, /, b, *rest, c, d=1, **more):
        return a, b, rest, c, d, more

    mine = Mesh()
    with eager(mine, propagate=False):
        assert mine.task(every).delay(1, 2, 3, c=4, e=5).get() == (1, 2, (3,), 4, 1, {"e": 5})
        with pytest.raises(TypeError, match="c"):
            mine.task(every).delay(1, 2)
        bound = mine.task(bind=True)(lambda self, a: (self.name, a))
        assert bound.delay(5).get() == (bound.name, 5)
        assert mine.task(typing=False)(lambda a: a).apply_async((), {}).failed()


def test_a_call_that_does_not_fit_for_want_of_bind_or_of_self_says_so():
    def with_self(self, x):
        return x

    def without(x):
        return x

    def submit_again(task):
        task.base_options()  # known from the first call on
        task.delay(1)

    mine = Mesh()
    for submit in (lambda task: task.delay(1), lambda task: task.apply_async((1,)), submit_again):
        with pytest.raises(
            TypeError, match=r"with_self\(\) missing .* 'x'; only with bind=True is the task itself given"
        ):
            submit(mine.task(with_self))
        with pytest.raises(TypeError, match=r"without\(\) .*; with bind=True the first argument, 'x', is the task"):
            submit(mine.task(bind=True)(without))
    with pytest.raises(TypeError, match="takes no argument that could be the task, which bind=True gives it: add self"):
        mine.task(bind=True)(lambda: None)
    with eager(mine):
        assert mine.task(bind=True)(lambda *args: args[1:]).delay(1, 2).get() == (1, 2)


# running here


def test_calling_a_task_runs_it_here():
    assert add(1, c=3) == 5
    assert isinstance(add, Task)


def test_a_bound_task_called_directly_knows_that():
    seen = Mesh().task(bind=True)(lambda self: (self.request.called_directly, self.request.id))

    assert seen() == (True, "")


def test_apply_retries_at_once_and_remembers_how_often():
    result = stubborn.apply((2,))

    assert (result.get(), result.retries, result.state, result.ready()) == (2, 2, "SUCCESS", True)


def test_retries_used_up_raise_the_error_they_were_for():
    result = stubborn.apply((3,))

    assert (result.state, result.retries) == ("FAILURE", 2)
    assert isinstance(result.result, OSError) and "not yet" in result.traceback
    with pytest.raises(OSError, match="not yet"):
        result.get()
    with pytest.raises(OSError, match="not yet"):
        stubborn.apply((3,), throw=True)


def test_retry_without_an_error_ends_in_max_retries_exceeded():
    task = Mesh().task(bind=True, max_retries=1)(lambda self: self.retry(countdown=0))

    with pytest.raises(MaxRetriesExceededError, match="limit is 1"):
        task.apply().get()


def test_retry_called_directly_raises_its_error_or_retry():
    with pytest.raises(OSError, match="not yet"):
        stubborn(1)
    with pytest.raises(Retry):
        Mesh().task(bind=True)(lambda self: self.retry())()


def test_retry_carries_the_time_and_new_arguments():
    task = Mesh().task(bind=True)(lambda self, n: self.retry(args=(n + 1,), countdown=60) if n < 3 else n)

    assert task.apply((0,)).get() == 3
    retry = Retry("", time.time() + 60, (1,), None)
    assert pytest.approx(retry.eta, abs=1) == time.time() + 60


@pytest.mark.parametrize("countdown", [float("inf"), float("nan"), 1e13, -1e13])
def test_retry_refuses_a_countdown_that_leads_to_no_instant(countdown):
    task = Mesh().task(bind=True)(lambda self: self.retry(countdown=countdown))

    with pytest.raises(ConfigError, match="countdown"):
        task.apply().get()


def test_autoretry_covers_what_it_says_and_no_more():
    calls = []

    def fetch(error):
        calls.append(error)
        raise error

    mine = Mesh()
    task = mine.task(autoretry_for=(OSError,), dont_autoretry_for=(FileNotFoundError,), max_retries=2)(fetch)
    with pytest.raises(OSError, match="down"):
        task.apply((OSError("down"),)).get()
    assert len(calls) == 3
    with pytest.raises(FileNotFoundError):
        task.apply((FileNotFoundError(),)).get()
    with pytest.raises(ValueError):
        task.apply((ValueError(),)).get()
    assert len(calls) == 5


def test_retry_kwargs_of_an_automatic_retry():
    calls = []

    def fetch():
        calls.append(1)
        raise OSError

    task = Mesh().task(autoretry_for=(OSError,), retry_kwargs={"max_retries": 4, "countdown": 1})(fetch)
    assert task.apply().failed() and len(calls) == 5


@pytest.mark.parametrize("name", ["__repr__", "__str__", "__class__", "__bool__", "__len__", "__cause__", "args"])
def test_an_error_that_refuses_to_be_shown_is_retried_and_raised_as_any_other(name):
    calls = []

    def refuse(self):
        raise SystemExit("no")

    answer = property(refuse) if name in ("__class__", "__cause__", "args") else refuse
    Odd = type("Odd", (OSError,), {name: answer})

    def fetch():
        calls.append(1)
        raise Odd("down")

    task = Mesh().task(autoretry_for=(OSError,), retry_kwargs={"max_retries": 2, "countdown": 1})(fetch)
    result = task.apply()

    assert (len(calls), result.state, type(result.result)) == (3, "FAILURE", Odd)
    assert "in fetch" in result.traceback
    assert result.error.type.endswith("Odd")


# eager mode


def test_always_eager_runs_tasks_in_place_and_keeps_their_errors():
    mine = Mesh()
    div = mine.task(lambda a, b: a / b)
    mine.conf.task_always_eager = True

    assert div.delay(6, 2).get() == 3
    assert isinstance(div.delay(1, 0).result, ZeroDivisionError)
    assert list(mine.map(div, [4, 6], [2, 3])) == [2, 2]
    assert mine.submit(lambda x: x + 1, 1).get() == 2
    mine.conf.task_eager_propagates = True
    with pytest.raises(ZeroDivisionError):
        div.delay(1, 0)


def test_eager_is_undone_on_leaving():
    mine = Mesh()
    with eager(mine):
        assert mine.conf.task_always_eager
    assert not mine.conf.task_always_eager


def test_a_subtask_in_eager_mode_knows_its_parent():
    mine = Mesh()
    inner = mine.task(name="inner", bind=True)(lambda self: (self.request.parent_id, self.request.root_id))
    outer = mine.task(name="outer", bind=True)(lambda self: (self.request.id, inner.delay().get()))
    with eager(mine):
        own, (parent, root) = outer.delay().get()

    assert own == parent == root


# travelling


def test_a_task_of_a_module_travels_by_name():
    assert pickle.loads(pickle.dumps(add)) is add
    assert len(pickle.dumps(add)) < 200


def test_a_task_of_a_script_travels_with_its_function_and_without_its_app():
    mine = Mesh("script", include=["not.imported"])

    def twice(self, n):
        return self.name, n * 2

    twice.__module__ = "__main__"
    task = mine.task(bind=True, queue="q", max_retries=7, autoretry_for=(OSError,))(twice)
    again = cloudpickle.loads(cloudpickle.dumps(task))

    assert again is not task and again.app is not mine
    assert (again.name, again.queue, again.max_retries, again.policy) == (task.name, "q", 7, task.policy)
    assert again(4) == (task.name, 8)
    assert task.base_options().function == task.code.digest and task.code.python == task.base_options().python


def test_broker_and_backend_are_explained():
    with pytest.warns(UserWarning, match="find|found"):
        Mesh("x", broker="redis://localhost", backend="rpc://")
