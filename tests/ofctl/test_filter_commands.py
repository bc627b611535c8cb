"""Filter programs and maps by oko-ofctl, against a real oko-switchd; Oko's README session."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from stock import oko, plain

from oko.bpf import layouts
from oko.errors import OkoError
from oko.openflow import extension
from oko.openflow.client import RefusedError
from oko.openflow.common import OF13

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "switch"))
from switchd_process import Switchd

ROOT = Path(__file__).resolve().parents[2]
FIREWALL = str(ROOT / "examples" / "bpf" / "stateless_firewall.o")
RATE_LIMITER = str(ROOT / "examples" / "bpf" / "rate_limiter.o")
SYN_FLOOD = str(ROOT / "examples" / "bpf" / "syn_flood.o")


class Switch:
    """oko-ofctl at the run directory of an oko-switchd with bridge br0."""

    def __init__(self, daemon: Switchd) -> None:
        self.daemon = daemon

    def run(self, *arguments, stdin=""):
        return oko(self.daemon.run_dir, *arguments, stdin=stdin)

    def __call__(self, *arguments, stdin=""):
        """The output of a command that has to work."""
        done = self.run(*arguments, stdin=stdin)
        assert (done.status, done.err) == (0, ""), (arguments, done)
        return done.out

    def refuses(self, *arguments):
        """The reason for which a command has to fail."""
        done = self.run(*arguments)
        assert (done.status, done.out) == (1, ""), (arguments, done)
        assert done.err.startswith("oko-ofctl: ") or done.err.startswith("OFPT_ERROR")
        assert "Traceback" not in done.err
        return done.err


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    ports = ("--port", "1=null", "--port", "2=null")
    with Switchd(run_dir, "--bridge", "br0", *ports) as there:
        yield there
    assert not [line for line in there.log() if " error " in line]


@pytest.fixture
def switch(daemon):
    there = Switch(daemon)
    yield there
    there("del-flows", "br0")
    for program in json.loads(there("show-filter-prog", "br0", "--json"))["programs"]:
        there("unload-filter-prog", "br0", str(program["number"]))


def test_the_session_of_okos_readme(switch):
    assert switch("load-filter-prog", "br0", "1", FIREWALL) == ""
    assert switch("add-flow", "br0", "priority=1,in_port=1,filter_prog=1,actions=output:2") == ""
    update = "update-map br0 1 0 key 14 0 16 172 value 1 0 0 0"
    assert switch(*update.split()) == ""
    shown = switch(*["dump-map", "br0", "1", "0", "hex"])
    assert plain(shown) == (
        "OKO_DUMP_MAP reply (xid=*):\n"
        "The map contains 1 element(s)\n"
        "Key: 0e 00 10 ac\n"
        "Value: 01 00 00 00\n"
    )
    shown = switch("dump-map", "br0", "1", "0")
    assert shown.endswith("Key: 14 0 16 172\nValue: 1 0 0 0\n")
    (flow,) = switch("dump-flows", "br0").splitlines()[1:]
    assert flow.endswith("priority=1,filter_prog=1,in_port=1 actions=output:2")


@pytest.mark.parametrize("of", ["OpenFlow10", "OpenFlow13", "OpenFlow14"])
def test_filters_in_flows(switch, of):
    options = ("-O", of)
    switch(*options, "load-filter-prog", "br0", "7", FIREWALL)
    flow = "priority=5,filter_prog=7,tcp"
    switch(*options, "add-flow", "br0", f"{flow},actions=send_maps(7),output:2")
    switch(*options, "add-flow", "br0", "priority=5,tcp,actions=drop")
    shown = switch(*options, "dump-flows", "br0", "--no-stats", "--sort")
    assert "priority=5,filter_prog=7,tcp actions=send_maps(prog=7),output:2" in shown
    assert len(shown.splitlines()) == 2
    shown = switch(*options, "dump-flows", "br0", "filter_prog=7", "--json")
    (found,) = json.loads(shown)["flows"]
    assert (found["filter_prog"], found["match"], found["priority"]) == (7, "tcp", 5)
    assert "flow_count=1" in switch(*options, "dump-aggregate", "br0", "filter_prog=7")
    switch(*options, "--strict", "mod-flows", "br0", f"{flow},actions=output:1")
    assert f"{flow} actions=output:1" in switch(*options, "dump-flows", "br0")
    switch(*options, "del-flows", "br0", "filter_prog=7")
    assert "filter_prog" not in switch(*options, "dump-flows", "br0")
    reason = switch.refuses(*options, "add-flow", "br0", "filter_prog=8,actions=drop")
    assert "OFPBMC_BAD_VALUE" in reason and "program 8 is not loaded" in reason


def test_show(switch):
    assert switch("show-filter-prog", "br0") == ""
    assert switch("load-filter-prog", "br0", "0", FIREWALL) == "program 1\n"
    assert json.loads(switch("load-filter-prog", "br0", "0", SYN_FLOOD, "--json")) == {"program": 2}
    switch("add-flow", "br0", "filter_prog=1,actions=drop")
    text = switch("show-filter-prog", "br0", "1")
    assert re.match(r"program 1[^\n]*: loaded 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d by ", text)
    assert "\n  1 flows, 0 runs, 0 matches\n" in text
    assert "\n  map 0 blocked: hash, key 4, value 4 bytes, 0 of 65536 entries, " in text
    found = json.loads(switch("show-filter-prog", "br0", "--json"))["programs"]
    assert [program["number"] for program in found] == [1, 2]
    assert [entry["name"] for entry in found[0]["maps"]] == [
        "blocked", "blocked_nets", "closed_ports",
    ]  # fmt: skip
    assert found[0]["size"] == Path(FIREWALL).stat().st_size
    assert len(found[0]["sha256"]) == 64


def test_loading(switch, tmp_path):
    source = tmp_path / "one.c"
    source.write_text('#include "oko_bpf.h"\nuint64_t entry(void *p, uint64_t n) { return 1; }\n')
    switch("load-filter-prog", "br0", "3", str(source))
    assert "already" in switch.refuses("--create-only", "load-filter-prog", "br0", "3", FIREWALL)
    large = tmp_path / "large.o"  # longer than a message
    large.write_bytes(Path(FIREWALL).read_bytes() + bytes(150_000))
    switch("load-filter-prog", "br0", "3", str(large))
    assert "map 0 blocked" in switch("show-filter-prog", "br0", "3")
    switch("add-flow", "br0", "filter_prog=3,actions=drop")
    assert "is used by 1 flow" in switch.refuses("unload-filter-prog", "br0", "3")
    switch("--force", "unload-filter-prog", "br0", "3")
    assert "not loaded" in switch.refuses("show-filter-prog", "br0", "3")
    assert "not loaded" in switch.refuses("unload-filter-prog", "br0", "3")
    assert "filter_prog" not in switch("dump-flows", "br0")


def test_what_is_refused_says_why(switch, tmp_path):
    cut = tmp_path / "cut.o"
    cut.write_bytes(Path(FIREWALL).read_bytes()[:1000])
    reason = switch.refuses("load-filter-prog", "br0", "1", str(cut))
    assert reason.startswith("oko-ofctl: ") and "(OFPBRC_EPERM)" in reason
    assert "cut off" in reason
    source = tmp_path / "wild.c"
    source.write_text(
        '#include "oko_bpf.h"\nuint64_t entry(uint8_t *p, uint64_t n) { return p[1000]; }\n'
    )
    reason = switch.refuses("load-filter-prog", "br0", "1", str(source))
    assert "(OFPBRC_EPERM)" in reason and "wild.c:2" in reason
    text = tmp_path / "text.o"
    text.write_text("hello")
    assert "not an ELF object" in switch.refuses("load-filter-prog", "br0", "1", str(text))
    assert switch("show-filter-prog", "br0") == ""


def test_typed_entries(switch, tmp_path):
    switch("load-filter-prog", "br0", "1", FIREWALL)
    switch("update-map", "br0", "1", "map=blocked", "key=ip:172.16.0.14", "value=u32:1")
    switch("update-map", "br0", "1", "blocked", "key=ip:10.0.0.1", "value=7")
    switch("update-map", "br0", "1", "map=blocked_nets", "key=lpm:192.168.0.0/16", "value=1")
    found = json.loads(switch("dump-map", "br0", "1", "blocked", "--json"))
    assert (found["map"], found["type"], found["program"]) == ("blocked", "hash", 1)
    assert {e["key"]: e["value"] for e in found["entries"]} == {
        "ac10000e": "01000000",
        "0a000001": "07000000",
    }
    # What was dumped can be read back.
    saved = tmp_path / "blocked.json"
    saved.write_text(json.dumps(found))
    switch("delete-map", "br0", "1", "map=blocked", "key=ip:10.0.0.1")
    assert "1 element(s)" in switch("dump-map", "br0", "1", "blocked")
    switch("delete-map", "br0", "1", "0", "key", "172", "16", "0", "0x0e")
    assert "0 element(s)" in switch("dump-map", "br0", "1", "blocked")
    switch("update-map", "br0", "1", "map=blocked", f"file={saved}")
    assert "2 element(s)" in switch("dump-map", "br0", "1", "blocked")
    one = tmp_path / "one.csv"
    one.write_text("key,value\nip:1.2.3.4,1\n")
    switch("--replace", "update-map", "br0", "1", "map=blocked", f"file={one}")
    assert "1 element(s)\nKey: 1 2 3 4\n" in switch("dump-map", "br0", "1", "blocked")
    shown = switch("dump-map", "br0", "1", "blocked", f"--object={FIREWALL}")
    assert shown == "ip:1.2.3.4 -> 1\n" or " -> " in shown


@pytest.mark.parametrize("typed", ["--typed", f"--object={SYN_FLOOD}"], ids=["told", "object"])
def test_structs_by_field(switch, typed):
    """What is shown can be written: the switch tells the types, or the object here does."""
    switch("load-filter-prog", "br0", "1", SYN_FLOOD)
    switch(typed, "update-map", "br0", "1", "map=limit", "key=0", "value=5")
    assert switch(typed, "dump-map", "br0", "1", "limit") == "0 -> 5\n"
    before = json.loads(switch("show-filter-prog", "br0", "1", "--json"))["programs"][0]["maps"]
    assert [entry["name"] for entry in before][1] == "services"
    key = "hex:" + "0102030400500000"
    switch("update-map", "br0", "1", "map=services", f"key={key}", f"value=hex:{'07' * 16}")
    (line,) = switch(typed, "dump-map", "br0", "1", "services").splitlines()
    shown_key, _, shown_value = line.partition(" -> ")
    assert shown_key.startswith("{") and shown_value.startswith("{")
    switch("delete-map", "br0", "1", "map=services", f"key={key}")
    words = (f"key={shown_key}", f"value={shown_value}")
    switch(typed, "update-map", "br0", "1", "map=services", *words)
    assert switch(typed, "dump-map", "br0", "1", "services") == line + "\n"
    reason = switch.refuses(typed, "update-map", "br0", "1", "map=services", "key={x=1}", "value=1")
    assert "unknown field 'x'" in reason
    (entry,) = json.loads(switch("dump-map", "br0", "1", "services", "--json"))["entries"]
    assert isinstance(entry["key_typed"], dict) and isinstance(entry["value_typed"], dict)


def test_an_object_without_types(switch):
    """Oko's own style of map definitions says sizes only."""
    switch("load-filter-prog", "br0", "1", RATE_LIMITER)
    name = json.loads(switch("show-filter-prog", "br0", "1", "--json"))["programs"][0]["maps"][0]
    (entry, *_) = json.loads(switch("dump-map", "br0", "1", name["name"], "--json"))["entries"]
    assert set(entry) == {"key", "value"}
    assert switch("dump-map", "br0", "1", name["name"], "--typed").startswith("hex:")


def test_types_that_take_several_messages():
    """And an older switch, which does not know the question."""
    from oko.bpf.btf import Layout
    from oko.ofctl.maps import read_types

    member = Layout("int", 4, "a" * 500)
    fields = tuple((f"{'b' * 200}{n}", 4 * n, member) for n in range(400))
    key = Layout("struct", 1600, fields=fields)
    name = extension.MapName(1, 0)
    replies = list(extension.types_replies(OF13, 1, name, layouts.encode(key, None)))
    assert len(replies) == 5 and all(len(reply) <= 65535 for reply in replies)

    class Peer:
        version = OF13

        def __init__(self, refusal=""):
            self.refusal = refusal

        def multipart(self, request):
            assert extension.decode_request(OF13, request) == extension.TypesOf(name)
            if self.refusal:
                raise RefusedError(OF13, 1, self.refusal, request)
            return iter(replies)

    assert read_types(Peer(), name, 1600, 4) == (key, None)
    assert read_types(Peer("OFPBRC_BAD_SUBTYPE"), name, 1600, 4) == (None, None)
    with pytest.raises(OkoError, match="BAD_VALUE"):
        read_types(Peer("OFPBMC_BAD_VALUE"), name, 1600, 4)


def test_many_entries_take_several_messages(switch, tmp_path):
    switch("load-filter-prog", "br0", "1", FIREWALL)
    many = tmp_path / "many.csv"
    addresses = [f"ip:10.{n >> 8 & 255}.{n & 255}.1" for n in range(20_000)]
    many.write_text("".join(f"{address},1\n" for address in addresses))
    switch("update-map", "br0", "1", "map=blocked", f"file={many}")
    assert "The map contains 20000 element(s)" in switch("dump-map", "br0", "1", "0")


WRONG = [
    ("update-map br0 1 0", "'key' with its bytes is missing"),
    ("update-map br0 1", "requires at least 3 arguments"),
    ("update-map br0 1 0 kee 1 2 3 4 value 1 0 0 0", "'kee': expected 'key'"),
    ("update-map br0 1 0 key 1 2 3 4", "'value' with its bytes is missing"),
    ("update-map br0 1 0 key value 1 0 0 0", "'key' with its bytes is missing"),
    ("update-map br0 1 0 key 1 2 3 256 value 1 0 0 0", "'256' is not a byte"),
    ("update-map br0 1 0 key 1 2 3 zz value 1 0 0 0", "'zz' is not a byte"),
    ("update-map br0 1 0 key 1 2 3 4 key 5 value 1 0 0 0", "'key' is given twice"),
    ("update-map br0 1 0 key 1 2 3 value 1 0 0 0", "key"),
    ("update-map br0 1 9 key 1 2 3 4 value 1 0 0 0", "no map"),
    ("update-map br0 9 0 key 1 2 3 4 value 1 0 0 0", "program 9 is not loaded"),
    ("update-map br0 1 map=blocked key=10.0.0.1 value=1", "write ip:10.0.0.1"),
    ("update-map br0 1 map=nosuch key=1 value=1", "its maps: 0 blocked"),
    ("update-map br0 1 map=blocked key=ip:1.2.3.4", "is missing"),
    ("--noexist --exist update-map br0 1 0 key 1 value 1", "exclude each other"),
    ("delete-map br0 1 0 key 9 9 9 9", "no such"),
    ("dump-map br0 1 0 foo", "only 'hex' may follow"),
    ("dump-map br0 1 nosuch", "no map"),
    ("dump-map br0 9 0", "program 9 is not loaded"),
    ("send-maps br0 9", "program 9 is not loaded"),
    ("load-filter-prog br0 abc x.o", "abc: a program's number"),
    ("unload-filter-prog br0 0", "0: a program's number"),
]


@pytest.mark.parametrize(("line", "text"), WRONG)
def test_mistakes(switch, line, text):
    switch("load-filter-prog", "br0", "1", FIREWALL)
    assert text in switch.refuses(*line.split())


def test_flows_as_with_ovs_ofctl(switch):
    switch("add-flow", "br0", "table=1,priority=5,tcp,actions=drop")
    switch("mod-flows", "br0", "tcp,actions=output:2")
    switch("mod-flows", "br0", "udp,actions=output:1")
    shown = switch("dump-flows", "br0", "--no-stats").splitlines()
    assert sorted(shown) == [" table=1, priority=5,tcp actions=output:2", " udp actions=output:1"]


def test_exist_and_noexist(switch):
    switch("load-filter-prog", "br0", "1", FIREWALL)
    update = ("update-map", "br0", "1", "map=blocked", "key=ip:1.2.3.4", "value=1")
    switch.refuses("--exist", *update)
    switch("--noexist", *update)
    switch.refuses("--noexist", *update)
    switch("--exist", *update)


def test_many_flows_and_many_refusals(switch):
    """More than a batch; the switch's answers are read while flows are sent."""
    good = "".join(f"priority={n},in_port=1,actions=output:2\n" for n in range(1, 2501))
    switch("add-flows", "br0", "-", stdin=good)
    assert "flow_count=2500" in switch("dump-aggregate", "br0")
    bad = "".join(f"table=1,priority={n},actions=group:{n}\n" for n in range(1, 4001))
    done = switch.run("add-flows", "br0", "-", stdin=bad)
    assert done.status == 1 and "ADD table:1 priority=1 actions=group:1" in done.err
    middle = good.replace("actions", "cookie=7,actions")
    middle += "priority=9,udp,actions=group:9\n" + good.replace("in_port", "tcp,in_port")
    done = switch.run("add-flows", "br0", "-", stdin=middle)
    assert done.status == 1 and "ADD priority=9,udp actions=group:9" in done.err
    assert "flow_count=2500" in switch("dump-aggregate", "br0", "cookie=7/-1")


def test_send_maps(switch):
    switch("load-filter-prog", "br0", "1", FIREWALL)
    switch("update-map", "br0", "1", "map=blocked", "key=ip:1.2.3.4", "value=u32:9")
    shown = switch("send-maps", "br0", "1", "blocked", "--interval=0.05", "--count=2")
    entry = (
        "OKO_SEND_MAPS: program 1 map 0 blocked table=0 priority=0 cookie=0x0\n"
        "The map contains 1 element(s)\nKey: 01 02 03 04\nValue: 09 00 00 00\n"
    )
    assert shown == 2 * entry
    shown = switch("send-maps", "br0", "1", "0", "--interval=0.05", "--count=1", "--json")
    found = json.loads(shown)
    assert (found["program"], found["name"]) == (1, "blocked")
    assert found["entries"] == [{"key": "01020304", "value": "09000000"}]


def test_packets_make_the_switch_send_maps(tmp_path):
    """The action send_maps, with packets of a capture; monitor tells of other things."""
    capture = ROOT / "examples" / "traces" / "scan.pcap"
    port = f"1=pcap:{capture},speed=1,loop"
    with Switchd(tmp_path, "--bridge", "br0", "--port", port, "--port", "2=null") as daemon:
        daemon.wait_for("ready")
        switch = Switch(daemon)
        switch("load-filter-prog", "br0", "3", FIREWALL)
        switch("update-map", "br0", "3", "map=blocked", "key=ip:1.2.3.4", "value=u32:9")
        flow = "priority=7,cookie=0x55,in_port=1,actions=send_maps(prog=3,map=0,interval=20ms)"
        switch("add-flow", "br0", flow)
        shown = switch("send-maps", "br0", "3", "--count=1")
        assert "program 3 map 0 blocked table=0 priority=7 cookie=0x55" in shown
        assert "Key: 01 02 03 04\nValue: 09 00 00 00\n" in shown
        switch("add-flow", "br0", "priority=8,in_port=1,actions=CONTROLLER:64")
        shown = switch("monitor", "br0", "64", "--count=2")
        assert shown.count("in_port=1 (via action) data_len=") == 2
        found = json.loads(switch("monitor", "br0", "64", "--count=1", "--json"))
        assert found["in_port"] == 1 and len(found["frame"]) <= 128
