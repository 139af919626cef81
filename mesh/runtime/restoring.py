"""How a router's machine begins with what its store had."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.core.router import RouterMachine
from mesh.messages import Submit
from mesh.store.base import Recovered


def restore(
    machine: RouterMachine,
    found: Recovered,
    batches: Iterable[tuple[int, float, Submit, set[str]]],
    *,
    others: bool = False,
) -> None:
    """``batches``: those that were found, decoded. ``others``: as in ``RouterMachine.restore``."""
    machine.restore(
        batches,
        found.marks,
        found.nodes,
        found.functions,
        apps=found.apps,
        entries=found.entries,
        positions=found.positions,
        others=others,
    )
