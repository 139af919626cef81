"""How a router begins: with its store, which is waited for; and anew, where it was thought lost."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic, sleep

from mesh.errors import StoreDamaged, StoreError, StoreFull, StoreLost, StoreUnavailable
from mesh.store.base import Store
from mesh.store.open import open_store
from mesh.store.place import default_url
from mesh.store.redis.address import masked
from nodes.logs import configure_logs
from nodes.router import RouterConfig, RouterNode
from nodes.store_keys import store_keys

log = logging.getLogger("mesh.router")

STORE_AGAIN_S = 0.5  # between two looks for a store that is not there yet


def run_router(config: RouterConfig) -> int:
    """Run a router until it is told to stop; the exit code. Raises ``ConfigError`` and ``StoreError``."""
    configure_logs(config.loglevel)
    settings = config.settings
    url = config.store or default_url(settings.mesh, os.environ)
    while True:
        store, node = _start(url, config)
        try:
            return node.run()
        except StoreLost as lost:
            node.stopping.let_go()
            log.error("this router was thought lost and begins anew, without what others have adopted: %s", lost)
        except StoreError as error:  # it may pass, and a start looks at everything again
            log.critical("the store failed, this router ends to be started anew: %s", error)
            return 1
        finally:
            store.close()


def _start(url: str, config: RouterConfig) -> tuple[Store, RouterNode]:
    """Begin with what the store has, and wait for it where it may only be slower than this router.

    Raises ``StoreError``.
    """
    settings = config.settings
    deadline = monotonic() + settings.store_wait_s
    told = False
    while True:
        try:
            with _way_out(settings.mesh, url):
                return _try_to_start(url, config)
        except StoreFull:
            raise
        except (StoreUnavailable, StoreLost) as away:
            if monotonic() >= deadline:
                raise
            if not told:
                log.warning("waits up to %g s for its store: %s", settings.store_wait_s, away)
                told = True
            sleep(STORE_AGAIN_S)


def _try_to_start(url: str, config: RouterConfig) -> tuple[Store, RouterNode]:
    settings = config.settings
    keys = partial(store_keys, settings.mesh)
    store = open_store(url, settings=settings, salvage=config.salvage, force=config.force, keys=keys)
    try:
        return store, RouterNode(config, store)
    except BaseException:
        store.close()
        raise


@contextmanager
def _way_out(mesh: str, url: str) -> Iterator[None]:
    """Add to ``StoreDamaged`` the command that salvages this store, whatever the environment says elsewhere."""
    try:
        yield
    except StoreDamaged as damaged:
        command = shlex.join(["mesh", "router", "--salvage", "--mesh", mesh, "--store", masked(url)])
        raise StoreDamaged(f"{damaged}: {command}") from damaged
