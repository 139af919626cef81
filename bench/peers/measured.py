"""Runs one measurement of a peer in a fresh process, so that nobody inherits another's heap, threads or sockets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from bench.ending import started_here
from mesh.errors import MeshError, Unavailable

MEASUREMENT_S = 600.0


def measure(module: str, *arguments: object, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What ``python -m module arguments`` prints as JSON. Raises ``Unavailable``, ``MeshError``."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        done = subprocess.run(
            command, env=started_here(environ), capture_output=True, timeout=MEASUREMENT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(command[1:])} did not end in {MEASUREMENT_S:g} s") from None
    if done.returncode:
        why = done.stderr.decode(errors="replace")[-1000:]
        raise MeshError(f"{' '.join(command[1:])} ended with {done.returncode}: {why}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
