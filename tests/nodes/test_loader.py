from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesh.api.entries import entries_of
from mesh.errors import ConfigError
from nodes.loader import load_app, load_functions, load_whole

APP = """
class App:
    main = "demo"
    def __init__(self, **tasks):
        self.tasks = tasks
{name} = App(f=len)
"""

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules into a fresh current directory; what they import is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("path", "name", "spec"),
    [
        ("tasks_a.py", "app", "tasks_a"),
        ("tasks_a.py", "app", "tasks_a:app"),
        ("tasks_a.py", "app", "tasks_a.app"),
        ("tasks_a.py", "celery", "tasks_a"),
        ("tasks_a.py", "anything", "tasks_a"),
        ("tasks_a.py", "anything", "tasks_a:anything"),
        ("proj_a/__init__.py", "app", "proj_a"),
        ("proj_a/app.py", "app", "proj_a"),
        ("proj_a/app.py", "app", "proj_a.app"),
        ("proj_a/mesh.py", "app", "proj_a"),
        ("proj_a/celery.py", "app", "proj_a"),
        ("proj_a/sub/work.py", "app", "proj_a.sub.work"),
    ],
)
def test_an_app_is_found_where_celery_finds_it(write: Write, path: str, name: str, spec: str) -> None:
    write("proj_a/__init__.py", "")
    write("proj_a/sub/__init__.py", "")
    write(path, APP.format(name=name))

    assert load_functions(spec, []) == {"f": len}


def test_included_modules_are_imported_before_the_tasks_are_listed(write: Write) -> None:
    write("tasks_b.py", APP.format(name="app") + "\napp.include = ['more_b']\n")
    write("more_b.py", "from tasks_b import app\napp.tasks['g'] = max\n")
    write("third_b.py", "from tasks_b import app\napp.tasks['h'] = min\n")

    assert load_functions("tasks_b", ["third_b"]) == {"f": len, "g": max, "h": min}


def test_without_an_app_there_are_no_task_functions(write: Write) -> None:
    assert load_functions(None, []) == {}


@pytest.mark.parametrize(
    ("text", "spec", "said"),
    [
        ("", "missing_c", "there is no module 'missing_c'"),
        ("", "missing_c.app", "there is no module 'missing_c'"),
        ("", "tasks_c.deeper.app", "there is no module 'tasks_c.deeper'"),
        ("x = 1", "tasks_c", "found no app in module tasks_c"),
        ("x = 1", "tasks_c:x", "has no app called 'x'"),
        ("\nimport missing_library", "tasks_c", "tasks_c.py:2: ModuleNotFoundError: No module named 'missing_library'"),
        ("\n\nx = 1 +", "tasks_c", "tasks_c.py:3: SyntaxError: invalid syntax"),
        ("def f():\n    raise ValueError('two\\nlines')\nf()", "tasks_c", "tasks_c.py:2: ValueError: two lines"),
        ("import sys\nsys.exit(2)", "tasks_c", "tasks_c.py:2: SystemExit: 2"),
        ("from mesh import crontab\ncrontab(minute=60)", "tasks_c", "tasks_c.py:2: ConfigError: minute: '60'"),
        ("from mesh.schedules import schedule\n\nschedule(0)", "tasks_c", "tasks_c.py:3: ConfigError: "),
        (
            "from mesh import Mesh\napp = Mesh('c')\ndef add():\n    app.add_periodic_task(-1, 'f')\nadd()",
            "tasks_c",
            "tasks_c.py:4: ConfigError: entry 'f()'",
        ),
        (APP.format(name="one") + "two = App()", "tasks_c", "has 2 apps"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(write: Write, text: str, spec: str, said: str) -> None:
    write("tasks_c.py", text)

    with pytest.raises(ConfigError) as caught:
        load_app(spec)

    assert said in str(caught.value)
    assert f"-A {spec}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("tasks_f.py", "-A tasks_f"),
        ("./tasks_f", "-A tasks_f"),
        ("./tasks_f.py:work", "-A tasks_f:work"),
        ("proj_f/", "-A proj_f"),
        ("proj_f/tasks.py", "-A proj_f.tasks"),
        ("{here}/proj_f/tasks.py", "-A proj_f.tasks"),
        ("../elsewhere/more_f.py", "--workdir {parent}/elsewhere -A more_f"),
    ],
)
def test_a_path_in_place_of_a_module_is_answered_with_the_module(
    write: Write, tmp_path: Path, spec: str, meant: str
) -> None:
    for path in ("tasks_f.py", "proj_f/__init__.py", "proj_f/tasks.py", "../elsewhere/more_f.py"):
        write(path, APP.format(name="app"))
    spec = spec.format(here=tmp_path)

    with pytest.raises(ConfigError) as caught:
        load_app(spec)

    assert str(caught.value).startswith(f"-A {spec}: ") and "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"; did you mean {meant.format(parent=tmp_path.parent)}?")


@pytest.mark.parametrize("spec", ["./nothing_f", "nothing/tasks.py", "../x"])
def test_a_path_where_nothing_is_says_only_that_it_is_one(write: Write, spec: str) -> None:
    with pytest.raises(ConfigError, match=r"that is a path, not the name of a module$"):
        load_app(spec)
    with pytest.raises(ConfigError, match=r"that is a path, not the name of a module$"):
        load_functions(None, [spec])


def test_a_missing_included_module_is_named_by_its_option(write: Write) -> None:
    with pytest.raises(ConfigError, match="-I missing_d: there is no module"):
        load_functions(None, ["missing_d"])


def test_a_real_app_is_found(write: Write) -> None:
    write("tasks_e.py", "from mesh import Mesh\nwork = Mesh('e')\n@work.task\ndef f(): ...\n")

    assert list(load_functions("tasks_e", [])) == ["tasks_e.f"]


def test_an_entry_that_turns_out_to_be_wrong_later_is_told_where_it_was_added(write: Write) -> None:
    write(
        "tasks_g.py",
        "from mesh import Mesh\napp = Mesh('g')\napp.add_periodic_task(10, 'f', (1,), name='e')\n"
        "@app.task(name='f')\ndef f(): ...\n",
    )

    with pytest.raises(ConfigError, match=r"^\S*tasks_g\.py:3: entry 'e': .*takes 0 positional arguments"):
        entries_of(load_whole("tasks_g", []))
