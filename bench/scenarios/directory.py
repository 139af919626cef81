"""Where the mesh under test keeps its store: on the disk that is measured."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory of this run, removed at its end. ``TMPDIR`` chooses the disk."""
    with tempfile.TemporaryDirectory(prefix="taskmesh-bench-") as name:
        yield Path(name)
