"""Memory for large payloads."""

from __future__ import annotations

import mmap
from contextlib import suppress

MAPPED_FROM = 4 << 20  # a huge page has 2 MiB, and the ends of a mapping may have none


def new_memory(size: int) -> memoryview:
    """So many bytes to be written to, for whoever fills all of them.

    Large ones are huge pages where the system has some: to touch 100 MiB of small pages for the first time costs
    more than to fill them.
    """
    if size >= MAPPED_FROM:
        with suppress(OSError):  # a process may have 65,530 mappings
            mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                with suppress(OSError):  # this kernel was built without
                    mapped.madvise(mmap.MADV_HUGEPAGE)
            return memoryview(mapped)
    return memoryview(bytearray(size))
