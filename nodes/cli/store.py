"""``mesh store``: what is in a store, whether it is whole, and how it gets elsewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import Any, TypeVar
from urllib.parse import quote

import click
import msgspec

from mesh.api.result import CELERY_STATES
from mesh.errors import ConfigError, StoreDamaged, StoreFull
from mesh.model import TaskState
from mesh.settings import Settings
from mesh.store.backup import backup as make_backup
from mesh.store.check import Checked
from mesh.store.check import check as check_all
from mesh.store.draft_file import DraftFile
from mesh.store.migrate import Ends
from mesh.store.migrate import migrate as move
from mesh.store.open import hold, open_reader, open_target
from mesh.store.place import default_url
from mesh.store.reading import Facts, Reader, cut, unfinished
from mesh.store.redis.address import is_redis, masked
from nodes.cli.invocation import Invocation, pass_invocation, shared_options
from nodes.shown import shown
from nodes.store_export import Exported, Wanted
from nodes.store_export import export as lines_of
from nodes.store_keys import known_store_keys, store_keys

F = TypeVar("F", bound=Callable[..., Any])

NAMED = 10  # damaged rows of each kind that are shown
TOLD_S = 1.0  # between two lines that say how far it is
FINAL = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED, TaskState.DEAD)
STATES = {str(state): (str(state),) for state in FINAL} | {
    name: tuple(str(state) for state in FINAL if CELERY_STATES[state] == name)
    for name in dict.fromkeys(CELERY_STATES[state] for state in FINAL)
}  # as they are written down, and as `mesh result` says them

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


@click.group()
@shared_options
def store() -> None:
    """Look at a store, check it, copy it, export results, or move it to another place.

    A store is named by its address, as for mesh router --store, or by the path of its file.
    """


def _address(ctx: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """The address of a store, of one that is named by its file, too."""
    if text is None or "://" in text:
        return text
    return f"sqlite://{quote(str(Path(text).absolute()))}"


def _store_option(function: F) -> F:
    return click.option(
        "--store",
        "url",
        metavar="URL|PATH",
        callback=_address,
        help="Which store (else MESH_STORE, else this mesh's file).",
    )(function)


_store_argument = click.argument("address", metavar="[URL|PATH]", required=False, callback=_address)


@store.command()
@shared_options
@_store_argument
@_store_option
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object, on one line.")
@pass_invocation
def info(invocation: Invocation, address: str | None, url: str | None, as_json: bool) -> None:
    """Show what is in a store, how large it is, and who has it. A router may run on it meanwhile."""
    settings = invocation.settings()
    with _reading(settings, address or url) as reader:
        facts = reader.facts()
        data = _as_data(reader.url, facts, _unfinished(reader))
    if as_json:
        click.echo(json.dumps(data))
        return
    if is_redis(reader.url):
        data["outcomes"] = f"{facts.outcomes}, of all routers there: `mesh store check` counts this one's"
    for name, value in data.items():
        if value is not None:
            click.echo(f"{name.replace('_', ' '):<18} {shown(str(value))}")


def _as_data(url: str, facts: Facts, tasks: int | None) -> dict[str, Any]:
    return {
        "store": url,
        "level": facts.level,
        "warning": facts.warning,
        "where": facts.where,
        "bytes": facts.size,
        "unfinished_tasks": tasks,
        "unfinished_batches": facts.batches,
        "outcomes": facts.outcomes,
        "functions": facts.functions,
        "entries": facts.entries,
        "router": facts.router_id,
        "router_name": facts.router_name,
        "held_by": facts.holder,
        "boot": facts.boot,
        "commits": facts.commits,
        "moved": None if facts.move is None else facts.move.sentence,
    }


def _unfinished(reader: Reader) -> int | None:
    """None where a batch cannot be read: ``mesh store check`` says which."""
    tasks = 0
    for some in cut(reader.seqs()):
        for _, batch in reader.batches(some):
            try:
                if batch is None:
                    return None
                tasks += unfinished(batch)
            except msgspec.MsgspecError:
                return None
    return tasks


@store.command()
@shared_options
@_store_argument
@_store_option
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object, on one line.")
@pass_invocation
def check(invocation: Invocation, address: str | None, url: str | None, as_json: bool) -> int:
    """Read every row and large payload of a store, and name those that are damaged. A router may run meanwhile.

    Exit code 1 where anything is damaged or missing.
    """
    settings = invocation.settings()
    with _reading(settings, address or url) as reader:
        try:
            checked = check_all(reader, _progress(invocation, "read"))
        except StoreDamaged as damaged:  # so much that rows cannot even be read one by one
            checked = Checked(faults=[str(damaged)])
        if as_json:
            kinds = {name: asdict(kind) for name, kind in checked.kinds.items()}
            whole = {"store": reader.url, "whole": checked.is_whole, "damaged": checked.damaged, "fine": checked.whole}
            click.echo(json.dumps({**whole, "faults": checked.faults, "kinds": kinds}))
        else:
            click.echo("\n".join(map(shown, _lines(checked))))
        if not checked.is_whole:
            command = shlex.join(
                ["mesh", "router", "--salvage", "--mesh", settings.mesh, "--store", masked(reader.url)]
            )
            invocation.note(f"copy the store first; to go on with what is whole, start once: {command}")
    return 0 if checked.is_whole else 1


def _lines(checked: Checked) -> Iterator[str]:
    for name, kind in checked.kinds.items():
        named = ", ".join(kind.keys[:NAMED]) + (" ..." if kind.damaged > NAMED else "")
        yield f"{name:<10} {kind.read:>10}" + (f"  {kind.damaged} damaged: {named}" if kind.damaged else "")
    yield from (f"fault: {fault}" for fault in checked.faults)
    wrong = "nothing is damaged" if checked.is_whole else f"{checked.damaged} damaged, {len(checked.faults)} faults"
    yield f"{checked.whole} rows and payloads are as they were written; {wrong}"


@store.command()
@shared_options
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@_store_option
@click.option("-f", "--force", is_flag=True, help="Replace a backup that is there.")
@pass_invocation
def backup(invocation: Invocation, file: Path, url: str | None, force: bool) -> int:
    """Copy a store to FILE, as it is at one moment, while a router runs. Then read the copy through.

    The copy is a store, of a store on Redis, too: FILE, and FILE.blobs with the large payloads. Exit code 1 where
    something of the store was damaged before.
    """
    with _reading(invocation.settings(), url) as reader:
        made = make_backup(reader, file, _progress(invocation, "copied"), force=force)
        click.echo(f"{file}: {_counted(made.checked.counts())}")
        if not made.is_whole:
            for line in [*_lines(made.checked), *(f"{n} {kind} left out" for kind, n in made.left_out.items())]:
                invocation.note(line)
            invocation.note("the store itself is damaged: `mesh store check`")
    return 0 if made.is_whole else 1


@store.command()
@shared_options
@click.argument("file", metavar="FILE|-")
@_store_option
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*STATES], case_sensitive=False),
    help="Only these; may be repeated.",
)
@click.option("--name", "names", multiple=True, metavar="NAME", help="Only tasks of this name; may be repeated.")
@click.option("--since", metavar="WHEN", help="Only what finished since: 90s, 15m, 2h, 7d, or 2026-11-27T08:00.")
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
@pass_invocation
def export(
    invocation: Invocation,
    file: str,
    url: str | None,
    states: tuple[str, ...],
    names: tuple[str, ...],
    since: str | None,
    force: bool,
) -> int:
    """Write the outcomes in a store to FILE, or to standard output: a JSON object on a line for each.

    Results are in it where they are plain data, and their size. Nothing is unpickled. Exit code 1 where outcomes were
    damaged and so left out.
    """
    wanted_states = frozenset(state for name in states for state in STATES[name])
    wanted = Wanted(states=wanted_states, names=frozenset(names), since=_instant(since) if since else 0.0)
    counts = Exported()
    with _reading(invocation.settings(), url) as reader:
        lines = lines_of(reader, wanted, counts)
        if file == "-":
            for line in lines:
                sys.stdout.write(line)
            sys.stdout.flush()
        else:
            with DraftFile(Path(file), force=force) as draft:
                for line in lines:
                    draft.write(line.encode())
            click.echo(f"{file}: {counts.lines} outcomes")
    if counts.damaged:
        invocation.note(f"{counts.damaged} outcomes are damaged and left out: `mesh store check` names them")
    return 1 if counts.damaged else 0


@store.command()
@shared_options
@click.argument("source", metavar="FROM", callback=_address)
@click.argument("target", metavar="TO", callback=_address)
@click.option("-f", "--force", is_flag=True, help="Also where FROM was moved elsewhere before.")
@pass_invocation
def migrate(invocation: Invocation, source: str, target: str, force: bool) -> int:
    """Move all that is in the store FROM to the store TO, which must be empty. No router may run on either.

    On Redis TO may have what was moved to FROM before: that goes first.

    The router stays who it was. Of a Redis that routers share it is this one's journal, and the results of all where no
    other router runs there, else of this one.

    Stopped half-way, it goes on when it is typed again; no router starts on TO until all is there, nor on FROM after
    that. FROM stays as it is.
    """
    settings = invocation.settings()
    keys = partial(store_keys, settings.mesh)
    with ExitStack() as ends:
        reader = ends.enter_context(
            closing(open_reader(source, settings=settings, keys=partial(known_store_keys, settings.mesh)))
        )
        facts = reader.facts()
        held = ends.enter_context(closing(hold(source, settings=settings, keys=keys)))
        to = ends.enter_context(closing(open_target(target, facts.router_id, settings=settings, keys=keys)))
        to_reader = ends.enter_context(closing(open_reader(target, settings=settings, keys=keys)))
        try:
            copied = move(Ends(reader, held, to, to_reader), _progress(invocation, "moved"), force=force)
        except StoreFull as full:
            raise StoreFull(f"{full}; make room and type the same again: what has arrived in TO stays there") from full
        click.echo(f"{to.url}: {_counted(copied.counts)}")
        for kind, count in copied.left_out.items():
            invocation.note(f"{count} {kind} were damaged or lost before, and are not there")
        if copied.elsewhere:
            invocation.note(f"of {copied.elsewhere} tasks another router had an outcome there already, which stays")
        if facts.others:
            others = ", ".join(facts.others)
            invocation.note(f"results of other routers stay at {reader.url}, where those run and tell them: {others}")
        invocation.note(f"start the router with --store {shlex.quote(to.url)}; the old store is at {reader.url} still")
    return 0


@contextmanager
def _reading(settings: Settings, url: str | None) -> Iterator[Reader]:
    reader = open_reader(
        url or default_url(settings.mesh, os.environ), settings=settings, keys=partial(known_store_keys, settings.mesh)
    )
    with closing(reader):
        yield reader


def _progress(invocation: Invocation, verb: str) -> Callable[[str, int], None]:
    """Tells how far it is, now and then."""
    last = monotonic()

    def tell(kind: str, count: int) -> None:
        nonlocal last
        if monotonic() - last >= TOLD_S:
            last = monotonic()
            invocation.note(f"{verb} {count} {kind}")

    return tell


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "empty"


def _instant(text: str) -> float:
    """UTC seconds. Raises ``ConfigError``."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return time() - float(ago[1]) * _SECONDS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(f"--since {text!r}: write 90s, 15m, 2h, 7d, or a time as 2026-11-27T08:00") from None
