"""``mesh version``."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version as installed

import click

from nodes.cli.invocation import shared_options

LIBRARIES = ("pyzmq", "msgspec", "cloudpickle", "sqlite-utils", "click", "rich")


@click.command()
@shared_options
@click.option("--json", "as_json", is_flag=True, help="For scripts: with the versions of what it stands on.")
def version(as_json: bool) -> None:
    """Show the version."""
    print_version(as_json)


def print_version(as_json: bool) -> None:
    """Print it on standard output."""
    own = installed("taskmesh")
    if not as_json:
        click.echo(f"mesh {own}")
        return
    facts = {
        "mesh": own,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: installed(name) for name in LIBRARIES},
    }
    click.echo(json.dumps(facts))
