"""The misclassifications of the 2018 prototype, each as a test that would have caught it.

Numbers are those of its list of mistakes: batches, recycled ids, reload, several bridges, verdicts
remembered by rule, programs that go on running after their rule is gone, priorities after a
filter's no, packets that are sent to the tables again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twin.build import frame
from twin.programs import constant, every, longer_than

from oko.bpf.asm import assemble
from oko.bpf.spec import FuncSpec, ProgramSpec
from oko.datapath import Datapath, Frame
from oko.errors import CoreError
from oko.text import parse_flow, parse_flow_mod

BURSTS = [1, 2, 16, 31, 32]


def destination_is(last_byte: int) -> ProgramSpec:
    """Matches frames to the Ethernet address ..:last_byte."""
    code = f"""
        mov %r0, 0
        jlt %r2, 14, out
        ldxb %r1, [%r1+5]
        jne %r1, {last_byte}, out
        mov %r0, 1
        out: exit
    """
    return ProgramSpec(f"to {last_byte}", assemble(code), (FuncSpec("entry", 0),))


def to(last_byte: int, source: int = 1) -> bytes:
    """A frame to that address."""
    data, _ = frame(f"tcp,dl_dst=02:00:00:00:00:{last_byte:02x},tp_src={source}")
    return data


@pytest.fixture
def make() -> Iterator[Callable[..., Datapath]]:
    made: list[Datapath] = []

    def new(**options: Any) -> Datapath:
        dp = Datapath(**options)
        made.append(dp)
        for port in range(1, 10):
            dp.add_port(port, kind="mem")
        return dp

    yield new
    for dp in made:
        dp.close()


def received(dp: Datapath) -> dict[int, list[bytes]]:
    sent = {port: [f.data for f in dp.read_port(port)] for port in range(1, 10)}
    return {port: frames for port, frames in sent.items() if frames}


def runs(dp: Datapath) -> dict[int, tuple[int, int]]:
    return {p.number: (p.runs, p.matches) for p in dp.programs()}


@pytest.mark.parametrize("burst", BURSTS)
@pytest.mark.parametrize("n", [4, 5])
@pytest.mark.parametrize("where", ["at once", "behind a stateful one", "in table 1", "in turn"])
def test_1_as_many_filters_as_destinations_in_batches(
    make: Callable[..., Datapath], burst: int, n: int, where: str
) -> None:
    """There: 40 % of packets decided by another packet's verdict at batches of 32."""
    dp = make(burst=burst)
    words = "table=1," if where in ("in table 1", "in turn") else ""
    for i in range(n):
        dp.load_program(1 + i, destination_is(1 + i))
        match = f"{words}priority={90 - i},filter_prog={1 + i}"
        dp.add_flow(parse_flow(f"{match},actions=output:{2 + i}"))
    if where == "behind a stateful one":
        dp.load_program(9, every(1000))
        dp.add_flow(parse_flow("priority=99,filter_prog=9,actions=output:9"))
    if where == "in table 1":
        dp.add_flow(parse_flow("actions=goto_table:1"))
    if where == "in turn":  # what a flow does before it goes on cannot be decided ahead
        dp.add_flow(parse_flow("actions=load:1->NXM_NX_REG0[],resubmit(,1)"))
    frames = [to(1 + i % n, source=i) for i in range(320)]
    for _ in range(3):  # cold and warm
        dp.process(frames)
        assert received(dp) == {2 + i: frames[i::n] for i in range(n)}
    assert runs(dp)[1] == (960, 960 // n)
    assert dp.drops() == {}


def test_1_verdicts_belong_to_packets_not_to_places(make: Callable[..., Datapath]) -> None:
    """Some packets of the burst are decided before the program is asked: places shift."""
    dp = make()
    dp.load_program(1, destination_is(4))
    dp.load_program(2, destination_is(5))
    dp.add_flow(parse_flow("priority=99,tcp,tp_src=1,actions=output:9"))
    dp.add_flow(parse_flow("priority=50,filter_prog=1,actions=output:4"))
    dp.add_flow(parse_flow("priority=40,filter_prog=2,actions=output:5"))
    frames = [to(4 + i % 2, source=i * 7 % 3) for i in range(96)]
    dp.process(frames)
    assert received(dp) == {
        9: [f for i, f in enumerate(frames) if i * 7 % 3 == 1],
        4: [f for i, f in enumerate(frames) if i * 7 % 3 != 1 and i % 2 == 0],
        5: [f for i, f in enumerate(frames) if i * 7 % 3 != 1 and i % 2 == 1],
    }


def test_2_a_recycled_number_does_not_remember(make: Callable[..., Datapath]) -> None:
    """There: "return 0" matched and "return 1" did not, with the verdict of the number's last
    owner; a frame to 9 matched the filter for 4."""
    dp = make()
    frames = [to(4), to(9)] * 16
    for round_ in range(6):
        wanted = (4, 9)[round_ % 2]
        dp.load_program(1, destination_is(wanted))
        dp.add_flow(parse_flow("priority=5,filter_prog=1,actions=output:2"))
        dp.process(frames)
        assert received(dp) == {2: [to(wanted)] * 16}
        dp.add_flow(parse_flow_mod("filter_prog=1", command=3))
        dp.unload_program(1)
        dp.process(frames)
        assert received(dp) == {}


@pytest.mark.parametrize("cache", [True, False])
def test_3_an_old_chain_gets_no_new_actions(make: Callable[..., Datapath], cache: bool) -> None:
    """There: a rule deleted and another made in its place left the old program with the new
    actions."""
    dp = make(cache=cache)
    for i in range(6):  # several masks, so that lookups are worth remembering
        dp.add_flow(parse_flow(f"priority=3,tcp,tp_dst=0x{1 << i:x}/0x{1 << i:x},actions=drop"))
    dp.load_program(1, destination_is(1))
    dp.load_program(2, destination_is(2))
    frames = [to(1), to(2)] * 16
    for first, second in ((1, 2), (2, 1), (1, 2)):
        dp.add_flow(parse_flow(f"priority=9,filter_prog={first},actions=output:{2 + first}"))
        dp.process(frames)
        dp.process(frames)
        assert received(dp) == {2 + first: [to(first)] * 32}
        with dp.transaction() as txn:
            txn.flow(parse_flow_mod(f"priority=9,filter_prog={first}", command=4))
            txn.flow(parse_flow(f"priority=9,filter_prog={second},actions=output:{6 + second}"))
        dp.process(frames)
        assert received(dp) == {6 + second: [to(second)] * 16}
        dp.add_flow(parse_flow_mod(f"priority=9,filter_prog={second}", command=4))


def test_4_bridges_share_nothing(make: Callable[..., Datapath]) -> None:
    """There: the second bridge's "return 0" matched because the first one's "return 1" had run."""
    bridges = [make() for _ in range(3)]
    for answer, dp in enumerate(bridges):
        dp.load_program(1, constant(answer))
        dp.add_flow(parse_flow("priority=9,filter_prog=1,actions=output:2"))
        dp.add_flow(parse_flow("priority=1,actions=output:3"))
    frames = [to(1)] * 32
    for _ in range(3):
        for dp in bridges:  # by turns, one burst each
            dp.process(frames)
    assert [set(received(dp)) for dp in bridges] == [{3}, {2}, {3}]
    assert [runs(dp) for dp in bridges] == [{1: (96, 0)}, {1: (96, 96)}, {1: (96, 0)}]


def test_5_numbers_do_not_leak(make: Callable[..., Datapath]) -> None:
    """There: the 256th replacement of one rule failed."""
    dp = make()
    dp.load_program(1, constant(1))
    for i in range(1000):
        dp.add_flow(parse_flow(f"priority=9,filter_prog=1,actions=output:{2 + i % 2}"))
    dp.process([to(1)])
    assert received(dp) == {3: [to(1)]}
    for i in range(600):  # and more filter rules than 255 at once
        dp.add_flow(parse_flow(f"priority={100 + i},tcp,tp_src={i},filter_prog=1,actions=output:4"))
    dp.process([to(1, source=i) for i in (0, 299, 599, 600)])
    assert {port: len(frames) for port, frames in received(dp).items()} == {4: 3, 3: 1}


def test_5_many_programs(make: Callable[..., Datapath]) -> None:
    """More than 255 programs, each with its own verdict, asked in one chain."""
    dp = make()
    for i in range(300):
        dp.load_program(1 + i, destination_is(i % 256) if i < 256 else constant(0))
        action = f"output:{2 + i % 8}"
        dp.add_flow(parse_flow(f"priority={1000 - i},filter_prog={1 + i},actions={action}"))
    frames = [to(i) for i in (0, 7, 100, 200, 255)] * 7
    dp.process(frames)
    expected: dict[int, list[bytes]] = {}
    for data in frames:
        expected.setdefault(2 + data[5] % 8, []).append(data)
    assert received(dp) == expected


def test_6_programs_get_the_real_length(make: Callable[..., Datapath]) -> None:
    """There: always 8."""
    dp = make()
    dp.load_program(1, longer_than(100))
    dp.add_flow(parse_flow("priority=9,filter_prog=1,actions=output:2"))
    dp.add_flow(parse_flow("priority=1,actions=output:3"))
    dp.process([to(1) + bytes(100 - len(to(1))), to(1) + bytes(101 - len(to(1)))])
    assert {port: [len(f) for f in frames] for port, frames in received(dp).items()} == {
        2: [101],
        3: [100],
    }


def test_9_a_bridge_ends_with_programs_in_use() -> None:
    """There: an assertion stopped the switch."""
    for _ in range(3):
        dp = Datapath()
        dp.load_program(1, every(2))
        dp.add_flow(parse_flow("filter_prog=1,actions=drop"))
        dp.process([Frame(to(1))])
        dp.close()


def test_18_strict_commands_know_the_filter(make: Callable[..., Datapath]) -> None:
    """There: the second of two rules that differ in their filter replaced the first, and strict
    commands ignored it."""
    dp = make()
    for number in (1, 2):
        dp.load_program(number, destination_is(number))
        dp.add_flow(parse_flow(f"priority=9,ip,filter_prog={number},actions=output:{1 + number}"))
    dp.add_flow(parse_flow("priority=9,ip,actions=output:4"))
    dp.process([to(1), to(2), to(3)])
    assert received(dp) == {2: [to(1)], 3: [to(2)], 4: [to(3)]}
    dp.add_flow(parse_flow_mod("priority=9,ip,filter_prog=1", command=4))
    dp.process([to(1), to(2), to(3)])
    assert received(dp) == {3: [to(2)], 4: [to(1), to(3)]}
    assert sorted(f.filter_prog for f in dp.flows()) == [0, 2]


def test_19_a_reload_replaces_the_program(make: Callable[..., Datapath]) -> None:
    """There: the old one went on, or which one ran depended on a hash table's growth."""
    dp = make()
    dp.load_program(1, destination_is(1))
    dp.add_flow(parse_flow("priority=9,filter_prog=1,actions=output:2"))
    frames = [to(i) for i in range(8)] * 4
    for wanted in (1, 2, 3, 4, 5, 6, 7):
        assert dp.load_program(1, destination_is(wanted))
        dp.process(frames)
        assert received(dp) == {2: [to(wanted)] * 4}
    with pytest.raises(CoreError):
        dp.load_program(1, ProgramSpec("bad", assemble("mov %r0, %r9\nexit"), (FuncSpec("e", 0),)))
    dp.process(frames)
    assert received(dp) == {2: [to(7)] * 4}  # a failed reload leaves the old one


def test_20_flows_of_one_match_have_their_own_counters(make: Callable[..., Datapath]) -> None:
    """There: several entries of one identity, and changes hit the first one."""
    dp = make()
    for number in (1, 2, 3):
        dp.load_program(number, destination_is(number))
        dp.add_flow(parse_flow(f"priority=9,filter_prog={number},actions=output:{1 + number}"))
    dp.process([to(1)] * 1 + [to(2)] * 20 + [to(3)] * 3)
    assert {f.filter_prog: f.n_packets for f in dp.flows()} == {1: 1, 2: 20, 3: 3}
    dp.add_flow(parse_flow_mod("priority=9,filter_prog=2,actions=output:9", command=2))
    dp.process([to(1), to(2), to(3)])
    assert received(dp)[9] == [to(2)]


def test_22_a_program_stops_with_its_last_flow(make: Callable[..., Datapath]) -> None:
    """There: a deleted rule's program stayed in the chains where it had said no."""
    dp = make()
    for number in (1, 2, 3):
        dp.load_program(number, destination_is(number))
        dp.add_flow(parse_flow(f"priority={9 - number},filter_prog={number},actions=output:2"))
    dp.process([to(3)] * 64)
    assert runs(dp) == {1: (64, 0), 2: (64, 0), 3: (64, 64)}
    dp.add_flow(parse_flow_mod("filter_prog=2", command=3))
    dp.process([to(3)] * 64)
    assert runs(dp) == {1: (128, 0), 2: (64, 0), 3: (128, 128)}


def test_22_the_order_is_priority_whatever_the_masks(make: Callable[..., Datapath]) -> None:
    """There: programs were asked in the order of masks, also those that could not decide."""
    dp = make()
    for number, match in ((1, "ip"), (2, "tcp"), (3, "dl_src=02:00:00:00:00:01"), (4, "in_port=1")):
        dp.load_program(number, destination_is(number))
        dp.add_flow(
            parse_flow(f"priority={50 - number},{match},filter_prog={number},actions=output:2")
        )
    dp.process([to(1)] * 40 + [to(2)] * 40 + [to(4)] * 40)
    assert runs(dp) == {1: (120, 40), 2: (80, 40), 3: (40, 0), 4: (40, 40)}


def test_verdicts_belong_to_programs_not_to_rules(make: Callable[..., Datapath]) -> None:
    """One program behind several flows is asked once per packet, also when it counts."""
    dp = make()
    dp.load_program(1, every(3))
    for priority, match in ((90, "tcp,tp_src=7"), (80, "tcp"), (70, "ip"), (60, "in_port=1")):
        dp.add_flow(parse_flow(f"priority={priority},{match},filter_prog=1,actions=output:2"))
    dp.add_flow(parse_flow("priority=1,actions=output:3"))
    frames = [to(1, source=7 if i % 2 else i) for i in range(96)]
    dp.process(frames)
    assert runs(dp) == {1: (96, 32)}
    assert received(dp)[2] == frames[2::3]


def test_a_no_leads_to_the_next_flow_at_any_depth(make: Callable[..., Datapath]) -> None:
    """Chains longer than one list of candidates, ending in a flow without filter, or in none."""
    dp = make()
    dp.load_program(1, constant(0))
    for i in range(40):
        dp.add_flow(parse_flow(f"priority={100 + i},filter_prog=1,tcp,actions=output:9"))
        dp.load_program(2 + i, destination_is(100 + i))
        dp.add_flow(parse_flow(f"priority={50 - i},filter_prog={2 + i},actions=output:2"))
    dp.process([to(100), to(139), to(99)])
    assert received(dp) == {2: [to(100), to(139)]}
    assert dp.drops() == {"table-miss": 1}
    dp.add_flow(parse_flow("priority=0,actions=output:3"))
    dp.process([to(99)])
    assert received(dp) == {3: [to(99)]}


def test_23_packets_sent_to_the_tables_meet_filters(make: Callable[..., Datapath]) -> None:
    """There: output to TABLE never matched a rule with a filter, and missed those below it."""
    dp = make()
    dp.load_program(1, destination_is(1))
    dp.add_flow(parse_flow("priority=99,reg0=0,actions=set_field:1->reg0,TABLE"))
    dp.add_flow(parse_flow("priority=9,filter_prog=1,actions=output:2"))
    dp.add_flow(parse_flow("priority=1,actions=output:3"))
    dp.process([to(1), to(2)] * 16)
    assert received(dp) == {2: [to(1)] * 16, 3: [to(2)] * 16}
    assert runs(dp) == {1: (32, 16)}
