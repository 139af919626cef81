"""Imports the user's modules and finds the task functions in them.

``-A`` takes what Celery's takes: ``tasks``, ``tasks:app``, ``proj`` (also ``proj.app``, ``proj.mesh`` and
``proj.celery``, as modules or attributes).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mesh.errors import ConfigError
from mesh.runtime.failure import users_line
from mesh.runtime.registry import TaskFunction

ATTRIBUTES = ("app", "mesh", "celery")


def load_functions(app: str | None, include: Sequence[str]) -> dict[str, TaskFunction]:
    """Import the app and the modules to include; return its task functions by name. Raises ``ConfigError``."""
    found = load_whole(app, include)
    return dict(found.tasks) if found is not None else {}


def load_whole(app: str | None, include: Sequence[str]) -> Any:
    """Import the app and the modules to include; the app, None where none is named. Raises ``ConfigError``."""
    found = load_app(app) if app is not None else None
    for name in getattr(found, "include", ()):
        import_module(name, f"include of {app}: {name}")
    for name in include:
        import_module(name, f"-I {name}")
    return found


def load_app(spec: str) -> Any:
    """Import the app that ``-A`` names. Raises ``ConfigError``."""
    put_directory_on_path(os.getcwd())
    module_name, _, attribute = spec.partition(":")
    option = f"-A {spec}"
    _refuse_path(module_name, option)
    if attribute:
        module = import_module(module_name, option)
        found = getattr(module, attribute, None)
        if isinstance(found, ModuleType):
            found = _app_in_module(found, option)
        if not _is_app(found):
            raise ConfigError(f"{option}: module {module_name} has no app called {attribute!r}")
        return found
    parent, _, last = module_name.rpartition(".")
    if parent and not _can_find(module_name):
        found = getattr(import_module(parent, option), last, None)
        if _is_app(found):
            return found
    return _app_in_module(import_module(module_name, option), option)


def import_module(name: str, option: str) -> ModuleType:
    """Import a module of the user. Raises ``ConfigError`` that says in one line where it went wrong."""
    put_directory_on_path(os.getcwd())
    _refuse_path(name, option)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            where = f"in {os.getcwd()} or on sys.path"
            raise ConfigError(f"{option}: there is no module {error.name!r} {where}{_meant(name, option)}") from None
        raise ConfigError(f"{option}: {_explain(error)}") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{option}: {_explain(error)}") from error


def put_directory_on_path(directory: str) -> None:
    """Let modules of this directory be imported, before any others of their name."""
    if directory not in sys.path:
        sys.path.insert(0, directory)


def _refuse_path(name: str, option: str) -> None:
    if os.sep in name or name.startswith("."):
        raise ConfigError(f"{option}: that is a path, not the name of a module{_meant(name, option)}")


def _meant(name: str, option: str) -> str:
    """What who typed the path of a module may have meant; empty where there is none at that path."""
    place = Path(os.path.abspath(name.removesuffix(".py")))
    if not (place.is_dir() or place.with_name(f"{place.name}.py").is_file()):
        return ""
    inside = os.path.relpath(place)
    if inside.startswith("."):
        return f"; did you mean --workdir {place.parent} {option.replace(name, place.name)}?"
    return f"; did you mean {option.replace(name, inside.replace(os.sep, '.'))}?"


def _app_in_module(module: ModuleType, option: str) -> Any:
    for name in ATTRIBUTES:
        found = getattr(module, name, None)
        if _is_app(found):
            return found
    apps = {id(value): value for value in vars(module).values() if _is_app(value)}
    if len(apps) == 1:
        return next(iter(apps.values()))
    if len(apps) > 1:
        raise ConfigError(f"{option}: module {module.__name__} has {len(apps)} apps: say which, as in -A module:app")
    if hasattr(module, "__path__"):
        for name in ATTRIBUTES:
            submodule = f"{module.__name__}.{name}"
            if _can_find(submodule):
                return _app_in_module(import_module(submodule, option), option)
    raise ConfigError(
        f"{option}: found no app in module {module.__name__}: it needs a line such as app = Mesh({module.__name__!r})"
    )


def _is_app(value: object) -> bool:
    if isinstance(value, type | ModuleType):
        return False
    return isinstance(getattr(value, "tasks", None), Mapping) and hasattr(value, "main")


def _can_find(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _explain(error: BaseException) -> str:
    """What was raised and the innermost line of the user's code that led to it."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    message = " ".join(str(error).split()) or "(no message)"
    return f"{users_line(error, __file__)}{type(error).__name__}: {message}"
