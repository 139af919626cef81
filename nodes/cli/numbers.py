"""Numbers as options: an error names them in a user's words."""

from __future__ import annotations

from math import isfinite
from typing import Any

import click


class Seconds(click.FloatRange):
    """A duration; "for ever" is to leave the option out."""

    name = "number of seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take no ``inf`` and ``nan``, which no clock can wait for."""
        seconds = super().convert(value, param, ctx)
        if not isfinite(seconds):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return seconds


class Count(click.IntRange):
    """How many."""

    name = "whole number"
