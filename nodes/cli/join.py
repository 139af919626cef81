"""``mesh join``: keep the key of a mesh that another user runs."""

from __future__ import annotations

import os
import sys

import click

from mesh.errors import ConfigError
from mesh.net.keys import key_path, parse_key, save
from nodes.cli.environment import check_environment
from nodes.cli.invocation import Invocation, pass_invocation, shared_options
from nodes.cli.standard_input import read_line


@click.command()
@shared_options
@click.argument("key", required=False)
@pass_invocation
def join(invocation: Invocation, key: str | None) -> None:
    """Keep KEY, the key of a mesh that another user runs.

    `mesh key show --secret` prints it there. Without KEY it is asked for, or read from a pipe, so that no list of
    processes shows it.
    """
    check_environment(invocation)
    given = parse_key(key or _asked_for())
    mesh_name = invocation.settings().mesh
    path = key_path(mesh_name, os.environ)
    kept = save(path, given)
    if kept != given:
        raise ConfigError(f"{path} holds another key, {kept.key_id}: remove it, or choose another name with --mesh")
    click.echo(f"key {kept.key_id} of mesh {mesh_name!r} is in {path}")
    click.echo("next: mesh worker --router HOST:PORT, with the address where its router listens")


def _asked_for() -> str:
    """The key that is typed unseen, or comes through a pipe. Raises ``UsageError`` where none does."""
    if sys.stdin and sys.stdin.isatty():
        typed: str = click.prompt("Key", hide_input=True, err=True)
        return typed
    text = read_line()
    if not text.strip():
        raise click.UsageError("no key on standard input: give it there, or type `mesh join KEY`")
    return text
