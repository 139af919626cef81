"""What a node does that was started by a supervisor: it lives no longer than that one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from mesh.errors import ConfigError

PR_SET_PDEATHSIG = 1


def end_with(supervisor_pid: int) -> None:
    """Have the kernel send SIGTERM to this process when its supervisor dies, however that happens.

    Raises ``ConfigError`` when it is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor_pid:
        raise ConfigError(f"the supervisor, process {supervisor_pid}, is gone: nothing to do")
