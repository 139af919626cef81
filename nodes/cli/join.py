"""``mesh join``: keep the key of a mesh that another user runs."""

from __future__ import annotations

import os

import click

from mesh.errors import ConfigError
from mesh.net.keys import key_path, parse_key, save
from nodes.cli.environment import check_environment
from nodes.cli.invocation import Invocation, pass_invocation, shared_options


@click.command()
@shared_options
@click.argument("key", required=False)
@pass_invocation
def join(invocation: Invocation, key: str | None) -> None:
    """Keep KEY, the key of a mesh that another user runs.

    `mesh key show --secret` prints it there. Without KEY it is asked for, so that no list of processes shows it.
    """
    check_environment(invocation)
    given = parse_key(key or click.prompt("Key", hide_input=True, err=True))
    mesh_name = invocation.settings().mesh
    path = key_path(mesh_name, os.environ)
    kept = save(path, given)
    if kept != given:
        raise ConfigError(f"{path} holds another key, {kept.key_id}: remove it, or choose another name with --mesh")
    click.echo(f"key {kept.key_id} of mesh {mesh_name!r} is in {path}")
    click.echo("next: mesh worker --router HOST:PORT, with the address where its router listens")
