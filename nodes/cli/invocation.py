"""What the options say that all verbs share; they may stand before the verb, as Celery's, or after it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from mesh.errors import ConfigError
from mesh.settings import Settings
from nodes.shown import shown

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Invocation:
    """One use of the ``mesh`` command."""

    app: str | None = None
    mesh: str | None = None
    quiet: bool = False
    no_color: bool = False
    supervised: bool = False

    def settings(self) -> Settings:
        """The settings of the environment and the command line. Raises ``ConfigError``."""
        return Settings.from_environment(mesh=self.mesh)

    def note(self, text: str) -> None:
        """Tell the user something that is no error."""
        if not self.quiet:
            click.echo(f"mesh: note: {shown(text)}", err=True)


def _keep(field: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value:
            setattr(ctx.ensure_object(Invocation), field, value)
        return value

    return keep


def _join_mesh(ctx: click.Context, parameter: click.Parameter, name: str | None) -> None:
    if name:
        ctx.ensure_object(Invocation).mesh = name
        # Processes started from here join it too, and so do apps in them that submit tasks of their own.
        os.environ["MESH_NAME"] = name


def _change_directory(ctx: click.Context, parameter: click.Parameter, directory: str | None) -> None:
    if directory:
        try:
            os.chdir(directory)
        except OSError as error:
            raise ConfigError(f"--workdir {directory}: {error.strerror}") from None


def shared_options(function: F) -> F:
    """The options that every verb takes, and the group too."""
    options = [
        click.option(
            "-A",
            "--app",
            metavar="APP",
            expose_value=False,
            callback=_keep("app"),
            help="The app with your tasks: a module (tasks, for ./tasks.py), module:attribute or package.",
        ),
        click.option(
            "--mesh",
            metavar="NAME",
            expose_value=False,
            callback=_join_mesh,
            help="The name of the mesh to use (else MESH_NAME, else 'default').",
        ),
        click.option(
            "--workdir",
            metavar="DIR",
            is_eager=True,
            expose_value=False,
            callback=_change_directory,
            help="Change to this directory first.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=_keep("quiet"),
            help="No notes: print only what was asked for.",
        ),
        click.option(
            "-C", "--no-color", is_flag=True, expose_value=False, callback=_keep("no_color"), help="No colours."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def router_option(function: F) -> F:
    """--router, for verbs that look for one."""
    return click.option(
        "--router",
        "routers",
        multiple=True,
        metavar="ADDR",
        help="A router's address, host or host:port; may be repeated (else MESH_ROUTERS, else those that are found).",
    )(function)


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)
