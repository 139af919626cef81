"""The unit of systemd that keeps a node running. Pure: what is written, and what is typed then."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from mesh.errors import ConfigError
from nodes.supervision import HOPELESS

MARK = "# Written by `mesh service install`, which replaces it; `mesh service uninstall` removes it."
ROLES = {"up": "a router and a worker", "router": "a router", "worker": "a worker"}
RESTART_S = 2
STOP_S = 20  # beyond what tasks may take to drain, until systemd kills what is left

_PLAIN = re.compile(r"[A-Za-z0-9_@/.,:=+-]+")

# Of those that systemd has, what no task needs. Not among them: a /tmp of its own, for tasks and scripts meet there,
# and what leaves devices out, for some compute on them.
_HARDENED = ("NoNewPrivileges", "LockPersonality", "RestrictRealtime", "RestrictSUIDSGID")
_HARDENED_SYSTEM = (*_HARDENED, "ProtectKernelModules", "ProtectKernelTunables", "ProtectKernelLogs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """``user``: whose tasks, key and store; with ``system`` the machine runs it, else that user's own systemd."""

    mesh: str
    verb: str
    command: tuple[str, ...]
    directory: str
    environment_file: str
    drain_s: float
    user: str
    system: bool

    @property
    def name(self) -> str:
        return f"taskmesh-{self.mesh}" + ("" if self.verb == "up" else f"-{self.verb}")

    @property
    def runtime_dir(self) -> str | None:
        """Where this user's processes find the router, where it is not where they look by themselves."""
        return f"/run/taskmesh-{self.mesh}" if self.system else None


def text(service: Service) -> str:
    """The whole file. Raises ``ConfigError`` for what no unit can say."""
    for value in (*service.command, service.directory, service.environment_file):
        if "\n" in value:
            raise ConfigError(f"{value!r} has a line break, which no unit of systemd may have")
    command = " ".join(map(_quoted, service.command))
    unit = [f"Description=taskmesh {service.mesh}: {ROLES[service.verb]}"]
    if service.system:
        unit.append("After=network.target")
    unit.append("StartLimitIntervalSec=0")  # a machine that gets its network or disk late is no reason to give up
    body = ["Type=exec"]
    if service.system:
        body += [
            f"User={service.user}",
            f"RuntimeDirectory=taskmesh-{service.mesh}",
            "RuntimeDirectoryMode=0700",
            "RuntimeDirectoryPreserve=yes",  # a router and a worker of one mesh may be two units
            f"Environment=MESH_RUNTIME_DIR={service.runtime_dir}",
        ]
    body += [
        f"WorkingDirectory={_path(service.directory)}",
        f"EnvironmentFile=-{_path(service.environment_file)}",
        f"ExecStart={command}",
        "Restart=on-failure",
        f"RestartSec={RESTART_S}",
        f"RestartPreventExitStatus={HOPELESS}",
        "KillMode=mixed",  # tasks may finish: what runs them is told by its own agent
        f"TimeoutStopSec={service.drain_s + STOP_S:g}",
        "OOMPolicy=continue",  # a process without memory is replaced, and the task tried again
        *(f"{option}=yes" for option in (_HARDENED_SYSTEM if service.system else _HARDENED)),
    ]
    if service.system:
        body.append("ProtectSystem=full")
    wanted_by = "multi-user.target" if service.system else "default.target"
    sections = {"Unit": unit, "Service": body, "Install": [f"WantedBy={wanted_by}"]}
    return "\n".join([MARK, *("\n".join(["", f"[{name}]", *lines]) for name, lines in sections.items()), ""])


def systemctl(service: Service, *words: str) -> str:
    """A command about the service."""
    return " ".join(["sudo systemctl" if service.system else "systemctl --user", *words])


def next_steps(service: Service) -> list[str]:
    """What to type once the file is there."""
    steps = [systemctl(service, "daemon-reload"), systemctl(service, "enable", "--now", service.name)]
    if not service.system:
        steps.append(f"sudo loginctl enable-linger {shlex.quote(service.user)}")
    return steps


def notes(service: Service, set_here: Sequence[str]) -> list[str]:
    """What is to be known besides. ``set_here``: the variables that this shell has and the service has not."""
    said = []
    if service.runtime_dir is not None:
        said.append(
            f"scripts of {service.user} on this machine find the router with "
            f"`export MESH_RUNTIME_DIR={service.runtime_dir}`"
        )
    if set_here:
        said.append(
            f"set here, and not for the service: {', '.join(set_here)}; write them as NAME=value into "
            f"{service.environment_file}, which its user alone should read"
        )
    return said


def _quoted(argument: str) -> str:
    escaped = _percent(argument).replace("$", "$$")
    if _PLAIN.fullmatch(argument):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _path(path: str) -> str:
    return _percent(path)


def _percent(value: str) -> str:
    return value.replace("%", "%%")
