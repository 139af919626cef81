"""``mesh join``: keep the key of a mesh that runs elsewhere, and look whether it is there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import click

from mesh.errors import ConfigError
from mesh.model import Peer, Role
from mesh.net.dealer_transport import DealerTransport
from mesh.net.find import Search, find_routers, named_routers, unanswered
from mesh.net.interfaces import is_for_others
from mesh.net.keys import AnyKey, MeshKey, key_path, parse_key, replace_key, save
from mesh.net.knocking import Knocked, knock
from mesh.net.known import KnownRouter, remember
from mesh.net.lan import PORTS
from mesh.net.mdns import MDNS_PORT, Browser
from mesh.net.namesakes import how_to_join
from mesh.runtime.channels import RouterChannels
from mesh.settings import DEFAULT_MESH, command_of
from nodes.cli.environment import check_environment, check_named
from nodes.cli.invocation import Invocation, pass_invocation, router_option, shared_options
from nodes.cli.standard_input import read_line

LOOK_S = 3.0
IDENTIFY_S = 1.0


@click.command()
@shared_options
@router_option
@click.argument("key", required=False)
@click.option("-f", "--force", is_flag=True, help="Replace the key that is there, as when the mesh has a new one.")
@pass_invocation
def join(invocation: Invocation, key: str | None, routers: tuple[str, ...], force: bool) -> None:
    """Keep KEY, the key of a mesh that another machine or user runs, and look whether one of its routers answers.

    `mesh key show --secret` prints it there, and `mesh key export` one for clients or workers only. Without KEY it is
    asked for, or read from a pipe, so that no list of processes shows it.
    """
    check_environment(invocation)
    check_named(routers)  # what is wrong with an address is said before anything is kept
    mesh_name = invocation.settings().mesh
    given = parse_key(key or _asked_for(command_of(mesh_name)))
    path = key_path(mesh_name, os.environ)
    kept = replace_key(path, given) if force else save(path, given)
    if kept != given:
        raise ConfigError(f"{path} holds another key, {kept.key_id}: --force replaces it; or use another --mesh name")
    said = [f"{_named(kept)} of mesh {mesh_name!r} is in {path}", _look(mesh_name, kept, routers)]
    if not invocation.quiet:
        click.echo("\n".join(said))


def _named(key: AnyKey) -> str:
    return f"key {key.key_id}" if isinstance(key, MeshKey) else f"a {key.role}'s key, of key {key.key_id},"


def _look(mesh_name: str, key: AnyKey, routers: Sequence[str]) -> str:
    browser = None if named_routers(routers, os.environ) else Browser(key.key_id, mesh=mesh_name)

    def search() -> Search:
        return find_routers(mesh_name, routers, os.environ, browser)

    try:
        knocked = knock(lambda: search().found, key, LOOK_S, command_of(mesh_name), _identify)
        where = search().tried
        if browser is None and _is_refused(knocked):
            raise ConfigError(f"{'; '.join(knocked.problems)}. The key is kept all the same; {how_to_join(mesh_name)}")
        mistaken = "" if browser is None else browser.mistaken
        if browser is not None and browser.is_silent and not mistaken:
            where += (
                "; no announcement of this mesh was heard: either no router of it runs with --lan, or multicast is "
                f"blocked by a firewall (UDP port {MDNS_PORT}) or by the network; then give an address: "
                f"--router HOST:{PORTS[0]}"
            )
        return _said(mesh_name, key, knocked, where, mistaken)
    finally:
        if browser is not None:
            browser.close()


def _identify(transport: DealerTransport, peer: Peer) -> str:
    """Who has let us in, in its own word; empty where that does not come in time."""
    channels = RouterChannels(transport, lambda blob: None)
    channels.ask_identity(peer)
    deadline = time.monotonic() + IDENTIFY_S
    while (left_s := deadline - time.monotonic()) > 0:
        for sender, frames, _ in transport.receive(left_s).messages:
            if sender == peer:
                return channels.receive_identity(frames) or ""
    return ""


def _is_refused(knocked: Knocked) -> bool:
    """Whether no address takes this key, twice in a row: once may be an accident of a router's restart."""
    return bool(knocked.tried) and all(knocked.misfits.count(endpoint) > 1 for endpoint in knocked.tried)


def _said(mesh_name: str, key: AnyKey, knocked: Knocked, where: str, mistaken: str) -> str:
    """What came of it, and what to type next."""
    command = command_of(mesh_name)
    found = knocked.found
    if found is None:
        why = "; ".join([*knocked.problems, where])
        if mistaken or knocked.silent:
            then = f"But {mistaken}" if mistaken else unanswered(knocked.silent, command)
            return f"no router answers yet ({why})\nthe key is kept all the same. {then}"
        verb = "worker -A APP" if _may_be(key, Role.WORKER) else "status"
        return (
            f"no router answers yet ({why})\n"
            f"the key is kept all the same. Next: `{command} up --lan` where the router is to run, and where it is not "
            f"found by itself, here: {command} {verb} --router HOST:{PORTS[0]}"
        )
    is_kept = bool(knocked.router_id) and is_for_others(knocked.endpoint)
    if is_kept:
        endpoints = dict.fromkeys([knocked.endpoint, *found.endpoints])
        remember(mesh_name, os.environ, [KnownRouter(knocked.router_id, tuple(endpoints))])
    there = "" if is_kept else f" --router {knocked.endpoint.removeprefix('tcp://')}"
    address = f', router="{there.removeprefix(" --router ")}"' if there else ""
    named = "" if mesh_name == DEFAULT_MESH else f', mesh="{mesh_name}"'
    ways = [f"{command} worker -A APP{there}"] if _may_be(key, Role.WORKER) else []
    ways += [f'any script with Mesh("APP"{named}{address})'] if _may_be(key, Role.CLIENT) else []
    return f"a router answers at {knocked.endpoint} ({found.how})\nnext: {', or '.join(ways)}"


def _may_be(key: AnyKey, role: Role) -> bool:
    return isinstance(key, MeshKey) or key.role is role


def _asked_for(command: str) -> str:
    """The key that is typed unseen, or comes through a pipe. Raises ``UsageError`` where none does."""
    if sys.stdin and sys.stdin.isatty():
        typed: str = click.prompt("Key", hide_input=True, err=True)
        return typed
    text = read_line()
    if not text.strip():
        raise click.UsageError(f"no key on standard input: give it there, or type `{command} join KEY`")
    return text
