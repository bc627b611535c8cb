"""oko-replay as its users see it: files in, files and words out, checked by dpkt and a second
parser, and every way in which inputs, disks and people go wrong."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dpkt
import pytest
import zstandard
from captures import pcap, pcapng
from oracle_frames import frames, parse
from waiting import wait_until

import oko
from oko.replaytool import main

ROOT = Path(__file__).resolve().parents[2]
FILTERS = ROOT / "examples" / "bpf"
TRACES = ROOT / "examples" / "traces"
SCAN = TRACES / "scan.pcap"
HTTP = TRACES / "http.pcap"
ALL = "actions=output:2"
SECOND = 10**9

Capsys = pytest.CaptureFixture[str]


def run(capsys: Capsys, *args: object, status: int = 0) -> str:
    """Runs the command and returns its output; nothing may go to stderr on success."""
    assert main([str(arg) for arg in args]) == status
    out, err = capsys.readouterr()
    if status == 0:
        assert err == ""
    return out


def run_json(capsys: Capsys, *args: object, status: int = 0) -> dict[str, Any]:
    report = json.loads(run(capsys, *args, "--json", status=status))
    assert report["schema"] == "oko-replay/1"
    return dict(report)


def fails(capsys: Capsys, *args: object) -> str:
    """Runs the command, which must end with status 1 and one line; perhaps an excerpt, a hint."""
    assert main([str(arg) for arg in args]) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert lines and lines[0].startswith("oko-replay: ")
    excerpt = [line for line in lines[1:] if not line.startswith("hint: ")]
    assert not excerpt or (len(excerpt) == 2 and excerpt[1].lstrip().startswith("^")), err
    assert out == ""
    return lines[0].removeprefix("oko-replay: ")


def command(*args: object, **options: Any) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "oko.replaytool", *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, **options,
    )  # fmt: skip


def written(path: Path) -> list[tuple[int, int, bytes]]:
    """(ns, wire length, frame) of each record of a pcap that oko wrote, by dpkt's classes."""
    data = path.read_bytes()
    header = dpkt.pcap.LEFileHdr(data[:24])
    assert header.linktype == 1 and header.v_major == 2
    unit = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}[header.magic]
    records, at = [], 24
    while at < len(data):
        record = dpkt.pcap.LEPktHdr(data[at : at + 16])
        frame = data[at + 16 : at + 16 + record.caplen]
        assert len(frame) == record.caplen, "a short file"
        records.append((record.tv_sec * SECOND + record.tv_usec * unit, record.len, frame))
        at += 16 + record.caplen
    return records


def clamped(times: list[float]) -> list[float]:
    newest, out = times[0], []
    for t in times:
        newest = max(newest, t)
        out.append(newest)
    return out


# ---------------------------------------------------------------- packets go where rules say


SORTING = [
    ("priority=50,tcp,tp_dst=80", 2, lambda k: tcp(k) and k.get("tcp_dst") == 80),
    ("priority=40,tcp", 3, lambda k: tcp(k)),
    ("priority=30,udp", 4, lambda k: k.get("eth_type") == 0x800 and k.get("ip_proto") == 17),
    ("priority=20,arp", 5, lambda k: k.get("eth_type") == 0x806),
    ("priority=10,ipv6", 6, lambda k: k.get("eth_type") == 0x86DD),
    ("priority=5,dl_vlan=100", 7, lambda k: k.get("vlan_vid") == 0x1064),
    ("priority=1", 8, lambda k: True),
]


def tcp(key: dict[str, int]) -> bool:
    return key.get("eth_type") == 0x800 and key.get("ip_proto") == 6


def sort_with_oko(capsys: Capsys, out: Path, *args: object) -> dict[str, Any]:
    rules = [x for match, port, _ in SORTING for x in ("-f", f"{match},actions=output:{port}")]
    outputs = [x for _, port, _ in SORTING for x in ("--write", f"{port}={out / str(port)}")]
    return run_json(capsys, *args, *rules, *outputs)


@pytest.mark.parametrize(
    "name",
    [
        "mix.pcap.gz",
        "lan-mixed.pcap",
        "irc-dcc-send.pcapng",
        "mixed-vlan-mpls.pcap",
        "http-qinq-0.pcap",
        "ipv6-fragmented-dns.pcap",
        "ipv6-hbh-routing0.pcap",
        "ip-bogus-header-len.pcap",
        pytest.param("echo-connections.pcap.gz", marks=pytest.mark.long),
    ],
)
def test_sorts_real_captures(traces: Path, tmp_path: Path, capsys: Capsys, name: str) -> None:
    report = sort_with_oko(capsys, tmp_path, traces / name)
    everything = list(frames(traces / name))
    times = clamped([t for t, _ in everything])
    want: dict[int, list[tuple[float, bytes]]] = {port: [] for _, port, _ in SORTING}
    for t, (_, frame) in zip(times, everything, strict=True):
        key = parse(frame)
        port = next(port for _, port, test in SORTING if test(key))
        want[port].append((t, frame))
    for _, port, _ in SORTING:
        got = written(tmp_path / str(port))
        assert [frame for _, _, frame in got] == [frame for _, frame in want[port]]
        assert all(
            abs(ns / 1e9 - t) < 2e-6 for (ns, _, _), (t, _) in zip(got, want[port], strict=True)
        )
    assert report["packets"] == len(everything)
    assert report["bytes"] == report["ports"][0]["rx_bytes"]
    assert {f["priority"]: f["n_packets"] for f in report["flows"]} == {
        int(match.split(",")[0].removeprefix("priority=")): len(want[port])
        for match, port, _ in SORTING
    }


def test_written_again_is_the_same(tmp_path: Path, capsys: Capsys) -> None:
    """What was written can be read, and comes out unchanged; wire lengths too."""
    cut = [(1000 * i, bytes([i]) * 60) for i in range(50)]
    first, second, third = (tmp_path / name for name in ("1.pcap", "2.pcap", "3.pcap"))
    first.write_bytes(pcap(cut, wire_lens=[1000 + i for i in range(50)]))
    run(capsys, first, "-f", ALL, "--write", f"2={second}")
    run(capsys, second, "-f", ALL, "--write", f"2={third}")
    assert second.read_bytes() == third.read_bytes()
    assert written(second) == [(ns, 1000 + i, data) for i, (ns, data) in enumerate(cut)]


@pytest.mark.parametrize("nanoseconds", [False, True])
def test_times_keep_their_resolution(tmp_path: Path, capsys: Capsys, nanoseconds: bool) -> None:
    packets = [(SECOND + 1_234_567_891, bytes(60))]
    (tmp_path / "in").write_bytes(pcap(packets, nanoseconds=nanoseconds))
    run(capsys, tmp_path / "in", "-f", ALL, "--write", f"2={tmp_path / 'out'}")
    assert written(tmp_path / "out")[0][0] == packets[0][0] // 1000 * 1000 + 891 * nanoseconds


# ---------------------------------------------------------------- actions change packets


def rebuilt(frame: bytes, change: Any) -> bytes:
    """dpkt takes the frame apart, changes it, and computes every checksum anew."""
    eth = dpkt.ethernet.Ethernet(frame)
    change(eth)
    eth.data.sum = 0
    if hasattr(eth.data.data, "sum"):
        eth.data.data.sum = 0
    return bytes(eth)


def test_rewriting_agrees_with_dpkt(tmp_path: Path, capsys: Capsys) -> None:
    actions = (
        "mod_nw_src:192.0.2.1,mod_nw_dst:198.51.100.77,mod_tp_dst:8080,dec_ttl,"
        "mod_dl_src:02:00:00:00:00:99,set_field:0xb->ip_dscp,output:2"
    )
    run(
        capsys, HTTP, "-f", f"tcp,actions={actions}", "-f", "priority=1,actions=drop",
        "--write", f"2={tmp_path / 'out'}",
    )  # fmt: skip

    def change(eth: Any) -> None:
        eth.src = bytes.fromhex("020000000099")
        eth.data.src, eth.data.dst = bytes((192, 0, 2, 1)), bytes((198, 51, 100, 77))
        eth.data.ttl -= 1
        eth.data.tos = 0xB << 2 | eth.data.tos & 3
        eth.data.data.dport = 8080

    want = [frame for _, frame in frames(HTTP) if tcp(parse(frame))]
    got = written(tmp_path / "out")
    assert len(got) == len(want) > 50
    for (_, _, frame), original in zip(got, want, strict=True):
        assert frame == rebuilt(original, change)


def test_tags_pushed_and_popped(tmp_path: Path, capsys: Capsys) -> None:
    run(
        capsys, HTTP, "-f",
        "actions=push_vlan:0x88a8,set_field:0x1064->vlan_vid,output:2,"
        "push_mpls:0x8847,set_field:7->mpls_label,output:3,pop_mpls:0x0800,pop_vlan,output:4",
        *(x for port in (2, 3, 4) for x in ("--write", f"{port}={tmp_path / str(port)}")),
    )  # fmt: skip
    original = [frame for _, frame in frames(HTTP)]
    tagged = [f[:12] + bytes.fromhex("88a80064") + f[12:] for f in original]
    assert [frame for _, _, frame in written(tmp_path / "2")] == tagged
    lens = {wire - len(frame) for _, wire, frame in written(tmp_path / "2")}
    assert lens == {0}, "the wire length grows with the frame"
    for (_, _, frame), old in zip(written(tmp_path / "3"), original, strict=True):
        key = parse(old)
        ttl, tc = (key["nw_ttl"], key.get("ip_dscp", 0) & 7) if "nw_ttl" in key else (64, 0)
        label = (7 << 12 | tc << 9 | 0x100 | ttl).to_bytes(4, "big")
        assert frame == old[:12] + bytes.fromhex("88a800648847") + label + old[14:]
    ipv4 = [f for f in original if f[12:14] == b"\x08\x00"]
    back = [frame for _, _, frame in written(tmp_path / "4")]
    assert [f for f in back if f in ipv4] == ipv4


# ---------------------------------------------------------------- time


def times_of(path: Path) -> list[int]:
    return [ns for ns, _, _ in written(path)]


JUMPS = [SECOND, 3 * SECOND, 2 * SECOND, 4 * SECOND, 4 * SECOND + 7200 * SECOND]


@pytest.fixture
def jumps(tmp_path: Path) -> Path:
    """A capture that runs back in time once and pauses for two hours."""
    path = tmp_path / "jumps.pcap"
    path.write_bytes(pcap([(ns, bytes([i]) * 60) for i, ns in enumerate(JUMPS)]))
    return path


@pytest.mark.parametrize("preload", [[], ["--preload"]])
@pytest.mark.parametrize("workers", [1, 3])
def test_clock(
    jumps: Path, tmp_path: Path, capsys: Capsys, preload: list[str], workers: int
) -> None:
    out = tmp_path / "out"
    args = (jumps, "-f", ALL, "--write", f"2={out}", "--workers", workers, *preload)
    run(capsys, *args)
    once = [1, 3, 3, 4, 7204]
    assert times_of(out) == [t * SECOND for t in once]
    run(capsys, *args, "--loop", 2)
    # The long gap counts as a second; a round of 4 s is followed by a mean gap of 1 s.
    assert times_of(out) == [t * SECOND for t in (1, 3, 3, 4, 5, 6, 8, 8, 9, 10)]
    run(capsys, *args, "--realtime", "x1000")
    assert times_of(out) == [t * SECOND for t in (1, 3, 3, 4, 5)]
    run(capsys, *args, "--pps", "3k", "--loop", 2)
    assert times_of(out) == [SECOND + i * SECOND // 3000 for i in range(10)]
    run(capsys, *args, "--mbit", "0.48")
    assert times_of(out) == [SECOND + i * SECOND // 1000 for i in range(5)]


def test_pace_is_kept(jumps: Path, capsys: Capsys) -> None:
    began = time.monotonic()
    report = run_json(capsys, jumps, "-f", ALL, "--pps", 100, "--loop", 5)
    assert report["packets"] == 25
    assert 0.24 <= report["seconds"] <= time.monotonic() - began
    report = run_json(capsys, jumps, "-f", ALL, "--pps", 1000, "--duration", 0.2)
    assert report["seconds"] >= 0.2
    assert 0 < report["packets"] <= 1000 * report["seconds"] + 2


def test_looped_frames_start_unchanged(jumps: Path, tmp_path: Path, capsys: Capsys) -> None:
    for preload in ([], ["--preload"]):
        run(
            capsys, jumps, "-f", "actions=mod_dl_src:00:00:00:00:00:07,push_vlan:0x8100,output:2",
            "--write", f"2={tmp_path / 'out'}", "--loop", 3, *preload,
        )  # fmt: skip
        got = [frame for _, _, frame in written(tmp_path / "out")]
        assert got == got[:5] * 3 and len(got) == 15
        assert got[0] == bytes(6) + bytes.fromhex("000000000007 81000000") + bytes(48)


def test_merge(tmp_path: Path, capsys: Capsys) -> None:
    """Several captures by time; each comes in at its own port."""
    for name, times in (("a", [10, 20, 30]), ("b", [5, 20, 40])):
        (tmp_path / name).write_bytes(
            pcap([(t * 1000, name.encode() * 60) for t in times], nanoseconds=name == "b")
        )
    out = tmp_path / "out"
    report = run_json(
        capsys, tmp_path / "a", tmp_path / "b", "-f", "in_port=1,actions=push_vlan:0x8100,output:9",
        "-f", "in_port=2,actions=output:9", "--write", f"9={out}",
    )  # fmt: skip
    got = [(ns // 1000, frame[:1], len(frame)) for ns, _, frame in written(out)]
    a, b = (b"a", 64), (b"b", 60)
    assert got == [(5, *b), (10, *a), (20, *a), (20, *b), (30, *a), (40, *b)]
    assert [(p["port"], p["rx_packets"]) for p in report["ports"]] == [(1, 3), (2, 3), (9, 0)]
    report = run_json(capsys, tmp_path / "a", tmp_path / "b", "-f", ALL, "--in-port", "7")
    assert [(p["port"], p["rx_packets"]) for p in report["ports"]] == [(2, 0), (7, 6)]
    report = run_json(capsys, tmp_path / "a", tmp_path / "b", "--in-port", "7,8", "--ports", "3-4")
    assert [p["port"] for p in report["ports"]] == [3, 4, 7, 8]


def test_merged_captures_loop(tmp_path: Path, capsys: Capsys) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(pcapng([(1000, name.encode() * 60)] * 2))
    out = tmp_path / "out"
    args = (tmp_path / "a", tmp_path / "b", "-f", "actions=output:9", "--write", f"9={out}")
    run(capsys, *args, "--loop", 3)
    assert [frame[:1] for _, _, frame in written(out)] == [b"a", b"a", b"b", b"b"] * 3


# ---------------------------------------------------------------- nothing of this changes a result


PROGRAMS = {
    1: FILTERS / "port_scan.o",
    2: FILTERS / "heavy_hitter.o",
    3: FILTERS / "stateful_firewall.o",
}
STATEFUL = [
    "table=0,priority=9,tcp,filter_prog=1,actions=controller,goto_table:1",
    "table=0,priority=5,actions=goto_table:1",
    "table=1,priority=7,filter_prog=2,idle_timeout=1,send_flow_rem,actions=output:3",
    "table=1,priority=6,filter_prog=3,actions=dec_ttl,output:2",
]


def comparable(result: oko.ReplayResult) -> dict[str, Any]:
    """What may not depend on how the work was done."""
    how = ("seconds", "stats", "workers", "preloaded", "copied", "programs", "maps")
    kept = {name: value for name, value in vars(result).items() if name not in how}
    kept["programs"] = [(p.runs, p.matches, p.faults) for p in result.programs.values()]
    kept["maps"] = {(m.program, m.name): m.entries for m in result.maps}
    return kept


@pytest.mark.parametrize("capture", ["scan.pcap", "lossy.pcap", "http.pcap"])
def test_options_for_the_curious_change_nothing(tmp_path: Path, capture: str) -> None:
    results, outputs = [], []
    ways: list[dict[str, Any]] = [
        {}, {"cache": False}, {"burst": 1}, {"burst": 7}, {"interpret": True}, {"preload": True},
        {"cache": False, "burst": 1, "interpret": True, "preload": True},
    ]  # fmt: skip
    for options in ways:
        out = tmp_path / "out"
        result = oko.replay(
            TRACES / capture, flows=STATEFUL, programs=PROGRAMS, loop=2, write={2: out}, **options
        )
        results.append(comparable(result))
        outputs.append(out.read_bytes())
    assert all(result == results[0] for result in results)
    assert all(output == outputs[0] for output in outputs)
    assert any(matches for _, matches, _ in results[0]["programs"])


def test_workers_agree_when_state_is_keyed_within_the_spread(tmp_path: Path) -> None:
    """stateful_firewall keeps one entry per connection: both directions meet at one worker."""
    seen = []
    for workers in (1, 2, 4):
        outs = {port: tmp_path / str(port) for port in (2, 3)}
        result = oko.replay(
            [TRACES / "http.pcap", TRACES / "lossy.pcap", SCAN],
            in_ports=1,
            programs={1: FILTERS / "stateful_firewall.o"},
            flows=["priority=9,filter_prog=1,actions=output:2", "priority=1,actions=output:3"],
            workers=workers,
            write=outs,
        )
        seen.append((comparable(result), [out.read_bytes() for out in outs.values()]))
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("spread", ["addr", "5tuple", "src", "dst", "port"])
def test_output_order_does_not_depend_on_workers(
    tmp_path: Path, capsys: Capsys, spread: str
) -> None:
    outs = []
    for workers in (1, 3):
        out = tmp_path / str(workers)
        run(
            capsys, HTTP, SCAN, TRACES / "ipv6.pcap", "-f", "actions=output:9", "--write",
            f"9={out}", "--workers", workers, "--spread", spread, "--loop", 20,
        )  # fmt: skip
        outs.append(out.read_bytes())
    assert outs[0] == outs[1]


COUNT_ALL = """
#include "oko_bpf.h"
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __type(key, uint32_t); __type(value, uint64_t);
         __uint(max_entries, 1); } seen SEC(".maps");
uint64_t entry(void *pkt, uint64_t len)
{
    uint32_t zero = 0;
    uint64_t *n = bpf_map_lookup(&seen, &zero);
    if (!n)
        return 0;
    *n += 1;
    return *n > 100; /* more than a hundred packets so far: anybody's */
}
"""


def test_workers_differ_when_state_is_shared_by_all(tmp_path: Path, capsys: Capsys) -> None:
    """The documented case: a count over all packets is each worker's own."""
    if not oko_compiles():
        pytest.skip("no compiler for BPF is installed")
    (tmp_path / "count.c").write_text(COUNT_ALL)
    matches = []
    for workers in (1, 4):
        report = run_json(
            capsys, HTTP, SCAN, TRACES / "dns.pcap", "--load-filter-prog",
            f"1={tmp_path / 'count.c'}", "-f", "filter_prog=1,actions=output:2",
            "--workers", workers,
        )  # fmt: skip
        matches.append(report["programs"][0]["matches"])
        assert report["programs"][0]["runs"] == report["packets"]
    assert matches[0] == report["packets"] - 100
    assert matches[1] < matches[0]


def oko_compiles() -> bool:
    from oko.bpf import toolchain

    return bool(toolchain.compilers())


# ---------------------------------------------------------------- programs, maps, events


def test_maps_are_updated_and_dumped(tmp_path: Path, capsys: Capsys) -> None:
    blocked = Counter(parse(f).get("ipv4_src") for _, f in frames(SCAN))
    attacker = max((n, ip) for ip, n in blocked.items() if ip)[1]
    text = ".".join(str(b) for b in attacker.to_bytes(4, "big"))
    table = tmp_path / "table.csv"
    table.write_text(f"key,value\nip:{text},1\nip:192.0.2.1,u32:1\n")
    for update in (f"prog=1,map=blocked,key=ip:{text},value=u32:1", f"map=0,file={table}"):
        report = run_json(
            capsys, SCAN, "--load-filter-prog", f"1={FILTERS / 'stateless_firewall.o'}",
            "--update-map", update, "-f", "priority=9,filter_prog=1,actions=drop",
            "-f", "priority=1,actions=output:2", "--dump-maps",
        )  # fmt: skip
        assert report["programs"][0]["matches"] == report["drops"]["drop"] == blocked[attacker]
        entries = next(m for m in report["maps"] if m["name"] == "blocked")["entries"]
        assert attacker.to_bytes(4, "big").hex() in [entry["key"] for entry in entries]
    out = run(
        capsys, SCAN, "--load-filter-prog", f"1={FILTERS / 'stateless_firewall.o'}",
        "--update-map", f"map=0,file={table}", "--dump-maps",
    )  # fmt: skip
    assert "map blocked (program 1, map 0, hash): 2 entries" in out
    assert f"ip:{text} -> " in out


def test_events(capsys: Capsys) -> None:
    report = run_json(
        capsys, SCAN, "-f", "priority=9,udp,actions=controller:20",
        "-f", "priority=8,icmp,idle_timeout=1,send_flow_rem,cookie=7,actions=output:2",
        "-f", "priority=7,tcp,hard_timeout=1,send_flow_rem,actions=output:2",
    )  # fmt: skip
    udp = [
        (i, frame)
        for i, (_, frame) in enumerate(frames(SCAN), 1)
        if (k := parse(frame)).get("ip_proto") == 17 and k.get("eth_type") == 0x800
    ]
    packet_ins = [event for event in report["events"] if event["type"] == "packet-in"]
    assert [(e["packet"], e["data"]) for e in packet_ins] == [
        (number, frame[:20].hex()) for number, frame in udp
    ]
    removed = {e["priority"]: e for e in report["events"] if e["type"] == "flow-removed"}
    seconds = (report["last_ns"] - report["first_ns"]) / SECOND
    assert (7 in removed) == (seconds >= 1)
    if 7 in removed:
        assert removed[7]["duration_ns"] == SECOND and removed[7]["reason"] == "hard"
    assert report["events_lost"] == 0


def test_many_packet_ins_are_all_collected(tmp_path: Path) -> None:
    """More than the ring holds: the replay pauses until they were read."""
    packets = [(i * 1000, i.to_bytes(4, "big") * 350) for i in range(15_000)]
    path = tmp_path / "many.pcap"
    path.write_bytes(pcap(packets))
    for options in ({}, {"preload": True}, {"workers": 2}, {"workers": 2, "preload": True}):
        result = oko.replay(path, flows="actions=controller", **options)
        assert result.events_lost == 0
        got = sorted((event.seq, event.data) for event in result.events)
        assert got == [(i + 1, data) for i, (_, data) in enumerate(packets)]


def test_trace(capsys: Capsys) -> None:
    programs = (x for n, path in PROGRAMS.items() for x in ("--load-filter-prog", f"{n}={path}"))
    rules = (x for rule in STATEFUL for x in ("-f", rule))
    out = run(capsys, SCAN, *programs, *rules, "--trace", 5)
    frame = [frame for _, frame in frames(SCAN)][4]
    lines = out.splitlines()
    assert lines[0] == f"packet 5: {len(frame)} bytes, came in at port 1"
    assert "  table 0:" in lines and "  table 1:" in lines
    assert any("program 1 (port_scan) says no match" in line for line in lines)
    assert any("left through port" in line or "dropped" in line for line in lines)
    assert main([str(SCAN), "-f", ALL, "--trace", "100000"]) == 1
    assert "packet 100000: there is none" in capsys.readouterr().out
    report = run_json(capsys, SCAN, "-f", "actions=drop", "--trace", 2)
    assert report["trace"][-1].strip() == "dropped: drop" and report["packets"] == 2


def test_what_a_commit_refuses_is_named(tmp_path: Path, capsys: Capsys) -> None:
    """Rules are read one at a time and not kept, so the culprit is read again."""
    rules = tmp_path / "rules"
    text = "# a comment\ngroup group_id=1,type=all,bucket=output:9\nactions=group:1\n"
    rules.write_text(text + "priority=7,actions=group:2\n")
    assert f"{rules}: priority=7 actions=group:2: " in fails(capsys, "--flows", rules, SCAN)
    pipe = tmp_path / "pipe"  # which cannot be read again
    os.mkfifo(pipe)
    with subprocess.Popen(["cp", rules, pipe]) as writer:
        assert "rule 3: " in fails(capsys, "--flows", pipe, SCAN)
        assert writer.wait(30) == 0


def test_groups_and_meters_from_a_file(tmp_path: Path, capsys: Capsys) -> None:
    rules = tmp_path / "rules.txt"
    rules.write_text(
        "# one copy each\n"
        "group group_id=1,type=all,bucket=output:2,bucket=output:3\n"
        "\n"
        "tcp,actions=group:1\n"
        "priority=1,actions=drop\n"
    )
    report = run_json(capsys, SCAN, "--flows", rules)
    n = sum(tcp(parse(frame)) for _, frame in frames(SCAN))
    assert {p["port"]: p["tx_packets"] for p in report["ports"]} == {1: 0, 2: n, 3: n}


# ---------------------------------------------------------------- kinds of captures


@pytest.mark.parametrize("kind", ["pcap", "pcapng", "gz", "zst", "stdin", "fifo"])
def test_kinds_of_input(tmp_path: Path, kind: str) -> None:
    plain = SCAN.read_bytes()
    path = tmp_path / f"in.{kind}"
    data = {
        "pcapng": pcapng([(int(t * 1e9), frame) for t, frame in frames(SCAN)]),
        "gz": gzip.compress(plain),
        "zst": zstandard.compress(plain),
    }.get(kind, plain)
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(data)
    args = ["-" if kind == "stdin" else path, "-f", ALL, "--json"]
    with open(path if kind == "stdin" else os.devnull, "rb") as stdin:
        process = command(*args, stdin=stdin)
        if kind == "fifo":
            path.write_bytes(data)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == ""
    assert json.loads(out)["packets"] == 328


def test_memory_does_not_grow_with_the_capture(tmp_path: Path) -> None:
    """150 MB through a pipe, compressed or not, in less memory than that."""
    one = pcap([(i * 1000, bytes(1400)) for i in range(7000)])
    for compress in (lambda data: data, lambda data: gzip.compress(data, 1)):
        header, body = compress(one[:24]), compress(one[24:])
        process = subprocess.Popen(
            [sys.executable, "-c", MEASURED, "-", "-f", ALL],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(header)
        for _ in range(15):
            process.stdin.write(body)
        process.stdin.close()
        out = process.stdout.read().decode()
        assert process.wait(timeout=60) == 0
        assert out.startswith("105,000 packets, 147,000,000 bytes")
        assert int(out.split()[-1]) < 90_000, "kilobytes"


MEASURED = """
import re, sys
from oko.replaytool import main
status = main()
# Not getrusage(): its maximum counts the parent's memory at the time of the fork.
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
sys.exit(status)
"""


def test_link_types(traces: Path, tmp_path: Path, capsys: Capsys) -> None:
    out = tmp_path / "out"
    report = run_json(capsys, traces / "linuxsll-arp.pcap", "-f", "arp,actions=output:2", "--write",
                      f"2={out}")  # fmt: skip
    assert len(report["notes"]) == 1 and "LINUX_SLL" in report["notes"][0]
    original = (traces / "linuxsll-arp.pcap").read_bytes()
    arp = [parse(frame) for _, _, frame in written(out)]
    assert arp and all(key["eth_type"] == 0x806 and key["arp_op"] in (1, 2) for key in arp)
    assert all(frame[14:] in original for _, _, frame in written(out))
    (tmp_path / "wifi.pcap").write_bytes(pcap([(0, bytes(60))], link=105))
    assert "link type 105 (IEEE802_11)" in fails(capsys, tmp_path / "wifi.pcap", "-f", ALL)


def test_frames_that_are_too_long_are_dropped_by_name(tmp_path: Path, capsys: Capsys) -> None:
    path = tmp_path / "long.pcap"
    path.write_bytes(pcap([(0, bytes(60)), (1, bytes(70000)), (2, bytes(65535))]))
    report = run_json(capsys, path, "-f", ALL)
    assert report["drops"] == {"too-long": 1}
    assert report["ports"][1]["tx_packets"] == 2 and report["packets"] == 3


@pytest.mark.parametrize("cut", [10, 24, 30, 40, 1000, -1])
@pytest.mark.parametrize("form", ["pcap", "pcapng", "gz"])
@pytest.mark.parametrize("options", [[], ["--preload"], ["--workers", "2"], ["--loop", "2"]])
def test_cut_captures(
    tmp_path: Path, capsys: Capsys, cut: int, form: str, options: list[str]
) -> None:
    """What is before the cut is processed; the end says where it broke; status 1."""
    packets = [(int(t * 1e9), frame) for t, frame in frames(SCAN)]
    maker = pcapng if form == "pcapng" else pcap
    data = maker(packets)
    ends = [len(maker(packets[:n])) for n in range(0, len(packets) + 1)]
    size = len(data) + cut if cut < 0 else cut
    path = tmp_path / "cut"
    path.write_bytes(gzip.compress(data[:size]) if form == "gz" else data[:size])
    whole = sum(end <= size for end in ends[1:])
    rounds = 2 if "--loop" in options else 1
    if size in ends:
        report = run_json(capsys, path, "-f", ALL, *options)
        assert report["packets"] == whole * rounds and report["errors"] == []
        return
    status = main([str(path), "-f", ALL, "--json", *options])
    out, err = capsys.readouterr()
    assert status == 1
    assert err.startswith(f"oko-replay: {path}: ") and err.count("\n") == 1
    assert f"byte {size}" in err or "empty" in err
    if out:
        report = json.loads(out)
        assert report["packets"] == whole * rounds == report["flows"][0]["n_packets"]
        assert len(report["errors"]) == 1
    else:
        assert size < ends[0] or whole == 0


def test_cut_compressed_data(tmp_path: Path, capsys: Capsys) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(HTTP.read_bytes())[:-5000])
    status = main([str(path), "-f", ALL, "--json"])
    out, err = capsys.readouterr()
    assert status == 1
    assert "the gzip data is cut off after" in err
    assert 0 < json.loads(out)["packets"] < len(list(frames(HTTP)))


# ---------------------------------------------------------------- what goes wrong


def test_disk_full_at_once(capsys: Capsys) -> None:
    words = fails(capsys, SCAN, "-f", ALL, "--write", "2=/dev/full")
    assert words == "/dev/full: No space left on device"


@pytest.mark.parametrize("workers", [1, 2])
def test_disk_full_later(tmp_path: Path, workers: int) -> None:
    """A file size limit stands for a full disk: the write fails in the middle."""
    out = tmp_path / "out.pcap"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))

    process = command(HTTP, "-f", ALL, "--loop", 200, "--write", f"2={out}", "--workers", workers,
                      preexec_fn=limit)  # fmt: skip
    text, err = process.communicate(timeout=60)
    assert process.returncode == 1 and text == ""
    assert err == f"oko-replay: {out}: File too large\n"


def test_ctrl_c_shows_what_was_done(tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    process = command(SCAN, "-f", ALL, "--duration", 60, "--pps", 30000, "--json",
                      "--write", f"2={out}")  # fmt: skip
    wait_until(lambda: out.exists() and out.stat().st_size > 24)
    process.send_signal(signal.SIGINT)
    text, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "oko-replay: interrupted\n"
    report = json.loads(text)
    assert report["interrupted"] and 0 < report["packets"] == report["ports"][1]["tx_packets"]
    assert len(written(out)) == report["packets"]


def test_ctrl_c_while_waiting_for_input(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    process = command("-", "-f", ALL, stdin=reader)
    waiting = bytearray(4)

    def taken() -> bool:
        fcntl.ioctl(reader, termios.FIONREAD, waiting)
        return not any(waiting)

    data = SCAN.read_bytes()
    for part in (data[:5000], data[5000:9000]):  # the first is taken when the file is opened
        os.write(writer, part)
        wait_until(taken)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    os.close(writer)
    os.close(reader)
    assert process.returncode == 130
    assert "packets" in text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["absent.pcap"], "absent.pcap: No such file"),
        (["/"], "/: Is a directory"),
        ([ROOT / "README.md"], "README.md: not a capture: starts with bytes 23 20 6f 6b"),
        ([SCAN, "-f", "tcp,actions=outptu:2"], "outptu"),
        ([SCAN, "--flows", "absent.txt"], "absent.txt: No such file"),
        ([SCAN, "-f", "filter_prog=4,actions=drop"], "filter_prog=4 actions=drop: "),
        ([SCAN, "--load-filter-prog", "1=absent.o"], "program 1: absent.o: No such file"),
        ([SCAN, "--load-filter-prog", f"1={SCAN}"], "program 1: "),
        ([SCAN, "--update-map", "map=x,key=1"], "loaded programs: none"),
        ([SCAN, "--update-map", "nonsense"], "map update 'nonsense'"),
        ([SCAN, "--write", f"2={SCAN}"], "is read or written already"),
        ([SCAN, "--write", "2=/absent/out.pcap"], "/absent/out.pcap: No such file"),
        ([SCAN, "--write", "0=/tmp/out.pcap"], "port 0 is not a number from 1 to"),
        ([SCAN, "--write", "2=/tmp/o1", "--write", "2=/tmp/o2"], "--write: 2 is given twice"),
        ([SCAN, "--in-port", "0"], "port 0 is not"),
        ([SCAN, SCAN, "--in-port", "1,2,3"], "3 input ports for 2 captures"),
    ],
)
def test_wrong_inputs(capsys: Capsys, args: list[object], words: str) -> None:
    assert words in fails(capsys, *args)


def test_errors_in_rules_have_a_place(tmp_path: Path, capsys: Capsys) -> None:
    rules = tmp_path / "rules.txt"
    rules.write_text("priority=1,actions=drop\n\ntcp,actions=output:2,frobnicate:3\n")
    words = fails(capsys, SCAN, "--flows", rules)
    assert f"{rules}" in words and ":3:22: " in words and "frobnicate" in words


def test_refused_programs_say_why(tmp_path: Path, capsys: Capsys) -> None:
    if not oko_compiles():
        pytest.skip("no compiler for BPF is installed")
    source = tmp_path / "bad.c"
    source.write_text("unsigned long entry(unsigned char *p, unsigned long n) { return p[20]; }\n")
    words = fails(capsys, SCAN, "--load-filter-prog", f"3={source}", "-f", ALL)
    assert words.startswith("program 3: ")
    assert "bad.c:1" in words


@pytest.mark.parametrize(
    "args",
    [
        [],
        [SCAN, "--workers", "0"],
        [SCAN, "--workers", "65"],
        [SCAN, "--burst", "33"],
        [SCAN, "--loop", "0"],
        [SCAN, "--loop", "2", "--duration", "1"],
        [SCAN, "--max", "--pps", "1"],
        [SCAN, "--pps", "fast"],
        [SCAN, "--mbit", "-1"],
        [SCAN, "--duration", "never"],
        [SCAN, "--spread", "colour"],
        [SCAN, "--write", "out.pcap"],
        [SCAN, "--load-filter-prog", "x=y"],
        [SCAN, "--ports", "1-"],
        [SCAN, "--trace", "0"],
        [SCAN, "--nonsense"],
        [SCAN, "--realtime=fast"],
    ],
)
def test_wrong_usage(capsys: Capsys, args: list[object]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    assert caught.value.code == 2
    assert "usage: oko-replay" in capsys.readouterr().err


# ---------------------------------------------------------------- what people see


def test_table(capsys: Capsys) -> None:
    out = run(
        capsys, SCAN, "--load-filter-prog", f"1={FILTERS / 'port_scan.o'}",
        "-f", "priority=10,filter_prog=1,actions=drop", "-f", "priority=1,actions=output:2",
    )  # fmt: skip
    lines = out.splitlines()
    assert lines[0].startswith("328 packets, 19,290 bytes in ")
    assert lines[1] == "streaming, frames borrowed, not copied"
    rows = [line.split() for line in lines]
    assert ["1", "328", "19,290", "0", "0", "0"] in rows
    assert ["130", "7,540", "0", "10", "filter_prog=1", "drop"] in rows
    assert ["130", "drop"] in rows
    assert any(row[:5] == ["1", "port_scan", "328", "130", "0"] for row in rows)


def on_terminal(*args: object) -> str:
    """Runs the command with a terminal as output and error; returns what it would show."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "oko.replaytool", *map(str, args)],
        stdout=slave, stderr=slave, cwd=ROOT, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert process.wait(timeout=60) == 0
    return shown.decode()


def test_terminal(tmp_path: Path) -> None:
    """Rich tables, and a progress line for what takes more than a second."""
    shown = on_terminal(SCAN, "-f", "tcp,actions=output:2")
    assert "─" in shown and "\x1b[" in shown and "tcp" in shown and "%" not in shown
    shown = on_terminal(SCAN, "-f", ALL, "--duration", "1.6", "--pps", "500")
    assert "%" in shown and "packets" in shown and "s left" in shown


def test_starts_light() -> None:
    code = (
        "import sys; from oko.replaytool import main; "
        f"main([{str(SCAN)!r}, '-f', 'actions=output:2']); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'rich', 'os_ken', 'elftools', 'zstandard', 'asyncio', 'dpkt'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == "[]\n"


# ---------------------------------------------------------------- from Python


def test_library() -> None:
    result = oko.replay(
        SCAN,
        flows=["priority=10,filter_prog=1,actions=drop", "priority=1,actions=output:2"],
        programs={1: FILTERS / "port_scan.o"},
    )
    assert (result.packets, result.bytes) == (328, 19290)
    assert result.ports[2].tx_packets == 198 and result.drops == {"drop": 130}
    assert [flow.n_packets for flow in result.flows] == [130, 198]
    assert result.programs[1].matches == 130
    assert {found.name for found in result.maps} == {"seen", "scanners", "threshold"}
    assert result.rate > 0 and not result.interrupted and result.errors == []


def test_library_errors() -> None:
    for options, words in (
        ({"flows": "tcp"}, "must specify an action"),
        ({"workers": 0}, "workers is 0"),
        ({"spread": "x"}, "no spread 'x'"),
        ({"pps": 1, "mbit": 1}, "pps and mbit"),
        ({"pps": 0}, "no rate"),
        ({"duration": -1}, "duration"),
        ({"in_ports": [1, 2]}, "2 input ports for 1 captures"),
        ({"write": {2: SCAN}}, "is read or written already"),
    ):
        with pytest.raises(oko.OkoError, match=words):
            oko.replay(SCAN, **options)
    with pytest.raises(oko.OkoError, match="no capture"):
        oko.replay([])


def test_library_stops_and_goes_on(tmp_path: Path) -> None:
    """An interrupted replay can be looked at, and continued."""
    calls = 0

    def impatient(progress: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    with oko.Replayer(SCAN, flows=ALL, loop=2, pps=3000, progress=impatient) as replayer:
        with pytest.raises(KeyboardInterrupt):
            replayer.run()
        part = replayer.result()
        assert part.interrupted and 0 < part.packets < 656
        replayer.run()
        whole = replayer.result()
    assert not whole.interrupted and whole.packets == 656
    assert whole.ports[2].tx_packets == 656


def test_nothing_leaks(tmp_path: Path) -> None:
    def state() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    for _ in range(2):
        before = state()
        for _ in range(5):
            oko.replay(SCAN, flows=ALL, workers=3, write={2: tmp_path / "out"}, loop=2)
            with pytest.raises(oko.OkoError):
                oko.replay(SCAN, flows="nonsense", write={2: tmp_path / "out"})
    assert state() == before
