"""``mesh service``: have systemd keep nodes running."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import click

from mesh.errors import ConfigError
from mesh.net.keys import key_path
from mesh.settings import VARIABLES
from nodes.cli.environment import check_environment
from nodes.cli.invocation import Invocation, pass_invocation, shared_options
from nodes.cli.router import router
from nodes.cli.up import up
from nodes.cli.worker import worker
from nodes.service.files import remove, unit_path, write
from nodes.service.unit import Service, next_steps, notes, systemctl, text
from nodes.supervisor import node_command

NODES = {"up": up, "router": router, "worker": worker}
BESIDE = ("XDG_CONFIG_HOME", "XDG_STATE_HOME")  # they say where the key and the store are
ONCE = ("--salvage", "--supervised-by")  # for one start, or for a supervisor of ours

scope_option = click.option(
    "--system/--user",
    default=None,
    help="A service of the machine, or of your own systemd.  [default: --system for root, else --user]",
)


@click.group()
@shared_options
def service() -> None:
    """Have systemd keep nodes running on this machine, and start them with it."""


@service.command(context_settings={"ignore_unknown_options": True})
@shared_options
@scope_option
@click.option("--run-as", metavar="USER", help="With --system: whose tasks, key and store.  [default: who types sudo]")
@click.option("--print", "only_print", is_flag=True, help="Print the unit, and write nothing.")
@click.argument("node", nargs=-1, type=click.UNPROCESSED, metavar="[up|router|worker] [OPTIONS OF IT]...")
@pass_invocation
@click.pass_context
def install(
    ctx: click.Context,
    invocation: Invocation,
    system: bool | None,
    run_as: str | None,
    only_print: bool,
    node: tuple[str, ...],
) -> None:
    """Write the unit of `mesh up`, or of `mesh router` or `mesh worker`; all options of that may follow.

    For example, in the directory of tasks.py: mesh service install up --lan -A tasks

    It says what to type then, and starts nothing. It replaces what it has written before, and no other file.
    """
    check_environment(invocation)
    verb, options = (node[0], node[1:]) if node and node[0] in NODES else ("up", node)
    made = _service(invocation, verb, options, _is_system(system), run_as)
    _check(ctx, verb, options)
    unit = text(made)
    if only_print:
        click.echo(unit, nl=False)
        return
    path = unit_path(made.name, os.environ, system=made.system)
    write(path, unit)
    click.echo(f"wrote {path}\nnext:")
    for step in next_steps(made):
        click.echo(f"  {step}")
    set_here = sorted(name for name in (*VARIABLES, *BESIDE) if os.environ.get(name) and name != "MESH_NAME")
    for note in notes(made, set_here):
        invocation.note(note)


@service.command()
@shared_options
@scope_option
@click.argument("node", type=click.Choice([*NODES]), default="up")
@pass_invocation
def uninstall(invocation: Invocation, system: bool | None, node: str) -> None:
    """Remove the unit of a node that `mesh service install` has written."""
    made = _service(invocation, node, (), _is_system(system), "root" if _is_system(system) else None)
    path = unit_path(made.name, os.environ, system=made.system)
    other = unit_path(made.name, os.environ, system=not made.system)
    if not path.exists() and other.exists():
        raise ConfigError(f"{path} is not there; {other} is: add {'--user' if made.system else '--system'}")
    remove(path)
    click.echo(f"removed {path}\nnext:")
    for step in (systemctl(made, "stop", made.name), systemctl(made, "daemon-reload")):
        click.echo(f"  {step}")


def _is_system(chosen: bool | None) -> bool:
    return os.geteuid() == 0 if chosen is None else chosen


def _service(invocation: Invocation, node: str, options: tuple[str, ...], system: bool, run_as: str | None) -> Service:
    settings = invocation.settings()
    user = _user(system, run_as)
    shared = ["--mesh", settings.mesh, *(["-A", invocation.app] if invocation.app else [])]
    home = {"HOME": user.pw_dir} if system else dict(os.environ)
    return Service(
        mesh=settings.mesh,
        verb=node,
        command=tuple(node_command([node, *shared, *options])),
        directory=str(Path.cwd()),
        environment_file=str(key_path(settings.mesh, home).with_suffix(".env")),
        drain_s=settings.drain_s,
        user=user.pw_name,
        system=system,
    )


def _user(system: bool, run_as: str | None) -> pwd.struct_passwd:
    if not system and run_as is not None:
        raise ConfigError("--run-as is for --system: a service of your own systemd runs as you")
    name = run_as or (os.environ.get("SUDO_USER") if system else None)
    if system and name is None and os.geteuid() == 0:
        raise ConfigError("whose tasks, key and store? Say --run-as USER: tasks of others should not run as root")
    try:
        return pwd.getpwnam(name) if name else pwd.getpwuid(os.getuid())
    except KeyError:
        raise ConfigError(f"there is no user {name or os.getuid()!r} on this machine") from None


def _check(ctx: click.Context, node: str, options: tuple[str, ...]) -> None:
    """Let the node's own command read its options: else the mistake shows in a log. Raises ``UsageError``."""
    for option in options:
        if option.partition("=")[0] in ONCE:
            raise click.UsageError(f"{option} is for one start, and not for a service")
    NODES[node].make_context(node, [*options], parent=ctx.find_root())
