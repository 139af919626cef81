"""``mesh scheduler``: a node that says what periodic tasks are due, and runs none."""

from __future__ import annotations

import os

import click

from mesh.errors import ConfigError
from nodes.cli.celery_flags import beat_flags
from nodes.cli.environment import check_environment
from nodes.cli.hostnames import file_name, node_name
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options
from nodes.cli.node_files import output_to, pid_file
from nodes.cli.node_options import log_options, supervised_option
from nodes.worker import WorkerConfig, run_worker


@click.command()
@supervised_option
@shared_options
@click.option("-n", "--hostname", metavar="NAME", help="Its name; %h is the host, %n the host without its domain.")
@router_option
@log_options("info")
@beat_flags
@pass_invocation
def scheduler(
    invocation: Invocation,
    hostname: str | None,
    routers: tuple[str, ...],
    loglevel: str,
    logfile: str | None,
    pidfile: str | None,
) -> int:
    """Say for the mesh what periodic tasks are due, until SIGTERM or Ctrl-C, and run none.

    It is not needed where workers load the app: one of them does it. Of several nodes that may, one is the leader at a
    time; where it ends, the next is.
    """
    check_environment(invocation)
    if invocation.app is None:
        raise ConfigError("which app? Its code says what is periodic: add -A")
    name = node_name(hostname or f"scheduler{os.getpid()}")
    settings = invocation.settings()
    config = WorkerConfig(
        settings=settings, app=invocation.app, queues=(), concurrency=0, name=name, routers=routers, loglevel=loglevel
    )
    with pid_file(pidfile and file_name(pidfile, name)), output_to(logfile and file_name(logfile, name)):
        return run_worker(config)
