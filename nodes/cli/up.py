"""``mesh up``: a router and a worker on this machine, kept running."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

import click

from mesh.core.replenishing import Replenishing
from mesh.errors import ConfigError, NoKey
from mesh.model import Role
from mesh.net.find import named_routers, routers_here
from mesh.net.interfaces import is_for_others
from mesh.net.keys import MeshKey, load
from mesh.net.lan import LanOptions
from mesh.settings import Settings, command_of
from mesh.store.place import default_path
from nodes.banner import print_banner
from nodes.cli.environment import check_environment
from nodes.cli.hostnames import file_name, node_name
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options
from nodes.cli.lan_look import look_at_lan
from nodes.cli.node_files import output_to, pid_file
from nodes.cli.node_options import (
    lan_choice,
    lan_options,
    log_options,
    scheduler_option,
    store_options,
    store_url,
    supervised_option,
    work_options,
)
from nodes.cli.numbers import Count
from nodes.router_watch import RouterWatch, open_watch
from nodes.supervisor import Supervisor, node_command

ROUTERS_MOST = 16  # that one mesh may want
STOP_MARGIN_S = 5.0  # beyond what a worker may take to drain, before it is killed


def _for_one_start(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:  # it would be done again whenever the router is started anew
        flag = f"--{parameter.name}"
        raise click.UsageError(
            f"{flag} is for one start: type `mesh router {flag}` with the same --mesh and --store, "
            "stop it once it is up, and start this again"
        )


@click.command()
@supervised_option
@shared_options
@work_options
@store_options
@lan_options
@click.option(
    "--routers",
    "wanted",
    type=Count(1, ROUTERS_MOST),
    metavar="N",
    help="With --lan: start a router here too when the mesh has fewer than N for some seconds.  [default: 1]",
)
@scheduler_option
@router_option
@log_options("warning")
@click.option("--salvage", is_flag=True, hidden=True, expose_value=False, callback=_for_one_start)
@click.option("--force", is_flag=True, hidden=True, expose_value=False, callback=_for_one_start)
@pass_invocation
def up(
    invocation: Invocation,
    concurrency: int | None,
    queues: tuple[str, ...],
    hostname: str | None,
    include: tuple[str, ...],
    max_tasks_per_child: int | None,
    time_limit: float | None,
    store: str | None,
    level: str | None,
    lan: bool,
    port: int | None,
    interfaces: tuple[str, ...],
    advertise: tuple[str, ...],
    wanted: int | None,
    scheduler: bool,
    routers: tuple[str, ...],
    loglevel: str,
    logfile: str | None,
    pidfile: str | None,
) -> int:
    """Start a router and a worker on this machine, and keep them running until SIGTERM or Ctrl-C.

    For an app in ./tasks.py type: mesh up -A tasks

    The router keeps tasks and hands them out, the worker runs them: without -A, only functions that come with their
    code (app.submit, app.map). A worker does not see later changes of your code: stop it and start it again.

    Where a router of this mesh runs here already, or --router names one, only the worker is started; with --lan also
    where none ran here before, and then a router is started once the mesh has had too few for some seconds. Stopping
    lets running tasks finish; a second signal does not.
    """
    check_environment(invocation)
    if wanted is not None:
        if not lan:
            raise ConfigError("--routers is about the LAN: add --lan")
        os.environ.setdefault("MESH_SCHEDULE_ROUTERS", str(wanted))  # for the router, too
    settings = invocation.settings()
    name = node_name(hostname or f"worker{os.getpid()}")
    url = store_url(store, level, os.environ)
    on_lan = lan_choice(lan, port, interfaces, advertise)
    needed, watch = _look_around(settings, routers, invocation, url, wanted or 1, on_lan)
    shared = _shared_arguments(invocation, settings.mesh, loglevel)
    work = _work_arguments(name, concurrency, queues, include, max_tasks_per_child, time_limit, scheduler=scheduler)
    commands = {"worker": node_command(["worker", *shared, *work, *_each("--router", routers)])}
    if needed or watch is not None:
        router = node_command(["router", *shared, *_arguments({"--store": url}), *_lan_arguments(on_lan)])
        commands = {"router": router} | commands
    with pid_file(pidfile and file_name(pidfile, name)), output_to(logfile and file_name(logfile, name)):
        supervisor = _supervisor(commands, settings, watch)
        if not invocation.quiet:
            told = url if needed else "with the router"
            threading.Thread(
                target=print_banner, args=(settings, routers, name, told, lan, needed), daemon=True
            ).start()
        return supervisor.run()


def _shared_arguments(invocation: Invocation, mesh: str, loglevel: str) -> list[str]:
    """What both nodes are started with."""
    values = {"--mesh": mesh, "-A": invocation.app, "-l": loglevel, "--supervised-by": os.getpid()}
    return _arguments(values, {"-q": invocation.quiet})


def _look_around(
    settings: Settings,
    routers: Sequence[str],
    invocation: Invocation,
    url: str | None,
    wanted: int,
    lan: LanOptions | None,
) -> tuple[bool, RouterWatch | None]:
    """Whether a router is to be started here now, and what else sees when one is to be."""
    if lan is not None:
        _check_whole(settings.mesh)
    needed = _needs_router(settings, routers, invocation, url, lan=lan is not None)
    if needed and lan is not None:
        look_at_lan(settings.mesh, lan.interfaces, invocation.note)
    if lan is None or (needed and _must_be_here(settings, url)):
        return needed, None
    return False, open_watch(settings, routers, Replenishing(wanted, secrets.token_hex(8)))


def _check_whole(mesh: str) -> None:
    """Raise ``NoKey`` where the key that is here makes no router: with --lan one may be started here any time."""
    with suppress(NoKey):
        key = load(mesh, os.environ)
        if isinstance(key, MeshKey):
            return
        instead = f"type `{command_of(mesh)} worker` instead, or " if key.role is Role.WORKER else ""
        raise ConfigError(
            f"this machine has a {key.role}'s key, and `{command_of(mesh)} up --lan` may start a router, which takes "
            f"the whole key of the mesh: {instead}type `{command_of(mesh)} join --force`, with what "
            f"`{command_of(mesh)} key show --secret` prints where that is"
        )


def _supervisor(commands: Mapping[str, list[str]], settings: Settings, watch: RouterWatch | None) -> Supervisor:
    """``watch``: starts the router that is held in reserve."""
    supervisor = Supervisor(
        commands,
        stop_s=settings.drain_s + STOP_MARGIN_S,
        report=lambda text: click.echo(f"mesh: {text}", err=True),
        reserve=["router"] if watch is not None else [],
    )
    if watch is not None:
        watch.run_in_background(lambda: _start_router(supervisor))
    return supervisor


def _must_be_here(settings: Settings, url: str | None) -> bool:
    """Whether to start a router whatever others there are: a store may hold tasks, and a new key has no other mesh."""
    if url is not None or os.environ.get("MESH_STORE") or default_path(settings.mesh, os.environ).exists():
        return True
    try:
        load(settings.mesh, os.environ)
    except NoKey:
        return True
    return False


def _start_router(supervisor: Supervisor) -> None:
    click.echo("mesh: the mesh has too few routers: starting one here", err=True)
    supervisor.want("router")


def _needs_router(
    settings: Settings, routers: Sequence[str], invocation: Invocation, url: str | None, *, lan: bool
) -> bool:
    named = named_routers(routers, os.environ)
    there = routers_here(settings.mesh, os.environ) if named is None else named.found
    for found in there:
        if lan and not any(is_for_others(endpoint) for endpoint in found.endpoints):
            raise ConfigError(
                f"the router {found.endpoints[0]} ({found.how}) is there already, and listens to this machine only: "
                "stop it first, or leave --lan out"
            )
        ignored = "; --store and --level are for a router, and not used" if url else ""
        invocation.note(f"uses the router {found.endpoints[0]} ({found.how}){ignored}")
    return not there


def _work_arguments(
    name: str,
    concurrency: int | None,
    queues: Sequence[str],
    include: Sequence[str],
    max_tasks_per_child: int | None,
    time_limit: float | None,
    *,
    scheduler: bool,
) -> list[str]:
    values = {
        "-n": name.replace("%", "%%"),
        "-c": concurrency,
        "-Q": ",".join(queues) or None,
        "-I": ",".join(include) or None,
        "--max-tasks-per-child": max_tasks_per_child,
        "--time-limit": time_limit,
    }
    return _arguments(values, {"--no-scheduler": not scheduler})


def _lan_arguments(lan: LanOptions | None) -> list[str]:
    if lan is None:
        return []
    return [
        "--lan",
        *_arguments({"--port": lan.port}),
        *_each("--interface", lan.interfaces),
        *_each("--advertise", lan.advertise),
    ]


def _each(flag: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (flag, value)]


def _arguments(values: Mapping[str, object], switches: Mapping[str, bool] | None = None) -> list[str]:
    given = [part for flag, value in values.items() if value is not None for part in (flag, str(value))]
    return given + [flag for flag, wanted in (switches or {}).items() if wanted]
