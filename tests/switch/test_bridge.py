"""The bridge: OpenFlow's truth over a datapath."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from oko.datapath import Datapath, Frame
from oko.model import actions as act
from oko.model.fields import PORT_TABLE
from oko.model.flow import (
    DELETE,
    MODIFY,
    SEND_FLOW_REM,
    TABLE_ALL,
    Bucket,
    DropBand,
    Flow,
    FlowMod,
    Group,
    GroupMod,
    Instructions,
    Meter,
    MeterMod,
)
from oko.switch import ports
from oko.switch.bridge import Bridge, BridgeError
from oko.switch.events import BridgeEvent, FlowRemoved, PacketIn, PortStatus
from oko.text import parse_flow

ROOT = Path(__file__).resolve().parents[2]
FRAME = bytes.fromhex("020000000002020000000001080045") + bytes(45)


class Ears:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[BridgeEvent] = []

    def event(self, event: BridgeEvent) -> None:
        self.heard.append(event)


@pytest.fixture
def bridge():
    made = Bridge("br0")
    made.add_port(1, "p1")
    made.add_port(2, "p2", kind="mem")
    yield made
    made.close()


def add(text: str) -> FlowMod:
    return FlowMod(parse_flow(text))


def test_instructions_are_kept_while_flows_need_them(bridge):
    for start in range(0, 30000, 3000):
        bridge.apply([FlowMod(Flow(), DELETE)])
        bridge.apply([add(f"priority={i + 1},actions=set_field:{i}->reg0,output:1")
                      for i in range(start, start + 3000)])  # fmt: skip
        for flow in bridge.flow_stats():
            (load, _) = flow.instructions.apply
            assert isinstance(load, act.SetField) and load.value == flow.priority - 1
    assert len(bridge._instructions) < 12000


def test_what_was_added_comes_back(bridge):
    flows = [
        "table=0,priority=7,cookie=0x5,idle_timeout=9,tcp,tp_dst=80,actions=output:2",
        "table=3,priority=1,actions=drop",
        "table=0,priority=7,udp,actions=mod_tp_dst:5,output:1,goto_table:3",
    ]
    bridge.apply([add(text) for text in flows])
    assert {f.flow for f in bridge.flow_stats()} == {parse_flow(text) for text in flows}


def test_statistics_cover_what_they_should(bridge):
    bridge.apply(
        [
            add("table=0,cookie=0x11,tcp,tp_dst=80,actions=output:2"),
            add("table=0,cookie=0x12,tcp,actions=clone(output:1)"),
            add("table=1,cookie=0x21,udp,actions=drop"),
        ]
    )

    def cookies(**request: object) -> set[int]:
        return {f.cookie for f in bridge.flow_stats(**request)}

    tcp = parse_flow("tcp,actions=drop").match
    assert cookies(table=0) == {0x11, 0x12}
    assert cookies(cookie=0x11, cookie_mask=0xF) == {0x11, 0x21}
    assert cookies(match=tcp) == {0x11, 0x12}
    assert cookies(match=tcp, strict=32768) == {0x12}
    assert cookies(match=tcp, strict=1) == set()
    assert cookies(out_port=1) == {0x12}
    assert cookies(out_group=1) == set()
    assert bridge.aggregate(table=0) == (0, 0, 2)


def test_all_or_nothing(bridge):
    with pytest.raises(BridgeError) as error:
        bridge.apply([add("tcp,actions=drop"), add("udp,actions=group:9")])
    assert (error.value.index, error.value.name) == (1, "OFPBAC_BAD_OUT_GROUP")
    assert list(bridge.flow_stats()) == []
    group = GroupMod(Group(1, 0, (Bucket((act.Output(2),)),)))
    with pytest.raises(BridgeError) as error:
        bridge.apply([group, group])
    assert (error.value.index, error.value.name) == (1, "OFPGMFC_GROUP_EXISTS")
    assert bridge.groups() == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (add("filter_prog=3,actions=drop"), "OFPBMC_BAD_VALUE"),
        (FlowMod(Flow(table=254)), "OFPFMFC_BAD_TABLE_ID"),
        (FlowMod(Flow(table=1, instructions=Instructions(goto=1))), "OFPBIC_BAD_TABLE_ID"),
        (FlowMod(Flow(instructions=Instructions(meter=5))), "OFPMMFC_INVALID_METER"),
        (GroupMod(Group(1, 0), "modify"), "OFPGMFC_UNKNOWN_GROUP"),
        (GroupMod(Group(1, 9), "add"), "OFPGMFC_INVALID_GROUP"),
        (MeterMod(Meter(1), "modify"), "OFPMMFC_UNKNOWN_METER"),
    ],
)
def test_errors_have_their_names(bridge, change, name):
    with pytest.raises(BridgeError) as error:
        bridge.apply([change])
    assert error.value.name == name


def test_modify_may_add_and_may_set_the_cookie(bridge):
    tcp = parse_flow("tcp,cookie=0x1,actions=output:2")
    bridge.apply([FlowMod(tcp, MODIFY)])
    assert not list(bridge.flow_stats())
    bridge.apply([FlowMod(tcp, MODIFY, or_add=True)])
    other = parse_flow("tcp,cookie=0x2,actions=output:1")
    bridge.apply([FlowMod(other, MODIFY)])
    assert [(f.cookie, f.instructions) for f in bridge.flow_stats()] == [(1, other.instructions)]
    bridge.apply([FlowMod(other, MODIFY, new_cookie=True)])
    assert [f.cookie for f in bridge.flow_stats()] == [2]
    # OpenFlow 1.0 has no table in a modify: it covers all, and adds to the first.
    udp = replace(parse_flow("udp,actions=output:2"), table=TABLE_ALL)
    bridge.apply([FlowMod(udp, MODIFY, or_add=True)])
    bridge.apply([FlowMod(replace(udp, instructions=other.instructions), MODIFY, or_add=True)])
    (flow,) = (f for f in bridge.flow_stats() if f.match == udp.match)
    assert (flow.table, flow.instructions) == (0, other.instructions)


def test_groups_and_meters(bridge):
    group = Group(4, 0, (Bucket((act.Output(2),)),))
    meter = Meter(6, pktps=True, bands=(DropBand(10),))
    bridge.apply([GroupMod(group, "add_or_mod"), MeterMod(meter), add("actions=meter:6,group:4")])
    bridge.datapath.process([Frame(FRAME, in_port=1)])
    (group_stats,), (meter_stats,) = bridge.group_stats(), bridge.meter_stats(6)
    assert (group_stats.group, group_stats.n_packets, group_stats.n_flows) == (group, 1, 1)
    assert (meter_stats.meter, meter_stats.n_packets) == (meter, 1)
    bridge.apply([GroupMod(Group(4, 1, group.buckets), "add_or_mod")])
    assert [g.type for g in bridge.groups()] == [1]
    bridge.apply([GroupMod(Group(0xFFFFFFFC, 0), "delete"), MeterMod(Meter(6), "delete")])
    assert bridge.groups() == bridge.meters() == list(bridge.flow_stats()) == []


def test_learned_flows_have_instructions(bridge):
    bridge.apply(
        [
            add(
                "actions=learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
                "load:0x5->NXM_NX_REG0[0..7],output:NXM_OF_IN_PORT[])"
            )
        ]
    )
    bridge.datapath.process([Frame(FRAME, in_port=1)])
    (learned,) = bridge.flow_stats(table=1)
    assert learned.learned
    assert (
        learned.instructions
        == parse_flow("actions=load:5->NXM_NX_REG0[0..7],output:1").instructions
    )


def test_events(bridge):
    ears = Ears()
    bridge.listen(ears)
    flow = parse_flow("priority=3,cookie=0x9,in_port=1,actions=controller")
    flow = Flow(**{name: getattr(flow, name) for name in flow.__slots__} | {"flags": SEND_FLOW_REM})
    bridge.apply([FlowMod(flow)])
    bridge.datapath.process([Frame(FRAME, in_port=1)])
    bridge.apply([FlowMod(Flow(table=255), DELETE)])
    bridge.poll()
    packet_in, removed = ears.heard
    assert isinstance(packet_in, PacketIn) and isinstance(removed, FlowRemoved)
    assert (packet_in.data, packet_in.cookie, packet_in.in_port) == (FRAME, 9, 1)
    assert (removed.cookie, removed.n_packets, removed.reason, removed.match) == (
        9,
        1,
        2,
        flow.match,
    )
    bridge.unlisten(ears)
    bridge.datapath.process([Frame(FRAME, in_port=1)])
    bridge.poll()
    assert len(ears.heard) == 2


def test_ports(bridge):
    ears = Ears()
    bridge.listen(ears)
    assert [p.number for p in bridge.ports()] == [1, 2, ports.LOCAL]
    assert bridge.dpid == bridge.ports()[-1].hw_addr
    bridge.modify_port(1, None, ports.NO_FWD, ports.NO_FWD)
    (told,) = ears.heard
    assert isinstance(told, PortStatus) and told.port.config == ports.NO_FWD
    bridge.modify_port(1, None, ports.NO_FWD, ports.NO_FWD)  # no change: nothing to tell
    assert len(ears.heard) == 1
    bridge.apply([add("actions=output:1"), add("priority=40000,in_port=1,actions=output:2")])
    bridge.datapath.process([Frame(FRAME, in_port=2), Frame(FRAME, in_port=1)])
    one, two, _ = bridge.port_stats()
    assert (one.tx_packets, one.rx_packets, two.tx_packets) == (0, 1, 1)
    with pytest.raises(BridgeError) as error:
        bridge.modify_port(1, 5, 0, 0)
    assert error.value.name == "OFPPMFC_BAD_HW_ADDR"
    with pytest.raises(BridgeError) as error:
        bridge.modify_port(77, 0, 0, 0)
    assert error.value.name == "OFPPMFC_BAD_PORT"
    bridge.modify_port(1, None, ports.PORT_DOWN, ports.PORT_DOWN)
    assert not bridge.ports()[0].state & ports.LIVE
    bridge.remove_port(1)
    assert [p.number for p in bridge.ports()] == [2, ports.LOCAL]


def test_programs(bridge):
    elf = (ROOT / "examples" / "bpf" / "syn_flood.o").read_bytes()

    async def session() -> None:
        assert await bridge.load_program(0, elf, owner="tests") == 1
        assert await bridge.load_program(0, elf) == 2
        with pytest.raises(BridgeError, match="loaded already"):
            await bridge.load_program(2, elf, create_only=True)

    asyncio.run(session())
    first, second = bridge.programs()
    assert (first.number, first.owner, first.size, second.number) == (1, "tests", len(elf), 2)
    assert tuple(bridge.maps(1)) == first.maps != ()
    bridge.apply([add("filter_prog=1,actions=drop")])
    with pytest.raises(BridgeError) as error:
        bridge.unload_program(1)
    assert error.value.name == "OFPBRC_EPERM"
    bridge.unload_program(1, force=True)
    bridge.unload_program(2)
    assert bridge.programs() == [] == list(bridge.flow_stats())
    with pytest.raises(BridgeError, match="not loaded"):
        bridge.maps(1)


def test_quotas_are_named_errors():
    small = Bridge("br0", Datapath(workers=2, max_progs=2, max_map_bytes=1 << 26), max_uploads=1)
    tiny = Bridge("br1", Datapath(workers=2, max_map_bytes=1 << 20))
    elf = (ROOT / "examples" / "bpf" / "stateless_firewall.o").read_bytes()

    async def session() -> None:
        async def refused(number: int, elf: bytes, bridge: Bridge = small) -> BridgeError:
            with pytest.raises(BridgeError) as error:
                await bridge.load_program(number, elf)
            return error.value

        error = await refused(3, elf, tiny)
        assert error.name == "OFPFMFC_TABLE_FULL" and "map" in str(error)
        error = await refused(3, b"not an object")
        assert error.name == "OFPBRC_EPERM" and "ELF" in str(error)
        both = await asyncio.gather(
            small.load_program(1, elf), small.load_program(2, elf), return_exceptions=True
        )
        assert both[0] == 1 and "1 programs are being loaded" in str(both[1])
        await small.load_program(2, elf)
        error = await refused(3, elf)
        assert error.name == "OFPFMFC_TABLE_FULL" and "2 programs" in str(error)
        await small.load_program(2, elf)  # replacing is not one more

    asyncio.run(session())
    assert [p.number for p in small.programs()] == [1, 2]
    small.close()
    tiny.close()


def test_a_bridge_alone(bridge):
    bridge.controllers_changed(0)
    assert list(bridge.flow_stats()) == []  # fail mode secure
    bridge.fail_mode = "standalone"
    bridge.controllers_changed(0)
    assert [f.flow for f in bridge.flow_stats()] == [parse_flow("priority=0,actions=NORMAL")]
    bridge.controllers_changed(0)
    bridge.controllers_changed(1)
    assert list(bridge.flow_stats()) == []
    bridge.apply([add("actions=drop")])
    bridge.controllers_changed(0)  # the controller's flows go on
    assert [f.priority for f in bridge.flow_stats()] == [32768]


def test_the_loop_hears_of_events(bridge):
    ears = Ears()
    bridge.listen(ears)
    bridge.apply([add("actions=controller")])

    async def session() -> None:
        bridge.attach(asyncio.get_running_loop())
        bridge.start()
        before = bridge.now
        bridge.packet_out(FRAME, 1, (act.Output(PORT_TABLE),))
        while not (ears.heard and bridge.now > before):
            await asyncio.sleep(0.01)
        bridge.detach()
        assert bridge.now > before > 0

    asyncio.run(session())
    assert [type(event) for event in ears.heard] == [PacketIn]


def test_instructions_that_no_flow_has_are_forgotten(bridge):
    for number in range(3000):
        bridge.apply([add(f"tcp,actions=load:{number}->NXM_NX_REG0[]")])
    assert len(bridge._instructions) < 2100
    (flow,) = bridge.flow_stats()
    assert flow.flow == parse_flow("tcp,actions=load:2999->NXM_NX_REG0[]")
