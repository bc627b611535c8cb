"""The model's tables and records agree with the C header; matches have one representation."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oko._oko import ffi, lib
from twin.generate import Options, flow_of

from oko.model import actions as act
from oko.model import compile as records
from oko.model.actions import Subfield
from oko.model.fields import BY_NAME, COMPOSED, FIELDS, VLAN_TCI, field
from oko.model.flow import FLAG_NAMES, GROUP_TYPES, Flow, Match
from oko.text import parse_flow


def test_fields_are_those_of_the_core() -> None:
    info = ffi.new("struct oko_field_info *")
    assert len(FIELDS) == lib.OKO_N_FIELDS
    for f in FIELDS:
        assert lib.oko_field_info(f.id, info) == 0
        assert (f.name, f.bits, f.size) == (
            ffi.string(info.name).decode(), info.bits, info.size,
        )  # fmt: skip
    assert lib.oko_field_info(len(FIELDS), info) == lib.OKO_E_NOTFOUND


def test_wire_names_are_unique_and_headers_too() -> None:
    names = [name for f in (*FIELDS, *COMPOSED) for name in f.wire_names]
    assert len(names) == len(set(names))
    headers = [h for f in (*FIELDS, *COMPOSED) for h in (f.oxm, f.nxm) if h is not None]
    assert len(headers) == len(set(headers))
    assert BY_NAME["NXM_OF_IP_SRC"] is BY_NAME["ip_src"] is field("ipv4_src")


def test_operation_codes_are_those_of_the_core() -> None:
    ours = {n.removeprefix("OP_"): v for n, v in vars(records).items() if n.startswith("OP_")}
    theirs = {
        name.removeprefix("OKO_OP_"): number
        for number, name in ffi.typeof("enum oko_op").elements.items()
    }
    assert ours == theirs
    for name, bit in {
        "send_flow_rem": lib.OKO_FLOW_SEND_FLOW_REM,
        "check_overlap": lib.OKO_FLOW_CHECK_OVERLAP,
        "reset_counts": lib.OKO_FLOW_RESET_COUNTS,
        "no_packet_counts": lib.OKO_FLOW_NO_PKT_COUNTS,
        "no_byte_counts": lib.OKO_FLOW_NO_BYT_COUNTS,
    }.items():
        assert FLAG_NAMES[name] == bit
    assert GROUP_TYPES == {
        "all": lib.OKO_GROUP_ALL,
        "select": lib.OKO_GROUP_SELECT,
        "indirect": lib.OKO_GROUP_INDIRECT,
        "ff": lib.OKO_GROUP_FF,
    }
    assert (records.METER_KBPS, records.METER_PKTPS, records.METER_BURST, records.METER_STATS) == (
        lib.OKO_METER_KBPS, lib.OKO_METER_PKTPS, lib.OKO_METER_BURST, lib.OKO_METER_STATS,
    )  # fmt: skip
    assert (records.BAND_DROP, records.BAND_DSCP_REMARK) == (
        lib.OKO_BAND_DROP, lib.OKO_BAND_DSCP_REMARK,
    )  # fmt: skip


def test_record_layouts_are_those_of_the_core() -> None:
    assert records._MATCH_FIELD.size == ffi.sizeof("struct oko_match_field")
    assert records._HEAD.size == ffi.sizeof("struct oko_op_head")
    assert records._LEARN.size == ffi.sizeof("struct oko_learn")
    assert records._LEARN_SPEC.size == ffi.sizeof("struct oko_learn_spec")
    spec = ffi.from_buffer(
        "struct oko_learn_spec *",
        records._LEARN_SPEC.pack(1, 2, 3, 4, 5, 6, 7, bytes(15) + b"\x09"),
    )
    assert (spec.src_is_value, spec.dst, spec.n_bits, spec.src_field) == (1, 2, 3, 4)
    assert (spec.src_ofs, spec.dst_field, spec.dst_ofs, spec.value[15]) == (5, 6, 7, 9)
    learn = ffi.from_buffer(
        "struct oko_learn *", records._LEARN.pack(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    )
    assert [
        learn.idle_timeout, learn.hard_timeout, learn.priority, learn.flags, learn.cookie,
        learn.fin_idle, learn.fin_hard, learn.n_specs, learn.limit, learn.result,
    ] == list(range(1, 11))  # fmt: skip


def ops(data: bytes) -> list[tuple[int, int, bytes]]:
    """The items of a string: (op, arg, payload)."""
    result = []
    while data:
        op, size, arg = struct.unpack_from("=HHI", data)
        assert size >= 8
        assert size % 8 == 0
        result.append((op, arg, data[8:size]))
        data = data[size:]
    return result


def test_instructions_are_in_the_order_of_execution() -> None:
    flow = parse_flow(
        "actions=meter:3,output:1,clear_actions,write_actions(output:2),write_metadata:5/7,"
        "goto_table:9"
    )
    compiled = ops(records.compile_flow(flow).ops)
    assert [op for op, _, _ in compiled] == [1, 2, 3, 4, 5, 6]
    assert compiled[0][1] == 3
    assert ops(compiled[1][2]) == [(records.OP_OUTPUT, 1, bytes(8))]
    assert struct.unpack("=QQ", compiled[4][2]) == (5, 7)
    assert compiled[5][1] == 9


def test_values_are_right_aligned_in_the_fields_bytes() -> None:
    data = records.compile_match(parse_flow("ip,nw_src=10.1.0.0/16,actions=drop").match)
    first, second = data[:40], data[40:]
    assert struct.unpack_from("=I", first) == (lib.OKO_FIELD_ETH_TYPE,)
    assert first[8:] == b"\x08\x00".ljust(16, b"\0") + b"\xff\xff".ljust(16, b"\0")
    assert struct.unpack_from("=I", second) == (lib.OKO_FIELD_IPV4_SRC,)
    assert second[8:] == b"\x0a\x01\0\0".ljust(16, b"\0") + b"\xff\xff\0\0".ljust(16, b"\0")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("move:NXM_OF_VLAN_TCI[]->reg0[0..15]", [(13, "vlan_vid", 0, "reg0", 0),
                                                  (3, "vlan_pcp", 0, "reg0", 13)]),
        ("move:NXM_OF_VLAN_TCI[4..11]->NXM_OF_VLAN_TCI[0..7]", [(8, "vlan_vid", 4, "vlan_vid", 0)]),
        ("move:reg3[0..2]->NXM_OF_VLAN_TCI[13..15]", [(3, "reg3", 0, "vlan_pcp", 0)]),
        ("move:in_port[]->reg0[0..15]", [(16, "in_port", 0, "reg0", 0)]),
    ],
)  # fmt: skip
def test_composed_fields_are_taken_apart(text: str, pieces: list[tuple[object, ...]]) -> None:
    data = records.compile_actions(parse_flow(f"actions={text}").instructions.apply)
    got = [
        (bits, FIELDS[src].name, src_ofs, FIELDS[dst].name, dst_ofs)
        for _, bits, payload in ops(data)
        for src, src_ofs, dst, dst_ofs in [struct.unpack("=HHHH", payload)]
    ]
    assert got == pieces


def test_vlan_tci_is_an_operation_of_its_own() -> None:
    flow = parse_flow("actions=mod_vlan_vid:5,mod_vlan_pcp:3,set_field:0->vlan_tci")
    assert [(op, arg) for op, arg, _ in ops(records.compile_actions(flow.instructions.apply))] == [
        (records.OP_SET_VLAN_TCI, 0x1005 << 16 | 0x1FFF),
        (records.OP_SET_VLAN_TCI, 0x7000 << 16 | 0xF000),
        (records.OP_SET_VLAN_TCI, 0x0000 << 16 | 0xFFFF),
    ]


def test_learn_spec_of_composed_fields() -> None:
    learn = act.Learn((act.LearnMatch(Subfield(VLAN_TCI, 0, 16), 0xB005),))
    (item,) = ops(records.compile_actions((learn,)))
    specs = item[2][ffi.sizeof("struct oko_learn") :]
    size = ffi.sizeof("struct oko_learn_spec")
    assert len(specs) == 2 * size
    first = ffi.from_buffer("struct oko_learn_spec *", specs[:size])
    second = ffi.from_buffer("struct oko_learn_spec *", specs[size:])
    assert (first.n_bits, first.dst_field, bytes(first.value)[-2:]) == (
        13, lib.OKO_FIELD_VLAN_VID, b"\x10\x05",
    )  # fmt: skip
    assert (second.n_bits, second.dst_field, second.value[15]) == (3, lib.OKO_FIELD_VLAN_PCP, 5)


def test_matches_of_the_same_meaning_are_equal() -> None:
    def match(text: str) -> Match:
        return parse_flow(f"{text},actions=drop").match

    assert match("tcp,tp_dst=80") == match("dl_type=0x800,nw_proto=6,tcp_dst=0x50")
    assert match("dl_vlan=5") == match("vlan_vid=0x1005") == match("vlan_tci=0x1005/0x1fff")
    assert match("vlan_tci=0") == match("dl_vlan=0xffff") == match("vlan_vid=0")
    assert match("xreg0=0x100000002") == match("reg0=1,reg1=2")
    assert match("ip,nw_src=10.0.0.1/8") == match("ip,nw_src=10.0.0.0/255.0.0.0")
    assert hash(match("ip")) == hash(match("dl_type=0x0800"))
    assert match("ip") != match("ipv6")
    assert match("reg0=0/0") == Match()


@given(st.randoms(use_true_random=False))
def test_match_records_are_read_back(rng: object) -> None:
    flow: Flow = flow_of(rng, Options(text_only=True))  # type: ignore[arg-type]
    assert records.parse_match(records.compile_match(flow.match)) == flow.match
    compiled = records.compile_flow(flow)
    assert compiled.n_match * 40 == len(compiled.match)
    assert len(compiled.ops) % 8 == 0
