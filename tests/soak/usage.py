"""What this process holds of the system: memory in several counts, open files, threads.

Bytes in use of the C heap catch a leak of a few bytes per turn; mapped memory and the number of
mappings catch blocks straight from the kernel (maps of programs, machine code), and resident memory
what is used again but grows.
"""

from __future__ import annotations

import ctypes
import gc
import os
from dataclasses import dataclass


class _Mallinfo2(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


_libc = ctypes.CDLL(None)
# Large blocks always by mmap(), and free memory at the heap's end given back: glibc would otherwise
# raise both limits as it goes, and what is mapped would depend on the order of things.
if hasattr(_libc, "mallopt"):
    _libc.mallopt(-3, 128 << 10)  # M_MMAP_THRESHOLD
    _libc.mallopt(-1, 128 << 10)  # M_TRIM_THRESHOLD


def _heap() -> int:
    """Bytes that malloc() has given out; 0 where the C library does not tell (before 2.33)."""
    try:
        function = _libc.mallinfo2
    except AttributeError:
        return 0
    function.restype = _Mallinfo2
    info = function()
    return int(info.uordblks + info.hblkhd)


@dataclass(frozen=True)
class Usage:
    """Counts; the first three in bytes."""

    heap: int
    mapped: int
    resident: int
    mappings: int
    files: int
    threads: int


def usage() -> Usage:
    """Now, after Python's own garbage is gone."""
    gc.collect()
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
    with open("/proc/self/statm") as statm:
        pages = [int(word) for word in statm.read().split()[:2]]
    with open("/proc/self/maps") as maps:
        mappings = sum(1 for _ in maps)
    page = os.sysconf("SC_PAGE_SIZE")
    return Usage(
        _heap(),
        pages[0] * page,
        pages[1] * page,
        mappings,
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
    )
