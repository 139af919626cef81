"""``mesh demo``."""

from __future__ import annotations

import os

import click
from rich.console import Console

from nodes.cli.invocation import Invocation, pass_invocation, shared_options
from nodes.cli.numbers import Count
from nodes.demo.run import run_demo


@click.command()
@shared_options
@click.option(
    "-c", "--concurrency", type=Count(1, 256), metavar="N", help="Executor processes; one per CPU, at least 2."
)
@pass_invocation
def demo(invocation: Invocation, concurrency: int | None) -> int:
    """See a mesh at work: analyse Python's standard library while processes are killed, and lose nothing.

    It runs in a temporary directory, with a key and a store of its own; nothing of yours is touched. Exit code 1 when
    anything was lost.
    """
    slots = concurrency or max(2, os.cpu_count() or 1)
    return run_demo(slots, Console(no_color=invocation.no_color or None, highlight=False))
