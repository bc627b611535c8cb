"""Flow-mods and flow statistics on the wire: round trips, and Open vSwitch's opinion of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openflow_samples import OPTIONS, counters, encodable
from twin.generate import Options, flow_of

from oko.model import actions as act
from oko.model.compile import PACKED, compile_flow, compile_instructions, compile_match
from oko.model.fields import PORT_ANY
from oko.model.flow import (
    ADD,
    DELETE,
    DELETE_STRICT,
    MODIFY,
    RESET_COUNTS,
    TABLE_ALL,
    Flow,
    FlowMod,
    Match,
)
from oko.openflow import flow_stats
from oko.openflow.common import OF10, OF13, OF14, OF15, VERSIONS, OpenFlowError
from oko.openflow.flows import NO_BUFFER, decode_flow_mod, encode_flow_mod, pack_flow_mod
from oko.text import parse_flow

OVS_OFCTL = shutil.which("ovs-ofctl")
VERSION_NAMES = {1: "OpenFlow10", 4: "OpenFlow13", 5: "OpenFlow14", 6: "OpenFlow15"}


@pytest.mark.parametrize("version", VERSIONS)
@given(st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_flow_mod_comes_back(version: int, rng: Random) -> None:
    flow = flow_of(rng, OPTIONS)
    msg = encodable(version, flow)
    if msg is None:
        return
    found = decode_flow_mod(version, msg, table_id_ext=True)
    back = found.mod.flow
    assert found.record == compile_flow(back)
    assert found.buffer_id == NO_BUFFER
    assert found.names_program == bool(flow.filter_prog)
    assert (back.match, back.filter_prog) == (flow.match, flow.filter_prog)
    assert (back.cookie, back.priority, back.table) == (flow.cookie, flow.priority, flow.table)
    if version == OF10:
        assert back.flags == flow.flags | RESET_COUNTS  # an add always resets there
    else:
        assert back.flags == flow.flags
        text = str(flow.instructions)
        if "SetTransport" not in text:  # set_field of one protocol, or of all three
            assert compile_instructions(back.instructions) == compile_instructions(
                flow.instructions
            )
    assert encode_flow_mod(version, found.mod, 7, table_id_ext=True) == encode_flow_mod(
        version, decode_flow_mod(version, msg, table_id_ext=True).mod, 7, table_id_ext=True
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_commands_mean_what_the_version_says(version: int) -> None:
    flow = Flow(table=TABLE_ALL, match=Match(), cookie=5)

    def back(mod: FlowMod) -> FlowMod:
        msg = encode_flow_mod(version, mod, table_id_ext=True)
        return decode_flow_mod(version, msg, table_id_ext=True).mod

    assert back(FlowMod(flow, DELETE, cookie_mask=255, out_port=3)) == FlowMod(
        flow, DELETE, cookie_mask=255, out_port=3
    )
    assert back(FlowMod(flow, DELETE_STRICT, cookie_mask=1)).cookie_mask == 1
    modify = back(FlowMod(flow, MODIFY, new_cookie=version == OF10))
    assert modify.or_add == modify.new_cookie == (version == OF10)
    assert back(FlowMod(flow, MODIFY, cookie_mask=7)).cookie_mask == 7
    assert not back(FlowMod(flow, MODIFY, cookie_mask=7)).or_add


@pytest.mark.parametrize("version", [OF13, OF14, OF15])
@given(st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_packed_as_decoded(version: int, rng: Random) -> None:
    """The quick way, where it may be gone, gives what the long one gives."""
    flow = flow_of(rng, OPTIONS)
    command = rng.choice([ADD, ADD, MODIFY, DELETE, DELETE_STRICT])
    if command in (ADD, DELETE_STRICT) or rng.random() < 0.5:
        flow = replace(flow, table=rng.choice([0, 7, 252]))
    mod = FlowMod(flow, command, rng.choice([0, 255]), out_port=rng.choice([PORT_ANY, 3]))
    try:
        msg = encode_flow_mod(version, mod)
        decoded = decode_flow_mod(version, msg)
    except OpenFlowError:
        return
    packed = pack_flow_mod(version, msg)
    if not flow.match or flow.table == TABLE_ALL:
        assert packed is None
    if packed is None:
        return
    r, mod = decoded.record, decoded.mod
    assert packed.data == PACKED.pack(
        r.cookie, r.table, r.priority, r.flags, r.idle_timeout, r.hard_timeout, r.filter_prog,
        r.n_match, 0, 0, len(r.ops), r.importance, mod.command, mod.or_add, mod.cookie_mask,
        mod.out_port, mod.out_group, mod.new_cookie, 0, 0, 0,
    ) + r.match + r.ops  # fmt: skip
    assert (packed.ops, packed.program) == (r.ops, r.filter_prog)
    assert compile_instructions(packed.instructions) == r.ops
    for damaged in (msg[:-8], msg[:-1], msg + b"\0", msg[:24] + b"\xfe" + msg[25:],
                    msg[:25] + b"\5" + msg[26:], msg[:44] + b"\1" + msg[45:]):  # fmt: skip
        same_verdict(version, damaged)


def same_verdict(version: int, msg: bytes) -> None:
    """What the quick way accepts, the long one accepts too; errors have the same name."""
    quick = slow = ""
    accepted = False
    try:
        accepted = pack_flow_mod(version, msg) is not None
    except OpenFlowError as exc:
        quick = exc.name
    try:
        decode_flow_mod(version, msg)
    except OpenFlowError as exc:
        slow = exc.name
    assert not accepted or not slow, (slow, msg.hex())
    assert not quick or quick == slow


@pytest.mark.parametrize("version", [OF13, OF14, OF15])
def test_the_quick_way_refuses_what_the_long_one_does(version: int) -> None:
    flow = parse_flow("table=7,in_port=1,actions=goto_table:9")
    msg = encode_flow_mod(version, FlowMod(flow))
    decode_flow_mod(version, msg)
    assert pack_flow_mod(version, msg) is not None
    for table in (8, 9, 10, 253, 254, 255):
        same_verdict(version, msg[:24] + bytes([table]) + msg[25:])


def test_plain_1_0_has_no_table() -> None:
    assert decode_flow_mod(OF10, encode_flow_mod(OF10, FlowMod(Flow()))).mod.flow.table == 0
    delete = encode_flow_mod(OF10, FlowMod(Flow(), DELETE))
    assert decode_flow_mod(OF10, delete).mod.flow.table == TABLE_ALL
    with pytest.raises(OpenFlowError) as caught:
        encode_flow_mod(OF10, FlowMod(Flow(table=3)))
    assert caught.value.name == "OFPFMFC_BAD_TABLE_ID"


def _flow_mod(match: str = "", instructions: str = "", **fields: int) -> bytes:
    """A flow-mod of 1.3 from the hexadecimal digits of its match and instructions."""
    mod = bytearray(encode_flow_mod(OF13, FlowMod(Flow())))
    oxm, tail = bytes.fromhex(match), bytes.fromhex(instructions)
    body = (1).to_bytes(2, "big") + (4 + len(oxm)).to_bytes(2, "big") + oxm
    whole = mod[:48] + body + bytes(-len(body) % 8) + tail
    for name, value in fields.items():
        at, size = {"table": (24, 1), "command": (25, 1), "flags": (44, 2)}[name]
        whole[at : at + size] = value.to_bytes(size, "big")
    whole[2:4] = len(whole).to_bytes(2, "big")
    return bytes(whole)


IP = "80000a020800"


def _actions(*actions: str) -> str:
    body = "".join(actions).replace(" ", "")
    return f"0004{8 + len(body) // 2:04x}00000000" + body


REFUSED = {
    "a value with bits outside its mask": (
        IP + "80001908 0a0000ff ffffff00", "", "BMC_BAD_WILDCARDS"),
    "a value out of range": ("80000c02 ffff", "", "BMC_BAD_VALUE"),
    "a field given twice": (IP + IP, "", "BMC_DUP_FIELD"),
    "no prerequisite": ("80001604 0a0000ff", "", "BMC_BAD_PREREQ"),
    "a prerequisite that comes later": ("80001604 0a0000ff" + IP, "", "BMC_BAD_PREREQ"),
    "an unknown field": ("8000fe02 0800", "", "BMC_BAD_FIELD"),
    "a field of an unknown experimenter": ("ffff0206 12345678 0001", "", "BMC_BAD_FIELD"),
    "a field of the wrong length": ("80000a03 080000", "", "BMC_BAD_LEN"),
    "a mask on a field that takes none": ("80000b04 0800 ff00", "", "BMC_BAD_MASK"),
    "a header cut off": ("80000a", "", "BMC_BAD_LEN"),
    "a value cut off": ("80000a04 0800", "", "BMC_BAD_LEN"),
    "filter_prog 0": ("ffff0206 4f4b4f00 0000", "", "BMC_BAD_VALUE"),
    "a mask on filter_prog": ("ffff0308 4f4b4f00 0001 00ff", "", "BMC_BAD_MASK"),
    "filter_prog twice": ("ffff0206 4f4b4f00 0001" * 2, "", "BMC_DUP_FIELD"),
    "goto_table backwards": ("", "0001000800000000", "BIC_BAD_TABLE_ID"),
    "an unknown instruction": ("", "0009000801000000", "BIC_UNKNOWN_INST"),
    "an experimenter's instruction": ("", "ffff000800002320", "BIC_BAD_EXPERIMENTER"),
    "an instruction twice": ("", "0001000801000000" * 2, "BIC_DUP_INST"),
    "an instruction too long": ("", "00010010" + "01" * 12, "BIC_BAD_LEN"),
    "output to ANY": ("", _actions("00000010 ffffffff 0000 000000000000"), "BAC_BAD_OUT_PORT"),
    "output too short": ("", _actions("00000008 00000001"), "BAC_BAD_LEN"),
    "an unknown action": ("", _actions("00630008 00000001"), "BAC_BAD_TYPE"),
    "an unknown vendor": ("", _actions("ffff0010 12345678 0000000000000000"), "BAC_BAD_VENDOR"),
    "an unknown action of Nicira's": (
        "", _actions("ffff0010 00002320 0063000000000000"), "BAC_BAD_VENDOR_TYPE"),
    "conjunction 3/2": (
        "", _actions("ffff0010 00002320 0022020200000001"), "NXBAC_BAD_CONJUNCTION"),
    "conjunction of one dimension": (
        "", _actions("ffff0010 00002320 0022000100000001"), "NXBAC_BAD_CONJUNCTION"),
    "conjunction beside output": (
        "", _actions("ffff0010 00002320 0022000200000001 00000010 00000001 0000 000000000000"),
        "NXBAC_BAD_CONJUNCTION"),
    "conjunction and goto_table": (
        "", _actions("ffff0010 00002320 0022000200000001") + "0001000801000000",
        "NXBAC_BAD_CONJUNCTION"),
    "an action of no length": ("", _actions("00000000 00000001"), "BAC_BAD_LEN"),
    "set_field of an unknown field": (
        "", _actions("00190010 8000fe02 0800 000000000000"), "BAC_BAD_SET_TYPE"),
    "set_field of a field that is read only": (
        "", _actions("00190010 80000a02 0800 000000000000"), "BAC_BAD_SET_ARGUMENT"),
    "set_field of in_port": (
        "", _actions("00190010 80000004 00000001 00000000"), "BAC_BAD_SET_ARGUMENT"),
    "set_field without its prerequisite": (
        IP, _actions("00190010 80001c02 0050 000000000000"), "BAC_MATCH_INCONSISTENT"),
    "set_field with a mask in 1.3": (
        IP, _actions("00190010 80001908 01020300 ffffff00"), "BAC_BAD_SET_MASK"),
    "set_field of vlan_vid without a tag": (
        "", _actions("00190010 80000c02 1005 000000000000"), "BAC_MATCH_INCONSISTENT"),
    "set_field out of range": (
        IP, _actions("00190010 80001001 ff 00000000000000"), "BAC_BAD_SET_ARGUMENT"),
    "push_vlan of another type": ("", _actions("00110008 12340000"), "BAC_BAD_ARGUMENT"),
    "a group out of range": ("", _actions("00160008 ffffff01"), "BAC_BAD_OUT_GROUP"),
    "a load of too many bits": (
        "", _actions("ffff0018 00002320 0007 07c0 00001202 0000000000000003"), "BAC_BAD_SET_LEN"),
    "a load of too large a value": (
        "tcp", _actions("ffff0018 00002320 0007 0001 00001202 00000000000000ff"),
        "BAC_BAD_ARGUMENT"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what: str) -> None:
    match, instructions, name = REFUSED[what]
    match = (IP + "80001401 06") if match == "tcp" else match
    with pytest.raises(OpenFlowError) as caught:
        decode_flow_mod(OF13, _flow_mod(match, instructions))
    assert caught.value.name in ("OFP" + name, name), str(caught.value)


def test_the_header_of_a_flow_mod_is_checked() -> None:
    for fields, name in (
        ({"table": 255}, "OFPFMFC_BAD_TABLE_ID"),
        ({"table": 254, "command": 3}, "OFPFMFC_BAD_TABLE_ID"),
        ({"command": 5}, "OFPFMFC_BAD_COMMAND"),
        ({"flags": 32}, "OFPFMFC_BAD_FLAGS"),
    ):
        with pytest.raises(OpenFlowError) as caught:
            decode_flow_mod(OF13, _flow_mod(**fields))
        assert caught.value.name == name


def test_what_stays_allowed() -> None:
    """A mask of all ones is none; a mask of 0 on any field matches everything."""
    assert decode_flow_mod(OF13, _flow_mod("80000b04 0800 ffff")).mod.flow.match == Match.of(
        dict.fromkeys([parse_flow("ip,actions=drop").match.fields[0][0]], (0x800, 0xFFFF))
    )
    assert decode_flow_mod(OF13, _flow_mod("80000b04 0000 0000")).mod.flow.match == Match()
    whole = decode_flow_mod(OF13, _flow_mod("ffff0308 4f4b4f00 0007 ffff")).mod.flow
    assert whole.filter_prog == 7


# ---------------------------------------------------------------- statistics

FORMS = [(1, False), (1, True), (4, False), (5, False), (6, False)]


@pytest.mark.parametrize(("version", "nxm"), FORMS)
@given(st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_statistics_come_back(version: int, nxm: bool, rng: Random) -> None:
    told = [flow_of(rng, OPTIONS) for _ in range(3)]
    encoder = flow_stats.StatsEncoder(version, nxm=nxm, aware=True)
    replies = list(encoder.replies(7, [counters(flow) for flow in told]))
    found = [entry for msg in replies for entry in flow_stats.decode_flow_stats(version, msg)]
    assert encoder.hidden == 0 or version == OF10
    assert len(found) == len(told)
    for entry, flow in zip(found, told, strict=True):
        back = entry.flow
        assert (entry.n_packets, entry.n_bytes, entry.duration) == (5, 1 << 40, 7_000_000_008)
        assert (back.priority, back.cookie, back.table) == (flow.priority, flow.cookie, flow.table)
        if nxm:
            assert (entry.idle_age, entry.hard_age) == (3_000_000_000, 4_000_000_000)
        if version != OF10 or nxm:
            assert (back.match, back.filter_prog) == (flow.match, flow.filter_prog)
        if version != OF10 and "SetTransport" not in str(flow.instructions):
            assert compile_instructions(back.instructions) == compile_instructions(
                flow.instructions
            )


def test_unaware_peers_see_flows_without_filters() -> None:
    flow = parse_flow("filter_prog=3,actions=send_maps(3),output:2")
    encoder = flow_stats.StatsEncoder(OF13)
    (msg,) = encoder.replies(1, [counters(flow), counters(Flow())])
    first, second = flow_stats.decode_flow_stats(OF13, msg)
    assert encoder.hidden == 1
    assert first.flow.filter_prog == 0
    assert first.flow.instructions.apply == (act.Output(2),)
    assert second.flow.instructions.apply == ()


def test_long_dumps_are_cut_between_entries() -> None:
    flow = parse_flow("tcp,nw_dst=10.0.0.1,actions=output:2")
    encoder = flow_stats.StatsEncoder(OF13)
    replies = list(encoder.replies(1, [counters(flow)] * 2000))
    assert len(replies) > 1
    assert all(len(msg) <= 0xFFFF for msg in replies)
    assert [msg[11] for msg in replies] == [1] * (len(replies) - 1) + [0]
    assert sum(len(flow_stats.decode_flow_stats(OF13, msg)) for msg in replies) == 2000


@pytest.mark.parametrize("version", VERSIONS)
def test_requests_aggregates_and_removed_come_back(version: int) -> None:
    match = parse_flow("tcp,nw_dst=10.0.0.0/8,tp_dst=80,actions=drop").match
    for aggregate in (False, True):
        request = flow_stats.FlowRequest(3, match, 5, 6, 7, aggregate=aggregate)
        msg = flow_stats.encode_flow_request(version, request)
        assert flow_stats.decode_flow_request(version, msg) == replace(request, nxm=version == OF10)
        plain = flow_stats.FlowRequest(match=match, out_port=2, aggregate=aggregate)
        msg = flow_stats.encode_flow_request(version, plain)
        assert flow_stats.decode_flow_request(version, msg) == plain
    for nxm in (False, True) if version == OF10 else (False,):
        msg = flow_stats.encode_aggregate(version, 1, 2, 3, 4, nxm=nxm)
        assert flow_stats.decode_aggregate(version, msg) == (2, 3, 4)
        hard = 9 if version != OF10 else 0
        table = 3 if version != OF10 or nxm else 0
        removed = flow_stats.RemovedFlow(1, table, 2, match, 0, 4, 5_000_000_006, 8, hard, 10, 11)
        msg = flow_stats.encode_flow_removed(version, removed, nxm=nxm)
        assert flow_stats.decode_flow_removed(version, msg) == removed


# ---------------------------------------------------------------- Open vSwitch

UNKNOWN_TO_OVS = (act.SendMaps, act.CopyTtlIn, act.CopyTtlOut, act.PushPbb, act.PopPbb)
UNKNOWN_FIELDS = re.compile("ipv6_exthdr|pbb_|in_phy_port")


def _known_to_ovs(flow: Flow) -> bool:
    text = str(flow.instructions)
    return not any(kind.__name__ in text for kind in UNKNOWN_TO_OVS) and not (
        UNKNOWN_FIELDS.search(str(flow))
    )


@pytest.mark.skipif(OVS_OFCTL is None, reason="ovs-ofctl is not installed")
@pytest.mark.parametrize("version", VERSIONS)
def test_open_vswitch_reads_what_we_write(version: int) -> None:
    """ovs-ofctl prints our flow-mod, and its text means the flow again."""
    rng = Random(version)
    options = Options(groups=(1, 2), meters=(3,), text_only=True)
    n = 0
    while n < 60:
        flow = replace(flow_of(rng, options), flags=0)
        msg = encodable(version, flow)
        if msg is None or not _known_to_ovs(flow):
            continue
        if version == OF10 and flow.instructions.metadata and flow.instructions.goto:
            continue  # resubmit after write_metadata: it writes that, but does not read it
        done = subprocess.run(
            [str(OVS_OFCTL), "ofp-print", msg.hex()], capture_output=True, text=True, check=False
        )
        if "OFPBAC_MATCH_INCONSISTENT" in done.stdout:
            continue  # it asks for more: actions on TTLs need IP or MPLS, pop_vlan a tag
        n += 1
        assert "error" not in done.stdout, (done.stdout, done.stderr, flow)
        shown = done.stdout.strip().split(": ", 1)[1].split("\n")[0]
        assert shown.startswith("ADD "), shown
        shown = shown.removeprefix("ADD ").replace("table:", "table=").replace("send_flow_rem", "")
        shown = re.sub(r"cookie:0x", "cookie=0x", shown).replace("idle:", "idle_timeout=")
        shown = shown.replace("hard:", "hard_timeout=").replace("pri:", "priority=")
        if version != OF15:
            continue  # only 1.5 prints set_field and masks in the form that goes back
        assert compile_match(parse_flow(_normal(shown)).match) == compile_match(flow.match)


def _normal(shown: str) -> str:
    return re.sub(r" actions=.*", " actions=drop", shown)
