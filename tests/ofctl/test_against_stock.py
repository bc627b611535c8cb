"""oko-ofctl does and prints what Debian's ovs-ofctl does and prints, at the same switch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from stock import open_stock, plain
from waiting import wait_until

from oko.model.compose import compose
from oko.model.flow import DELETE
from oko.ofctl import changes
from oko.openflow.common import OF10, OF13, OF14, encode_error, encode_multipart, message
from oko.text import parse_flow, parse_flow_mod

VERSIONS = ("OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15")
FLOWS = """\
priority=10,in_port=1,tcp,tp_dst=80,idle_timeout=100,cookie=0x12,actions=output:2
table=1,ip,nw_src=10.0.0.0/8,hard_timeout=60,actions=resubmit(,2)
table=2,priority=5,arp,arp_op=1,actions=CONTROLLER:128
table=2,priority=6,dl_vlan=5,dl_vlan_pcp=3,actions=strip_vlan,NORMAL
table=2,ipv6,ipv6_dst=2001:db8::/32,actions=drop  # a comment
table=3,priority=1,actions=output:1,output:2,FLOOD
table=3,reg0=0x5/0xff,actions=move:NXM_NX_REG0[0..7]->NXM_NX_REG1[8..15],output:NXM_NX_REG0[]
table=4,ip,actions=load:0->NXM_NX_REG0[],load:5->NXM_NX_REG0[3..7],mod_dl_src:02:00:00:00:00:01,mod_vlan_vid:5,mod_nw_tos:4,mod_nw_src:10.0.0.1,enqueue:1:2,output:1
table=4,arp,actions=set_field:10.0.0.1->arp_spa,set_field:02:00:00:00:00:01->arp_sha,note:00.01
table=4,udp,actions=mod_tp_dst:53,mod_dl_dst:02:00:00:00:00:02,LOCAL,IN_PORT
table=4,icmp,icmp_type=8,actions=learn(table=5,idle_timeout=10,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])

"""


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    yield from open_stock(tmp_path_factory)


@pytest.fixture(params=VERSIONS)
def of(request):
    return request.param


@pytest.fixture
def flows(stock, of):
    """The flows above, added by oko-ofctl in the version they are read in (1.0 keeps its own forms
    of actions, which Open vSwitch then shows in later versions too)."""
    stock.ovs("del-flows", "br0")
    done = stock.oko("-O", of, "add-flows", "br0", "-", stdin=FLOWS)
    assert (done.status, done.out, done.err) == (0, "", "")
    yield stock
    stock.ovs("del-flows", "br0")


READING = (
    "show", "dump-desc", "dump-tables", "dump-flows", "dump-aggregate", "dump-ports",
    "dump-ports-desc", "queue-stats", "get-frags",
)  # fmt: skip


@pytest.mark.parametrize("command", READING)
def test_reading(flows, of, command):
    flows.same("-O", of, command, "br0")


@pytest.mark.parametrize("of", ["OpenFlow10"])
def test_without_version_as_ovs_ofctl(flows):
    text = flows.same("dump-flows", "br0")
    assert text.startswith("NXST_FLOW reply (xid=") and len(text.splitlines()) == 12


@pytest.mark.parametrize(
    "arguments",
    [
        ("--no-stats",), ("--sort",), ("--rsort",), ("--sort=tp_dst",), ("--rsort=priority",),
        ("--names", "--no-stats"), ("--no-names",), ("table=2",), ("ip",), ("in_port=1",),
        ("cookie=0x12/-1",), ("out_port=2",), ("table=77",),
    ],
)  # fmt: skip
@pytest.mark.parametrize("of", ["OpenFlow10", "OpenFlow13"])
def test_dump_flows_options(flows, of, arguments):
    flows.same("-O", of, "dump-flows", "br0", *arguments)


@pytest.mark.parametrize("of", ["OpenFlow13"])
def test_dump_flows_json(flows):
    found = json.loads(flows.oko("dump-flows", "br0", "--json").out)["flows"]
    assert len(found) == 11
    (first,) = [flow for flow in found if flow["cookie"] == 0x12]
    assert first["match"] == "tcp,in_port=1,tp_dst=80"
    assert first["actions"] == "output:2"
    assert first["idle_timeout"] == 100 and first["duration"] < 60


@pytest.mark.parametrize("of", VERSIONS)
def test_changes(stock, of):
    """The same commands by either tool lead to the same flows."""
    commands = [
        ("add-flow", "table=1,priority=7,tcp,tp_dst=80,cookie=0x77,actions=output:2"),
        ("add-flow", "table=1,priority=8,tcp,tp_dst=80,cookie=0x78,actions=output:2"),
        ("add-flow", "table=2,priority=7,udp,actions=output:1"),
        ("add-flow", "priority=3,send_flow_rem,idle_timeout=30,in_port=LOCAL,actions=NORMAL"),
        ("mod-flows", "table=1,tcp,actions=output:1"),
        ("mod-flows", "cookie=0x78/-1,actions=drop"),
        ("--strict", "mod-flows", "table=2,priority=7,udp,actions=output:2"),
        ("--strict", "del-flows", "table=1,priority=7,tcp,tp_dst=80"),
        ("del-flows", "in_port=LOCAL"),
    ]
    dumps = []
    for tool in (stock.ovs, stock.oko):
        stock.ovs("del-flows", "br0")
        steps = []
        for *options, flow in commands:
            done = tool("-O", of, *options, "br0", flow)
            assert (done.status, done.out, done.err) == (0, "", ""), (options, flow, done)
            steps.append(plain(stock.ovs("-O", of, "dump-flows", "br0", "--sort").out))
        dumps.append(steps)
    assert dumps[0] == dumps[1]
    assert len(dumps[0][-1].splitlines()) == 2


def test_needs_a_later_version_and_takes_it(stock):
    stock.ovs("del-flows", "br0")
    done = stock.oko("add-flow", "br0", "table=1,arp,actions=write_actions(output:1),goto_table:2")
    assert done == stock.oko("del-flows", "br0", "table=9")
    text = stock.ovs("-O", "OpenFlow13", "dump-flows", "br0", "--no-stats").out
    assert text == " table=1, arp actions=write_actions(output:1),goto_table:2\n"


@pytest.mark.parametrize("of", ["OpenFlow13", "OpenFlow14", "OpenFlow15"])
def test_a_bundle_is_all_or_nothing(stock, of):
    stock.ovs("del-flows", "br0")
    good = "priority=1,actions=drop\npriority=2,actions=output:2\n"
    done = stock.oko("-O", of, "--bundle", "add-flows", "br0", "-", stdin=good)
    assert (done.status, done.err) == (0, "")
    bad = "priority=3,actions=drop\npriority=4,actions=group:77\n"
    done = stock.oko("-O", of, "--bundle", "add-flows", "br0", "-", stdin=bad)
    assert done.status == 1
    assert "OFPBAC_BAD_OUT_GROUP" in done.err and "ADD priority=4 actions=group:77" in done.err
    text = stock.ovs("dump-flows", "br0", "--no-stats", "--sort").out
    assert text == " priority=1 actions=drop\n priority=2 actions=output:2\n"


def test_a_refusal_says_which_message_and_why(stock):
    stock_said = stock.ovs("-O", "OpenFlow13", "add-flow", "br0", "actions=group:77")
    done = stock.oko("-O", "OpenFlow13", "add-flow", "br0", "actions=group:77")
    assert done.status == stock_said.status == 1
    assert plain(done.err) == plain(stock_said.err)


def test_stock_does_not_know_filters(stock):
    done = stock.oko("add-flow", "br0", "filter_prog=1,actions=drop")
    assert done.status == 1 and "OFPBMC_BAD_FIELD" in done.err
    done = stock.oko("show-filter-prog", "br0")
    assert done.status == 1 and "does not know filter programs" in done.err


def test_mod_port(stock):
    for act, shown in (
        ("down", "PORT_DOWN"),
        ("up", "0"),
        ("no-flood", "NO_FLOOD"),
        ("flood", "0"),
    ):
        done = stock.oko("mod-port", "br0", "p1", act)
        assert (done.status, done.out, done.err) == (0, "", "")
        stock.same("dump-ports-desc", "br0")
        (_, name, config, *_) = stock.oko("dump-ports-desc", "br0", "p1").out.splitlines()
        assert "(p1)" in name and config == f"     config:     {shown}"
    done = stock.oko("mod-port", "br0", "p7", "up")
    assert done.status == 1 and "couldn't find port `p7'" in done.err
    assert "there are 1 p1, 2 p2, LOCAL br0" in done.err


def test_names_of_ports_in_flows(stock):
    stock.ovs("del-flows", "br0")
    assert stock.oko("add-flow", "br0", "in_port=p1,actions=output:p2").status == 0
    assert stock.same("dump-flows", "br0", "--no-stats") == " in_port=1 actions=output:2\n"
    stock.same("dump-flows", "br0", "--names")


@pytest.fixture
def groups(stock):
    """Groups and meters of all kinds, added by oko-ofctl."""
    commands = [
        ("add-group", "group_id=1,type=select,bucket=weight:5,output:1,bucket=weight:2,output:2"),
        ("add-group", "group_id=2,type=all"),
        ("add-group", "group_id=3,type=ff,bucket=watch_port:1,actions=output:1"),
        ("add-group", "group_id=4,type=indirect,bucket=mod_dl_src:02:00:00:00:00:01,output:2"),
        ("add-meter", "meter=1,kbps,burst,stats,bands=type=drop,rate=1000,burst_size=100"),
        ("add-meter", "meter=2,pktps,bands=type=drop,rate=5"),
    ]  # fmt: skip
    for command, text in commands:
        done = stock.oko(command, "br0", text)
        assert (done.status, done.out, done.err) == (0, "", ""), (text, done)
    yield stock
    for command in ("del-groups", "del-meters"):
        assert stock.oko(command, "br0").status == 0
    assert stock.ovs("-O", "OpenFlow13", "dump-groups", "br0").out.count("\n") == 1


GROUP_COMMANDS = (
    "dump-groups", "dump-group-stats", "dump-group-features", "dump-meters", "meter-stats",
    "meter-features",
)  # fmt: skip


@pytest.mark.parametrize("of", ["OpenFlow13", "OpenFlow14", "OpenFlow15"])
@pytest.mark.parametrize("command", GROUP_COMMANDS)
def test_reading_groups_and_meters(groups, of, command):
    groups.same("-O", of, command, "br0")


def test_changing_groups_and_meters(groups):
    own = groups.oko
    assert own("mod-group", "br0", "group_id=2,type=all,bucket=output:1").status == 0
    assert own("--may-create", "mod-group", "br0", "group_id=9,type=all").status == 0
    assert own("del-groups", "br0", "group_id=3").status == 0
    assert own("mod-meter", "br0", "meter=2,pktps,bands=type=drop,rate=6").status == 0
    assert own("del-meters", "br0", "meter=1").status == 0
    lines = groups.same("-O", "OpenFlow13", "dump-groups", "br0").splitlines()
    assert sorted(line.split(",")[0] for line in lines[1:]) == [
        " group_id=1", " group_id=2", " group_id=4", " group_id=9",
    ]  # fmt: skip
    assert "rate=6" in groups.same("-O", "OpenFlow13", "dump-meters", "br0")
    done = own("add-group", "br0", "group_id=1,type=all")
    assert done.status == 1 and "OFPGMFC_GROUP_EXISTS" in done.err
    one = json.loads(own("dump-groups", "br0", "4", "--json").out)["groups"]
    assert [group["type"] for group in one] == ["indirect"]
    assert "actions=mod_dl_src" not in one[0]["buckets"][0]["actions"]
    found = json.loads(own("meter-stats", "br0", "2", "--json").out)["meters"]
    assert found[0]["bands"] == [{"n_packets": 0, "n_bytes": 0}]


OTHER = """\
priority=10,in_port=1,tcp,tp_dst=80,idle_timeout=100,cookie=0x13,actions=output:2
table=1,ip,nw_src=10.0.0.0/8,hard_timeout=60,actions=resubmit(,2)
table=2,priority=5,arp,arp_op=1,actions=CONTROLLER:128
priority=77,udp,hard_timeout=5,actions=output:1,output:2
"""


def test_diff_and_replace_flows(stock, tmp_path):
    file = tmp_path / "other"
    file.write_text(OTHER)
    stock.ovs("del-flows", "br0")
    stock.oko("add-flows", "br0", "-", stdin=FLOWS)
    for words in (("br0", str(file)), (str(file), "br0")):
        theirs, own = stock.ovs("diff-flows", *words), stock.oko("diff-flows", *words)
        assert theirs.status == own.status == 2
        assert sorted(theirs.out.splitlines()) == sorted(own.out.splitlines())
    found = json.loads(stock.oko("diff-flows", "br0", str(file), "--json").out)["differences"]
    # The flow that changed its cookie is two lines, but one difference.
    assert len(found) == len({line[1:].split(" actions")[0] for line in own.out.splitlines()}) - 1
    (same,) = (pair for pair in found if pair["first"] and pair["second"])
    assert (same["first"]["cookie"], same["second"]["cookie"]) == (0x12, 0x13)
    changes = stock.oko("replace-flows", "br0", str(file))
    assert (changes.status, changes.out, changes.err) == (0, "", "")
    done = stock.oko("diff-flows", "br0", str(file))
    assert (done.status, done.out) == (0, "")
    assert stock.ovs("diff-flows", "br0", str(file)).status == 0
    assert stock.oko("-O", "OpenFlow14", "--bundle", "replace-flows", "br0", str(file)).status == 0
    assert len(stock.ovs("dump-flows", "br0").out.splitlines()) == 5


def test_what_diff_flows_takes_for_a_file(stock, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stock.oko("del-flows", "br0")
    stock.oko("add-flow", "br0", "tcp,actions=drop")
    (tmp_path / "saved").write_text("tcp,actions=drop\n")
    for word in ("/dev/null", "saved", "./saved", str(tmp_path / "saved"), "./nosuch", "nosuch",
                 "unix:/nosuch"):  # fmt: skip
        theirs, own = stock.ovs("diff-flows", "br0", word), stock.oko("diff-flows", "br0", word)
        assert own.status == theirs.status and own.out == theirs.out, (word, own, theirs)
        if theirs.status == 1:
            assert word in own.err or "/nosuch" in own.err


FRAMES = [
    "udp,nw_src=1.2.3.4,nw_dst=5.6.7.8,nw_ttl=9,tp_src=1,tp_dst=2",
    "arp,arp_op=1,arp_spa=1.2.3.4,arp_tpa=4.3.2.1",
    "icmp,icmp_type=8,icmp_code=0",
    "dl_vlan=5,dl_vlan_pcp=3,ip,nw_proto=99,nw_tos=8",
    "tcp6,ipv6_src=::1,ipv6_dst=fe80::5,tp_dst=9,tcp_flags=+ack+psh,ipv6_label=5",
    "icmp6,icmp_type=135,nd_target=fe80::1",
    "dl_type=0x88cc", "dl_type=0x05ff", "udp6,tp_dst=9", "sctp,tp_src=3", "mpls,mpls_label=7",
    "ip,nw_frag=later",
]  # fmt: skip


@pytest.mark.parametrize("of", ["OpenFlow10", "OpenFlow13", "OpenFlow14"])
def test_monitor_and_packet_out(stock, of, tmp_path):
    """Both tools watch while oko-ofctl sends packets out, and a port and a flow change."""
    stock.ovs("del-flows", "br0")
    environment = os.environ | {"OVS_RUNDIR": str(stock.folder)}
    watchers = []
    for command in (["ovs-ofctl"], [sys.executable, "-m", "oko.ofctl.main"]):
        out = (tmp_path / str(len(watchers))).open("w+")
        watcher = subprocess.Popen(
            [*command, "-O", of, "monitor", "br0", "65534"],
            stdout=out, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
        watchers.append((watcher, out))
    try:
        mark = "ff" * 6 + "00" * 50  # until both have heard this

        def heard(text: str) -> bool:
            return all(text in (tmp_path / str(i)).read_text() for i in (0, 1))

        def marked() -> bool:
            assert stock.oko("packet-out", "br0", "1", "CONTROLLER", mark).status == 0
            return heard("dl_dst=ff:ff")

        wait_until(marked, every=0.05)
        frames = [compose(parse_flow(f"{flow},actions=drop").match)[1] for flow in FRAMES]
        for frame in frames:
            done = stock.oko("-O", of, "packet-out", "br0", "2", "CONTROLLER,output:1", frame.hex())
            assert (done.status, done.out, done.err) == (0, "", "")
        text = f"in_port=LOCAL packet={frames[0].hex()} actions=CONTROLLER"
        assert stock.oko("-O", of, "packet-out", "br0", text).status == 0
        for act in ("down", "up"):
            stock.oko("mod-port", "br0", "p2", act)
        stock.oko("add-flow", "br0", "priority=9,tcp,send_flow_rem,cookie=5,actions=drop")
        stock.oko("del-flows", "br0", "tcp")
        wait_until(lambda: heard("FLOW_REMOVED"))
        texts = [(tmp_path / str(i)).read_text() for i in (0, 1)]
    finally:
        for watcher, out in watchers:
            watcher.terminate()
            watcher.wait(60)
            out.close()
    theirs, own = (
        re.sub(r"duration[0-9.]+s", "duration*", text)[text.index("in_port=2") :] for text in texts
    )
    theirs = re.sub(r"^20.*terminating.*\n", "", theirs, flags=re.M)
    assert own.count("\n") >= 26 and "in_port=LOCAL" in own and "PORT_DOWN" in own
    assert own == theirs


@pytest.mark.parametrize("of", ["OpenFlow10", "OpenFlow13"])
def test_flows_that_are_not_known_are_left_out_and_told(stock, of):
    stock.ovs("del-flows", "br0")
    stock.ovs("add-flow", "br0", "priority=1,tcp,actions=ct(table=1)")
    stock.ovs("add-flow", "br0", "priority=2,ct_state=+trk,tcp,actions=drop")
    stock.ovs("add-flow", "br0", "priority=3,udp,actions=drop")
    for options in ((), ("--sort",), ("--json",)):
        done = stock.oko("-O", of, "dump-flows", "br0", *options)
        assert done.status == 1 and "udp" in done.out and "tcp" not in done.out
        assert done.err.startswith("oko-ofctl: 2 flows are left out: "), done.err
    done = stock.oko("-O", of, "diff-flows", "br0", "br0")
    assert done.status == 1 and "left out" in done.err
    stock.ovs("del-flows", "br0")


def test_print_error(stock):
    text = stock.oko("print-error", "OFPBMC_BAD_FIELD").out
    assert "OpenFlow 1.3: type 4, code 6\n" in text
    assert "OpenFlow 1.0: vendor 0x2320, type 0, code 263\n" in text
    found = json.loads(stock.oko("print-error", "OFPBRC_EPERM", "--json").out)["versions"]
    assert found["1.0"] == {"experimenter": 0, "type": 1, "code": 5}
    assert "unknown error" in stock.oko("print-error", "OFPNO").err


def test_ping_probe_and_benchmark(stock):
    shape = [re.sub(r"time=[0-9.]+", "time=*", tool("ping", "br0", "100").out).splitlines()
             for tool in (stock.ovs, stock.oko)]  # fmt: skip
    assert len(shape[0]) == len(shape[1]) == 10
    assert re.sub("xid=[0-9a-f]+", "", shape[0][0]) == re.sub("xid=[0-9a-f]+", "", shape[1][0])
    times = json.loads(stock.oko("ping", "br0", "--count=3", "--json").out)
    assert times["bytes"] == 64 and len(times["milliseconds"]) == 3
    assert stock.oko("probe", "br0").status == 0
    text = stock.oko("benchmark", "br0", "10", "20").out
    assert text.startswith("Sending 20 packets * 18 bytes (with header) = 360 bytes total\n")


def test_ofp_parse(stock, tmp_path):
    """Messages made by this package, printed by both tools."""
    messages = b"".join(
        changes.encode(version, mod)
        for version in (OF10, OF13, OF14)
        for mod in (
            parse_flow_mod("priority=3,tcp,tp_dst=80,cookie=1,actions=output:1"),
            parse_flow_mod("in_port=1,idle_timeout=5,hard_timeout=6,actions=drop"),
            parse_flow_mod("tcp", DELETE),
        )
    )
    messages += message(OF13, 2, 7, b"ab") + message(OF10, 3, 9) + message(OF13, 5, 1)
    messages += encode_multipart(OF13, 3, 13) + message(OF14, 20, 4)
    for version in (1, 4, 5):
        messages += message(version, 0, 1, bytes.fromhex("0001000800000052"))
        messages += encode_error(version, 6, "OFPBRC_EPERM", message(version, 5, 6))
    file = tmp_path / "messages"
    file.write_bytes(messages)
    text = stock.same("ofp-parse", str(file))
    found = json.loads(stock.oko("ofp-parse", str(file), "--json").out)["messages"]
    assert "\n".join(message["text"] for message in found) + "\n" == text
    assert found[0]["message"] == "OFPT_FLOW_MOD" and found[0]["version"] == 1
    done = stock.oko("ofp-parse", "/nonexistent")
    assert done.status == 1 and "open failed" in done.err
    file.write_bytes(messages[:-3])
    assert "no whole OpenFlow message" in stock.oko("ofp-parse", str(file)).err


WRONG = [
    ((), "missing command name; use --help for help"),
    (("nosuch",), "unknown command 'nosuch'; use --help for help"),
    (("add-flow", "br0"), "'add-flow' command requires at least 2 arguments"),
    (("dump-flows", "br0", "ip", "tcp"), "'dump-flows' command takes at most 2 arguments"),
    (("dump-flows", "nosuch"), "nosuch is not a bridge or a socket"),
    (("probe", "tcp:127.0.0.1:1"), "connecting to tcp:127.0.0.1:1 (Connection refused)"),
    (("packet-out", "br0", "1", "output:2", "00"), "Packet data too short for Ethernet"),
    (("mod-port", "br0", "p1", "fly"), "unknown mod-port command 'fly'"),
]


@pytest.mark.parametrize(("arguments", "text"), WRONG)
def test_mistakes_as_ovs_ofctl(stock, arguments, text):
    assert stock.ovs(*arguments).err.strip() == f"ovs-ofctl: {text}"
    done = stock.oko(*arguments)
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[0] == f"oko-ofctl: {text}"


OWN_WRONG = [
    (("--nosuch", "show", "br0"), "option '--nosuch' is unrecognized"),
    (("-O", "OpenFlow99", "show", "br0"), "OpenFlow99: unknown OpenFlow version"),
    (("add-flow", "br0", "tcp,foo=1,actions=drop"), 'unknown field "foo"'),
    (("add-flow", "br0", "tcp"), "must specify an action"),
    (("add-flows", "br0", "/nonexistent"), "/nonexistent: open failed"),
    (("--json", "add-flow", "br0", "actions=drop"), "'add-flow' has no JSON form"),
    (("--sort=nosuch", "dump-flows", "br0"), "nosuch: unknown field name"),
    (("load-filter-prog", "br0", "70000", "x.o"), "70000: a program's number is 0 to 65535"),
    (("load-filter-prog", "br0", "1", "/nonexistent"), "/nonexistent: open failed"),
]


@pytest.mark.parametrize(("arguments", "text"), OWN_WRONG)
def test_mistakes(stock, arguments, text):
    done = stock.oko(*arguments)
    assert (done.status, done.out) == (1, "")
    assert text in done.err and done.err.startswith("oko-ofctl: ")


def test_a_long_option_may_be_shortened(stock):
    assert stock.oko("dump-flows", "br0", "--no-st").status == 0
    done = stock.oko("dump-flows", "br0", "--no")
    assert done.status == 1 and "ambiguous" in done.err
