"""The executor process: ``python -m nodes.executor FD SETUP``, started by an agent and by nobody else.

It lives no longer than its agent: the kernel kills it when the agent's thread that started it is gone, and the end
of the socket ends it. It takes no notice of SIGINT and SIGTERM, which are meant for the agent (Ctrl-C, ``systemctl
stop``): the agent lets running tasks finish.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
from importlib import import_module
from typing import Any

import msgspec

from mesh.entries import Entry
from mesh.errors import ConfigError
from mesh.runtime.execute import Runner
from mesh.runtime.executor_frames import ExecutorSetup, Ready, encode_frame, send_blocking
from mesh.runtime.executor_loop import ExecutorLoop
from mesh.runtime.registry import definitions
from mesh.runtime.task_output import configure_root, redirect_output
from nodes.loader import load_whole

PR_SET_PDEATHSIG = 1
SIGNALS_FOR_THE_AGENT = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Load the user's modules, then run tasks until the agent says Stop."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    setup = msgspec.json.decode(sys.argv[2], type=ExecutorSetup)
    del sys.argv[1:]
    _live_no_longer_than(setup.agent_pid)
    _ignore_signals_for_the_agent(connection)
    faulthandler.enable()
    handler = redirect_output(setup.loglevel)
    try:
        app = load_whole(setup.app, setup.include)
        entries = _entries_of(app)  # first: what is called for them may define tasks
        functions = dict(app.tasks) if app is not None else {}
        defined = definitions(functions)
    except ConfigError as error:
        send_blocking(connection, encode_frame(Ready([], str(error))))
        return 1
    configure_root(handler, setup.loglevel)
    runner = Runner(
        functions,
        worker_name=setup.worker_name,
        inline_bytes_max=setup.inline_bytes_max,
        payload_bytes_max=setup.payload_bytes_max,
    )
    name = None if app is None else str(app.main or setup.app)[:255]
    ExecutorLoop(connection, runner, on_agent_gone=_leave, defined=defined, app=name, entries=entries).run()
    return 0


def _entries_of(app: Any) -> list[Entry]:
    """The periodic tasks in the code of an app. One that needs ``mesh.api`` has imported it; another has none."""
    api = sys.modules.get("mesh.api.app")
    if api is None or not isinstance(app, api.Mesh):
        return []
    found: list[Entry] = import_module("mesh.api.entries").entries_of(app)
    return found


def _live_no_longer_than(agent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != agent_pid:
        _leave()


def _ignore_signals_for_the_agent(connection: socket.socket) -> None:
    """Handlers that do nothing, not SIG_IGN: programs that a task starts must not inherit it."""
    for number in SIGNALS_FOR_THE_AGENT:
        signal.signal(number, lambda *_: None)

    # A task's own child process (multiprocessing) must obey terminate(), from its first moment on, and must not
    # hold our socket open.
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS_FOR_THE_AGENT)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS_FOR_THE_AGENT)

    def restore_in_child() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        connection.close()
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=restore_in_child)


def _leave() -> None:
    """End at once, with the processes that tasks have started in this process group."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
