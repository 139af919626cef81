"""Prints what a browser hears of, a line of JSON for each change: ``browse.py KEY_ID [INTERFACE...]``."""

from __future__ import annotations

import json
import sys
import time

from mesh.net.mdns import Browser


def main(key_id: str, *interfaces: str) -> None:
    browser = Browser(key_id, interfaces)
    before = None
    while True:
        now = [(found.router_id, found.endpoints) for found in browser.found()], browser.tried
        if now != before:
            # The same clock for all processes of this machine.
            print(json.dumps([time.monotonic(), *now]), flush=True)
            before = now
        time.sleep(0.005)


if __name__ == "__main__":
    main(*sys.argv[1:])
