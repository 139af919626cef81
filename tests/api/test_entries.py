"""The periodic tasks in the code of an app."""

from __future__ import annotations

from typing import Any

import pytest

from mesh import Mesh, crontab
from mesh.api.entries import entries_of
from mesh.errors import ConfigError
from mesh.schedules import Every
from mesh.wire.payload import decode


def app_with(**entries: Any) -> Mesh:
    app = Mesh("tasks")
    app.conf.task_default_queue = "rest"

    @app.task(queue="images", name="tasks.thumbnail")
    def thumbnail(path: str, size: int = 256) -> None: ...

    app.conf.beat_schedule = entries
    return app


def test_an_entry_has_the_options_of_its_task_and_its_arguments() -> None:
    found = {"task": "tasks.thumbnail", "schedule": 30.0, "args": ("a.png",), "kwargs": {"size": 64}}
    (entry,) = entries_of(app_with(nightly=found))
    assert (entry.name, entry.schedule, entry.options.name) == ("nightly", Every(30.0), "tasks.thumbnail")
    assert (entry.options.queue, entry.app, entry.catchup) == ("images", None, "latest")
    assert decode(entry.payload) == [["a.png"], {"size": 64}]


def test_a_task_that_the_app_does_not_have_goes_to_its_default_queue() -> None:
    (entry,) = entries_of(app_with(other={"task": "elsewhere.work", "schedule": crontab(hour=7), "catchup": "all"}))
    assert (entry.options.name, entry.options.queue, entry.catchup) == ("elsewhere.work", "rest", "all")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"task": "t"}, "expected task and schedule"),
        ({"task": "t", "schedule": 1.0, "relative": True}, "expected task and schedule"),
        ({"task": "t", "schedule": "not a line"}, "nightly"),
        ({"task": "t", "schedule": 1.0, "args": "a"}, "args must be a tuple or list"),
        ({"task": "t", "schedule": 1.0, "args": ("x" * 20_000,)}, "take more than 16384 bytes"),
        ({"task": "t", "schedule": 1.0, "catchup": "some"}, "expected latest, all, skip"),
    ],
)
def test_what_means_nothing_is_refused_by_its_name(found: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        entries_of(app_with(nightly=found))
    assert "nightly" in str(caught.value)


def test_a_beat_schedule_is_a_dictionary() -> None:
    app = Mesh("tasks")
    app.conf.beat_schedule = [{"task": "t", "schedule": 1.0}]  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="expected a dictionary"):
        entries_of(app)
