"""Looks whether the files of a store are its user's alone: who may write to them could have it run his code."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from mesh.errors import StoreError

_BESIDE = ("", "-wal", "-shm", ".tail", ".lock", ".ballast", ".moved")
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def refuse_foreign_files(path: Path) -> None:
    """Raise ``StoreError`` where a file of the store at ``path`` is a link, another user's, or open to others."""
    for suffix in _BESIDE:
        _check(Path(f"{path}{suffix}"), stat.S_ISREG, "a file")
    _check(Path(f"{path}.blobs"), stat.S_ISDIR, "a directory")


def _check(path: Path, is_kind: Callable[[int], bool], kind: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not is_kind(found.st_mode) or found.st_uid != os.geteuid():
        raise StoreError(f"{path} is not {kind} of user {os.geteuid()}: choose a --store in a directory of your own")
    if found.st_mode & _OTHERS_MAY_WRITE:
        raise StoreError(f"{path}: others may write to it; type `chmod go-w {path}`, if nobody has")
