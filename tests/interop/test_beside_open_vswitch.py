"""The same ovs-ofctl commands to oko-switchd and to Open vSwitch, and what they print."""

from __future__ import annotations

import difflib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from waiting import wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agent"))
from ofctl import Ofctl, switch

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
needed = ("ovs-ofctl", "ovs-vsctl", "ovsdb-server", "ovsdb-tool", "ovs-vswitchd")
missing = [name for name in needed if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(
    bool(missing) or not SCHEMA.exists(),
    reason="Open vSwitch (openvswitch-switch) is not installed: no " + ", ".join(missing),
)

ALL = ("OpenFlow10", "OpenFlow13", "OpenFlow14")
NEW = ALL[1:]


class OpenVSwitch:
    """Debian's switch with a bridge br0 and two dummy ports, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._started: list[subprocess.Popen] = []
        subprocess.run(
            ["ovsdb-tool", "create", str(directory / "conf.db"), str(SCHEMA)], check=True
        )
        database = f"unix:{directory}/db.sock"
        self._start("ovsdb-server", f"{directory}/conf.db", f"--remote=p{database}",
                    f"--unixctl={directory}/db.ctl")  # fmt: skip
        self._until(directory / "db.sock")
        self._start("ovs-vswitchd", database, "--enable-dummy", "--disable-system",
                    f"--unixctl={directory}/switch.ctl")  # fmt: skip
        subprocess.run(
            ["ovs-vsctl", f"--db={database}", "--timeout=20", "--",
             "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy",
             "fail_mode=secure", "protocols=[OpenFlow10,OpenFlow13,OpenFlow14]", "--",
             "add-port", "br0", "port1", "--", "set", "interface", "port1", "type=dummy",
             "ofport_request=1", "--", "add-port", "br0", "port2", "--",
             "set", "interface", "port2", "type=dummy", "ofport_request=2"],
            check=True, env={"OVS_RUNDIR": str(directory), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        )  # fmt: skip
        self._until(directory / "br0.mgmt")

    def _start(self, *command: str) -> None:
        log = (self._directory / f"{command[0]}.log").open("wb")
        environment = {"OVS_RUNDIR": str(self._directory), "OVS_DBDIR": str(self._directory),
                       "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}  # fmt: skip
        self._started.append(
            subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self._directory)
        )
        log.close()

    def _until(self, path: Path) -> None:
        wait_until(path.exists, lambda: f"{path} does not appear")

    def close(self) -> None:
        """Ends both processes by their pids."""
        for started in reversed(self._started):
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(60)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Iterator[tuple[Path, Path]]:
    """Run directories: ours, and Open vSwitch's."""
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("beside")
        other = OpenVSwitch(directory / "ovs")
        stack.callback(other.close)
        ours = stack.enter_context(switch(directory))
        yield ours.run_dir, directory / "ovs"


def told(run_dir: Path, version: str, *command: str, stdin: str = "") -> list[str]:
    """What a command prints, without what changes from run to run, in an order of its own."""
    done = Ofctl(run_dir, version).run(*command, stdin=stdin)
    text = done.stdout + re.sub(r"unix:\S+|ovs-ofctl: |^\S+: ", "", done.stderr)
    text = re.sub(r"(duration|idle_age|hard_age)[=:][\d.]+s?,? ?", "", text)
    text = re.sub(r"\d{4}-\S+Z\|", "", text)
    text = re.sub(r"xid=0x[0-9a-f]+|addr:\S+|dpid:\S+", "", text)
    return [f"exit {done.returncode}", *sorted(line.rstrip() for line in text.splitlines())]


def same(both: tuple[Path, Path], version: str, script: Sequence[tuple[str, ...]]) -> None:
    """All commands print the same twice."""
    different = []
    for command in script:
        ours, theirs = (told(where, version, *command) for where in both)
        if ours != theirs:
            lines = difflib.unified_diff(theirs, ours, "Open vSwitch", "oko", lineterm="", n=0)
            different.append("\n".join([" ".join(command), *lines]))
    assert not different, "\n\n".join(different)


FLOWS = """
priority=7,ip,in_port=1,nw_src=10.0.0.0/8 actions=output:2
table=1,reg0=0x5/0xff,actions=drop
table=1,priority=9,tcp,tp_dst=80 actions=mod_dl_dst:00:11:22:33:44:55,output:1
idle_timeout=60,hard_timeout=900,cookie=0x77,priority=3,arp,arp_tpa=10.0.0.1,arp_op=1 actions=NORMAL
table=2,udp6,ipv6_dst=fe80::/10,actions=IN_PORT,CONTROLLER:96
table=2,icmp,icmp_type=8,nw_tos=0x20,actions=dec_ttl,resubmit(,3),FLOOD
table=3,dl_vlan=7,dl_vlan_pcp=3,actions=strip_vlan,LOCAL
table=3,dl_vlan=8,actions=mod_vlan_vid:9,output:1
table=3,vlan_tci=0x1007/0x1fff,actions=load:0x5->NXM_NX_REG1[0..7],move:NXM_OF_IN_PORT[]->NXM_NX_REG2[0..15],output:NXM_NX_REG2[]
table=4,mpls,mpls_label=77,actions=set_mpls_ttl(9),output:2
table=5,priority=1,actions=learn(table=6,idle_timeout=30,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),FLOOD
table=5,sctp,tp_src=5,actions=note:01.02.03.04.05.06,set_queue:3,output:1
table=6,dl_src=01:00:00:00:00:00/01:00:00:00:00:00,send_flow_rem,actions=controller(reason=no_match,max_len=20,id=3)
table=6,tun_id=0x55,metadata=0x10/0xf0,actions=ALL
table=7,ip,ip_frag=later,actions=mod_nw_dst:1.2.3.4,mod_nw_src:4.3.2.1,mod_nw_tos:16,output:2
table=7,udp,tp_dst=0x100/0xff00,actions=mod_tp_dst:5,mod_tp_src:6,output:2
table=7,tcp,tcp_flags=+syn-ack,actions=output(port=1,max_len=100)
"""
GROUPS = """
group_id=1,type=all,bucket=output:1,bucket=mod_dl_src:00:00:00:00:00:05,output:2
group_id=2,type=select,bucket=weight:3,output:1,bucket=weight:7,output:2
group_id=3,type=ff,bucket=watch_port:1,output:1,bucket=watch_port:2,output:2
group_id=4,type=indirect,bucket=group:1
"""
METERS = (
    "meter=1,kbps,band=type=drop,rate=100",
    "meter=2,pktps,burst,stats,band=type=drop,rate=10,burst_size=20",
)


@pytest.mark.parametrize("version", ALL)
def test_flows(both, tmp_path, version):
    file = tmp_path / "flows"
    file.write_text(FLOWS)
    new = version != "OpenFlow10"
    script: list[tuple[str, ...]] = [
        ("add-flows", "br0", str(file)),
        ("dump-flows", "br0"),
        ("dump-flows", "br0", "table=3"),
        ("dump-flows", "br0", "tcp"),
        ("dump-flows", "br0", "out_port=2"),
        ("dump-flows", "br0", "cookie=0x70/0xf0"),
        ("dump-aggregate", "br0", "table=7"),
        ("mod-flows", "br0", "cookie=0x77/-1,actions=drop" if new else "arp,actions=drop"),
        ("mod-flows", "br0", "priority=77,table=9,ip,actions=output:1"),
        ("--strict", "mod-flows", "br0", "table=3,dl_vlan=8,actions=output:2"),
        ("del-flows", "br0", "table=2,out_port=controller"),
        ("dump-flows", "br0"),
        ("del-flows", "br0", "cookie=0x77/-1"),
        ("--strict", "del-flows", "br0", "table=7,ip,ip_frag=later"),
        ("dump-flows", "br0"),
        ("replace-flows", "br0", str(file)),
        ("diff-flows", "br0", str(file)),
        ("dump-aggregate", "br0"),
        ("add-flow", "br0", "check_overlap,table=1,tcp,actions=drop"),
        ("add-flow", "br0", "check_overlap,table=1,priority=9,tcp,tp_src=4,actions=drop"),
        ("del-flows", "br0"),
        ("dump-flows", "br0"),
    ]
    if new:
        script[-2:-2] = [
            (
                "--bundle",
                "add-flow",
                "br0",
                "in_port=2,actions=write_actions(output:1),goto_table:3",
            ),
            (
                "add-flow",
                "br0",
                "in_port=1,actions=write_metadata:0x5/0xf,clear_actions,goto_table:1",
            ),
            ("add-flow", "br0", "table=5,actions=goto_table:5"),
            ("add-flow", "br0", "actions=group:99"),
            ("add-flow", "br0", "actions=meter:99,output:1"),
            ("--bundle", "add-flow", "br0", "actions=group:99"),
            ("dump-flows", "br0", "table=0"),
        ]
    same(both, version, script)


@pytest.mark.parametrize("version", NEW)
def test_groups_and_meters(both, tmp_path, version):
    file = tmp_path / "groups"
    file.write_text(GROUPS)
    script: list[tuple[str, ...]] = [
        ("add-groups", "br0", str(file)),
        ("dump-groups", "br0"),
        ("dump-groups", "br0", "2"),
        ("dump-group-stats", "br0"),
        ("add-group", "br0", "group_id=1,type=all,bucket=output:1"),
        ("mod-group", "br0", "group_id=9,type=all,bucket=output:1"),
        ("mod-group", "br0", "group_id=1,type=all,bucket=output:2"),
        ("--may-create", "mod-group", "br0", "group_id=9,type=all,bucket=output:1"),
        ("add-flow", "br0", "in_port=1,actions=group:1"),
        ("dump-group-stats", "br0", "group_id=1"),
        ("dump-groups", "br0"),
        ("del-groups", "br0", "group_id=1"),
        ("dump-flows", "br0"),
        ("del-groups", "br0"),
        ("dump-groups", "br0"),
        *[("add-meter", "br0", meter) for meter in METERS],
        ("add-meter", "br0", METERS[0]),
        ("dump-meters", "br0"),
        ("dump-meter", "br0", "meter=2"),
        ("mod-meter", "br0", "meter=1,pktps,band=type=drop,rate=7"),
        ("mod-meter", "br0", "meter=9,pktps,band=type=drop,rate=7"),
        ("dump-meter", "br0", "meter=9"),
        ("meter-stats", "br0"),
        ("add-flow", "br0", "actions=meter:1,output:2"),
        ("dump-flows", "br0"),
        ("del-meter", "br0", "meter=1"),
        ("dump-flows", "br0"),
        ("del-meters", "br0"),
        ("dump-meters", "br0"),
    ]
    same(both, version, script)


@pytest.mark.parametrize("version", ALL)
def test_ports_and_the_rest(both, version):
    script: list[tuple[str, ...]] = [
        ("get-frags", "br0"),
        ("dump-tables", "br0"),
        ("packet-out", "br0", "in_port=controller packet=" + "ff" * 12 + "0800 actions=output:1"),
        ("add-flow", "br0", "in_port=1,actions=output:70000"),
        ("add-flow", "br0", "conj_id=1,actions=move:NXM_OF_IN_PORT[]->NXM_OF_IP_TOS[]"),
    ]
    if version == "OpenFlow14":
        for setting in ("noevict", "evict", "vacancy:10,90", "noevict", "novacancy"):
            script.append(("mod-table", "br0", "0", setting))
            script.append(("dump-table-desc", "br0"))
    same(both, version, script)
