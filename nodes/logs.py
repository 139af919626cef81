"""The log of a node: one handler of the ``mesh`` loggers, on standard error."""

from __future__ import annotations

import logging

from mesh.errors import ConfigError

LINE = "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s"


def configure_logs(level: str) -> None:
    """Log at ``level`` (any case). Raises ``ConfigError``."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigError(f"there is no log level {level!r}: debug, info, warning, error or critical")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(LINE))
    logger = logging.getLogger("mesh")
    logger.setLevel(number)
    logger.handlers = [handler]
    logger.propagate = False
