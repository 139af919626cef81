"""Who can be compared: where an entrant's environment is, and how it gets there."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from bench.checkout import ROOT, is_checkout

ENVIRONMENTS = ROOT / ".peers"
REQUIREMENTS = Path(__file__).parent / "requirements"


@dataclass(frozen=True)
class Entrant:
    """What is measured: this mesh, or what it is compared with. ``variant``: another way to run it.

    ``module`` is that of its adapter in ``bench/peers/compared``, and the name of its environment.
    """

    name: str
    module: str
    redis: bool = False
    variant: str = ""
    ours: bool = False
    """Whether it runs in the environment of the bench."""

    @property
    def python(self) -> Path:
        return Path(sys.executable) if self.ours else ENVIRONMENTS / self.module / "bin" / "python"

    @property
    def installed(self) -> bool:
        return self.ours or (ENVIRONMENTS / self.module / ".installed").exists()


ENTRANTS = {
    entrant.name: entrant
    for entrant in (
        Entrant("mesh", "mesh", ours=True),
        Entrant("executor", "executor", ours=True),
        Entrant("celery", "celery", redis=True),
        Entrant("dramatiq", "dramatiq", redis=True),
        Entrant("dramatiq-single", "dramatiq", redis=True, variant="single"),
        Entrant("rq", "rq", redis=True),
        Entrant("rq-fork", "rq", redis=True, variant="fork"),
        Entrant("huey", "huey", redis=True),
        Entrant("arq", "arq", redis=True),
        Entrant("taskiq", "taskiq", redis=True),
        Entrant("dask", "dask"),
        Entrant("ray", "ray"),
        Entrant("ipyparallel", "ipyparallel"),
        Entrant("parsl", "parsl"),
    )
}

PEERS = tuple(dict.fromkeys(entrant.module for entrant in ENTRANTS.values() if not entrant.ours))
"""Other task queues: each has an environment of its own."""


def not_installed(peer: str = "") -> str:
    """Where a peer, or any, was looked for, and what to type."""
    command = "`make bench-peers" + (f" PEERS={peer}`" if peer else "`")
    how = command if is_checkout() else f"type {command} in a checkout of the project, and run the bench from there"
    return f"not installed in {ENVIRONMENTS}: {how}"
