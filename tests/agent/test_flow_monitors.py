"""Flow monitors: who hears of which changes, in the three forms that versions have for them."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from conversation import Peer, made_agent
from ofctl import Ofctl, needs_ovs_ofctl, switch
from waiting import wait_until

from oko.datapath import Frame
from oko.openflow import bundles, flow_monitor, packets
from oko.openflow import extension as ext
from oko.openflow.common import OF10, OF13, OF14, OF15
from oko.openflow.flow_monitor import ABBREVIATED, ADDED, GONE, IS_THERE, MODIFIED, Monitor
from oko.openflow.flows import encode_flow_mod
from oko.openflow.nicira_messages import encode_flow_mod_table_id
from oko.text import parse_flow, parse_rules

VERSIONS = (OF10, OF13, OF14, OF15)
ALL = flow_monitor.ADD | flow_monitor.DELETE | flow_monitor.MODIFY | flow_monitor.ACTIONS
FRAME = bytes(12) + b"\x08\x00" + bytes(46)


@pytest.fixture
def agent():
    made = made_agent()
    yield made
    made.bridge.close()


def mod(peer: Peer, text: str, xid: int = 7) -> bytes:
    (change,) = parse_rules(text, "test")
    return encode_flow_mod(peer.version, change, xid, table_id_ext=peer.version == OF10)


def a_peer(agent, version: int) -> Peer:
    peer = Peer(agent, version)
    if version == OF10:
        peer(encode_flow_mod_table_id(True))
    return peer


def updates(version: int, *msgs: bytes) -> list[tuple[int, int]]:
    """(event, priority, or xid) of each part."""
    found = []
    for msg in msgs:
        for event, part in flow_monitor.split_updates(version, msg):
            number = int.from_bytes(part[4:8], "big")
            if event != ABBREVIATED:
                number = flow_monitor.decode_update(version, event, part).priority
            found.append((event, number))
    return found


def told(peer: Peer) -> list[tuple[int, int]]:
    peer.agent.bridge.poll()
    return updates(peer.version, *peer.told.take())


@pytest.mark.parametrize("version", VERSIONS)
def test_changes_of_others_are_told(agent, version):
    peer, other = a_peer(agent, version), a_peer(agent, OF14)
    other(mod(other, "table=1,priority=3,ip,actions=output:2"))
    wanted = Monitor(5, ALL | flow_monitor.INITIAL, table=1)
    (reply,) = peer(flow_monitor.encode_request(version, wanted, 9))
    there = IS_THERE if version >= OF14 else ADDED
    assert updates(version, reply) == [(there, 3)] and reply[4:8] == bytes([0, 0, 0, 9])
    add = mod(other, "table=1,priority=4,ip,idle_timeout=9,cookie=6,actions=output:1")
    other(add)
    (msg,) = peer.told.take()
    ((event, part),) = flow_monitor.split_updates(version, msg)
    update = flow_monitor.decode_update(version, event, part)
    assert (event, update.table, update.priority) == (ADDED, 1, 4)
    assert (update.idle_timeout, update.cookie) == (9, 6)
    assert update.instructions and msg[4:8] == bytes(4)
    other(add)
    assert told(peer) == [(ADDED, 4)]
    other(mod(other, "modify table=1,ip,actions=drop"))
    assert sorted(told(peer)) == [(MODIFIED, 3), (MODIFIED, 4)]
    other(mod(other, "modify table=1,ip,actions=drop"))
    other(mod(other, "table=2,priority=9,actions=drop"))
    assert told(peer) == []
    other(mod(other, "delete ip"))
    assert sorted(told(peer)) == [(GONE, 3), (GONE, 4)]


@pytest.mark.parametrize("version", VERSIONS)
def test_own_changes_are_abbreviated(agent, version):
    peer = a_peer(agent, version)
    peer(flow_monitor.encode_request(version, Monitor(5, ALL)))
    flows = [mod(peer, f"priority={n},actions=drop", 40 + n) for n in (1, 2)]
    peer(*flows, mod(peer, "delete", 50))
    assert told(peer) == [(ABBREVIATED, 41), (ABBREVIATED, 42), (ABBREVIATED, 50)]
    peer(flow_monitor.encode_request(version, Monitor(6, ALL | flow_monitor.OWN)))
    peer(flows[0])
    assert told(peer) == [(ADDED, 1)]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_asked_for_is_not_told(agent, version):
    peer, other = a_peer(agent, version), a_peer(agent, OF14)
    for number, flags in enumerate((flow_monitor.ADD, flow_monitor.DELETE)):
        match = parse_flow("ip,actions=drop").match
        wanted = Monitor(number, flags, match=match, out_port=2)
        assert peer(flow_monitor.encode_request(version, wanted))
    other(
        mod(other, "priority=1,ip,actions=output:2"),
        mod(other, "priority=2,arp,actions=output:2"),
        mod(other, "priority=3,ip,actions=output:1"),
        mod(other, "priority=4,tcp,actions=output:2"),
    )
    msgs = peer.told.take()
    assert updates(version, *msgs) == [(ADDED, 1), (ADDED, 4)]
    parts = [part for msg in msgs for part in flow_monitor.split_updates(version, msg)]
    assert all(not flow_monitor.decode_update(version, *part).instructions for part in parts)
    other(mod(other, "modify tcp,actions=output:1"))
    assert told(peer) == []
    other(mod(other, "delete"))
    assert told(peer) == [(GONE, 1)]


def test_a_flow_that_leaves_the_port_is_told(agent):
    peer, other = a_peer(agent, OF14), a_peer(agent, OF13)
    other(mod(other, "priority=1,actions=output:2"))
    peer(flow_monitor.encode_request(OF14, Monitor(5, ALL, out_port=2)))
    other(mod(other, "modify actions=output:1"))
    other(mod(other, "modify actions=output:3"))
    assert told(peer) == [(MODIFIED, 1)]


@pytest.mark.parametrize("version", VERSIONS)
def test_monitors_end(agent, version):
    peer, other = a_peer(agent, version), a_peer(agent, OF14)
    peer(flow_monitor.encode_request(version, Monitor(5, ALL)))
    assert peer.error(flow_monitor.encode_request(version, Monitor(5, ALL))) == (
        "OFPMOFC_MONITOR_EXISTS"
    )
    assert peer.error(flow_monitor.encode_cancel(version, 6)) == "OFPMOFC_UNKNOWN_MONITOR"
    peer(flow_monitor.encode_cancel(version, 5))
    other(mod(other, "priority=1,actions=drop"))
    assert told(peer) == []
    peer(flow_monitor.encode_request(version, Monitor(5, ALL)))
    peer.leave()
    other(mod(other, "priority=2,actions=drop"))
    assert peer.told.take() == [] and agent.bridge.datapath.changes() == ([], False)


@pytest.mark.parametrize(
    ("monitor", "name"),
    [
        (Monitor(1, 0), "OFPMOFC_BAD_FLAGS"),
        (Monitor(1, 0x1000 | ALL), "OFPMOFC_BAD_FLAGS"),
        (Monitor(1, ALL, table=254), "OFPBRC_BAD_TABLE_ID"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_monitors_that_cannot_be(agent, version, monitor, name):
    assert a_peer(agent, version).error(flow_monitor.encode_request(version, monitor)) == name


def test_1_4_changes_monitors(agent):
    peer, other = a_peer(agent, OF14), a_peer(agent, OF13)
    peer(flow_monitor.encode_request(OF14, Monitor(5, ALL)))
    changed = Monitor(5, flow_monitor.DELETE)
    peer(flow_monitor.encode_request(OF14, changed, command=flow_monitor.MODIFY_MONITOR))
    other(mod(other, "priority=1,actions=drop"), mod(other, "delete"))
    assert told(peer) == [(GONE, 1)]
    unknown = flow_monitor.encode_request(OF14, Monitor(9, ALL), command=1)
    assert peer.error(unknown) == "OFPMOFC_UNKNOWN_MONITOR"
    assert peer.error(flow_monitor.encode_request(OF14, changed, command=3)) == (
        "OFPMOFC_BAD_COMMAND"
    )


def test_timeouts_packets_and_groups_are_told(agent):
    peer, other = a_peer(agent, OF14), a_peer(agent, OF13)
    peer(flow_monitor.encode_request(OF14, Monitor(5, ALL)))
    other(
        mod(
            other,
            "priority=1,hard_timeout=5,in_port=1,"
            "actions=learn(table=1,priority=77,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])",
        )
    )
    assert told(peer) == [(ADDED, 1)]
    agent.bridge.datapath.process([Frame(FRAME, 1, ns=10**12)])
    assert told(peer) == [(ADDED, 77)]
    agent.bridge.datapath.tick(10**12 + 6 * 10**9)
    agent.bridge.poll()
    (msg,) = peer.told.take()
    ((event, part),) = flow_monitor.split_updates(OF14, msg)
    assert (event, flow_monitor.decode_update(OF14, event, part).reason) == (GONE, 1)


def test_a_bundle_that_fails_is_not_told(agent):
    peer, other = a_peer(agent, OF14), a_peer(agent, OF14)
    peer(flow_monitor.encode_request(OF14, Monitor(5, ALL)))
    for last, expected in (("actions=group:9", []), ("actions=drop", [(ADDED, 1), (ADDED, 2)])):
        for n, text in enumerate(("priority=1,actions=drop", f"priority=2,{last}")):
            add = bundles.BundleAdd(1, mod(other, text, n))
            other(bundles.encode_bundle_add(OF14, add, n))
        asked = bundles.BundleControl(1, bundles.COMMIT_REQUEST)
        other(bundles.encode_bundle_control(OF14, asked, 8))
        assert told(peer) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_a_peer_that_does_not_read_gets_the_rest_later(agent, version):
    peer, other = a_peer(agent, version), a_peer(agent, OF14)
    other(mod(other, "priority=1,actions=drop"), mod(other, "priority=2,actions=drop"))
    peer(flow_monitor.encode_request(version, Monitor(5, ALL)))
    peer.told.full = 4 << 20
    other(mod(other, "priority=3,actions=drop"))
    assert peer.told.take() == [flow_monitor.encode_pause(version, True)]
    other(
        mod(other, "delete_strict priority=1"),
        mod(other, "priority=4,actions=drop"),
        mod(other, "delete_strict priority=4"),
        mod(other, "modify_strict priority=2,actions=output:1"),
    )
    assert peer.told.take() == []
    peer.told.full = 0
    peer.session.monitors.resume()
    *msgs, last = peer.told.take()
    assert last == flow_monitor.encode_pause(version, False)
    events = updates(version, *msgs)
    assert [e for e in events if e[0] == GONE] == [(GONE, 1), (GONE, 4)]
    assert sorted(e for e in events if e[0] == ADDED) == [(ADDED, 2), (ADDED, 3)]
    other(mod(other, "priority=5,actions=drop"))
    assert told(peer) == [(ADDED, 5)]


def test_filters_show_to_those_who_know_them(agent):
    elf = (Path(__file__).resolve().parents[2] / "examples" / "bpf" / "syn_flood.o").read_bytes()
    plain, aware, other = a_peer(agent, OF13), a_peer(agent, OF13), a_peer(agent, OF13)
    aware(ext.encode(OF13, ext.Hello(1), 3))
    other(*(ext.encode(OF13, chunk, 3) for chunk in ext.load_chunks(1, elf, 0)))
    for peer in (plain, aware):
        peer(flow_monitor.encode_request(OF13, Monitor(5, ALL)))
    other(mod(other, "priority=1,filter_prog=1,actions=drop"))
    filter_prog = bytes.fromhex("ffff02064f4b4f000001")
    for peer in (plain, aware):
        (msg,) = peer.told.take()
        assert (filter_prog in msg) == (peer is aware)


# ---------------------------------------------------------------- Debian's ovs-ofctl


@needs_ovs_ofctl
@pytest.mark.parametrize("version", ["OpenFlow10", "OpenFlow13", "OpenFlow14"])
def test_ovs_ofctl_watches(tmp_path, version):
    with switch(tmp_path) as there:
        ofctl = Ofctl(there.run_dir, version)
        ofctl("add-flow", "br0", "table=1,ip,cookie=0x5,actions=output:1")
        out = tmp_path / "out"
        with out.open("w") as file:
            watching = subprocess.Popen(
                ["ovs-ofctl", "-O", version, "monitor", "br0", "watch:table=1"],
                env=os.environ | {"OVS_RUNDIR": str(there.run_dir)}, stdout=file, stderr=file,
            )  # fmt: skip
        try:
            wait_for(out, "cookie=0x5 ip actions=output:1")
            ofctl("add-flow", "br0", "table=1,tcp,actions=output:2")
            wait_for(out, "event=ADDED table=1 cookie=0 tcp actions=output:2")
            ofctl("mod-flows", "br0", "table=1,tcp,actions=output:1")
            wait_for(out, "event=MODIFIED table=1 cookie=0 tcp actions=output:1")
            ofctl("del-flows", "br0", "tcp")
            wait_for(out, "event=DELETED reason=delete table=1 cookie=0 tcp")
        finally:
            watching.terminate()
            watching.wait(60)
        assert "decode error" not in out.read_text()


def wait_for(out: Path, text: str) -> None:
    wait_until(lambda: text in out.read_text(), lambda: f"{text!r} is not in {out.read_text()}")


@needs_ovs_ofctl
def test_ovs_ofctl_snoops(tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)
    target = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
    with switch(tmp_path, "--controller", target) as there:
        controller, _ = listener.accept()
        with controller:
            controller.sendall(bytes.fromhex("0400000800000001"))
            out = tmp_path / "out"
            with out.open("w") as file:
                snooping = subprocess.Popen(
                    ["ovs-ofctl", "snoop", "br0"], stdout=file, stderr=file,
                    env=os.environ | {"OVS_RUNDIR": str(there.run_dir)},
                )  # fmt: skip
            try:

                def answered() -> bool:
                    controller.sendall(bytes.fromhex("0405000800000009"))
                    return "OFPT_FEATURES_REPLY (OF1.3)" in out.read_text()

                wait_until(answered, out.read_text, every=0.1)
                assert "OFPT_FEATURES_REQUEST (OF1.3) (xid=0x9)" in out.read_text()
                frame = bytes(60)
                out_13 = packets.PacketOut(
                    1, parse_flow("actions=controller").instructions.apply, frame
                )
                controller.sendall(packets.encode_packet_out(OF13, out_13))
                wait_for(out, "OFPT_PACKET_IN (OF1.3)")
            finally:
                snooping.terminate()
                snooping.wait(60)
    listener.close()
