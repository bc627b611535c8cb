"""Nothing is left behind: programs, maps, flows, transactions, datapaths and replays, made and
given back many times. After a warm-up a further turn costs no memory, no mapping, no file and no
thread; what the datapath itself counts is back at its start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from captures import pcap
from conftest import ROOT
from usage import Usage, usage

import oko
from oko.bpf.asm import assemble
from oko.bpf.elf import read_object
from oko.bpf.spec import FuncSpec, MapSpec, ProgramSpec
from oko.datapath import Datapath
from oko.errors import OkoError
from oko.filters import FilterProgram
from oko.model.flow import FlowMod
from oko.text.flows import parse_flow_mod

FILTERS = ROOT / "examples" / "bpf"
FRAME = bytes.fromhex("020000000002020000000001080045000032") + bytes(46)
MAP_TYPES = range(1, 9)  # enum oko_map_type


def flow(text: str) -> FlowMod:
    """A flow to add, of a rule's text."""
    return parse_flow_mod(text)


@contextmanager
def no_growth(turn: Callable[[], None], turns: int, warm: int = 20) -> Iterator[None]:
    """Runs the turn some times to warm up, then many times: at the end everything is as it was."""
    for _ in range(max(warm, turns // 20)):
        turn()
    before = usage()
    for _ in range(turns):
        turn()
    yield
    assert_same(before, usage(), turns)


def assert_same(before: Usage, after: Usage, turns: int) -> None:
    """No more than noise: less than 8 bytes of heap a turn, one arena, a few allocator mappings."""
    assert after.heap - before.heap < max(16384, 8 * turns)
    assert after.mapped - before.mapped < 2 << 20
    assert after.resident - before.resident < 2 << 20
    assert after.mappings - before.mappings <= 4
    assert after.files == before.files
    assert after.threads == before.threads


def with_map(kind: int) -> ProgramSpec:
    """A program with one map of each size that its type takes, which it looks into."""
    key = 8 if kind == 6 else 4
    spec = {
        2: MapSpec("m", 2, 4, 0, 1024, 3),
        3: MapSpec("m", 3, 4, 4, 256, 3),
    }.get(kind, MapSpec("m", kind, key, 8, 64))
    text = """
        stdw [%r10-8], 8
        lddw %r1, map 0
        mov %r2, %r10
        add %r2, -8
        call helper 1
        mov %r0, 1
        exit
    """
    return ProgramSpec("mapped", assemble(text), (FuncSpec("entry", 0),), (spec,))


@pytest.fixture(params=[100, pytest.param(3000, marks=pytest.mark.long)])
def turns(request: pytest.FixtureRequest) -> int:
    """How often: some, and in the long form, thousands of times."""
    return int(request.param)


def test_programs(turns: int) -> None:
    """Loaded, run, closed. Read only once: reading ELF is Python's, whose own caches grow."""
    spec = read_object((FILTERS / "rate_limiter.o").read_bytes(), "rate_limiter")

    def turn() -> None:
        with FilterProgram.load(spec) as program:
            program.run(FRAME)

    with no_growth(turn, turns):
        pass


def test_refused_programs(turns: int) -> None:
    """The verifier's states and the message go, too."""
    spec = ProgramSpec("bad", assemble("ldxw %r0, [%r1+0]\nexit"), (FuncSpec("entry", 0),))

    def turn() -> None:
        with pytest.raises(OkoError):
            FilterProgram.load(spec)

    with no_growth(turn, turns):
        pass


@pytest.mark.parametrize("kind", MAP_TYPES)
def test_maps(kind: int, turns: int) -> None:
    """A program with a map of each type."""
    spec = with_map(kind)

    def turn() -> None:
        with FilterProgram.load(spec) as program:
            program.run(FRAME)

    with no_growth(turn, turns):
        pass


def test_flows_of_a_datapath(turns: int) -> None:
    """Flows, groups and programs that come and go in one datapath; replaced programs, too."""
    spec = with_map(4)
    with Datapath() as dp:
        dp.add_port(1)
        dp.add_port(2)
        dp.clock_start(1)
        now = 1

        def turn() -> None:
            nonlocal now
            dp.load_program(7, spec)
            dp.load_program(7, spec)
            dp.add_flows(
                flow(f"priority={k},filter_prog=7,ip,nw_src=10.0.{k}.0/24,actions=output:2")
                for k in range(20)
            )
            dp.add_flow(flow("priority=1,hard_timeout=1,send_flow_rem,actions=output:2"))
            dp.process([FRAME] * 3)
            now += 2_000_000_000
            dp.tick(now)
            assert len(dp.events()) == 1  # the timeout
            dp.unload_program(7, force=True)
            assert list(dp.flows()) == []
            assert dp.programs() == []
            dp.tick(now)

        with no_growth(turn, turns, warm=300):  # the change log grows to its bound first
            assert dp.events_lost() == 0


def test_failed_transactions(turns: int) -> None:
    """A bundle that fails at its last flow leaves nothing."""
    with Datapath() as dp:

        def turn() -> None:
            with pytest.raises(OkoError):
                dp.add_flows(
                    [
                        *(flow(f"priority={k},actions=drop") for k in range(10)),
                        flow("priority=1,filter_prog=99,actions=drop"),
                    ]
                )
            assert list(dp.flows()) == []

        with no_growth(turn, turns):
            pass


def test_datapaths(turns: int) -> None:
    """With ports, flows, a program, and packets that came through."""
    spec = with_map(5)

    def turn() -> None:
        with Datapath() as dp:
            dp.add_port(1)
            dp.add_port(2, kind="mem")
            dp.load_program(1, spec)
            dp.add_flow(flow("priority=2,filter_prog=1,actions=mod_dl_dst:02:00:00:00:00:09,2"))
            dp.add_flow(flow("priority=1,actions=NORMAL"))
            dp.process([FRAME] * 3)

    with no_growth(turn, max(20, turns // 10)):
        pass


@pytest.mark.parametrize("options", [{}, {"preload": True}, {"workers": 2}])
def test_replays(options: dict[str, object], turns: int, tmp_path: Path) -> None:
    """Captures, threads, written captures, events."""
    capture = tmp_path / "in.pcap"
    capture.write_bytes(pcap([(k * 1000, FRAME) for k in range(200)]))

    def turn() -> None:
        result = oko.replay(
            capture,
            flows=["priority=2,filter_prog=1,actions=output:2", "priority=1,actions=controller"],
            programs={1: with_map(4)},
            write={2: tmp_path / "out.pcap"},
            **options,
        )
        assert result.packets == 200 and result.ports[2].tx_packets == 200

    with no_growth(turn, max(20, turns // 10)):
        pass
