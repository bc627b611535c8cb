"""tshark dissects what the agent sends: every message, none malformed."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agent"))
from conversation import Peer, made_agent

from oko.datapath import Frame
from oko.model.flow import GroupMod, MeterMod
from oko.openflow import bundles, common, flow_stats, messages, packets, roles
from oko.openflow.common import OF10, OF13, OF14
from oko.openflow.flows import encode_flow_mod
from oko.openflow.groups import encode_group_mod
from oko.openflow.meters import encode_meter_mod
from oko.text import parse_flow, parse_group, parse_meter, parse_rules

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

# ARP: who has 10.0.0.2, asks 10.0.0.1
FRAME = bytes.fromhex(
    "ffffffffffff020000000001 0806 0001080006040001 020000000001 0a000001 000000000000 0a000002"
) + bytes(18)
FIELD = {OF10: "openflow_1_0.type", OF13: "openflow_v4.type", OF14: "openflow_v5.type"}
FLOWS = (
    "priority=5,in_port=1,arp,arp_tpa=10.0.0.0/8,send_flow_rem,actions=output:2,controller:60",
    "priority=6,tcp6,ipv6_src=fe80::1,tp_dst=80,actions=output:2,local",
    "priority=7,dl_vlan=5,actions=strip_vlan,flood",
)
GROUP = "group_id=1,type=select,bucket=weight:5,output:2"
METER = "meter=1,kbps,band=type=drop,rate=100"


def conversation(version: int) -> list[bytes]:
    """What the agent says, from its hello on."""
    agent = made_agent(version)
    peer = Peer(agent, version, passive=False)
    said = [messages.encode_hello([version])]
    try:
        for text in FLOWS:
            (mod,) = parse_rules(text, "test")
            said += peer(encode_flow_mod(version, mod))
        kinds = common.TYPES[version]
        asked = ["ECHO_REQUEST", "FEATURES_REQUEST", "GET_CONFIG_REQUEST", "BARRIER_REQUEST"]
        said += peer(*(common.message(version, kinds[name], 3) for name in asked))
        if version != OF10:
            said += peer(encode_group_mod(version, GroupMod(parse_group(GROUP))))
            said += peer(encode_meter_mod(version, MeterMod(parse_meter(METER))))
            said += peer(roles.encode_role(version, 3, roles.Role(roles.MASTER, 1), reply=False))
            said += peer(common.message(version, kinds["GET_ASYNC_REQUEST"], 3))
        if version == OF14:
            open_bundle = bundles.BundleControl(1, bundles.OPEN_REQUEST)
            said += peer(bundles.encode_bundle_control(version, open_bundle))
        n_kinds = {OF10: 6, OF13: 14, OF14: 16}[version]
        for kind in range(n_kinds):
            if kind in (common.MP_FLOW, common.MP_AGGREGATE):
                request = flow_stats.FlowRequest(aggregate=kind == common.MP_AGGREGATE)
                said += peer(flow_stats.encode_flow_request(version, request))
                continue
            body = {common.MP_PORT: b"\xff\xff\xff\xff" + bytes(4),
                    common.MP_QUEUE: b"\xff" * 8, common.MP_QUEUE_DESC: b"\xff" * 8,
                    common.MP_GROUP: b"\xff\xff\xff\xfc" + bytes(4),
                    common.MP_METER: b"\xff" * 4 + bytes(4),
                    common.MP_METER_CONFIG: b"\xff" * 4 + bytes(4)}.get(kind, b"")  # fmt: skip
            if version == OF10 and kind == common.MP_QUEUE:
                body = bytes.fromhex("fffc0000ffffffff")
            said += peer(common.encode_multipart(version, 3, kind, body))
        agent.bridge.datapath.process([Frame(FRAME, 1)])
        actions = parse_flow("actions=controller").instructions.apply
        out = packets.PacketOut(2, actions, FRAME)
        said += peer(packets.encode_packet_out(version, out))
        agent.bridge.add_port(9, "p9")
        (delete,) = parse_rules("delete", "test")
        said += peer(encode_flow_mod(version, delete))
        agent.bridge.poll()
        return said + peer.told.take()
    finally:
        agent.bridge.close()


def capture(data: bytes) -> bytes:
    """A pcap with these bytes from the switch's port of a TCP connection."""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for at in range(0, len(data), 1400):
        part = data[at : at + 1400]
        tcp = struct.pack("!HHIIBBHHH", 6653, 40000, 1 + at, 1, 5 << 4, 0x18, 65535, 0, 0) + part
        ip = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(tcp), at // 1400, 0, 64, 6, 0,
                         0x7F000001, 0x7F000001)  # fmt: skip
        frame = bytes(12) + b"\x08\x00" + ip + tcp
        out.append(struct.pack("<IIII", 1, at // 1400, len(frame), len(frame)) + frame)
    return b"".join(out)


@pytest.mark.parametrize("version", [OF10, OF13, OF14])
def test_every_message_is_dissected(version, tmp_path):
    said = conversation(version)
    assert len(said) > 12 and {msg[0] for msg in said} == {version}
    path = tmp_path / "said.pcap"
    path.write_bytes(capture(b"".join(said)))
    command = ["tshark", "-r", str(path), "-d", "tcp.port==6653,openflow"]
    fields = [*command, "-T", "fields", "-e", FIELD[version]]
    done = subprocess.run(fields, capture_output=True, text=True, timeout=60, check=True)
    types = [int(word) for word in done.stdout.replace("\n", ",").split(",") if word]
    assert types == [msg[1] for msg in said]
    broken = [*command, "-Y", "_ws.malformed", "-V"]
    done = subprocess.run(broken, capture_output=True, text=True, timeout=60, check=True)
    assert "Malformed" not in done.stdout, done.stdout[-3000:]
