"""What the figures were measured on: no figure means anything without it."""

from __future__ import annotations

import os
import platform
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
import zmq

from bench.disk import file_system, place

PACKAGES = ("taskmesh", "pyzmq", "msgspec", "sqlite-utils", "cloudpickle")
SYNCS = 40


def describe(directory: Path) -> dict[str, Any]:
    """This machine; ``directory`` is on the disk that is measured."""
    return {
        "cpus": os.cpu_count(),
        "cpu": cpu_model(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES} | {"libzmq": zmq.zmq_version()},
        "directory": str(place()),
        "file_system": file_system(directory),
        "fdatasync_us": round(sorted(fdatasync_us(directory))[SYNCS // 2], 1),
        "load_before": round(os.getloadavg()[0], 2),
    }


def fdatasync_us(directory: Path, count: int = SYNCS) -> list[float]:
    """How long it takes, each time, to have 4 KiB more of a file on the disk."""
    found = []
    with tempfile.TemporaryFile(dir=directory) as file:
        descriptor = file.fileno()
        for _ in range(count):
            os.write(descriptor, b"x" * 4096)
            began = perf_counter()
            os.fdatasync(descriptor)
            found.append((perf_counter() - began) * 1e6)
    return found


def cpu_model() -> str:
    """The name the processor gives itself."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
