"""The Python API of the datapath: what goes in comes out, errors are ours and say where."""

from __future__ import annotations

import select
import struct

import pytest

from oko.datapath import DOWN, Datapath, Frame
from oko.errors import CoreError, OkoError
from oko.model import actions as act
from oko.model.fields import PORT_CONTROLLER, PORT_NORMAL, field
from oko.model.flow import (
    CHECK_OVERLAP,
    DELETE,
    SEND_FLOW_REM,
    Bucket,
    DropBand,
    Flow,
    FlowMod,
    Group,
    Instructions,
    Match,
    Meter,
)

SECOND = 10**9
UDP = (
    bytes.fromhex(
        "020000000002020000000001 0800 45000032000000004011000 00a0000010a000002".replace(" ", "")
    )
    + struct.pack(">HHHH", 1000, 2000, 30, 0)
    + bytes(22)
)


def match(**fields: int) -> Match:
    return Match.of({field(k): (v, field(k).all_ones) for k, v in fields.items()})


def output(*ports: int) -> Instructions:
    return Instructions(apply=tuple(act.Output(port) for port in ports))


@pytest.fixture
def dp():
    with Datapath() as made:
        for number in (1, 2, 3):
            made.add_port(number, f"p{number}", kind="mem" if number > 1 else "null")
        yield made


def test_frames_leave_through_memory_ports(dp):
    dp.add_flow(Flow(match=match(in_port=1), instructions=output(2, 3), cookie=5))
    dp.process([Frame(UDP, 1, ns=7, seq=40), Frame(UDP + b"x", 1, ns=6, wire_len=900, seq=41)])
    sent = dp.read_port(2)
    assert [(f.data, f.seq, f.ns, f.wire_len) for f in sent] == [
        (UDP, 40, 7, len(UDP)),
        (UDP + b"x", 41, 7, 900),  # time never goes back
    ]
    assert dp.read_port(2) == []
    assert len(dp.read_port(3)) == 2
    (flow,) = dp.flows()
    assert (flow.n_packets, flow.n_bytes, flow.cookie) == (2, len(UDP) + 900, 5)
    assert (flow.created, flow.used, flow.match) == (7, 7, match(in_port=1))
    one, two, _ = dp.ports()
    assert (one.kind, one.name, one.rx_packets, one.rx_bytes) == ("null", "p1", 2, len(UDP) + 900)
    assert (two.kind, two.tx_packets, two.tx_bytes) == ("mem", 2, len(UDP) + 900)
    assert dp.now == 7
    assert dp.table(0).lookups == dp.table(0).matches == 2


def test_drops_have_names(dp):
    dp.process([UDP])
    dp.add_flow(Flow())
    dp.process([UDP, UDP])
    dp.add_flow(Flow(priority=40000, instructions=output(9)))
    dp.process([UDP])
    assert dp.drops() == {"table-miss": 1, "drop": 2, "no-port": 1}


def test_a_failed_transaction_changes_nothing(dp):
    dp.add_flow(Flow(priority=3, cookie=1))
    with (
        pytest.raises(CoreError, match=r"program 9 is not loaded") as caught,
        dp.transaction() as t,
    ):
        t.flow(Flow(priority=4))
        t.flow(FlowMod(Flow(), DELETE))
        t.flow(Flow(priority=5, filter_prog=9))
    assert caught.value.index == 2
    assert [f.cookie for f in dp.flows()] == [1]
    with pytest.raises(CoreError, match="overlaps"):
        dp.add_flow(Flow(priority=3, match=match(in_port=1), flags=CHECK_OVERLAP))


def test_an_exception_forgets_the_transaction(dp):
    with pytest.raises(ZeroDivisionError), dp.transaction() as txn:
        txn.flow(Flow())
        raise ZeroDivisionError
    assert list(dp.flows()) == []


def test_malformed_things_are_refused(dp):
    with pytest.raises(CoreError, match="port 3"):
        dp.add_port(3)
    with pytest.raises(CoreError, match="port 0"):
        dp.add_port(0)
    with pytest.raises(OkoError, match="kind of port"):
        dp.add_port(7, kind="wire")
    with pytest.raises(CoreError, match="port 8"):
        dp.remove_port(8)
    with pytest.raises(CoreError, match="not above table 5"):
        dp.add_flow(Flow(table=5, instructions=Instructions(goto=5)))
    with pytest.raises(CoreError, match="worker 1"):
        dp.process([UDP], worker=1)
    with pytest.raises(CoreError):
        Datapath(workers=65)
    with pytest.raises(OkoError, match="program 1 is not loaded"):
        dp.maps(1)
    with pytest.raises(CoreError, match="not loaded"):
        dp.unload_program(1)
    dp.close()
    with pytest.raises(OkoError, match="closed"):
        dp.ports()


def test_packet_in_and_flow_removed_events(dp):
    dp.add_flow(
        Flow(
            match=match(in_port=1),
            instructions=Instructions(
                apply=(
                    act.SetField(field("reg3"), 0xABCD, 0xFFFFFFFF),
                    act.Output(PORT_CONTROLLER, 20),
                )
            ),
            cookie=8,
            hard_timeout=2,
            flags=SEND_FLOW_REM,
        )
    )
    assert not select.select([dp.event_fd()], [], [], 0)[0]
    dp.process([Frame(UDP, 1, ns=SECOND, seq=3)])
    dp.tick(5 * SECOND)
    assert select.select([dp.event_fd()], [], [], 0)[0]
    seen, gone = dp.events()
    assert (seen.kind, seen.reason, seen.ns, seen.seq) == ("packet-in", "action", SECOND, 3)
    assert (seen.data, seen.total_len, seen.in_port) == (UDP[:20], len(UDP), 1)
    assert (seen.cookie, seen.table, seen.regs[3]) == (8, 0, 0xABCD)
    assert (gone.kind, gone.reason, gone.ns) == ("flow-removed", "hard", 3 * SECOND)
    assert (gone.n_packets, gone.duration, gone.match) == (1, 2 * SECOND, match(in_port=1))
    assert dp.events() == [] and dp.events_lost() == 0


def test_events_that_do_not_fit_are_counted():
    with Datapath(event_bytes=1024) as dp:
        dp.add_flow(Flow(instructions=Instructions(apply=(act.Output(PORT_CONTROLLER, 64),))))
        dp.process([UDP] * 10)
        kept = dp.events()
        assert 0 < len(kept) < 10
        assert dp.events_lost() == 10 - len(kept)


def test_groups_and_meters_have_counters(dp):
    with dp.transaction() as txn:
        txn.group(Group(4, 0, (Bucket((act.Output(2),)), Bucket((act.Output(3),)))))
        txn.meter(Meter(6, pktps=True, burst=True, bands=(DropBand(1, 2),)))
        txn.flow(Flow(instructions=Instructions(meter=6, apply=(act.ToGroup(4),))))
    dp.process([Frame(UDP, 1, ns=SECOND)] * 5)
    (group,) = dp.groups()
    assert (group.n_flows, group.n_packets) == (1, 2)
    assert group.buckets == ((2, 2 * len(UDP)),) * 2
    (meter,) = dp.meters()
    assert (meter.n_packets, meter.bands) == (5, ((3, 3 * len(UDP)),))
    assert dp.drops() == {"meter": 3}


def test_ports_go_down_and_away(dp):
    dp.add_flow(Flow(instructions=output(2)))
    dp.set_port_flags(2, DOWN)
    dp.process([UDP])
    dp.set_port_flags(2, 0)
    dp.process([UDP])
    assert len(dp.read_port(2)) == 1
    dp.remove_port(2)
    dp.process([UDP])
    assert dp.drops() == {"no-port": 2}


def test_normal_tells_what_it_knows(dp):
    dp.add_flow(Flow(instructions=output(PORT_NORMAL)))
    dp.process([Frame(UDP, 1, ns=9 * SECOND)])
    (entry,) = dp.macs()
    assert (entry.mac, entry.vlan, entry.port, entry.seen) == (UDP[6:12], 0, 1, 9 * SECOND)


def test_a_trace_tells_the_way(dp):
    dp.add_flow(Flow(instructions=Instructions(goto=3)))
    dp.add_flow(Flow(table=3, priority=7, instructions=output(2), cookie=99))
    dp.trace(1)
    dp.process([Frame(UDP, 1, seq=0), Frame(UDP, 1, seq=1), Frame(UDP, 1, seq=2)])
    steps = dp.trace_steps()
    assert [(s.kind, s.table) for s in steps if s.kind in (2, 4)] == [
        (2, 0),
        (4, 0),
        (2, 3),
        (4, 3),
    ]
    assert (steps[-1].kind, steps[-1].arg) == (7, 2)


def test_many_flows_are_listed_once(dp):
    dp.add_flows(Flow(match=match(eth_type=0x800, ipv4_src=i), cookie=i) for i in range(20000))
    assert sorted(f.cookie for f in dp.flows()) == list(range(20000))
    assert dp.table(0).n_flows == 20000 and dp.table(0).n_masks == 1
