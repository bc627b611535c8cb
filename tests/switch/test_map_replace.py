"""Replacing all that a map has, in every type: against a dict, on the packet path, over a restart,
and as to errors and quotas. Forwarding threads beside it: tests/c/test_dp_threads.c."""

from __future__ import annotations

import asyncio
import random
import struct

import pytest
from test_state import ELF, killed, opened

from oko.bpf.asm import assemble
from oko.bpf.spec import DataSpec, FuncSpec, MapSpec, MapType, ProgramSpec
from oko.datapath import Datapath, Frame
from oko.errors import MapError, OkoError
from oko.switch.bridge import BridgeError
from oko.text import parse_flow

SKETCHES = (MapType.BLOOM, MapType.COUNT_MIN)
ARRAYS = (MapType.ARRAY, MapType.WORKER_ARRAY)
PER_WORKER = (MapType.WORKER_ARRAY, MapType.WORKER_HASH)


def reader(kind: MapType, max_entries: int = 16) -> ProgramSpec:
    """Matches when the frame's first 8 bytes are a key of the map with a value other than 0 (an
    item of the sketch); counts its runs in .bss."""
    text = """
        mov %r6, 0
        jle %r2, 16, out
        lddw %r7, data 0
        ldxdw %r3, [%r7]
        add %r3, 1
        stxdw [%r7], %r3
        ldxdw %r3, [%r1]
        stxdw [%r10-8], %r3
        mov %r2, %r10
        add %r2, -8
        lddw %r1, map 0
        call 1
        jeq %r0, 0, out
        ldxw %r6, [%r0]
        jeq %r6, 0, out
        mov %r6, 1
        out: mov %r0, %r6
        exit
    """
    sketch = kind in SKETCHES
    if kind == MapType.BLOOM:
        max_entries *= 512
    spec = MapSpec("m", int(kind), 8, 0 if sketch else 4, max_entries, 2 if sketch else 0)
    bss = DataSpec(".bss", 8, None, True)
    return ProgramSpec("reader", assemble(text), (FuncSpec("entry", 0),), (spec,), (bss,))


def key_of(kind: MapType, number: int) -> bytes:
    if kind == MapType.LPM_TRIE:
        return struct.pack("<I", 32) + number.to_bytes(4, "big")
    return number.to_bytes(8, "little")


def matched(dp: Datapath, key: bytes, worker: int) -> bool:
    """Does a packet with this key match on the packet path?"""
    before = dp.programs()[0].matches
    dp.process([Frame(key + bytes(56))], worker=worker)
    return dp.programs()[0].matches > before


@pytest.mark.parametrize("interpret", [False, True], ids=["jit", "interpreter"])
@pytest.mark.parametrize("kind", list(MapType), ids=lambda kind: kind.label)
def test_against_a_dict(kind, interpret):
    rng = random.Random(int(kind))
    with Datapath(workers=2, interpret=interpret) as dp:
        dp.add_port(1)
        dp.load_program(1, reader(kind))
        dp.add_flow(parse_flow("filter_prog=1,actions=drop"))
        n_runs = 0
        for _ in range(30):
            keys = rng.sample(range(16), rng.randint(0, 8 if kind in SKETCHES else 16))
            twin = {key: rng.randrange(1, 1 << 32) for key in keys}
            if keys and rng.random() < 0.3:  # one comes twice: the last one counts
                entries = [(keys[0], 0), *twin.items()]
            else:
                entries = list(twin.items())
            raw = [(key_of(kind, k), v.to_bytes(4, "little")) for k, v in entries]
            if kind in SKETCHES:
                raw = [(key, b"") for key, _ in raw]
            before = dp.maps(1)["m"]
            was = list(before.items())
            dp.replace_map(1, "m", raw)
            assert list(before.items()) == was  # who had the old one has it still
            now = dp.maps(1)["m"]
            if kind not in SKETCHES:
                copies = 2 if kind in PER_WORKER else 1
                want = {key_of(kind, k): v.to_bytes(4, "little") * copies for k, v in twin.items()}
                if kind in ARRAYS:
                    zero = bytes(4 * copies)
                    want = {key_of(kind, k): zero for k in range(16)} | want
                assert dict(now.items()) == want
            for key in rng.sample(range(16), 6):
                found = matched(dp, key_of(kind, key), rng.randrange(2))
                n_runs += 1
                if kind in SKETCHES and key not in twin:
                    continue  # a sketch may err on that side
                assert found == (key in twin)
        program = dp._dp.program(1, dp.program_spec(1))
        assert int.from_bytes(program.data(0), "little") == n_runs  # .bss goes on
        program.close()
        stats = dp.programs()[0]
        assert stats.runs == n_runs  # and so do the counters


def test_failures_change_nothing():
    with Datapath(max_map_bytes=1 << 20) as dp:
        dp.load_program(1, reader(MapType.HASH, 4))
        dp.replace_map(1, 0, [(key_of(MapType.HASH, 1), b"old.")])
        many = [(key_of(MapType.HASH, i), b"new.") for i in range(5)]
        with pytest.raises(MapError, match=r"map m: entry 4 of 5: the map is full"):
            dp.replace_map(1, 0, many)
        with pytest.raises(OkoError, match="7 bytes, not 8"):
            dp.replace_map(1, 0, [(bytes(7), b"new.")])
        with pytest.raises(OkoError, match="program 2 is not loaded"):
            dp.replace_map(2, 0, [])
        assert list(dp.maps(1)["m"].items()) == [(key_of(MapType.HASH, 1), b"old.")]
        dp.load_program(2, reader(MapType.ARRAY, 4))
        with pytest.raises(MapError, match="entry 0 of 1: index out of range"):
            dp.replace_map(2, 0, [(key_of(MapType.ARRAY, 4), b"new.")])
        dp.load_program(3, reader(MapType.LPM_TRIE, 4))
        with pytest.raises(MapError, match="entry 0 of 1: not a key"):
            dp.replace_map(3, 0, [(struct.pack("<II", 33, 0), b"new.")])


def test_memory_is_that_of_one_map():
    with Datapath(max_map_bytes=1 << 20) as dp:
        dp.load_program(1, reader(MapType.ARRAY, 50_000))  # 400 KB
        dp.load_program(2, reader(MapType.ARRAY, 10))
        for _ in range(20):  # two at a time, then one again
            dp.replace_map(1, 0, [(bytes(8), b"some")])
        dp.load_program(3, reader(MapType.ARRAY, 40_000))
        with pytest.raises(MapError, match=r"map m takes .* are in use"):
            dp.replace_map(1, 0, [(bytes(8), b"more")])
        assert dp.maps(1)["m"][bytes(8)] == b"some"
        dp.unload_program(3)
        dp.replace_map(1, 0, [(bytes(8), b"more")])
        dp.unload_program(1)
        dp.load_program(1, reader(MapType.ARRAY, 100_000))  # all of it has been given back


def test_reload_takes_over_what_was_replaced():
    with Datapath() as dp:
        dp.load_program(1, reader(MapType.HASH))
        dp.replace_map(1, 0, [(bytes(8), b"some")])
        dp.load_program(1, reader(MapType.HASH), keep_maps=True)
        assert dict(dp.maps(1)["m"].items()) == {bytes(8): b"some"}


def test_it_is_one_record_of_the_state(tmp_path):
    bridge = opened(tmp_path)
    asyncio.run(bridge.load_program(1, ELF))
    found = next(m for m in bridge.maps(1).values() if m.spec.type == MapType.HASH)
    sizes = (found.spec.key_size, found.spec.value_size)
    one, two = (bytes([i]) * sizes[0] for i in (1, 2))
    value = b"\7" * sizes[1]
    bridge.update_map(1, found.number, [(one, value)], sizes)
    n = bridge.state._number
    bridge.update_map(1, found.number, [(two, value)], sizes, replace=True)
    assert bridge.state._number == n + 1
    many = [(i.to_bytes(4, "big").ljust(sizes[0], b"\0"), value)
            for i in range(found.spec.max_entries + 1)]  # fmt: skip
    with pytest.raises(BridgeError, match="full"):
        bridge.update_map(1, found.number, many, sizes, replace=True)
    assert bridge.state._number == n + 1
    killed(bridge)
    bridge = opened(tmp_path)
    assert dict(bridge.map(1, found.number).items()) == {two: value}
    killed(bridge)
