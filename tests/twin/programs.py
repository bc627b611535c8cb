"""Filter programs for the differential tests: small, each with something to get wrong.

Pure ones look at bytes, lengths or metadata; stateful ones keep counters whose next value depends
on which packets they have seen before, so a run too many, too few or out of order shows in every
verdict after it, and in the map.
"""

from __future__ import annotations

from oko.bpf.asm import assemble
from oko.bpf.spec import DataSpec, FuncSpec, MapSpec, MapType, ProgramSpec


def _spec(
    name: str, text: str, maps: tuple[MapSpec, ...] = (), data: tuple[DataSpec, ...] = ()
) -> ProgramSpec:
    return ProgramSpec(name, assemble(text), (FuncSpec("entry", 0),), maps, data)


def constant(value: int) -> ProgramSpec:
    """Always the same answer; 1 is a match."""
    return _spec(f"constant {value}", f"mov %r0, {value}\nexit")


def longer_than(n: int) -> ProgramSpec:
    """Pure: frames of more than n bytes."""
    return _spec(
        f"longer than {n}",
        f"""
        mov %r0, 0
        jle %r2, {n}, out
        mov %r0, 1
        out: exit
        """,
    )


def byte_is(offset: int, mask: int, value: int) -> ProgramSpec:
    """Pure: a byte of the frame, under a mask."""
    return _spec(
        f"byte {offset} & {mask} == {value}",
        f"""
        mov %r0, 0
        jle %r2, {offset}, out
        ldxb %r3, [%r1+{offset}]
        and %r3, {mask}
        jne %r3, {value}, out
        mov %r0, 1
        out: exit
        """,
    )


def from_port(port: int) -> ProgramSpec:
    """Pure: looks at the metadata (r3), field in_port."""
    return _spec(
        f"from port {port}",
        f"""
        mov %r0, 0
        ldxw %r4, [%r3+16]
        jne %r4, {port}, out
        mov %r0, 1
        out: exit
        """,
    )


def even_millisecond() -> ProgramSpec:
    """Pure: the datapath clock."""
    return _spec(
        "even millisecond",
        """
        call 5
        div %r0, 1000000
        and %r0, 1
        xor %r0, 1
        exit
        """,
    )


def every(n: int) -> ProgramSpec:
    """Stateful: every n-th packet that comes to it."""
    counter = MapSpec("count", MapType.ARRAY, 4, 8, 1)
    return _spec(
        f"every {n}",
        f"""
        stw [%r10-4], 0
        mov %r2, %r10
        add %r2, -4
        lddw %r1, map 0
        call 1
        jeq %r0, 0, out
        ldxdw %r1, [%r0]
        add %r1, 1
        stxdw [%r0], %r1
        mov %r0, 0
        mod %r1, {n}
        jne %r1, 0, out
        mov %r0, 1
        out: exit
        """,
        (counter,),
    )


def every_by_data(n: int) -> ProgramSpec:
    """Stateful: the same with a counter in .bss."""
    return _spec(
        f"every {n} by .bss",
        f"""
        lddw %r1, data 0
        ldxdw %r2, [%r1]
        add %r2, 1
        stxdw [%r1], %r2
        mov %r0, 0
        mod %r2, {n}
        jne %r2, 0, out
        mov %r0, 1
        out: exit
        """,
        data=(DataSpec(".bss", 8, None, True),),
    )


def first_per_source(n: int, map_type: MapType = MapType.HASH, entries: int = 16) -> ProgramSpec:
    """Stateful: the first n frames of each source MAC address, counted in a hash table."""
    table = MapSpec("sources", map_type, 8, 8, entries)
    return _spec(
        f"first {n} per source in {map_type.label}",
        f"""
        mov %r0, 0
        jlt %r2, 12, out
        ldxw %r3, [%r1+6]
        ldxh %r4, [%r1+10]
        lsh %r4, 32
        or %r3, %r4
        stxdw [%r10-8], %r3
        mov %r2, %r10
        add %r2, -8
        lddw %r1, map 0
        call 1
        jeq %r0, 0, new
        ldxdw %r1, [%r0]
        add %r1, 1
        stxdw [%r0], %r1
        mov %r0, 0
        jgt %r1, {n}, out
        mov %r0, 1
        exit
        new:
        stdw [%r10-16], 1
        mov %r2, %r10
        add %r2, -8
        mov %r3, %r10
        add %r3, -16
        lddw %r1, map 0
        call 2
        mov %r0, 1
        out: exit
        """,
        (table,),
    )


def seen_often(threshold: int) -> ProgramSpec:
    """Stateful: destinations counted in a count-min sketch."""
    sketch = MapSpec("sketch", MapType.COUNT_MIN, 4, 4, 64, 3)
    return _spec(
        f"seen more than {threshold} times",
        f"""
        mov %r0, 0
        jlt %r2, 6, out
        ldxw %r3, [%r1+2]
        stxw [%r10-4], %r3
        mov %r2, %r10
        add %r2, -4
        lddw %r1, map 0
        call 4
        mov %r2, %r10
        add %r2, -4
        lddw %r1, map 0
        call 1
        jeq %r0, 0, out
        ldxw %r1, [%r0]
        mov %r0, 0
        jle %r1, {threshold}, out
        mov %r0, 1
        out: exit
        """,
        (sketch,),
    )


PURE = (
    constant(0), constant(1), constant(2), longer_than(60), longer_than(100), byte_is(5, 3, 1),
    byte_is(11, 1, 0), byte_is(23, 0xFF, 6), from_port(1), from_port(3), even_millisecond(),
)  # fmt: skip
STATEFUL = (
    every(2), every(3), every_by_data(2), first_per_source(2),
    first_per_source(3, MapType.LRU_HASH, 2), seen_often(2),
)  # fmt: skip
