"""Files that are their user's alone: read only where nobody else can, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mesh.errors import ConfigError


def read_private(path: Path, bytes_max: int) -> str | None:
    """The text of ``path``; None where it is not there.

    Raises ``ConfigError`` for a file that another user owns, can read or change, or that is too large to be one of
    ours. No error repeats what is in it.
    """
    try:
        # A pipe of that name would have its reader wait for somebody to write.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path} is no file")
        if found.st_uid != os.getuid():
            raise ConfigError(
                f"{path} belongs to user {found.st_uid}, you are {os.getuid()}: type `sudo chown {os.getuid()} {path}`"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigError(f"{path} can be read by others: type `chmod 600 {path}`, and think of a new key")
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise ConfigError(f"{path} has more than {bytes_max} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text") from None


def create_private(path: Path, text: str) -> bool:
    """Write ``text`` to ``path`` unless something is there; whether it was written."""
    with _draft(path, text) as draft:
        try:
            # link() fails where the file exists and shows it complete where it does not: a rename would replace the
            # key another process has just begun to use.
            os.link(draft, path)
        except FileExistsError:
            return False
        return True


def replace_private(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in place of what is there: who reads sees the one or the other, whole."""
    with _draft(path, text) as draft:
        os.replace(draft, path)


@contextmanager
def _draft(path: Path, text: str) -> Iterator[Path]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
