"""``mesh doctor``: what keeps this machine and the routers apart, and what to do."""

from __future__ import annotations

import json
import logging
import re
import sys

import click
from rich.console import Console

from nodes.cli.environment import check_environment
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options
from nodes.doctor.examine import Wanted, examine
from nodes.doctor.findings import exit_code
from nodes.doctor.view import data, lines


def _key_id(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch("[0-9a-f]{8}", value):
        raise click.BadParameter("a key id has 8 digits of 0-9 and a-f; `mesh key` shows it")
    return value


@click.command()
@shared_options
@router_option
@click.option("--interface", "interfaces", multiple=True, metavar="NAME", help="As for mesh up --lan.")
@click.option(
    "--expect", metavar="KEYID", callback=_key_id, help="The key id that `mesh key` shows on another machine."
)
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object, on one line.")
@pass_invocation
def doctor(
    invocation: Invocation,
    routers: tuple[str, ...],
    interfaces: tuple[str, ...],
    expect: str | None,
    as_json: bool,
) -> int:
    """Look at the key, interfaces, multicast, and each router: its port, clock, speed, versions and store.

    It takes less than ten seconds, and changes nothing. What is not right is said with what to do about it; exit code 1
    where anything fails. Run it on both machines that do not find each other.
    """
    check_environment(invocation)
    logging.getLogger("mesh").addHandler(logging.NullHandler())  # what is wrong is said as a finding
    settings = invocation.settings()
    findings = examine(settings, Wanted(routers, interfaces, expect))
    if as_json:
        click.echo(json.dumps(data(settings.mesh, findings)))
    elif sys.stdout.isatty():
        Console(no_color=invocation.no_color or None, highlight=False).print(lines(findings), soft_wrap=True)
    else:
        click.echo(lines(findings).plain)
    return exit_code(findings)
