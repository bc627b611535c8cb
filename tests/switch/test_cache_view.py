"""The view of the workers' caches: what is shown is how packets are decided."""

from __future__ import annotations

import json
import random
from pathlib import Path

import dpkt
import pytest
from switchd_process import Switchd
from test_appctl import Client
from twin.programs import byte_is
from waiting import wait_until

from oko.datapath import Datapath, Frame
from oko.model.compose import compose
from oko.model.flow import FIELDS_BY_NAME
from oko.switch.bridge import Bridge
from oko.switch.cache_view import key_match, show
from oko.text import parse_flow
from oko.text.match import format_match

# Six masks, so that the table asks the cache (csrc/lookup.c).
FLOWS = """
priority=9,filter_prog=1,tcp,cookie=0x1,actions=drop
priority=8,filter_prog=2,tcp,tp_dst=80,cookie=0x2,actions=output:1
priority=5,tcp,nw_dst=10.0.0.0/8,cookie=0x3,actions=output:2
priority=4,arp,arp_tpa=10.0.0.9,cookie=0x4,actions=NORMAL
priority=3,udp,tp_dst=53,cookie=0x5,actions=output:2
priority=2,dl_dst=02:00:00:00:00:07,cookie=0x6,actions=output:2
priority=1,in_port=7,dl_vlan=5,cookie=0x7,actions=drop
"""


def bridge_with(text: str = FLOWS) -> Bridge:
    bridge = Bridge("br0", Datapath(workers=2))
    for number in (1, 2, 7):
        bridge.add_port(number, f"p{number}")
    for number in (1, 2):
        bridge.datapath.load_program(number, byte_is(50, 0xFF, number))
    bridge.datapath.add_flows(parse_flow(line) for line in text.strip().splitlines())
    return bridge


def frame(text: str) -> Frame:
    in_port, data = compose(parse_flow(f"in_port=1,{text},actions=drop").match)
    return Frame(data, in_port)


def test_chains_in_words():
    bridge = bridge_with()
    for text in ("tcp,nw_dst=10.1.2.3,tp_dst=80", "udp,tp_dst=9", "arp,arp_tpa=10.0.0.9"):
        bridge.datapath.process([frame(text)])
    lines, data = show(bridge, 10)
    assert lines[0] == "bridge br0, forwarding thread 0:"
    text = "\n".join(lines)
    chain = text[text.index("table 0: tcp") :].splitlines()[1:4]
    assert chain == [
        "    1. filter_prog=1 (byte 50 & 255 == 1), priority 9: tcp, cookie 0x1, actions=drop",
        "    2. filter_prog=2 (byte 50 & 255 == 2), priority 8: tcp,tp_dst=80, cookie 0x2, "
        "actions=output:1",
        "    3. priority 5: tcp,nw_dst=10.0.0.0/8, cookie 0x3, actions=output:2",
    ]
    assert "tp_dst=80" in text and "arp_tpa=10.0.0.9" in text
    udp = text[text.index("table 0: udp") :].splitlines()
    assert udp[1] == "    1. no flow (table miss)"
    assert [len(part["lookups"]) for part in data] == [3]
    assert json.loads(json.dumps(data)) == data
    lines, data = show(bridge, 2)
    assert lines[-1] == "  ... and more than these 2" and not data[0]["complete"]
    bridge.close()


def test_changed_flows_are_not_shown():
    """What would not be used any more is no longer there, and what still is, is."""
    bridge = bridge_with()
    bridge.datapath.process([frame("tcp,nw_dst=10.1.2.3,tp_dst=80"), frame("udp,tp_dst=53")])
    assert len(list(bridge.datapath.cache(0))) == 2
    bridge.datapath.add_flow(parse_flow("priority=6,tcp,tp_dst=80,actions=drop"))
    assert [[f.cookie for f in c.flows] for c in bridge.datapath.cache(0)] == [[5]]
    bridge.datapath.process([frame("tcp,nw_dst=10.1.2.3,tp_dst=80")])
    assert sorted([f.cookie for f in c.flows] for c in bridge.datapath.cache(0)) == [[1, 2, 0], [5]]
    bridge.close()


@pytest.mark.parametrize("seed", range(5))
def test_against_the_trace(seed):
    """For random flows and packets: the entry whose key covers the packet begins with the flows
    that a trace meets, and the decision is the same."""
    rng = random.Random(seed)
    text = FLOWS + "".join(
        f"priority={rng.randrange(20)},filter_prog={rng.randrange(3) or ''},".replace(
            "filter_prog=,", ""
        )
        + rng.choice(["ip", "tcp", "udp", f"tcp,tp_src={rng.randrange(3)}", "ip,nw_tos=4",
                      f"ip,nw_src=10.0.{rng.randrange(3)}.0/24", "dl_src=02:00:00:00:00:01"])
        + f",cookie={rng.randrange(1, 1 << 20):#x},actions=drop\n"
        for _ in range(20)
    )  # fmt: skip
    bridge = bridge_with(text)
    packets = []
    for _ in range(60):
        kind = rng.choice(["tcp", "udp"])
        packets.append(frame(
            f"{kind},nw_src=10.0.{rng.randrange(3)}.1,nw_dst={rng.choice([10, 11])}.0.0.1,"
            f"tp_src={rng.randrange(3)},tp_dst={rng.choice([80, 53, 9])}"
        ))  # fmt: skip
    bridge.datapath.process(packets)
    cached = list(bridge.datapath.cache(0))
    assert cached
    for packet in packets:
        steps = bridge.trace(packet.data, packet.in_port).steps
        met = [s.cookie for s in steps if s.kind in (3, 4)]  # programs asked, flow chosen
        met = list(dict.fromkeys(met))
        tcp = dpkt.ethernet.Ethernet(packet.data)
        covering = [c for c in cached if covers(key_match(c.key), tcp, packet.in_port)]
        assert len(covering) == 1, format_match(key_match(covering[0].key)) if covering else packet
        chain = [flow.cookie for flow in covering[0].flows]
        assert chain[: len(met)] == met[: len(chain)]
        assert len(met) <= len(chain) or covering[0].more
    bridge.close()


def covers(key, eth, in_port: int) -> bool:
    """Does a packet (TCP or UDP, read by dpkt) have these bits?"""
    ip = eth.data
    name = "tcp" if ip.p == 6 else "udp"
    have = {
        "in_port": in_port, "eth_type": 0x800, "ip_proto": ip.p, "ip_dscp": ip.tos >> 2,
        "ipv4_src": int.from_bytes(ip.src, "big"), "ipv4_dst": int.from_bytes(ip.dst, "big"),
        "eth_src": int.from_bytes(eth.src, "big"), "eth_dst": int.from_bytes(eth.dst, "big"),
        f"{name}_src": ip.data.sport, f"{name}_dst": ip.data.dport, "vlan_vid": 0,
    }  # fmt: skip
    return all(f.name in have and have[f.name] & mask == value for f, value, mask in key)


def test_names_follow_the_protocol():
    def named(**fields):
        match = parse_flow("actions=drop").match.of(
            {FIELDS_BY_NAME[name]: (v, FIELDS_BY_NAME[name].all_ones) for name, v in fields.items()}
        )
        return format_match(key_match(match))

    assert named(eth_type=0x806, arp_op=1, ipv4_dst=9, tcp_src=0) == "arp,arp_tpa=0.0.0.9,arp_op=1"
    assert named(eth_type=0x800, ip_proto=17, tcp_src=9, tcp_dst=0) == "udp,tp_src=9,tp_dst=0"
    assert named(eth_type=0x86DD, ip_proto=58, icmp_type=135, tcp_src=0) == "icmp6,icmp_type=135"


def test_beside_forwarding_threads(tmp_path):
    """The daemon forwards at full speed while it is asked."""
    flows = tmp_path / "flows"
    flows.write_text("\n".join(line for line in FLOWS.splitlines() if "filter_prog" not in line))
    capture = tmp_path / "in.pcap"
    with capture.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for i in range(500):
            _, data = compose(parse_flow(f"tcp,nw_dst=10.0.0.1,tp_src={i},actions=drop").match)
            writer.writepkt(data, ts=i / 1e6)
    options = ["--bridge", "br0", "--flows", str(flows), "--workers", "2", "--port", "2=null"]
    options += ["--port", f"1=pcap:{capture},loop,speed=max"]
    with Switchd(tmp_path / "run", *options) as switch:
        client = Client(switch)

        def cached():
            told, error = client.ask("oko/cache-show", "br0", "--json", "--max", "9")
            assert error is None
            return json.loads(told)["br0"]

        wait_until(lambda: any(worker["lookups"] for worker in cached()))
        for _ in range(200):
            shown = [lookup for worker in cached() for lookup in worker["lookups"]]
            assert all(len(lookup["flows"]) == 1 for lookup in shown)
            assert {lookup["flows"][0]["cookie"] for lookup in shown} <= {3}
        assert client.ask("oko/cache-show", "br0")[0].startswith("bridge br0, forwarding thread 0")
        for words in (["--max"], ["--max", "0"], ["br0", "br1"], ["br7"], ["--max", "x"]):
            result, error = client.ask("oko/cache-show", *words)
            assert result is None and error and "Traceback" not in error
        client.socket.close()


def test_page_lists_it():
    text = (Path(__file__).resolve().parents[2] / "docs" / "switchd.md").read_text()
    assert "oko/cache-show" in text
