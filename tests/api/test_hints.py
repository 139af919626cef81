"""What is in Celery and not here says so, and is as absent as anything else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mesh
from mesh import ConfigError, Mesh
from mesh.api.hints import HINTS

app = Mesh("hints")


@app.task
def add(a, b):
    return a + b


ABSENT = [
    (add, "s"),
    (add, "si"),
    (add, "signature"),
    (add, "chunks"),
    (app, "autodiscover_tasks"),
    (app, "config_from_object"),
    (app.conf, "beat_scheduler"),
    (app.control, "inspect"),
    (app.conf, "task_serializer"),
    (app.AsyncResult("x"), "children"),
    (mesh, "chain"),
    (mesh, "Celery"),
]


@pytest.mark.parametrize(("owner", "name"), ABSENT, ids=[name for _, name in ABSENT])
def test_an_attribute_of_celery_is_absent_with_a_hint(owner, name):
    assert not hasattr(owner, name)
    assert name not in dir(owner)
    with pytest.raises(AttributeError, match=re.escape(f"has no attribute {name!r}: {HINTS[name]}")):
        getattr(owner, name)


def test_the_package_shows_what_it_is_for_and_not_what_it_is_made_of():
    assert {name for name in dir(mesh) if not name.startswith("__")} == {*mesh.__all__}


def test_any_other_attribute_is_absent_as_ever():
    for owner in (add, app, mesh):
        with pytest.raises(AttributeError, match=r"has no attribute 'dealy'$"):
            owner.dealy  # noqa: B018


@pytest.mark.parametrize("name", ["chain", "group", "chord", "signature", "shared_task", "Celery"])
def test_an_import_from_celery_fails_with_a_hint(name):
    with pytest.raises(ImportError, match=re.escape(f"cannot import name {name!r} from 'mesh': {HINTS[name]}")):
        exec(f"from mesh import {name}")


def test_any_other_import_fails_as_ever():
    with pytest.raises(ImportError, match="cannot import name 'chian' from 'mesh'"):
        exec("from mesh import chian")
    exec("from mesh import testing, Mesh")


@pytest.mark.parametrize("name", ["link", "soft_time_limit", "serializer", "rate_limit"])
def test_an_option_of_celery_is_unknown_with_a_hint(name):
    hint = re.escape(f"{name}: {HINTS[name]}")
    for call in (
        lambda: add.apply_async((1, 2), **{name: 1}),
        lambda: app.send_task("by.name", **{name: 1}),
        lambda: app.task(**{name: 1})(print),
    ):
        with pytest.raises(TypeError, match=rf"unknown option {name}; known: .*; {hint}"):
            call()


def test_a_setting_of_celery_is_unknown_with_a_hint():
    with pytest.raises(ConfigError, match=r"no setting 'task_serializer'; known: .*; task_serializer: not needed"):
        app.conf.task_serializer = "json"
    with pytest.raises(ConfigError, match="beat_scheduler: not needed"):
        app.conf.update(beat_scheduler="some.Scheduler")


def test_the_readme_lists_each_hint():
    text = (Path(__file__).parents[2] / "README.md").read_text()
    table = text.partition("## Coming from Celery")[2].partition("\n## ")[0]
    assert not HINTS.keys() - set(re.findall(r"\w+", table))
    assert all(f"| {hint} |" in table for hint in HINTS.values())
