"""``mesh key``: the secret that makes a mesh one. It is printed only where --secret asks for it."""

from __future__ import annotations

import json
import os

import click

from mesh.errors import ConfigError, Unavailable
from mesh.model import Role
from mesh.net import rotation
from mesh.net.keys import MeshKey, key_path, load, new_key, read_key, save, whole_key
from mesh.settings import command_of
from nodes.cli.client import client
from nodes.cli.invocation import Invocation, pass_invocation, shared_options
from nodes.counts import count_of

ANSWER_S = 2.0  # for which a router may take to say who is connected


@click.group(invoke_without_command=True)
@shared_options
@click.pass_context
def key(ctx: click.Context) -> None:
    """Show, make or find the key of the mesh. Whoever holds it may run code on every worker."""
    if ctx.invoked_subcommand is None:
        _show(ctx.ensure_object(Invocation), secret=False)


@key.command()
@shared_options
@click.option("--secret", is_flag=True, help="Print the key itself, for mesh join or MESH_KEY of another user.")
@pass_invocation
def show(invocation: Invocation, secret: bool) -> None:
    """Show the key's id and where it is kept; with --secret the key itself and nothing else."""
    _show(invocation, secret)


def _show(invocation: Invocation, secret: bool) -> None:
    mesh_name = invocation.settings().mesh
    found = load(mesh_name, os.environ)
    if secret:
        click.echo(found.text)
        return
    place = "MESH_KEY in the environment" if os.environ.get("MESH_KEY") else str(key_path(mesh_name, os.environ))
    click.echo(f"mesh    {mesh_name}\nkey id  {found.key_id}\nkept in {place}")
    if not isinstance(found, MeshKey):
        click.echo(f"for     {found.role}s only")


@key.command()
@shared_options
@click.option("--role", type=click.Choice(["client", "worker"]), required=True, help="What its holders may be.")
@pass_invocation
def export(invocation: Invocation, role: str) -> None:
    """Print a key, for `mesh join` or MESH_KEY, whose holders can be clients only, or workers only.

    They cannot pass for a router, nor for nodes of the other role, and cannot purge queues.
    """
    found = whole_key(load(invocation.settings().mesh, os.environ), "to export a role's key")
    click.echo(found.export(Role(role)).text)


@key.command()
@shared_options
@pass_invocation
def public(invocation: Invocation) -> None:
    """Print the public key of the mesh's routers, which `mesh node enroll` takes. It is no secret."""
    found = load(invocation.settings().mesh, os.environ)
    click.echo(found.router.text)


@key.command()
@shared_options
@click.option("-f", "--force", is_flag=True, help="Replace a key that is there; its mesh must then be started anew.")
@pass_invocation
def new(invocation: Invocation, force: bool) -> None:
    """Make a key for a mesh that has none; a mesh that starts without one makes it by itself."""
    if os.environ.get("MESH_KEY"):
        raise ConfigError("MESH_KEY is set, and goes before any file: unset it first")
    mesh_name = invocation.settings().mesh
    path = key_path(mesh_name, os.environ)
    if path.exists():
        if not force:
            raise ConfigError(f"{path} holds a key already; --force replaces it, and running nodes keep the old one")
        path.unlink()
    made = save(path, new_key())
    click.echo(f"key {made.key_id} of mesh {mesh_name!r} is in {path}")


@key.command()
@shared_options
@pass_invocation
def path(invocation: Invocation) -> None:
    """Print the path of the key's file, whether it is there or not."""
    click.echo(key_path(invocation.settings().mesh, os.environ))


@key.command()
@shared_options
@click.option("--finish", is_flag=True, help="Forget the old key: whoever has no other is out.")
@click.option("-f", "--force", is_flag=True, help="With --finish: also while nodes are connected with the old key.")
@pass_invocation
def rotate(invocation: Invocation, finish: bool, force: bool) -> None:
    """Make a new key while the mesh runs. The old one counts beside it, until --finish.

    Routers of this user on this machine let nodes in with either, from a second later on. What it prints says what is
    to be done on other machines, and when to finish.
    """
    if os.environ.get("MESH_KEY"):
        raise ConfigError("MESH_KEY is set, and goes before any file: unset it first")
    mesh_name = invocation.settings().mesh
    path = key_path(mesh_name, os.environ)
    if finish:
        counting = read_key(rotation.old_key_path(path))
        if counting is not None and not force:
            _check_unused(invocation, counting.key_id)
        old, new = rotation.finish(path)
        click.echo(f"key {old.key_id} of mesh {mesh_name!r} counts no more; key {new.key_id} does")
        return
    old, new = rotation.rotate(path)
    named = command_of(mesh_name)
    click.echo(f"key {new.key_id} of mesh {mesh_name!r} is in {path}; key {old.key_id} counts beside it")
    steps = [
        f"where other routers run: copy {rotation.old_key_path(path)} there, then {path}; until then they let in "
        "nobody with the new key",
        f"on the other machines: `{named} join --force`, with what `{named} key show --secret` prints here",
        f"`{named} key rotate --finish`, here and where other routers run; it says who is still connected with key "
        f"{old.key_id}",
    ]
    click.echo("\n".join(["next, in this order:", *(f"{n}. {step}" for n, step in enumerate(steps, 1))]))


def _check_unused(invocation: Invocation, key_id: str) -> None:
    """Raise ``ConfigError`` where somebody is connected with this key to a router that can be asked."""
    try:
        with client(invocation, ()) as app:
            app.status()  # waits until there is a router to ask
            found = app.connection.questions.query_each("status", ANSWER_S)
    except Unavailable as error:
        click.echo(f"nobody knows who still has key {key_id}: {error}", err=True)
        return
    used = []
    for one, body in found:
        if body is None:
            click.echo(f"the router at {one.endpoint} has not said who still has key {key_id}", err=True)
            continue
        transport = json.loads(body)["router"]["transport"]
        if count := transport["keys"].get(key_id, 0):
            whence = ", ".join(address or "unknown" for address in transport["addresses"][key_id])
            used.append(f"{count_of(count, 'connection')} to the router at {one.endpoint} (from {whence})")
    if used:
        raise ConfigError(
            f"key {key_id} is still that of {'; '.join(used)}. Whoever has joined with the new key is back by itself "
            "when it is cut off, whoever has not is out: where all have, add --force"
        )
