"""A file that appears under its name complete or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from mesh.errors import ConfigError, StoreError, StoreFull
from mesh.store.moved import sync_directory

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class DraftFile:
    """Raises ``ConfigError`` where a file is there and ``force`` is not given, ``StoreFull``, ``StoreError``."""

    def __init__(self, path: Path, *, force: bool) -> None:
        self._path = path
        self._draft = path.parent / f".{path.name}.{secrets.token_hex(4)}.draft"
        if os.path.lexists(path) and not force:
            raise ConfigError(f"{path} is there already; --force replaces it")
        if path.is_dir():
            raise ConfigError(f"{path} is a directory: give the name of a file")
        try:
            fd = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._translated(error) from None
        self._file = open(fd, "wb")  # noqa: SIM115  __exit__ closes it

    def write(self, data: bytes) -> None:
        """Add to it."""
        try:
            self._file.write(data)
        except OSError as error:
            raise self._translated(error) from None

    def __enter__(self) -> DraftFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._draft.rename(self._path)
                sync_directory(self._path.parent)
        except OSError as failed:
            raise self._translated(failed) from None
        finally:
            with suppress(OSError):  # what could not be written is not tried once more
                self._file.close()
            self._draft.unlink(missing_ok=True)

    def _translated(self, error: OSError) -> StoreError:
        if error.errno in _NO_ROOM:
            return StoreFull(f"{self._path}: the disk is full; nothing was left there")
        return StoreError(f"{self._path}: {error.strerror}")
