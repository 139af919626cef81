"""``mesh node``: keys of single nodes. The secret half never leaves the node; a router is told the public half."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from mesh.errors import ConfigError
from mesh.model import Role
from mesh.net import enrolment
from mesh.net.keys import (
    MeshKey,
    RouterKey,
    key_path,
    new_role_key,
    node_key_text,
    parse_router_key,
    read_key,
    replace_key,
)
from mesh.settings import command_of
from nodes.cli.invocation import Invocation, pass_invocation, shared_options
from nodes.tables import Table, plain

ROLES = click.Choice(["worker", "client"])


@click.group()
@shared_options
def node() -> None:
    """Give nodes keys of their own, so that one can be kept out without a new key for all."""


@node.command()
@shared_options
@click.argument("name")
@click.argument("router", required=False)
@click.option("--role", type=ROLES, default="worker", show_default=True, help="What it is to be.")
@click.option("-f", "--force", is_flag=True, help="Replace the key that is here.")
@pass_invocation
def enroll(invocation: Invocation, name: str, router: str | None, role: str, force: bool) -> None:
    """On the node: make a key for it, and say what to type where the router runs.

    ROUTER is what `mesh key public` prints there; without it the router's public key is taken from the key that is
    here.
    """
    if os.environ.get("MESH_KEY"):
        raise ConfigError("MESH_KEY is set, and goes before any file: unset it first")
    mesh_name = invocation.settings().mesh
    path = key_path(mesh_name, os.environ)
    made = new_role_key(Role(role), _router_key(path, router, force, command_of(mesh_name)))
    public = node_key_text(made.own.public)
    enrolment.make_node(name, role, public)
    replace_key(path, made)
    click.echo(f"the key of node {name} is in {path}; it is of no other use, and to be copied nowhere", err=True)
    click.echo("where the router runs:", err=True)
    click.echo(f"{command_of(mesh_name)} node allow {name} {role} {public}")


def _router_key(path: Path, given: str | None, force: bool, command: str) -> RouterKey:
    """By what the node is to know its router. Raises ``ConfigError`` where that, or what is to become of ``path``, is
    not clear."""
    found = read_key(path)
    if found is not None and not force:
        whose = "the whole key of the mesh" if isinstance(found, MeshKey) else f"a {found.role}'s key"
        raise ConfigError(f"{path} holds {whose}: --force replaces it")
    if given:
        return parse_router_key(given)
    if found is None:
        raise ConfigError(f"which mesh? Type `{command} key public` where its router runs, and add what it prints")
    return found.router


@node.command()
@shared_options
@click.argument("name")
@click.argument("role", type=ROLES)
@click.argument("public")
@click.option("-f", "--force", is_flag=True, help="Also where the name has another key; that one is cut off.")
@pass_invocation
def allow(invocation: Invocation, name: str, role: str, public: str, force: bool) -> None:
    """Where the router runs: let in the node whose public key `mesh node enroll` has printed."""
    path = enrolment.enrolment_path(invocation.settings().mesh, os.environ)
    enrolment.enroll(path, enrolment.make_node(name, role, public), replace=force)
    click.echo(f"node {name} may come in as a {role}")


@node.command()
@shared_options
@click.argument("name")
@pass_invocation
def revoke(invocation: Invocation, name: str) -> None:
    """Where the router runs: keep a node out from now on; its connections are cut within a second."""
    for out in enrolment.revoke(enrolment.enrolment_path(invocation.settings().mesh, os.environ), name):
        click.echo(f"node {out} is out" if out == name else f"node {out} is out, for it had the same key")


@node.command("list")
@shared_options
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@pass_invocation
def list_nodes(invocation: Invocation, as_json: bool) -> None:
    """Where the router runs: the nodes that have keys of their own."""
    found = enrolment.read_nodes(enrolment.enrolment_path(invocation.settings().mesh, os.environ))
    rows = [[one.name, one.role.value, node_key_text(one.public)] for one in sorted(found, key=lambda one: one.name)]
    if as_json:
        click.echo(json.dumps([dict(zip(("name", "role", "public"), row)) for row in rows]))
    else:
        click.echo(plain(Table("nodes", ["node", "role", "public key"], rows)))
