"""Debian's ovs-ofctl drives oko-switchd without knowing anything about oko."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from ofctl import Ofctl, needs_ovs_ofctl, switch
from waiting import wait_until

pytestmark = needs_ovs_ofctl

FLOWS = {
    "OpenFlow10": [
        "priority=7,ip,in_port=1,nw_src=10.0.0.0/8 actions=output:2",
        "reg0=0x5 actions=drop",
        "table=3, tcp,tp_dst=80 actions=mod_vlan_vid:5,output:1,resubmit(,4)",
    ],
    "OpenFlow13": [
        "priority=7,ip,in_port=1,nw_src=10.0.0.0/8 actions=output:2",
        "reg0=0x5 actions=drop",
        "table=3, tcp,tp_dst=80 actions=push_vlan:0x8100,set_field:4101->vlan_vid,goto_table:4",
    ],
}
FLOWS["OpenFlow14"] = FLOWS["OpenFlow13"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with switch(tmp_path_factory.mktemp("ofctl")) as there:
        yield there.run_dir
    assert not [line for line in there.log() if " error " in line]


@pytest.fixture(params=["OpenFlow10", "OpenFlow13", "OpenFlow14"])
def ofctl(request: pytest.FixtureRequest, run_dir) -> Iterator[Ofctl]:
    command = Ofctl(run_dir, request.param)
    yield command
    command("del-flows", "br0")


def test_show(ofctl):
    text = ofctl("show", "br0")
    assert "n_tables:254" in text
    assert " 1(port1): addr:02:" in text and " LOCAL(br0): addr:02:" in text
    assert "frags=normal miss_send_len=0" in text


def test_flows_come_back_as_they_were_added(ofctl):
    flows = FLOWS[ofctl.version]
    for flow in flows:
        ofctl(
            "add-flow", "br0", flow.replace(" actions", ",actions").replace("table=3, ", "table=3,")
        )
    got = [line.removeprefix("table=0, ").replace(" table", "table") for line in ofctl.flows()]
    assert sorted(got) == sorted(flows)
    assert ofctl("dump-aggregate", "br0").endswith("flow_count=3\n")
    ofctl("del-flows", "br0", "tcp")
    assert len(ofctl.flows()) == 2
    ofctl("--strict", "del-flows", "br0", "priority=7,ip,in_port=1,nw_src=10.0.0.0/8")
    assert [line for line in ofctl.flows() if "reg0" in line] == ofctl.flows()


def test_conjunctions(ofctl):
    flows = [
        "priority=10,ip,nw_src=10.0.0.1 actions=conjunction(1,1/2),conjunction(4294967295,64/64)",
        "priority=10,ip,nw_dst=10.0.0.2 actions=conjunction(1,2/2)",
        "priority=9,conj_id=1,ip actions=output:2",
    ]
    for flow in flows:
        ofctl("add-flow", "br0", flow.replace(" actions", ",actions"))
    got = [line.strip().removeprefix("table=0, ") for line in ofctl.flows()]
    assert sorted(got) == sorted(flows)
    ofctl("mod-flows", "br0", "ip,actions=output:1")
    assert not any("conjunction" in line for line in ofctl.flows())
    ofctl("--strict", "del-flows", "br0", "priority=9,ip,conj_id=1")
    assert len(ofctl.flows()) == 2


def test_a_refused_flow_says_why(ofctl):
    done = ofctl.run("add-flow", "br0", "actions=group:99" if ofctl.version != "OpenFlow10"
                     else "actions=multipath(eth_src,50,modulo_n,1,0,reg0[])")  # fmt: skip
    assert done.returncode == 1
    assert "OFPBAC_BAD_OUT_GROUP" in done.stderr or "OFPB" in done.stderr
    assert ofctl.flows() == []


def test_counters(ofctl):
    assert "3 ports" in ofctl("dump-ports", "br0")
    assert "1 ports" in ofctl("dump-ports", "br0", "2")
    tables = ofctl("dump-tables", "br0")
    assert "active=0" in tables and tables.count("table 0:") == 1
    assert tables.endswith("tables 1...253: ditto\n"), tables
    assert "0 queues" in ofctl("queue-stats", "br0")
    ofctl("ping", "br0")


def test_ports_change(ofctl):
    ofctl("mod-port", "br0", "1", "down")
    ofctl("mod-port", "br0", "1", "no-packet-in")
    text = ofctl("dump-ports-desc", "br0")
    assert "PORT_DOWN NO_PACKET_IN" in text
    ofctl("mod-port", "br0", "1", "up")
    ofctl("mod-port", "br0", "1", "packet-in")
    assert "PORT_DOWN" not in ofctl("dump-ports-desc", "br0")


def test_packet_out_is_counted_at_its_port(ofctl):
    before = ofctl("dump-ports", "br0", "2")
    ofctl("packet-out", "br0", "in_port=controller packet=" + "ff" * 12 + "0800" + "00" * 46
          + " actions=output:2")  # fmt: skip
    after = ofctl("dump-ports", "br0", "2")

    def sent(text: str) -> int:
        return int(text.split("tx pkts=")[1].split(",")[0])

    assert sent(after) == sent(before) + 1


@pytest.mark.parametrize("version", ["OpenFlow13", "OpenFlow14"])
def test_groups_and_meters(run_dir, version):
    ofctl = Ofctl(run_dir, version)
    ofctl("add-group", "br0", "group_id=1,type=all,bucket=output:1,bucket=output:2")
    assert "group_id=1,type=all,bucket=actions=output:1" in ofctl("dump-groups", "br0")
    assert "bucket1:packet_count=0" in ofctl("dump-group-stats", "br0")
    assert "Types:  0xf" in ofctl("dump-group-features", "br0")
    ofctl("del-groups", "br0")
    ofctl("add-meter", "br0", "meter=1,kbps,band=type=drop,rate=100")
    assert "type=drop rate=100" in ofctl("dump-meters", "br0")
    assert "meter:1 flow_count:0" in ofctl("meter-stats", "br0")
    assert "max_bands:255" in ofctl("meter-features", "br0")
    ofctl("del-meters", "br0")
    assert "meter=1" not in ofctl("dump-meters", "br0")


@pytest.mark.parametrize("version", ["OpenFlow13", "OpenFlow14"])
def test_a_bundle_is_in_force_whole_or_not_at_all(run_dir, version, tmp_path):
    ofctl = Ofctl(run_dir, version)
    ofctl("--bundle", "add-flow", "br0", "in_port=1,actions=output:2")
    assert ofctl.flows() == ["table=0, in_port=1 actions=output:2"]
    file = tmp_path / "flows"
    file.write_text("in_port=2,actions=output:1\nin_port=3,actions=group:77\n")
    done = ofctl.run("--bundle", "add-flows", "br0", str(file))
    assert done.returncode == 1
    assert "OFPBAC_BAD_OUT_GROUP" in done.stderr and "OFPBFC_MSG_FAILED" in done.stderr
    assert ofctl.flows() == ["table=0, in_port=1 actions=output:2"]
    file.write_text("delete\nin_port=2,actions=output:1\nmodify in_port=2,actions=drop\n")
    ofctl("--bundle", "add-flows", "br0", str(file))
    assert ofctl.flows() == ["table=0, in_port=2 actions=drop"]
    file.write_text("in_port=7,actions=output:1\n")
    ofctl("--bundle", "replace-flows", "br0", str(file))
    assert ofctl.flows() == ["table=0, in_port=7 actions=output:1"]
    ofctl("del-flows", "br0")


def test_table_settings_of_1_4(run_dir):
    ofctl = Ofctl(run_dir, "OpenFlow14")
    try:
        ofctl("mod-table", "br0", "3", "evict")
        ofctl("mod-table", "br0", "3", "vacancy:20,80")
        told = ofctl("dump-table-desc", "br0").split("\n\n")[3]
        assert "eviction=on eviction_flags=OTHER|IMPORTANCE|LIFETIME" in told
        assert "vacancy=on vacancy_down=20% vacancy_up=80% vacancy=100%" in told
        ofctl("mod-table", "br0", "all", "noevict")
        assert "eviction=on" not in ofctl("dump-table-desc", "br0")
        refused = ofctl.run("mod-table", "br0", "3", "vacancy:80,20")
        assert refused.returncode == 1
    finally:
        ofctl("mod-table", "br0", "3", "novacancy")
    assert "vacancy=on" not in ofctl("dump-table-desc", "br0")
    assert "0 queues" not in ofctl("queue-get-config", "br0")


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    state = ("--state-dir", str(tmp_path / "state"))
    with switch(tmp_path, *state) as there:
        ofctl = Ofctl(there.run_dir, "OpenFlow13")
        ofctl("add-group", "br0", "group_id=1,type=all,bucket=output:1,bucket=output:2")
        ofctl("add-meter", "br0", "meter=1,kbps,band=type=drop,rate=100")
        ofctl("add-flow", "br0", "priority=7,cookie=0x5,in_port=1,hard_timeout=900,actions=group:1")
        ofctl("add-flow", "br0", "priority=8,in_port=2,actions=output:1")
        ofctl("--strict", "del-flows", "br0", "priority=8,in_port=2")
        ofctl("mod-port", "br0", "2", "no-forward")
        said = [ofctl(f"dump-{what}", "br0") for what in ("groups", "meters", "ports-desc")]
        flows = ofctl.flows()
        there.process.kill()
        there.process.wait()
    with switch(tmp_path, *state) as there:
        ofctl = Ofctl(there.run_dir, "OpenFlow13")
        assert ofctl.flows() == flows and len(flows) == 1
        assert said == [ofctl(f"dump-{what}", "br0") for what in ("groups", "meters", "ports-desc")]


@pytest.mark.parametrize("version", ["OpenFlow10", "OpenFlow13", "OpenFlow14"])
def test_monitor_shows_packets(run_dir, version, tmp_path):
    ofctl = Ofctl(run_dir, version)
    out = tmp_path / "out"
    with out.open("wb") as file:
        watching = subprocess.Popen(
            ["ovs-ofctl", "-O", version, "monitor", "br0", "65534"],
            env=os.environ | {"OVS_RUNDIR": str(run_dir)}, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        frame = "ffffffffffff0000000000010800" + "00" * 46

        def heard() -> bool:
            ofctl("packet-out", "br0", f"in_port=1 packet={frame} actions=controller(max_len=40)")
            return "packet_in" in out.read_text().lower()

        wait_until(heard, out.read_text, every=0.1)
    finally:
        watching.terminate()
        watching.wait(60)
    text = out.read_text()
    assert "total_len=60 in_port=1 (via action) data_len=40 (unbuffered)" in text, text
    assert "dl_src=00:00:00:00:00:01" in text
    assert "NXT_PACKET_IN" in text or version != "OpenFlow10"


def test_1_5_where_it_is_asked_for(tmp_path):
    with switch(tmp_path, "--protocols", "OpenFlow15") as there:
        ofctl = Ofctl(there.run_dir, "OpenFlow15")
        assert "n_tables:254" in ofctl("show", "br0")
        for flow in FLOWS["OpenFlow13"]:
            text = flow.replace(" actions", ",actions").replace("table=3, ", "table=3,")
            ofctl("add-flow", "br0", text)
        assert len(ofctl.flows()) == 3
        ofctl("add-group", "br0", "group_id=1,type=select,bucket=weight:5,output:1")
        assert "weight:5" in ofctl("dump-groups", "br0")
        ofctl("--bundle", "add-flow", "br0", "priority=3,actions=group:1")
        assert ofctl("dump-aggregate", "br0").endswith("flow_count=4\n")
        frame = "ff" * 12 + "0800" + "00" * 46
        ofctl("packet-out", "br0", f"in_port=controller packet={frame} actions=output:2")
        assert "tx pkts=1" in ofctl("dump-ports", "br0", "2")
        refused = Ofctl(there.run_dir, "OpenFlow13").run("show", "br0")
        assert refused.returncode == 1 and "version" in refused.stderr
