"""``mesh router``: a router in this process."""

from __future__ import annotations

import os

import click

from mesh.errors import ConfigError
from nodes.cli.environment import check_environment
from nodes.cli.hostnames import file_name, node_name
from nodes.cli.invocation import Invocation, pass_invocation, shared_options
from nodes.cli.lan_look import look_at_lan
from nodes.cli.node_files import output_to, pid_file
from nodes.cli.node_options import lan_choice, lan_options, log_options, store_options, store_url, supervised_option
from nodes.router import RouterConfig
from nodes.router_start import run_router


@click.command()
@supervised_option
@shared_options
@store_options
@click.option(
    "--listen",
    default="127.0.0.1:*",
    show_default=True,
    metavar="ADDR",
    help="Where to listen, as host:port, besides this user's own socket; 'off' for nowhere. Needs the key.",
)
@lan_options
@click.option(
    "-n",
    "--hostname",
    metavar="NAME",
    help="The router's name; %h is the host, %n the host without its domain, %d the domain.",
)
@click.option(
    "--salvage", is_flag=True, help="Start on a damaged store with what can still be read, and say what is lost."
)
@click.option("--force", is_flag=True, help="Start on a store that was moved elsewhere by `mesh store migrate`.")
@log_options("info")
@pass_invocation
def router(
    invocation: Invocation,
    store: str | None,
    level: str | None,
    listen: str,
    lan: bool,
    port: int | None,
    interfaces: tuple[str, ...],
    advertise: tuple[str, ...],
    hostname: str | None,
    salvage: bool,
    force: bool,
    loglevel: str,
    logfile: str | None,
    pidfile: str | None,
) -> int:
    """Run a router in this process until SIGTERM or Ctrl-C.

    It accepts tasks, keeps them in its store, and hands them to workers.
    """
    check_environment(invocation)
    name = node_name(hostname or "router")
    settings, on_lan = invocation.settings(), lan_choice(lan, port, interfaces, advertise)
    if on_lan is not None and not invocation.supervised:  # else its supervisor has looked
        look_at_lan(settings.mesh, on_lan.interfaces, invocation.note)
    config = RouterConfig(
        settings=settings,
        store=store_url(store, level, os.environ),
        tcp=listen_address(listen),
        lan=on_lan,
        name=name,
        loglevel=loglevel,
        salvage=salvage,
        force=force,
    )
    with pid_file(pidfile and file_name(pidfile, name)), output_to(logfile and file_name(logfile, name)):
        return run_router(config)


def listen_address(text: str) -> str | None:
    """``host:port`` as ZeroMQ wants it; the port may be ``*``. Raises ``ConfigError``."""
    if text == "off":
        return None
    host, colon, port = text.removeprefix("tcp://").rpartition(":")
    if not host or not colon or "/" in host or not (port == "*" or (port.isdecimal() and 0 < int(port) < 65_536)):
        raise ConfigError(f"--listen {text!r}: write host:port, host:* or off")
    return f"tcp://{host}:{port}"
