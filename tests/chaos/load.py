"""A client process under test: ``python -m tests.chaos.load LOG STOP SEED DELIVERY``; it submits until STOP is there.

It logs every id it submitted, which were confirmed, and each outcome it was told.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from mesh.errors import MeshError, TimeoutError
from tests.cluster_tasks import app, work

OUTCOME_S = 60.0  # the mesh may be in trouble for long, but not for ever


class Log:
    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, what: str, results: list[Any]) -> None:
        os.write(self._fd, "".join(f"{what} {result.id}\n" for result in results).encode())

    def outcome(self, result: Any, state: str) -> None:
        os.write(self._fd, f"outcome {result.id} {state}\n".encode())


def main(log_path: str, stop: str, seed: str, delivery: str) -> None:
    app.conf.update(task_acks_late=delivery == "at-least-once")
    rng = random.Random(seed)
    log = Log(log_path)
    waiting: list[Any] = []
    while not Path(stop).exists():
        results = submit(rng, log)
        waiting += results
        if rng.random() < 0.5:
            confirm(log, results)
        if len(waiting) > 300:
            collect(log, waiting[:200])
            del waiting[:200]
        time.sleep(rng.uniform(0.0, 0.02))
    confirm(log, waiting)
    collect(log, waiting)


def submit(rng: random.Random, log: Log) -> list[Any]:
    results = []
    for number in range(rng.choice([1, 5, 40])):
        seconds = rng.choice([0.0, 0.0, 0.0, 0.001, 0.005, 0.02])
        chosen = app.new_id() if rng.random() < 0.1 else None
        results.append(work.apply_async((number, seconds), task_id=chosen))
    log.write("invoke", results)
    return results


def confirm(log: Log, results: list[Any]) -> None:
    try:
        app.flush(timeout=30.0)
    except MeshError:
        log.write("unknown", results)
    else:
        log.write("ok", results)


def collect(log: Log, results: list[Any]) -> None:
    for result in results:
        try:
            result.get(timeout=OUTCOME_S)
        except TimeoutError as error:
            print(f"no outcome: {error}", flush=True)
            continue
        except MeshError as error:
            print(f"{result.id}: {error!r}", flush=True)
            log.outcome(result, "failed")
            continue
        log.outcome(result, "succeeded")


if __name__ == "__main__":
    main(*sys.argv[1:])
