"""Memory for large payloads."""

from __future__ import annotations

import ctypes
import mmap
import re
from pathlib import Path

import pytest

from mesh.wire.memory import MAPPED_FROM, new_memory
from mesh.wire.parts import PART_BYTES_MAX, cut, join, join_writable

SIZES = [0, 1, MAPPED_FROM - 1, MAPPED_FROM, MAPPED_FROM + 1]


@pytest.mark.parametrize("size", SIZES)
def test_it_can_be_written_to_from_end_to_end(size: int) -> None:
    memory = new_memory(size)
    assert memory.nbytes == size
    memory[:] = b"x" * size
    assert memory == b"x" * size


@pytest.mark.parametrize("size", SIZES)
def test_where_nothing_can_be_mapped_there_is_memory_all_the_same(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError("no more mappings")

    monkeypatch.setattr(mmap, "mmap", full)
    assert new_memory(size) == bytes(size)


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="no huge pages here")
def test_large_payloads_are_joined_in_huge_pages() -> None:
    data = b"0123456789abcdef" * (MAPPED_FROM // 16)
    assert len(cut(data)) == MAPPED_FROM // PART_BYTES_MAX
    for joined in (join(cut(data)), join_writable(cut(data))):
        assert joined == data
        assert "hg" in flags_of_mapping(memoryview(joined))


def flags_of_mapping(view: memoryview) -> list[str]:
    """What the kernel was told of the memory behind ``view``, as VmFlags of proc(5) name it."""
    at, inside = ctypes.addressof(ctypes.c_char.from_buffer(view)), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if place := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            start, end = (int(bound, 16) for bound in place.groups())
            inside = start <= at < end
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    return []
