"""The files of a node that runs in the background: where its output goes, and its process id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from mesh.errors import ConfigError


@contextmanager
def output_to(path: str | None) -> Iterator[None]:
    """Append all output of this process, and of those it starts, to a file. Raises ``ConfigError``."""
    if path is None:
        yield
        return
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"--logfile {path}: {error.strerror}") from None
    before = [os.dup(number) for number in (1, 2)]
    for number in (1, 2):
        os.dup2(file, number)
    os.close(file)
    try:
        yield
    finally:  # the reason why a node ends is for the terminal
        for number, original in zip((1, 2), before):
            os.dup2(original, number)
            os.close(original)


@contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Have this process's id in a file, while it lives. Raises ``ConfigError`` where a living process's id is there."""
    if path is None:
        yield
        return
    file = Path(path)
    try:
        if file.exists() and _lives(file.read_text()):
            raise ConfigError(f"--pidfile {path}: process {file.read_text().strip()} is running; stop it first")
        file.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise ConfigError(f"--pidfile {path}: {error.strerror}") from None
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _lives(text: str) -> bool:
    pid = int(text) if text.strip().isdecimal() else 0
    return pid not in (0, os.getpid()) and psutil.pid_exists(pid)
