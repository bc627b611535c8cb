"""FilterProgram, Map and the binding below them: lifetimes, typed access, errors.

Programs here are loaded in conformance mode where the verifier does not matter.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import oko
from oko._binding import Engine, Vm, disassemble_all, features
from oko.bpf.asm import assemble
from oko.bpf.btf import Layout
from oko.bpf.spec import DataSpec, FuncSpec, LineInfo, MapSpec, MapType, ProgramSpec
from oko.bpf.typed import parse_update
from oko.errors import LoadError, MapError, OkoError
from oko.filters import FilterProgram

IP = Layout("int", 4, "oko_ip4")
U64 = Layout("int", 8, "uint64_t")
HASH = MapSpec("blocked", MapType.HASH, 4, 8, 3, 0, IP, U64)

# r0 = the value of the packet's first four bytes in map 0, else 77.
LOOKUP = """
    mov %r0, 77
    jlt %r2, 4, done
    ldxw %r1, [%r1]
    stxw [%r10-4], %r1
    lddw %r1, map 0
    mov %r2, %r10
    add %r2, -4
    call 1
    jne %r0, 0, found
    mov %r0, 77
    exit
    found:
    ldxdw %r0, [%r0]
    done:
    exit
"""


def spec(text: str = LOOKUP, *maps: MapSpec, data: tuple[DataSpec, ...] = ()) -> ProgramSpec:
    return ProgramSpec("test", assemble(text), (FuncSpec("entry", 0),), maps or (HASH,), data)


def load(made: ProgramSpec, **options: bool) -> FilterProgram:
    vm = Vm()
    return FilterProgram(vm, vm.load(made, conformance=True, **options))


def test_map_access() -> None:
    with load(spec()) as program:
        blocked = program.maps["blocked"]
        blocked["ip:10.0.0.1"] = 1
        blocked[b"\x0a\0\0\2"] = b"\2\0\0\0\0\0\0\0"
        assert (len(blocked), len(program.maps), list(program.maps)) == (2, 1, ["blocked"])
        assert blocked["ip:10.0.0.2"] == b"\2" + bytes(7)
        assert blocked.get_typed("ip:10.0.0.2") == 2
        assert dict(blocked.items_typed()) == {"ip:10.0.0.1": 1, "ip:10.0.0.2": 2}
        assert blocked.get("ip:10.9.9.9") is None and blocked.get_typed("ip:10.9.9.9") is None
        del blocked["ip:10.0.0.1"]
        with pytest.raises(MapError, match="map 'blocked': no such entry"):
            blocked["ip:10.0.0.1"]
        with pytest.raises(MapError, match="no such entry"):
            del blocked["ip:10.0.0.1"]
        blocked["ip:10.0.0.3"] = blocked["ip:10.0.0.4"] = 3
        with pytest.raises(MapError, match=r"full \(3 entries\)"):
            blocked["ip:10.0.0.5"] = 5
        with pytest.raises(MapError, match="hash cannot do this"):
            blocked.add(1)
        blocked.clear()
        assert not list(blocked.items())


def test_updates_by_name_or_number() -> None:
    with load(spec()) as program:
        for name in ("blocked", "0", 0):
            assert program.maps.find(name).name == "blocked"
        with pytest.raises(OkoError, match=r"no map 'other'; its maps: 0 blocked"):
            program.maps.find("other")
        with pytest.raises(OkoError, match="no map 7"):
            program.maps.find(7)
        update = parse_update("map=blocked,key=ip:10.0.0.1,value=u64:9")
        assert program.maps.find(update.map).apply(update) == 1
        assert program.run(b"\x0a\0\0\1") == 9


@pytest.mark.parametrize("kind", list(MapType))
def test_every_type_of_map(kind: MapType) -> None:
    """What each can do, as csrc/oko.h says."""
    key_size = 8 if kind is MapType.LPM_TRIE else 4
    made = MapSpec("m", kind, key_size, 8, 64, 2)
    vm = Vm(n_workers=2)
    with FilterProgram(vm, vm.load(spec("mov %r0, 0\nexit", made), conformance=True)) as program:
        found = program.maps["m"]
        key: object = "lpm:10.0.0.0/8" if kind is MapType.LPM_TRIE else 5
        if kind in (MapType.BLOOM, MapType.COUNT_MIN):
            assert found.get_typed(key) == 0
            found.add(key)
            found.add(key)
            assert found.get_typed(key) == (1 if kind is MapType.BLOOM else 2)
            with pytest.raises(MapError, match="cannot do this"):
                found[key] = 1
            assert any(any(value) for _, value in found.items())
        else:
            found[key] = 7
            wide = kind in (MapType.WORKER_ARRAY, MapType.WORKER_HASH)
            assert found[key] == (b"\7" + bytes(7)) * (2 if wide else 1)
            assert (found.key(key), found[key]) in set(found.items())
            if kind is MapType.LPM_TRIE:
                assert found["lpm:10.1.2.3/32"] == b"\7" + bytes(7)
        if kind in (MapType.ARRAY, MapType.WORKER_ARRAY):
            with pytest.raises(MapError, match=r"out of range \(max_entries is 64\)"):
                found[64] = 1
            with pytest.raises(MapError, match="cannot do this"):
                del found[1]
        found.clear()
        assert not any(any(value) for _, value in found.items())
        assert found.stats.memory > 0 and repr(found) == f"<oko map 'm', {kind.label}>"


def test_sizes_are_checked_before_the_core_sees_them() -> None:
    with load(spec()) as program:
        found = program.maps["blocked"]
        with pytest.raises(OkoError, match=r"key of map 'blocked': .* is 5 bytes, not 4"):
            found.get(b"12345")
        with pytest.raises(OkoError, match=r"value of map 'blocked': .* is 3 bytes, not 8"):
            found["ip:10.0.0.1"] = b"123"
        raw = found._handle
        for wrong in (b"", b"123", b"12345"):
            with pytest.raises(MapError, match="has 4 bytes"):
                raw.get(wrong)
            with pytest.raises(MapError, match="has 4 bytes"):
                raw.set(wrong, bytes(8))
            with pytest.raises(MapError, match="has 4 bytes"):
                raw.delete(wrong)
        with pytest.raises(MapError, match="a value has 8 bytes, not 9"):
            raw.set(b"1234", bytes(9))


def test_a_dump_of_many_entries_has_each_once() -> None:
    """More than one chunk of the binding's buffer."""
    big = MapSpec("big", MapType.HASH, 4, 8, 20000)
    with load(spec(LOOKUP, big)) as program:
        found = program.maps["big"]
        for number in range(20000):
            found[number.to_bytes(4, "little")] = number.to_bytes(8, "little")
        entries = list(found.items())
        assert len(entries) == 20000 == len(set(entries))
        assert all(key == value[:4] for key, value in entries)


def test_runs_and_batches() -> None:
    with load(spec()) as program:
        program.maps["blocked"]["ip:10.0.0.1"] = 1
        frames = [b"\x0a\0\0\1", b"\x0a\0\0\2", b"", b"\x0a\0\0\1more"] * 50
        assert [program.run(frame) for frame in frames[:4]] == [1, 77, 77, 1]
        assert program.matches(frames[0]) and not program.matches(frames[1])
        for engine in (Engine.BEST, Engine.INTERP):
            assert program.run_batch(frames, engine=engine) == [True, False, False, True] * 50
        assert program.run_batch([]) == []
        with pytest.raises(OkoError, match="a packet of 65536 bytes is over 65535"):
            program.run(bytes(65536))
        with pytest.raises(OkoError, match="2 metas for 1 packets"):
            program.run_batch([b""], [oko.Meta(), oko.Meta()])


def test_metadata_reaches_the_program() -> None:
    text = "ldxdw %r0, [%r3{}]\nexit"
    meta = oko.Meta(rx_ns=11, tun_id=22, in_port=33, wire_len=44)
    for offset, expected in (("", 11), ("+8", 22), ("+16", 33 | 44 << 32), ("+24", 5)):
        with load(spec(text.format(offset))) as program:
            assert program.run(b"hello", meta) == expected
            assert program.run(b"hello", meta, engine=Engine.INTERP) == expected


def test_data_sections_keep_their_contents() -> None:
    data = (DataSpec(".data", 8, b"\5" + bytes(7), True), DataSpec(".bss", 16, None, True))
    text = "lddw %r1, data 0+0\nlddw %r2, data 1+8\nldxdw %r0, [%r1]\nlock add [%r1], %r0\n"
    with load(spec(text + "stxdw [%r2], %r0\nexit", data=data)) as program:
        assert [program.run(b"") for _ in range(3)] == [5, 10, 20]
        assert program.data(".data") == (40).to_bytes(8, "little")
        assert program.data(".bss") == bytes(8) + (20).to_bytes(8, "little")
        with pytest.raises(OkoError, match=r"no data section '\.rodata'"):
            program.data(".rodata")


def test_profile() -> None:
    with load(spec()) as program:
        counts = program.profile()
        for frame in (b"", b"1234", b"12345"):
            program.run(frame, engine=Engine.INTERP)
        assert counts()[:3] == [3, 3, 2]


def test_disassembly_names_maps_and_data() -> None:
    data = (DataSpec(".bss", 16, None, True),)
    made = spec("lddw %r1, map 0\nlddw %r2, data 0+8\ncall 1\ncall local +0\nexit", data=data)
    assert (
        disassemble_all(made, [0, 2, 4, 6])
        == [
            "r1 = map[blocked]",
            "r2 = .bss[8]",
            "call map_lookup#1",
            "exit",
        ]
        or disassemble_all(made, [0])[0] == "r1 = map[blocked]"
    )


def test_refusals_name_the_place() -> None:
    made = ProgramSpec(
        "bad",
        assemble("mov %r0, 1\n.word 0xff\nexit"),
        (FuncSpec("entry", 0),),
        lines=(LineInfo(0, 10, "/src/f.c", "int x;", 3), LineInfo(1, 11, "/src/f.c", "bad();")),
    )
    with Vm() as vm, pytest.raises(LoadError) as caught:
        vm.load(made)
    error = caught.value
    assert str(error).startswith("f.c:11: instruction 1 (unknown opcode 0xff): ")
    assert (error.insn, error.line, error.file, error.source) == (1, 11, "/src/f.c", "bad();")
    assert error.reason and error.code == -2


def test_limits_are_errors() -> None:
    big = MapSpec("big", MapType.HASH, 4, 1024, 1 << 20)
    with Vm(max_map_bytes=1 << 20) as vm:
        with pytest.raises(LoadError, match=r"memory|limit|quota|bytes") as caught:
            vm.load(spec(LOOKUP, big), conformance=True)
        assert caught.value.code in (-1, -5)
    with Vm(max_progs=2) as vm:
        kept = [vm.load(spec(), conformance=True) for _ in range(2)]
        with pytest.raises(LoadError):
            vm.load(spec(), conformance=True)
        kept[0].close()
        vm.load(spec(), conformance=True)


@pytest.mark.parametrize(
    "wrong",
    [
        MapSpec("m", 99, 4, 4, 10),
        MapSpec("m", MapType.HASH, 0, 4, 10),
        MapSpec("m", MapType.HASH, 4, 4, 0),
        MapSpec("m", MapType.ARRAY, 5, 4, 10),
        MapSpec("m", MapType.HASH, 4, 1 << 31, 10),
        MapSpec("m", MapType.ARRAY, 4, 1 << 16, 1 << 16),  # 4 GiB: 0 in 32 bits
        MapSpec("m", MapType.COUNT_MIN, 4, 0, 1 << 31, 100),
    ],
)
def test_impossible_maps_are_refused(wrong: MapSpec) -> None:
    with Vm() as vm, pytest.raises(LoadError) as caught:
        vm.load(spec(LOOKUP, wrong), conformance=True)
    assert "m" in str(caught.value) and "\n" not in str(caught.value)


def test_lifetimes() -> None:
    vm = Vm()
    program = vm.load(spec(), conformance=True)
    found = program.map(0)
    vm.close()  # closes its programs, too
    for use in (
        lambda: program.run(b""),
        lambda: program.info,
        lambda: program.map(0),
        lambda: list(found.items()),
        lambda: found.get(b"1234"),
        lambda: vm.load(spec(), conformance=True),
    ):
        with pytest.raises(OkoError, match="is closed"):
            use()
    program.close()
    vm.close()
    assert program.closed and vm.closed


def test_nothing_has_to_be_closed() -> None:
    """The net below close(): objects that are only forgotten are freed, in any order."""
    for _ in range(20):
        vm = Vm()
        first, second = (vm.load(spec(), conformance=True) for _ in range(2))
        found = first.map(0)
        cycle = [vm, second]
        cycle.append(cycle)  # type: ignore[arg-type]
        del vm, first, second, cycle
        gc.collect()
        assert list(found.items()) == []


def test_forgotten_objects_at_exit() -> None:
    """Interpreter shutdown with everything open is quiet."""
    code = (
        "from oko._binding import Vm\n"
        "from oko.bpf.spec import *\n"
        "vm = Vm(); p = vm.load(ProgramSpec('x', bytes.fromhex('b700000001000000"
        "9500000000000000'), (FuncSpec('e', 0),)), conformance=True); print(p.run(b''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_runs_from_several_threads_are_serialised() -> None:
    """`v->n++` on a plain counter loses nothing, because runs of one VM do not overlap."""
    text = "lddw %r1, data 0+0\nldxdw %r0, [%r1]\nadd %r0, 1\nstxdw [%r1], %r0\nexit"
    with load(spec(text, data=(DataSpec(".bss", 8, None, True),))) as program:

        def work() -> None:
            for _ in range(200):
                program.run_batch([b""] * 64)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert int.from_bytes(program.data(".bss"), "little") == 4 * 200 * 64


def test_the_package_is_light_until_used() -> None:
    code = "import sys, oko; print([m for m in sys.modules if m.startswith(('oko.', 'elftools'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n"
    assert set(oko.__all__) <= set(dir(oko))
    for name in oko.__all__:
        assert getattr(oko, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        oko.nonsense  # noqa: B018
    assert oko.features() == features()


def test_errors_are_one_family() -> None:
    import oko.errors as errors

    family = [v for v in vars(errors).values() if isinstance(v, type)]
    assert all(issubclass(v, errors.OkoError) for v in family)


def test_load_from_files(tmp_path: Path) -> None:
    with pytest.raises(OkoError, match="No such file"):
        FilterProgram.load(tmp_path / "none.o")
    with pytest.raises(OkoError, match="not an ELF object"):
        FilterProgram.load(b"x" * 100)
