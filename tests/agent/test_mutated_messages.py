"""Whatever a peer sends: an answer or an OpenFlow error, never an unforeseen exception."""

from __future__ import annotations

import asyncio
import logging
from random import Random

import pytest
from conversation import Peer, made_agent

from oko.agent.connection import cut
from oko.errors import OkoError
from oko.model.flow import GroupMod, MeterMod
from oko.openflow import (
    bundles,
    common,
    flow_stats,
    messages,
    packets,
    port_messages,
    roles,
    tables,
)
from oko.openflow import extension as ext
from oko.openflow.common import OF10, OF13, OF14, OF15
from oko.openflow.flows import encode_flow_mod
from oko.openflow.groups import encode_group_mod
from oko.openflow.meters import encode_meter_mod
from oko.openflow.nicira_messages import (
    encode_flow_mod_table_id,
    encode_set_controller_id,
    encode_set_flow_format,
    encode_set_packet_in_format,
)
from oko.text import parse_flow, parse_group, parse_meter, parse_rules

METER = "meter=1,kbps,band=type=drop,rate=100"
FLOWS = (
    "priority=5,in_port=1,ip,nw_dst=10.0.0.0/8,actions=output:2,controller:60",
    "table=3,tcp,tp_dst=80,actions=push_vlan:0x8100,set_field:4101->vlan_vid,output:2",
    "udp,actions=learn(table=4,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),normal",
    "arp,actions=move:NXM_NX_REG0[]->NXM_NX_REG1[],resubmit(,2),note:01.02.03",
    "delete in_port=3",
)


def seeds(version: int) -> list[bytes]:
    """A message of every kind."""
    found = [
        common.message(version, kind, 9) for kind in range(len(common.TYPE_NAMES[version]) + 1)
    ]
    found += [common.encode_multipart(version, 9, kind) for kind in (*range(19), 0xFFFF)]
    for text in FLOWS:
        (mod,) = parse_rules(text, "seed")
        try:
            found.append(encode_flow_mod(version, mod, 9, table_id_ext=True))
        except OkoError:
            continue
    actions = parse_flow("actions=output:2,controller").instructions.apply
    found += [
        packets.encode_packet_out(version, packets.PacketOut(1, actions, bytes(60))),
        messages.encode_config(version, 9, messages.Config(0, 90), ask=True),
        messages.encode_hello((1, 4, 5)),
        port_messages.encode_port_mod(version, port_messages.PortMod(1, 0, 1, 1)),
        port_messages.encode_queue_request(version),
        port_messages.encode_port_stats_request(version, 1),
        roles.encode_role(version, 9, roles.Role(roles.EQUAL, 4), reply=False),
        roles.encode_async(version, 9, roles.AsyncConfig()),
        flow_stats.encode_flow_request(version, flow_stats.FlowRequest()),
        flow_stats.encode_flow_request(version, flow_stats.FlowRequest(nxm=version == OF10)),
        encode_set_flow_format(version), encode_flow_mod_table_id(version),
        encode_set_packet_in_format(version, 2), encode_set_controller_id(version, 3),
        ext.encode_show_request(version), ext.encode_dump_request(version, ext.MapName(1, 0)),
    ]  # fmt: skip
    name = ext.MapName(1, 0)
    for message in (
        ext.Hello(), ext.LoadProgram(0, 4, 0, b"\x7fELF"), ext.LoadProgram(1, 90, 0, b"\x7fELF"),
        ext.UnloadProgram(1), ext.UpdateMap(name, 4, 4, ((b"abcd", b"efgh"),)),
        ext.UpdateMap(name, 4, 4, ((b"abcd", b"efgh"),), ext.MORE),
        ext.DeleteKeys(name, 4, (b"abcd",)), ext.Subscribe(0, 50), ext.Subscribe(1),
        ext.ErrorText("what"), ext.MapContents(name, 4, 4, ()),
    ):  # fmt: skip
        found.append(ext.encode(version, message, 9))
    if version == OF10:
        return found
    group = parse_group("group_id=1,type=select,bucket=weight:5,output:2")
    found.append(encode_group_mod(version, GroupMod(group)))
    found.append(encode_meter_mod(version, MeterMod(parse_meter(METER))))
    found.append(tables.encode_table_mod(version, tables.TableMod(1, 0)))
    for kind in range(8):
        control = bundles.BundleControl(1, kind)
        found.append(bundles.encode_bundle_control(version, control, 9))
    found += [bundles.encode_bundle_add(version, bundles.BundleAdd(1, m), 9) for m in found[-12:]]
    return found


def broken(rng: Random, msg: bytes) -> bytes:
    """The message with something wrong, but for its version and length."""
    data = bytearray(msg)
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind = rng.randrange(5)
        at = rng.randrange(1, len(data))
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2 and len(data) > 9:
            del data[rng.randrange(8, len(data)) :]
        elif kind == 3:
            data += rng.randbytes(rng.choice((1, 4, 8, 40)))
        elif len(data) > 16:
            there = rng.randrange(8, len(data) - 4)
            data[there : there + 4] = rng.choice((bytes(4), b"\xff" * 4, rng.randbytes(4)))
    data[2:4] = len(data).to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize("version", [OF10, OF13, OF14, OF15])
@pytest.mark.parametrize("rounds", [40, pytest.param(400, marks=pytest.mark.long)])
def test_nothing_escapes(version, rounds, caplog):
    caplog.set_level(logging.ERROR)
    agent = made_agent()
    rng = Random(version)
    every = seeds(version)

    async def talk() -> None:
        peer = Peer(agent, version)
        for i in range(rounds * len(every)):
            if i % 500 == 0:  # a slave, or a subscriber, for a while
                peer.leave()
                peer = Peer(agent, version, passive=bool(i & 512))
            batch = [rng.choice(every) for _ in range(rng.choice((1, 2, 5)))]
            batch = [broken(rng, msg) if rng.random() < 0.8 else msg for msg in batch]
            replies = await peer.ask(*batch)
            whole, rest = cut(b"".join(replies) + peer.told.data)
            assert not rest and len(whole) >= len(replies)
            peer.told.data = b""
            if i % 1000 == 999:
                agent.bridge.poll()
        peer.leave()

    try:
        asyncio.run(talk())
        assert agent.quota.uploads == 0 and agent.quota.bytes == 0
        unforeseen = [r for r in caplog.records if r.exc_info]
        assert not unforeseen, caplog.text[-3000:]
    finally:
        agent.bridge.close()
