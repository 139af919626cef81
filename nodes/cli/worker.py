"""``mesh worker``: a worker node in this process."""

from __future__ import annotations

import os

import click

from mesh.model import Role
from nodes.cli.environment import check_environment, check_key
from nodes.cli.hostnames import file_name, node_name
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options
from nodes.cli.node_files import output_to, pid_file
from nodes.cli.node_options import log_options, scheduler_option, supervised_option, work_options
from nodes.worker import WorkerConfig, run_worker


@click.command()
@supervised_option
@shared_options
@work_options
@scheduler_option
@router_option
@log_options("info")
@pass_invocation
def worker(
    invocation: Invocation,
    concurrency: int | None,
    queues: tuple[str, ...],
    hostname: str | None,
    include: tuple[str, ...],
    max_tasks_per_child: int | None,
    time_limit: float | None,
    scheduler: bool,
    routers: tuple[str, ...],
    loglevel: str,
    logfile: str | None,
    pidfile: str | None,
) -> int:
    """Run a worker node in this process until SIGTERM or Ctrl-C; twice: at once.

    It waits for a router: see mesh router, or mesh up for both. Without -A it runs only functions that come with
    their code (app.submit, app.map). It does not see later changes of your code: stop it and start it again.
    """
    check_environment(invocation)
    name = node_name(hostname or f"worker{os.getpid()}")
    if routers:
        os.environ["MESH_ROUTERS"] = ",".join(routers)  # for tasks that submit tasks
    settings = invocation.settings()
    if not invocation.supervised:  # else its router is started beside it
        check_key(settings.mesh, routers, Role.WORKER)
    config = WorkerConfig(
        settings=settings,
        app=invocation.app,
        include=include,
        queues=queues or ("default",),
        concurrency=concurrency,
        name=name,
        routers=routers,
        max_tasks_per_child=max_tasks_per_child,
        time_limit_s=time_limit,
        scheduler=scheduler,
        loglevel=loglevel,
        supervised=invocation.supervised,
    )
    with pid_file(pidfile and file_name(pidfile, name)), output_to(logfile and file_name(logfile, name)):
        return run_worker(config)
