"""The log of a node: one handler of the ``mesh`` loggers, on standard error."""

from __future__ import annotations

import logging

from mesh.errors import ConfigError
from nodes.shown import shown_lines

LINE = "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s"


class _Lines(logging.Formatter):
    """What a peer said is in many a line: all that follows the first is set in, so that none can pass for another."""

    def format(self, record: logging.LogRecord) -> str:
        return shown_lines(super().format(record), "  ")


def configure_logs(level: str) -> None:
    """Log at ``level`` (any case). Raises ``ConfigError``."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigError(f"there is no log level {level!r}: debug, info, warning, error or critical")
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines(LINE))
    logger = logging.getLogger("mesh")
    logger.setLevel(number)
    logger.handlers = [handler]
    logger.propagate = False
