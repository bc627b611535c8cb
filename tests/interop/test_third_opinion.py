"""A third opinion: Debian's Open vSwitch gets the same flows and packets as the twin.

A private ovs-vswitchd with dummy ports: packets go in through ovs-appctl, what leaves is read from
the ports' pcap files. Left out is what design and Open vSwitch do differently on purpose (third
and cut-off tags, the drop-eligible bit, checksums of later fragments, the action set of clones),
what it does not have (PBB, IPv6 extension headers, programs), and what depends on its
asynchronous caches (learn, NORMAL). Open vSwitch keeps two tags, so packets with two get no third;
and it leaves the checksum of ICMPv6, TCP and UDP behind an active routing header wrong when the
source address changes. Flows that its ovs-ofctl refuses are left out on both sides.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import dpkt
import pytest
from oracle_frames import parse
from twin import frame as fr
from twin.generate import Arrival, Options, arrivals_of, flow_of, group_of
from twin.parts import dimensions_of
from twin.switch import Switch
from waiting import wait_until

from oko.model import actions as act
from oko.model.actions import Action
from oko.model.flow import Flow, FlowMod
from oko.text import format_flow, format_group

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        shutil.which("ovs-vswitchd") is None or shutil.which("ovs-ofctl") is None,
        reason="Open vSwitch (Debian: openvswitch-switch) is missing",
    ),
]

PORTS = (1, 2, 3, 4)
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")


class Ovs:
    """A switch of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = os.environ | {
            f"OVS_{name}": str(folder) for name in ("RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR")
        }
        self.db = f"unix:{folder}/db.sock"
        self.seen = dict.fromkeys(PORTS, 0)
        quiet = ["--detach", "--no-chdir", "--pidfile", "-vconsole:off"]
        self.run("ovsdb-tool", "create", str(folder / "conf.db"), str(SCHEMA))
        remote = f"--remote=punix:{folder}/db.sock"
        self.run("ovsdb-server", *quiet, remote, str(folder / "conf.db"))
        self.run("ovs-vsctl", f"--db={self.db}", "--no-wait", "init")
        dummy = ["--enable-dummy=override", "--disable-system", "--disable-system-route"]
        self.run("ovs-vswitchd", *quiet, *dummy, self.db)
        self.vsctl("set", "Open_vSwitch", ".", "other_config:vlan-limit=2")
        bridge = "set bridge br0 datapath_type=dummy fail-mode=secure protocols=OpenFlow15"
        command = ["add-br", "br0", "--", *bridge.split()]
        for port in PORTS:
            command += ["--", "add-port", "br0", f"p{port}", "--", "set", "interface", f"p{port}"]
            command += ["type=dummy", f"ofport_request={port}"]
            command += [f"options:tx_pcap={folder}/p{port}.pcap"]
        self.vsctl(*command)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=check)

    def vsctl(self, *command: str) -> None:
        self.run("ovs-vsctl", f"--db={self.db}", "--timeout=20", *command)

    def ofctl(self, *command: str, check: bool = True) -> bool:
        return self.run("ovs-ofctl", "-O", "OpenFlow15", *command, check=check).returncode == 0

    def send(self, arrivals: Sequence[Arrival]) -> dict[int, list[bytes]]:
        """What these packets make leave, per port."""
        before = self.received()
        for a in arrivals:
            self.run("ovs-appctl", "netdev-dummy/receive", f"p{a.in_port}", a.data.hex())
        wait_until(lambda: self.received() >= before + len(arrivals), every=0.01)
        assert self.received() == before + len(arrivals)
        sizes: list[int] = []
        while sizes != (now := [(self.folder / f"p{p}.pcap").stat().st_size for p in PORTS]):
            sizes = now
            time.sleep(0.02)
        result = {}
        for port in PORTS:
            with (self.folder / f"p{port}.pcap").open("rb") as file:
                frames = [data for _, data in dpkt.pcap.Reader(file)]
            new, self.seen[port] = frames[self.seen[port] :], len(frames)
            if new:
                result[port] = new
        return result

    def received(self) -> int:
        text = self.run("ovs-ofctl", "-O", "OpenFlow15", "dump-ports", "br0").stdout
        return sum(int(n) for n in re.findall(r"port +\d+: rx pkts=(\d+)", text))

    def close(self) -> None:
        for name in ("ovs-vswitchd", "ovsdb-server"):
            pid = self.folder / f"{name}.pid"
            if pid.exists():
                os.kill(int(pid.read_text()), 15)


@pytest.fixture(scope="module")
def ovs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ovs]:
    switch = Ovs(tmp_path_factory.mktemp("ovs"))
    yield switch
    switch.close()


def comparable_packet(a: Arrival, most_tags: int) -> bool:
    """Not one of those that the two treat differently on purpose."""
    data = a.data
    found = fr.layout(data)
    if found is None or found.eth_type in (0x8100, 0x88A8, 0x88E7) or found.routing_active:
        return False
    tags = [fr.be(data, 14 + 4 * i, 2) for i in range(found.n_vlans)]
    cut_tag = found.n_vlans < 2 and fr.be(data, 12 + 4 * found.n_vlans, 2) in (0x8100, 0x88A8)
    if cut_tag or len(tags) > most_tags or any(tci & 0x1000 for tci in tags):
        return False
    return not parse(data).get("ip_frag")


_UNLIKE = (act.Clone, act.PushMpls, act.PopMpls, act.CopyTtlOut, act.Exit, act.Controller)


def comparable_flow(flow: Flow, pushes: bool) -> bool:
    """Only ways that lead on, and nothing that is different on purpose."""

    def fine(action: Action) -> bool:
        if isinstance(action, act.PushVlan):
            return pushes and flow.table == 0
        if isinstance(action, act.Resubmit):
            return action.table != act.TABLE_CURRENT and action.table > flow.table
        return not isinstance(action, _UNLIKE)

    todo = flow.instructions
    return all(map(fine, (*todo.apply, *todo.write)))


def for_ofctl(text: str) -> str:
    """The text of a flow or group as OpenFlow 1.5 has it, with other names for what 1.0 did to VLAN
    tags: what ovs-ofctl makes of mod_vlan_pcp in a bucket pushes a tag, whatever is there."""
    text = re.sub(
        r"mod_vlan_vid:(\d+)",
        lambda m: f"set_field:{0x1000 | int(m[1]):#x}/0x1fff->vlan_tci",
        text,
    )
    return re.sub(
        r"mod_vlan_pcp:(\d)",
        lambda m: f"set_field:{0x1000 | int(m[1]) << 13:#x}/0xf000->vlan_tci",
        text,
    )


@pytest.mark.parametrize("seed", range(60))
def test_open_vswitch_agrees(ovs: Ovs, seed: int) -> None:
    rng = Random(seed)
    options = Options(
        groups=(1, 2), learn=False, normal=False, timeouts=False, resubmit=seed % 2 == 0
    )
    ovs.ofctl("del-flows", "br0")
    ovs.ofctl("del-groups", "br0")
    twin = Switch(PORTS)
    for number in (2, 1):
        group = group_of(rng, number, replace(options, groups=()))
        while group.type not in (0, 2) or any(
            isinstance(a, (*_UNLIKE, act.PushVlan)) for b in group.buckets for a in b.actions
        ):
            group = group_of(rng, number, replace(options, groups=()))
        if ovs.ofctl("add-group", "br0", for_ofctl(format_group(group)), check=False):
            twin.set_group(group)
    pushes = seed % 3 != 0
    packets = [a for a in arrivals_of(rng, 60) if comparable_packet(a, 1 if pushes else 2)]
    installed: list[Flow] = []
    for n in range(60):
        flow = replace(flow_of(rng, options, packets), flags=0)
        flow = replace(flow, priority=1000 - n)  # equal priorities are undefined there
        if comparable_flow(flow, pushes) and ovs.ofctl(
            "add-flow", "br0", for_ofctl(format_flow(flow)), check=False
        ):
            twin.apply([FlowMod(flow)])
            installed.append(flow)
    assert len(installed) > 5
    same(ovs, twin, packets, installed)


def same(ovs: Ovs, twin: Switch, packets: list[Arrival], installed: list[Flow]) -> None:
    """Both do the same to these packets."""
    for i, a in enumerate(packets):
        twin.process(a.data, a.in_port, a.ns, seq=i)
    got = ovs.send(packets)
    if got != twin.outputs:
        pytest.fail(explain(ovs, installed, packets, twin))


@pytest.mark.parametrize("seed", range(12))
def test_open_vswitch_agrees_on_conjunctions(ovs: Ovs, seed: int) -> None:
    """One conjunction per priority: which of several complete ones counts is undefined there. No
    ordinary flow with the match of a soft one: the second lookup there does not find it if its
    priority is lower."""
    rng = Random(seed)
    options = Options(
        learn=False, normal=False, timeouts=False, resubmit=False, conjunctions=True, tables=2
    )
    ovs.ofctl("del-flows", "br0")
    twin = Switch(PORTS)
    packets = [a for a in arrivals_of(rng, 40) if comparable_packet(a, 2)]
    wanted: list[Flow] = []
    installed: list[Flow] = []
    for n in range(100):
        flow = replace(flow_of(rng, options, packets), flags=0, priority=1000 - n)
        if dimensions_of(flow):
            number = rng.randrange(1, 4)
            dimension = act.Conjunction(number, rng.randrange(2) + 1, 2)
            todo = replace(flow.instructions, apply=(dimension,))
            flow = replace(flow, priority=1000 - 25 * number, instructions=todo)
        wanted.append(flow)
    soft = {(flow.table, flow.match) for flow in wanted if dimensions_of(flow)}
    for flow in wanted:
        if not dimensions_of(flow) and (flow.table, flow.match) in soft:
            continue
        if comparable_flow(flow, False) and ovs.ofctl(
            "add-flow", "br0", for_ofctl(format_flow(flow)), check=False
        ):
            twin.apply([FlowMod(flow)])
            installed.append(flow)
    assert any(flow.match.exact("conj_id") for flow in installed)
    same(ovs, twin, packets, installed)


def explain(ovs: Ovs, installed: list[Flow], packets: list[Arrival], old: Switch) -> str:
    """Which packet it was, one at a time."""
    for a in packets:
        twin = Switch(PORTS)
        twin.groups, twin.group_counts = old.groups, old.group_counts
        twin.apply([FlowMod(flow) for flow in installed])
        twin.process(a.data, a.in_port, a.ns)
        theirs = ovs.send([a])
        if theirs != twin.outputs:
            used = [format_flow(e.flow) for e in twin.entries if e.packets]
            shown = {
                name: {port: [d.hex() for d in out] for port, out in side.items()}
                for name, side in (("twin", twin.outputs), ("ovs ", theirs))
            }
            where = f"in_port={a.in_port} {a.data.hex()}"
            groups = [format_group(group) for group in old.groups.values()]
            return "\n".join([where, *map(str, shown.items()), *used, *groups])
    return "\n".join(["only together:", *(format_flow(flow) for flow in installed)])
