"""Options that nodes are started with, shared by ``mesh up``, ``mesh router`` and ``mesh worker``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import click

from mesh.errors import ConfigError
from mesh.net.interfaces import parse_address
from mesh.net.lan import PORTS, LanOptions
from mesh.store.redis.address import is_redis
from nodes.cli.celery_flags import celery_flags
from nodes.cli.invocation import Invocation
from nodes.cli.numbers import Count, Seconds
from nodes.supervised import end_with

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = ("debug", "info", "warning", "error", "critical")
DURABILITY = ("disk", "process", "memory")


def comma_separated(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """``-Q a,b -Q c`` as one tuple."""
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def log_options(default: str) -> Callable[[F], F]:
    """-l, -f and --pidfile."""

    def add(function: F) -> F:
        function = click.option("--pidfile", metavar="FILE", help="Keep the process id in this file while it runs.")(
            function
        )
        function = click.option(
            "-f",
            "--logfile",
            metavar="FILE",
            help="Append all output to this file; %n is the node's name before the @, %h after it.",
        )(function)
        return click.option(
            "-l",
            "--loglevel",
            type=click.Choice(LEVELS, case_sensitive=False),
            default=default,
            show_default=True,
            metavar="LEVEL",
            help="Log from this level up: debug, info, warning, error or critical.",
        )(function)

    return add


def store_options(function: F) -> F:
    """--store and --level."""
    function = click.option(
        "--level",
        type=click.Choice(DURABILITY),
        help="What accepted tasks survive: a power cut (disk), kill -9 (process), nothing (memory).  [default: disk]",
    )(function)
    return click.option(
        "--store",
        metavar="URL",
        help="Where accepted tasks and results are kept: sqlite:///absolute/path.db, redis://host or memory:// "
        "(else MESH_STORE, else a file of yours).",
    )(function)


def lan_options(function: F) -> F:
    """--lan, --port, --interface and --advertise."""
    options = [
        click.option(
            "--lan", is_flag=True, help="Listen to other machines, too: to those that have the key, and to nobody else."
        ),
        click.option(
            "--port",
            type=Count(1, 65_535),
            metavar="N",
            help=f"The port to listen at on the LAN.  [default: the first free one of {PORTS[0]} to {PORTS[-1]}]",
        ),
        click.option(
            "--interface",
            "interfaces",
            multiple=True,
            metavar="NAME",
            help="Listen on this interface of the LAN only, such as eth0; may be repeated.  [default: all but those of "
            "containers and tunnels]",
        ),
        click.option(
            "--advertise",
            multiple=True,
            metavar="ADDR",
            help="Tell others this IP address instead of those of the interfaces; may be repeated.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def lan_choice(
    lan: bool, port: int | None, interfaces: tuple[str, ...], advertise: tuple[str, ...]
) -> LanOptions | None:
    """What ``lan_options`` say; None for no LAN. Raises ``ConfigError`` where they contradict each other."""
    if lan:
        for address in advertise:
            parse_address(address)
        return LanOptions(port=port, interfaces=interfaces, advertise=advertise)
    given = {"--port": port, "--interface": interfaces, "--advertise": advertise}
    for flag, value in given.items():
        if value:
            raise ConfigError(f"{flag} is about the LAN: add --lan")
    return None


def work_options(function: F) -> F:
    """What a worker runs, and how; the names of its options are Celery's."""
    options = [
        click.option(
            "-c",
            "--concurrency",
            type=Count(1, 4096),
            metavar="N",
            help="Processes that run tasks, one at a time each.  [default: one per CPU]",
        ),
        click.option(
            "-Q",
            "--queues",
            multiple=True,
            callback=comma_separated,
            metavar="NAMES",
            help="Queues to serve, comma-separated.  [default: default]",
        ),
        click.option(
            "-n",
            "--hostname",
            metavar="NAME",
            help="The worker's name; %h is the host, %n the host without its domain, %d the domain.",
        ),
        click.option(
            "-I",
            "--include",
            multiple=True,
            callback=comma_separated,
            metavar="MODULES",
            help="More modules with tasks, comma-separated.",
        ),
        click.option(
            "--max-tasks-per-child", type=Count(min=1), metavar="N", help="Replace a process after it has run N tasks."
        ),
        click.option(
            "--time-limit",
            type=Seconds(min=0, min_open=True),
            metavar="S",
            help="Kill tasks after S seconds, where they have no limit of their own.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return celery_flags(function)


def scheduler_option(function: F) -> F:
    """--scheduler/--no-scheduler."""
    return click.option(
        "--scheduler/--no-scheduler",
        default=True,
        help="Whether it may say for the mesh what periodic tasks are due.  [default: yes]",
    )(function)


def _end_with_supervisor(ctx: click.Context, parameter: click.Parameter, pid: int | None) -> None:
    if pid is not None:
        ctx.ensure_object(Invocation).supervised = True
        end_with(pid)


def supervised_option(function: F) -> F:
    """--supervised-by PID, which only a supervisor gives."""
    return click.option(
        "--supervised-by", type=int, hidden=True, is_eager=True, expose_value=False, callback=_end_with_supervisor
    )(function)


def store_url(store: str | None, level: str | None, environ: Mapping[str, str]) -> str | None:
    """The store's address with the level in it. Raises ``ConfigError`` for two that contradict each other."""
    if level is None:
        return store
    given = store or environ.get("MESH_STORE")
    if not given:
        return "memory://" if level == "memory" else f"sqlite://?level={level}"
    if is_redis(given):
        raise ConfigError("--level says nothing to a store on Redis: what survives there is up to its server")
    if _level(given) == level:
        return given
    if level == "memory" or _level(given) is not None:
        raise ConfigError(f"--level {level} contradicts the store {given}: leave one of them out")
    return f"{given}?level={level}"


def _level(url: str) -> str | None:
    if url.startswith("memory://"):
        return "memory"
    return dict(parse_qsl(urlsplit(url).query)).get("level")
