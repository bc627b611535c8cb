"""Tables, queues and fragments: oko-ofctl as ovs-ofctl, at Debian's switch and at oko-switchd."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stock import Done, oko, open_stock, plain

from oko.model.fields import PORT_ANY
from oko.ofctl.tables import shortened
from oko.openflow.common import OF10, OF13, OF14, OpenFlowError, encode_multipart, message
from oko.openflow.port_messages import QueueConfig, decode_queue_configs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "switch"))
from switchd_process import Switchd

VERSIONS = ("OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15")
SINCE_13, SINCE_14 = VERSIONS[1:], VERSIONS[2:]
FIELD_LINE = re.compile(
    r"^ *(supported on Set-Field|arbitrary mask|exact match or wildcard): (.*)$", re.M
)

FOREIGN = re.compile("tun_|ct_|nsh_|nd_|dp_hash|recirc_id|packet_type|actset_output")


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    yield from open_stock(tmp_path_factory)


class Both:
    """Both tools at an oko-switchd that offers all versions."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def oko(self, *arguments):
        return oko(self.run_dir, *arguments)

    def ovs(self, *arguments):
        environment = os.environ | {"OVS_RUNDIR": str(self.run_dir)}
        done = subprocess.run(
            ["ovs-ofctl", *arguments], env=environment, capture_output=True, text=True, timeout=60
        )
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    ports = ("--port", "1=null", "--port", "2=null")
    protocols = ("--protocols", ",".join(VERSIONS))
    with Switchd(tmp_path_factory.mktemp("run"), "--bridge", "br0", *ports, *protocols) as daemon:
        yield Both(daemon.run_dir)


def fields(text: str) -> set[str]:
    """The names that a shortened list stands for."""
    names: set[str] = set()
    word = ""
    depth = 0
    for letter in text + " ":
        depth += (letter == "{") - (letter == "}")
        if letter == " " and not depth:
            names |= expanded(word)
            word = ""
        else:
            word += letter
    return names


def expanded(word: str) -> set[str]:
    head, brace, inner = word.partition("{")
    if not brace:
        counted = re.fullmatch(r"(.*?)(\d+)\.\.\.\1(\d+)", word)
        if counted is None:
            return {word} if word else set()
        return {f"{counted[1]}{n}" for n in range(int(counted[2]), int(counted[3]) + 1)}
    found: set[str] = set()
    part, depth = "", 0
    for letter in inner[:-1] + ",":
        depth += (letter == "{") - (letter == "}")
        if letter == "," and not depth:
            found |= {head + name for name in expanded(part)}
            part = ""
        else:
            part += letter
    return found


@pytest.mark.parametrize("of", SINCE_13)
def test_features_of_stock(stock, of):
    theirs, mine = (tool("-O", of, "dump-table-features", "br0") for tool in (stock.ovs, stock.oko))
    assert theirs.status == mine.status == 0 and mine.err == ""
    unknown = re.compile(r" \(and \d+ that oko does not know\)|^ *\d+ fields that oko .*\n", re.M)
    assert unknown.search(mine.out)
    known = unknown.sub("", mine.out)
    assert FIELD_LINE.sub(r"\1", known) == FIELD_LINE.sub(r"\1", theirs.out)
    pairs = list(zip(FIELD_LINE.finditer(known), FIELD_LINE.finditer(theirs.out), strict=True))
    assert len(pairs) == 3
    for own_line, their_line in pairs:
        own_names, their_names = fields(own_line[2]), fields(their_line[2])
        assert own_names < their_names and len(own_names) > 15
        assert all(FOREIGN.match(name) for name in their_names - own_names)


@pytest.mark.parametrize("of", SINCE_13)
def test_features_of_oko(own, of):
    """ovs-ofctl does not know the fields and actions of the standard that Open vSwitch has not."""
    theirs, mine = (tool("-O", of, "dump-table-features", "br0") for tool in (own.ovs, own.oko))
    assert theirs.status == mine.status == 0 and mine.err == ""
    cut = mine.out.replace("in_{port_oxm,phy_port}", "in_port_oxm")
    cut = cut.replace("ipv6_{src,dst,label,exthdr}", "ipv6_{src,dst,label}")
    cut = cut.replace(" pbb_{isid,uca}", "").replace(" pbb_isid", "").replace(" pbb_uca", "")
    cut = cut.replace(" copy_ttl_out copy_ttl_in push_pbb pop_pbb", "")
    cut = cut.replace(" in_phy_port", "").replace(" ipv6_exthdr", "")
    assert cut == theirs.out
    assert "tables 1...252: ditto" in cut and "arbitrary mask: tun_id metadata pkt_mark" in cut
    tables = json.loads(own.oko("-O", of, "dump-table-features", "br0", "--json").out)["tables"]
    assert len(tables) == 254 and tables[7]["next_tables"] == list(range(8, 254))
    assert "ip_src" in tables[0]["masked"] and "nw_proto" not in tables[0]["masked"]
    assert tables[0]["instructions"][-1] == "goto_table" != tables[253]["instructions"][-1]


def test_names_are_shortened():
    assert shortened(["reg0", "reg1", "reg2", "tcp_src", "tcp_dst", "metadata"]) == [
        "reg0...reg2", "tcp_{src,dst}", "metadata",
    ]  # fmt: skip
    names = ["tun_id", "tun_ipv6_src", "tun_ipv6_dst", "tun_c1", "tun_c2", "tun_c3", "ip_src"]
    assert shortened(names) == ["tun_{id,ipv6_{src,dst},c1...c3}", "ip_src"]
    assert fields(" ".join(shortened(names))) == set(names)


TABLE_SETTINGS = (
    ("3", "evict"), ("4", "vacancy:10,20"), ("4", "evict"), ("3", "noevict"), ("4", "novacancy"),
    ("all", "evict"), ("all", "noevict"),
)  # fmt: skip


@pytest.mark.parametrize("of", SINCE_14)
def test_setting_tables(stock, of):
    """What either tool sets leads to the same descriptions."""
    dumps = []
    for tool in (stock.ovs, stock.oko):
        steps = []
        for table, setting in TABLE_SETTINGS:
            done = tool("-O", of, "mod-table", "br0", table, setting)
            assert (done.status, done.out, done.err) == (0, "", ""), (table, setting, done)
            told = stock.ovs("-O", of, "dump-table-desc", "br0")
            assert told.status == 0
            steps.append(plain(told.out))
            mine = stock.oko("-O", of, "dump-table-desc", "br0")
            assert plain(mine.out) == plain(told.out) and not mine.err
        dumps.append(steps)
    assert dumps[0] == dumps[1]
    assert "vacancy_down=10% vacancy_up=20%" in dumps[0][1]
    stock.ovs("-O", of, "mod-table", "br0", "5", "vacancy:30,40")
    tables = json.loads(stock.oko("dump-table-desc", "br0", "--json").out)["tables"]
    assert (tables[5]["vacancy_down"], tables[5]["vacancy_up"]) == (30, 40)
    stock.ovs("-O", of, "mod-table", "br0", "5", "novacancy")


@pytest.mark.parametrize("of", SINCE_14)
def test_oko_says_how_its_tables_are_set(own, of):
    theirs, mine = (tool("-O", of, "dump-table-desc", "br0") for tool in (own.ovs, own.oko))
    assert plain(mine.out) == plain(theirs.out) and "table 253:" in mine.out


@pytest.mark.parametrize(
    ("of", "table", "setting"),
    [
        ("OpenFlow14", "3", "drop"), ("OpenFlow14", "3", "foo"), ("OpenFlow14", "3", "vacancy:5"),
        ("OpenFlow14", "3", "vacancy:50,10"), ("OpenFlow13", "3", "evict"),
        ("OpenFlow10", "3", "novacancy"), ("OpenFlow14", "x", "evict"),
    ],
)  # fmt: skip
def test_settings_that_are_none(stock, of, table, setting):
    theirs, mine = (
        tool("-O", of, "mod-table", "br0", table, setting) for tool in (stock.ovs, stock.oko)
    )
    assert theirs.status == mine.status == 1
    assert mine.err.splitlines()[0] == theirs.err.splitlines()[-1].replace("ovs-", "oko-", 1)


def test_versions_that_cannot_say_it(stock):
    for of, command in (
        ("OpenFlow10", "dump-table-features"),
        ("OpenFlow10", "dump-table-desc"),
        ("OpenFlow13", "dump-table-desc"),
    ):
        theirs, mine = (tool("-O", of, command, "br0") for tool in (stock.ovs, stock.oko))
        assert theirs.status == mine.status == 1
        assert mine.err == theirs.err.replace("ovs-", "oko-", 1)
    done = stock.oko("mod-table", "br0", "3", "name:outer")
    assert done.status == 1 and "does not name tables" in done.err


@pytest.mark.parametrize("arguments", [(), ("1",), ("ANY",), ("1", "0")])
@pytest.mark.parametrize("of", VERSIONS)
def test_queue_configurations(stock, of, arguments):
    text = stock.same("-O", of, "queue-get-config", "br0", *arguments)
    assert "queue 0:" in text
    found = json.loads(stock.oko("-O", of, "queue-get-config", "br0", "1", "--json").out)["queues"]
    assert found == [{"port": 1, "queue": 0, "min_rate": None, "max_rate": None}]


def test_rates_of_queues():
    rates = bytes.fromhex("0001001000000000012c00000000000000020010000000000fff000000000000")
    told = bytes.fromhex("00000007 00000003 0030 000000000000") + rates
    msg = message(OF13, 23, 1, bytes.fromhex("0000000300000000") + told)
    assert decode_queue_configs(OF13, msg) == (3, [QueueConfig(3, 7, 300, 0xFFF)])
    told = bytes.fromhex("00000007 0030 0000") + rates
    told = told[:4] + bytes.fromhex("0028") + told[6:]
    msg = message(OF10, 21, 1, bytes.fromhex("0003000000000000") + told)
    assert decode_queue_configs(OF10, msg) == (3, [QueueConfig(3, 7, 300, 0xFFF)])
    told = bytes.fromhex("00000003 00000007 0018 000000000000 00010008 012c 0000")
    msg = encode_multipart(OF14, 1, 15, told, reply=True)
    assert decode_queue_configs(OF14, msg) == (PORT_ANY, [QueueConfig(3, 7, 300)])
    with pytest.raises(OpenFlowError, match="cannot have 24 bytes"):
        decode_queue_configs(OF14, msg[:-4])


@pytest.mark.parametrize("of", VERSIONS)
def test_fragments(stock, of):
    for mode in ("drop", "nx-match", "normal", "normal"):
        done = stock.oko("-O", of, "set-frags", "br0", mode)
        assert (done.status, done.out, done.err) == (0, "", "")
        assert stock.same("-O", of, "get-frags", "br0") == mode + "\n"
    for mode in ("reassemble", "no"):
        theirs, mine = (tool("-O", of, "set-frags", "br0", mode) for tool in (stock.ovs, stock.oko))
        assert theirs.status == mine.status == 1
        assert mine.err.splitlines()[0] == theirs.err.strip().replace("ovs-", "oko-", 1)


def test_oko_does_not_change_how_fragments_are_handled(own):
    theirs, mine = (tool("set-frags", "br0", "drop") for tool in (own.ovs, own.oko))
    assert theirs.status == mine.status == 1
    assert mine.err == theirs.err.replace("ovs-", "oko-", 1)
    assert own.oko("set-frags", "br0", "normal").status == 0
