"""Runs one measurement of an entrant in a fresh process, so that nobody inherits another's heap, threads or sockets."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from bench.ending import started_here
from bench.processes import LOOK_S, last_words
from bench.room import check_room
from mesh.errors import MeshError, Unavailable

SCENARIO_MEASUREMENT_S = 600.0  # it has as many tasks as were asked for, however slow the machine is


def measure(module: str, *arguments: object, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What ``python -m module arguments`` prints as JSON.

    Raises ``Unavailable``, ``MeshError``, and ``StoreFull`` when the router of ``environ`` has no room.
    """
    environ = environ or {}
    words = ["-m", module, *map(str, arguments)]
    check_room(environ)
    with subprocess.Popen(
        [sys.executable, *words], env=started_here(environ or None), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as client:
        try:
            out, errors = _wait(client, " ".join(words), environ)
        except BaseException:
            client.kill()
            raise
    if client.returncode:
        why = last_words(errors.decode(errors="replace"))
        raise MeshError(f"{' '.join(words)} ended with {client.returncode}: {why}")
    found: dict[str, Any] = json.loads(out)
    return found


def _wait(client: subprocess.Popen[bytes], what: str, environ: Mapping[str, str]) -> tuple[bytes, bytes]:
    deadline = time.monotonic() + SCENARIO_MEASUREMENT_S
    while True:
        try:
            return client.communicate(timeout=LOOK_S)
        except subprocess.TimeoutExpired:
            check_room(environ)
            if time.monotonic() > deadline:
                raise Unavailable(f"{what} did not end in {SCENARIO_MEASUREMENT_S:g} s") from None
