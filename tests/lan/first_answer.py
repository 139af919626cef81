"""Prints how long the imports took, and how long it took from the first look for routers to a router's first answer."""

from __future__ import annotations

import json
import time

started = time.monotonic()
from mesh import Mesh  # noqa: E402  # its time is told apart


def main() -> None:
    imported = time.monotonic()
    with Mesh("first") as app:
        app.status(timeout=20.0)
        answered = time.monotonic()
    print(json.dumps([imported - started, answered - imported]))


if __name__ == "__main__":
    main()
