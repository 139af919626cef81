"""Where a node's log goes: one handler of the ``mesh`` loggers, on standard error or in a file."""

from __future__ import annotations

import logging
from pathlib import Path

from mesh.errors import ConfigError

LINE = "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s"


def configure_logs(level: str, file: str | None = None) -> None:
    """Log at ``level`` (any case) to ``file``, or to standard error. Raises ``ConfigError``."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigError(f"there is no log level {level!r}: debug, info, warning, error or critical")
    try:
        handler = logging.StreamHandler() if file is None else logging.FileHandler(Path(file))
    except OSError as error:
        raise ConfigError(f"cannot log to {file}: {error.strerror}") from None
    handler.setFormatter(logging.Formatter(LINE))
    logger = logging.getLogger("mesh")
    logger.setLevel(number)
    logger.handlers = [handler]
    logger.propagate = False
