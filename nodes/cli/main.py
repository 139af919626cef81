"""The ``mesh`` command: its verbs, and what becomes of errors.

Exit codes: 0 done; 1 what was asked for failed; 2 the command, the settings, the key or the store are wrong; 3 no
router answered, or not in time: trying again may help; 130 interrupted.
"""

from __future__ import annotations

import os
import sys

import click

from mesh.core.status import STORE_AWAY, STORE_FULL
from mesh.errors import ConfigError, MeshError, Refused, StoreError, StoreLost, StoreUnavailable, Unavailable
from nodes.cli.invocation import shared_options
from nodes.cli.lazy import LazyCommand, LazyGroup
from nodes.cli.version import print_version
from nodes.shown import shown

FAILED, WRONG, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 130

VERBS = {
    "up": LazyCommand("nodes.cli.up:up", "Start a router and a worker on this machine, and keep them running."),
    "status": LazyCommand("nodes.cli.status:status", "Show the router, workers, queues and tasks per second."),
    "call": LazyCommand("nodes.cli.call:call", "Submit a task by its name."),
    "result": LazyCommand("nodes.cli.result:result", "Wait for a task, and show its result."),
    "cancel": LazyCommand("nodes.cli.cancel:cancel", "Cancel tasks by their ids."),
    "purge": LazyCommand("nodes.cli.cancel:purge", "Cancel everything that waits in queues."),
    "schedule": LazyCommand("nodes.cli.schedule:schedule", "Show, add and change periodic tasks."),
    "router": LazyCommand("nodes.cli.router:router", "Run only a router: it keeps tasks and hands them to workers."),
    "worker": LazyCommand("nodes.cli.worker:worker", "Run only a worker: it runs tasks in processes of its own."),
    "scheduler": LazyCommand("nodes.cli.scheduler:scheduler", "Run only a scheduler: it says what is due."),
    "key": LazyCommand("nodes.cli.key:key", "Show or make the key of the mesh, which other users need to join it."),
    "join": LazyCommand("nodes.cli.join:join", "Keep the key of a mesh that another user runs."),
    "node": LazyCommand("nodes.cli.node:node", "Give nodes keys of their own, and take them back."),
    "store": LazyCommand("nodes.cli.store:store", "Look at a store, check, copy, export or move it."),
    "doctor": LazyCommand("nodes.cli.doctor:doctor", "Look what keeps this machine and the routers apart."),
    "service": LazyCommand("nodes.cli.service:service", "Have systemd keep nodes running on this machine."),
    "demo": LazyCommand("nodes.cli.demo:demo", "See a mesh at work in half a minute, killed workers included."),
    "bench": LazyCommand("bench.cli:bench", "Measure what this machine can do."),
    "version": LazyCommand("nodes.cli.version:version", "Show the version."),
}

INSTEAD = {
    "beat": "the workers do what it does, one of them at a time; or type `mesh scheduler -A APP`, which runs no tasks. "
    "`mesh schedule` shows what is due",
    "multi": "start `mesh worker -n NAME` once for each worker",
    "inspect": "`mesh status --json` says what nodes say of themselves",
    "control": "`mesh cancel` and `mesh purge` change the fate of tasks",
    "revoke": "type `mesh cancel ID`",
    "events": "type `mesh status --watch`",
    "top": "type `mesh status --watch`",
    "flower": "type `mesh status --watch`",
    "shell": "start python, and import your app",
    "report": "type `mesh version --json` and `mesh status --json`",
}


def _show_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        print_version(as_json=False)
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy=VERBS,
    instead=INSTEAD,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done, 1 it failed, 2 wrong command, settings, key or store, 3 no router or no answer, "
    "130 interrupted.",
)
@shared_options
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def mesh_command() -> None:
    """A task mesh without a broker: start nodes with `mesh up`, submit from any script.

    \b
    To begin, with app = Mesh("tasks") and a function add under @app.task in tasks.py:
      mesh up -A tasks
      mesh call tasks.add -a '[1, 2]' --wait    (in another terminal, as what follows)
      mesh status --watch
    """


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code. A user's mistake becomes one line on standard error."""
    try:
        return int(mesh_command.main(arguments, prog_name="mesh", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return WRONG
    except click.ClickException as error:
        return _fail(_with_hint(error), WRONG)
    except MeshError as error:
        return _fail(_with_advice(str(error)), exit_code(error))
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has enough. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def exit_code(error: MeshError) -> int:
    """The exit code for what went wrong."""
    if isinstance(error, StoreUnavailable | StoreLost):  # it may pass: who is supervised is started anew
        return UNAVAILABLE
    if isinstance(error, ConfigError | StoreError | Refused):
        return WRONG
    if isinstance(error, Unavailable):
        return UNAVAILABLE
    return FAILED


def _fail(message: str, code: int) -> int:
    click.echo(f"mesh: error: {shown(' '.join(message.split()))}", err=True)
    return code


def _with_advice(message: str) -> str:
    """With what is to be done where a router says that its store takes nothing."""
    if STORE_AWAY in message:
        return f"{message}; see to the store's server: the router goes on by itself once that answers"
    if STORE_FULL in message:
        return f"{message}; make room there: the router goes on by itself then"
    return message


def _with_hint(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{message}; see `{error.ctx.command_path} --help`"
    return message
