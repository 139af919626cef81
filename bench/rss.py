"""Memory of other processes: what they have, and the most they had since they were last looked at."""

from __future__ import annotations

from pathlib import Path

MIB = 1 << 20


def resident_bytes(pid: int) -> int:
    """What the process has in memory now. Raises ``OSError`` when it is gone."""
    return _status(pid, "VmRSS")


def forget_peak(pid: int) -> None:
    """Count the peak from now on. The kernel keeps it, so no moment is missed and nothing is polled."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most the process had in memory since ``forget_peak``."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) << 10
    return 0  # a process that has ended and was not waited for
