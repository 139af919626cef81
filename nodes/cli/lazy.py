"""A click group whose commands are imported when they are used, so that ``mesh version`` does not load the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from nodes.cli.guided import GuidedGroup


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is, as ``module:attribute``, and its line in the list of commands."""

    place: str
    help: str


class LazyGroup(GuidedGroup):
    """``lazy``: the commands by name."""

    def __init__(self, *, lazy: Mapping[str, LazyCommand], instead: Mapping[str, str], **options: Any) -> None:
        super().__init__(instead=instead, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order they were given."""
        return [*self._lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command. Raises ``UsageError`` for one whose package is not installed."""
        known = self._lazy.get(cmd_name)
        if known is None:
            return None
        module, _, attribute = known.place.partition(":")
        try:
            command: click.Command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
            raise click.UsageError(f"{cmd_name!r} is not part of this installation: there is no {module}") from None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, known.help) for name, known in self._lazy.items()])
