"""A click group that says what to type instead of a verb that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import click


class GuidedGroup(click.Group):
    """``instead``: what to say to who types a verb that others have for what is here."""

    def __init__(self, *, instead: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self._instead = instead

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say what to type instead of a verb that is not there."""
        name, known = args[0], self.list_commands(ctx)
        if name in known or name.startswith("-"):
            return super().resolve_command(ctx, args)
        if name in self._instead:
            raise click.UsageError(f"there is no {name!r}: {self._instead[name]}")
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise click.UsageError(f"there is no command {name!r}; {hint}")
