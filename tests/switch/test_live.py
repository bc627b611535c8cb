"""Hosts in network namespaces talk through a bridge's live ports."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dpkt
import pytest
from namespaces import Host, hosts, run, wait_for_links, why_not
from waiting import PATIENCE, wait_until

from oko.datapath import Datapath
from oko.errors import CoreError, OkoError
from oko.switch import ports
from oko.switch.bridge import Bridge
from oko.switch.config import parse_port
from oko.switch.events import BridgeEvent, PacketIn, PortStatus
from oko.text import parse_rules

ROOT = Path(__file__).resolve().parents[2]


def bridge_of(*specs: str, flows: str = "", workers: int = 1) -> Bridge:
    bridge = Bridge("br0", Datapath(workers=workers + 1))
    try:
        for spec in specs:
            bridge.open_port(parse_port(spec))
        bridge.apply(list(parse_rules(flows, "flows")))
        bridge.start(workers)
    except BaseException:
        bridge.close()
        raise
    return bridge


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "flows",
    [
        "actions=NORMAL",
        "in_port=1,actions=output:2\nin_port=2,actions=output:1",
        "arp,actions=flood\nicmp,nw_dst=10.9.0.1,actions=output:1\n"
        "icmp,nw_dst=10.9.0.2,actions=push_vlan:0x8100,mod_vlan_vid:5,goto_table:1\n"
        "table=1,dl_vlan=5,actions=strip_vlan,output:2",
    ],
)
def test_ping(flows, workers):
    with hosts("10.9.0.1/24", "10.9.0.2/24") as (a, b):
        bridge = bridge_of(f"1=afpacket:{a.device}", f"2=afpacket:{b.device}",
                           flows=flows, workers=workers)  # fmt: skip
        try:
            assert a.ping(b.address) and b.ping(a.address)
            one, two, _ = bridge.port_stats()
            assert one.rx_packets >= 6 and one.tx_packets >= 6 and two.rx_dropped == 0
            bridge.apply(list(parse_rules("delete table=255", "flows")))
            assert not a.ping(b.address, n=1, wait=1)
        finally:
            bridge.close()


SERVER = """
import socket, sys, hashlib
server = socket.create_server(("0.0.0.0", 5000))
print("ready", flush=True)
peer, _ = server.accept()
digest, n = hashlib.sha256(), 0
while data := peer.recv(1 << 16):
    digest.update(data); n += len(data)
peer.sendall(f"{n} {digest.hexdigest()}".encode())
peer.close()
"""
CLIENT = """
import socket, sys, hashlib, random
data = random.Random(1).randbytes(4 << 20)
peer = socket.create_connection((sys.argv[1], 5000), 20)
peer.sendall(data); peer.shutdown(socket.SHUT_WR)
got = peer.recv(1000).decode()
assert got == f"{len(data)} {hashlib.sha256(data).hexdigest()}", got
"""


TRUNK = """
in_port=1,actions=push_vlan:0x8100,mod_vlan_vid:7,output:3
in_port=4,dl_vlan=7,actions=strip_vlan,output:2
in_port=2,actions=push_vlan:0x8100,mod_vlan_vid:7,output:4
in_port=3,dl_vlan=7,actions=strip_vlan,output:1
"""


@contextmanager
def trunk() -> Iterator[list[str]]:
    """Ports 3 and 4: the two ends of one cable."""
    ends = [f"ot{os.getpid() % 100000}{side}" for side in "ab"]
    run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
    try:
        for end in ends:
            run("ip", "link", "set", end, "up")
        wait_for_links(lambda: [run("ip", "-o", "link", "show", end).stdout for end in ends])
        yield [f"3=afpacket:{ends[0]}", f"4=afpacket:{ends[1]}"]
    finally:
        run("ip", "link", "del", ends[0])


def kernel_tags(*addressed: tuple[Host, str]) -> bool:
    """Gives each host a VLAN device with the address; False where the kernel has none."""
    for host, address in addressed:
        link = ("ip", "link", "add", "link", "eth0", "name", "v7", "type", "vlan", "id", "7")
        if host.run(*link, check=False).returncode:
            return False
        host.run("ip", "addr", "add", address, "dev", "v7")
        host.run("ip", "link", "set", "v7", "up")
    return True


@pytest.mark.parametrize("tags", ["none", "of the hosts", "of the switch"])
def test_tcp_with_all_that_senders_leave_to_the_hardware(tags):
    """Checksums, segmentation and tags of a real host: 4 MiB arrive whole and in time.

    The switch tags packets between its ports 3 and 4, also where a kernel without 802.1Q lets no
    host do it.
    """
    with hosts("10.9.0.1/24", "10.9.0.2/24") as (a, b), ExitStack() as cables:
        to, flows = b.address, "vlan_tci=0,actions=NORMAL"
        specs = [f"1=afpacket:{a.device}", f"2=afpacket:{b.device}"]
        if tags == "of the hosts" and kernel_tags((a, "10.9.1.1/24"), (b, "10.9.1.2/24")):
            to, flows = "10.9.1.2", "dl_vlan=7,actions=NORMAL"
        elif tags != "none":
            specs += cables.enter_context(trunk())
            flows = TRUNK
        bridge = bridge_of(*specs, flows=flows)
        server = b.popen(sys.executable, "-c", SERVER, stdout=subprocess.PIPE)
        try:
            assert server.stdout.readline() == b"ready\n"
            client = a.run(sys.executable, "-c", CLIENT, to, check=False)
            assert client.returncode == 0, client.stderr
            assert max(p.rx_dropped for p in bridge.port_stats()) == 0
        finally:
            server.kill()
            server.wait()
            server.stdout.close()
            bridge.close()


def test_the_hosts_own_port():
    """An internal port is a device of this host: ping from here to a namespace."""
    with hosts("10.9.7.2/24") as (host,):
        name = f"oi{os.getpid() % 100000}"
        bridge = Bridge("br0")
        try:
            bridge.remove_port(ports.LOCAL)
            bridge.open_port(parse_port(f"LOCAL=internal:{name}"))
            bridge.open_port(parse_port(f"1=afpacket:{host.device}"))
            bridge.apply(list(parse_rules("actions=NORMAL", "flows")))
            bridge.start()
            run("ip", "addr", "add", "10.9.7.1/24", "dev", name)
            assert host.ping("10.9.7.1")
            local = bridge.ports()[-1]
            assert local.kind == "internal" and not local.state & ports.LINK_DOWN
            address = run("cat", f"/sys/class/net/{name}/address").stdout.strip()
            assert local.hw_addr == int(address.replace(":", ""), 16)
        finally:
            bridge.close()
        assert run("ip", "link", "show", name, check=False).returncode != 0


def test_ports_come_and_go_while_packets_flow():
    with hosts("10.9.0.1/24", "10.9.0.2/24") as (a, b):
        bridge = bridge_of(f"1=afpacket:{a.device}", f"2=afpacket:{b.device}",
                           flows="actions=NORMAL")  # fmt: skip
        flood = a.popen("ping", "-q", "-f", "-c", "100000", b.address, stdout=subprocess.DEVNULL)
        try:
            for _ in range(20):
                bridge.remove_port(2)
                time.sleep(0.01)
                bridge.open_port(parse_port(f"2=afpacket:{b.device}"))
                time.sleep(0.01)
            assert b.ping(a.address)
        finally:
            flood.kill()
            flood.wait()
            bridge.close()


def test_idle_costs_next_to_nothing():
    with hosts("10.9.0.1/24") as (a,):
        bridge = bridge_of(f"1=afpacket:{a.device}", flows="actions=NORMAL")
        try:
            time.sleep(0.2)
            before = resource.getrusage(resource.RUSAGE_SELF)
            time.sleep(1)
            after = resource.getrusage(resource.RUSAGE_SELF)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            assert used < 0.5  # polling would take all of the second
        finally:
            bridge.close()


def test_flows_expire_without_packets():
    bridge = Bridge("br0")

    heard: list[BridgeEvent] = []

    class Ears:
        def event(self, event: BridgeEvent) -> None:
            heard.append(event)

    async def session() -> None:
        bridge.attach(asyncio.get_running_loop())
        bridge.listen(Ears())
        bridge.start()
        bridge.apply(list(parse_rules("hard_timeout=1,send_flow_rem,actions=drop", "flows")))
        began = time.monotonic()
        while not heard:
            await asyncio.sleep(0.02)
        assert time.monotonic() - began > 0.9

    asyncio.run(asyncio.wait_for(session(), PATIENCE))
    (removed,) = heard
    assert removed.reason == 1 and list(bridge.flow_stats()) == []
    bridge.close()


def test_ports_follow_their_links():
    with hosts("10.9.0.1/24") as (a,):
        bridge = bridge_of(f"1=afpacket:{a.device}")
        heard: list[BridgeEvent] = []

        class Ears:
            def event(self, event: BridgeEvent) -> None:
                heard.append(event)

        try:
            bridge.listen(Ears())
            assert not bridge.ports()[0].state & ports.LINK_DOWN
            for word, state in (("down", ports.LINK_DOWN), ("up", ports.LIVE)):
                heard.clear()
                a.run("ip", "link", "set", "eth0", word)
                wait_until(lambda: bridge.look_at_links() or heard)  # the kernel takes its time
                (told,) = heard
                assert isinstance(told, PortStatus) and told.port.state == state
        finally:
            bridge.close()


def test_a_device_that_is_not_there():
    bridge = Bridge("br0")
    with pytest.raises(CoreError, match="device nosuchdev"):
        bridge.open_port(parse_port("1=afpacket:nosuchdev"))
    with pytest.raises(CoreError, match="longer than 15"):
        bridge.open_port(parse_port("1=tap:averyveryverylongname"))
    assert [p.number for p in bridge.ports()] == [ports.LOCAL]
    bridge.close()


def test_packet_ins_and_packet_outs_of_a_live_port():
    with hosts("10.9.0.1/24") as (a,):
        bridge = bridge_of(f"1=afpacket:{a.device}", flows="arp,actions=controller")
        heard: list[BridgeEvent] = []

        class Ears:
            def event(self, event: BridgeEvent) -> None:
                heard.append(event)

        bridge.listen(Ears())
        try:
            a.ping("10.9.0.77", n=1, wait=1)
            wait_until(lambda: bridge.poll() or heard, every=0.01)
            assert isinstance(heard[0], PacketIn) and heard[0].in_port == 1
            mac = bytes.fromhex(a.mac.replace(":", ""))
            assert heard[0].data[6:12] == mac
            reply = mac + b"\x02\0\0\0\0\x99" + b"\x08\x06\0\1\x08\0\6\4\0\2"
            reply += b"\x02\0\0\0\0\x99" + socket.inet_aton("10.9.0.77")
            reply += mac + socket.inet_aton("10.9.0.1")

            def known() -> bool:
                bridge.packet_out(reply, ports.LOCAL, _output(1))
                return "02:00:00:00:00:99" in a.run("ip", "neigh").stdout

            wait_until(known)
        finally:
            bridge.close()


def frames_of(path: Path) -> list[tuple[float, bytes]]:
    with path.open("rb") as file:
        return list(dpkt.pcap.Reader(file))


def test_capture_in_capture_out(tmp_path):
    """All at once, through a flow, into a file: the same frames in the same order."""
    source, out = ROOT / "examples" / "traces" / "scan.pcap", tmp_path / "out.pcap"
    expected = [data for _, data in frames_of(source)]
    bridge = bridge_of(f"1=pcap:{source},speed=max", f"2=pcap:,write={out}", flows="actions=2")
    try:
        wait_until(lambda: bridge.port_stats(2)[0].tx_packets >= len(expected))
        assert bridge.port_stats(1)[0].rx_packets == len(expected)
        assert [data for _, data in frames_of(out)] == expected
        assert bridge.ports()[0].kind == "pcap"
    finally:
        bridge.close()


def test_capture_in_its_own_time(tmp_path):
    source = tmp_path / "in.pcap"
    with source.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for i in range(4):
            writer.writepkt(bytes([i] * 60), 1000 + i * 2)
    out = tmp_path / "out.pcap"
    began = time.monotonic()
    bridge = bridge_of(f"1=pcap:{source},speed=10,loop", f"2=pcap:,write={out}", flows="actions=2")
    wait_until(lambda: bridge.port_stats(2)[0].tx_packets >= 6)
    bridge.close()
    frames = frames_of(out)
    assert [data[0] for _, data in frames] == [i % 4 for i in range(len(frames))]
    times = [float(t) for t, _ in frames]
    rounds = (len(frames) - 1) // 4  # of 0.6 s; the next begins at once
    assert times[3] - times[0] > 0.5 and abs(times[0] - time.time()) < 2 * PATIENCE
    assert rounds * 0.5 <= time.monotonic() - began


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("1=pcap:/nonexistent/in.pcap", "No such file"),
        ("1=pcap:{tmp}/text", "not a capture|no capture|capture"),
        ("1=pcap:,write=/nonexistent/out.pcap", "No such file"),
        ("1=pcap:{trace},speed=fast", "not a factor"),
    ],
)
def test_captures_that_cannot_be(tmp_path, spec, message):
    (tmp_path / "text").write_text("no capture at all " * 10)
    trace = ROOT / "examples" / "traces" / "scan.pcap"
    bridge = Bridge("br0")
    with pytest.raises((OkoError, OSError), match=message):
        bridge.open_port(parse_port(spec.format(tmp=tmp_path, trace=trace)))
    assert len(bridge.ports()) == 1
    bridge.close()


def _output(number: int):
    from oko.model.actions import Output

    return (Output(number),)


def test_skips_say_why():
    assert why_not() == "" or "need" in why_not() or "no " in why_not()
