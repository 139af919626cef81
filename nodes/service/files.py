"""Where units of systemd are, and that none is touched that we did not write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mesh.errors import ConfigError
from nodes.service.unit import MARK

SYSTEM_UNITS = Path("/etc/systemd/system")


def unit_path(name: str, environ: Mapping[str, str], *, system: bool) -> Path:
    """Where the unit of that name is or would be."""
    if system:
        return SYSTEM_UNITS / f"{name}.service"
    config = environ.get("XDG_CONFIG_HOME")
    base = Path(config) if config else Path(environ.get("HOME") or Path.home()) / ".config"
    return base / "systemd" / "user" / f"{name}.service"


def write(path: Path, text: str) -> None:
    """Write it whole. Raises ``ConfigError`` where another's is there, or it cannot be written."""
    is_ours(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text)
        draft.chmod(0o644)
        draft.replace(path)
    except OSError as error:
        raise _refused("write", path, error) from None


def remove(path: Path) -> None:
    """Remove it, and what enabled it. Raises ``ConfigError`` where it is not there, another's, or cannot be removed."""
    if not is_ours(path):
        raise ConfigError(f"{path} is not there")
    try:
        for link in path.parent.glob(f"*.wants/{path.name}"):
            link.unlink()
        path.unlink()
    except OSError as error:
        raise _refused("remove", path, error) from None


def is_ours(path: Path) -> bool:
    """Whether it is there. Raises ``ConfigError`` for a file that we did not write."""
    try:
        found = path.read_text(errors="replace")
    except FileNotFoundError:
        if not path.is_symlink():  # to nowhere: systemd's word for a unit that is masked, or somebody's
            return False
        found = ""
    except OSError as error:
        raise _refused("read", path, error) from None
    if found.partition("\n")[0] != MARK:
        raise ConfigError(f"{path} was not written by `mesh service install`: move it away, or change it by hand")
    return True


def _refused(what: str, path: Path, error: OSError) -> ConfigError:
    hint = ": type it with sudo, or with --user" if isinstance(error, PermissionError) else ""
    return ConfigError(f"cannot {what} {path}: {error.strerror}{hint}")
