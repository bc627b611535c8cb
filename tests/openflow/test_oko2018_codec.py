"""Oko's dialect of 2018, byte for byte as its ovs-ofctl and its switch put it on the wire.

The hex texts were captured between Oko's own tools (commit 599e0a270).
"""

from __future__ import annotations

import pytest

from oko.model.compile import compile_instructions, compile_match
from oko.model.flow import ADD, Instructions
from oko.openflow import oko2018
from oko.openflow.common import OF10, OF13, OpenFlowError
from oko.openflow.flow_stats import StatsEncoder, decode_flow_stats
from oko.openflow.flows import decode_flow_mod
from oko.openflow.oko2018 import DumpedMap, DumpRequest, Load, Update
from oko.text import parse_rules


def hexed(text: str) -> bytes:
    return bytes.fromhex(text.replace("|", "").replace("*", ""))


def test_messages_as_captured() -> None:
    update = Update(5, 0, 4, 4, ((bytes((14, 0, 16, 172)), bytes((1, 0, 0, 0))),))
    wire = hexed(
        "01 04 0028 00000004 | 00002320 00000020 | 0005 0000 00000004 00000004 00000001 |"
        "0e0010ac 01000000"
    )
    assert oko2018.decode(wire) == update
    assert oko2018.encode_update(OF10, 4, update) == wire
    wire = hexed(
        "04 04 0028 00000002 | 00002320 00000020 | 0005 0000 00000004 00000004 00000001 |"
        "ff000307 2c000000"
    )
    asked = oko2018.decode(wire)
    assert isinstance(asked, Update) and asked.entries == ((hexed("ff000307"), hexed("2c000000")),)
    for number, text in ((0, "0000"), (1, "0100")):
        wire = hexed(f"01 04 0016 00000004 | 00002320 00000021 | 0005 0001 {text}")
        assert oko2018.decode(wire) == DumpRequest(5, (number,))
        assert oko2018.encode_dump_request(OF10, 4, DumpRequest(5, (number,))) == wire


def test_a_load_as_captured() -> None:
    elf = b"\x7fELF" + bytes(2332)
    wire = hexed("01 04 0938 00000004 | 00002320 0000001f | 0001 0000 00000920") + elf
    assert oko2018.decode(wire) == Load(1, elf)
    assert oko2018.encode_load(OF10, 4, Load(1, elf)) == wire
    assert oko2018.decode(wire + b"more") == Load(1, elf)  # Oko took trailing bytes, too


def test_a_dump_as_captured() -> None:
    wire = hexed(
        "01 04 0034 00000004 | 00002320 00000022 | 0500 0100 |"
        "0000 0000 04000000 04000000 02000000 | 01020304 02000000 0e0010ac 01000000"
    )
    dumped = DumpedMap(
        0, 4, 4, ((hexed("01020304"), hexed("02000000")), (hexed("0e0010ac"), hexed("01000000")))
    )
    assert oko2018.encode_dump_reply(OF10, 4, 5, [dumped]) == wire
    assert oko2018.decode_dump_reply(wire) == (5, [dumped])
    two = [DumpedMap(0, 8, 8, ()), DumpedMap(1, 4, 4, ())]
    wire = oko2018.encode_dump_reply(OF10, 4, 6, two)
    assert wire[16:] == hexed(
        "0600 0200 | 0000 0000 08000000 08000000 00000000 | 0100 0000 04000000 04000000 00000000"
    )
    assert oko2018.decode_dump_reply(wire) == (6, two)


def test_a_dump_that_does_not_fit_is_an_error() -> None:
    """Oko's length wrapped, and its ovs-ofctl died."""
    entries = tuple((i.to_bytes(8, "little"), bytes(8)) for i in range(12000))
    with pytest.raises(OpenFlowError, match="do not fit into one message"):
        oko2018.encode_dump_reply(OF10, 4, 5, [DumpedMap(0, 8, 8, entries)])


@pytest.mark.parametrize(
    ("subtype", "body", "name"),
    [
        (31, "0001 0000 00000000", "OFPBMC_BAD_LEN"),
        (31, "0001 0000 00000005 7f454c46", "OFPBMC_BAD_LEN"),
        (31, "0001", "OFPBRC_BAD_LEN"),
        (32, "0005 0000 00000004 00000004 20000000", "OFPBMC_BAD_LEN"),
        (32, "0005 0000 80000000 80000000 00000001 00", "OFPBMC_BAD_LEN"),
        (32, "0005 0000 00000000 00000000 00000001", "OFPBMC_BAD_LEN"),
        (33, "0005 0002 0000", "OFPBMC_BAD_LEN"),
        (33, "0005 0000", "OFPBMC_BAD_LEN"),
        (34, "0500 0100", "OFPBRC_BAD_TYPE"),
    ],
)
def test_malformed_messages(subtype: int, body: str, name: str) -> None:
    data = hexed(body)
    head = bytes((1, 4)) + (16 + len(data)).to_bytes(2, "big") + hexed("00000004 00002320")
    with pytest.raises(OpenFlowError) as caught:
        oko2018.decode(head + subtype.to_bytes(4, "big") + data)
    assert caught.value.name == name


def test_no_entries_is_nothing_to_do() -> None:
    wire = hexed("01 04 0020 00000004 00002320 00000020 0005 0000 00000004 00000004 00000000")
    assert oko2018.decode(wire) == Update(5, 0, 4, 4, ())


FLOW_MODS = {
    "1.0": (
        OF10,
        "01 0e 0058 00000001 | 003820fe 0001" + "00" * 34 + "| 0000000000000000 |"
        "0000 0000 0000 000a | ffffffff ffff *0005* 0000 000000000000 | 0000 0008 0002 0000",
        10,
    ),
    "NXM": (
        OF10,
        "01 04 0040 00000001 | 00002320 0000000d | 0000000000000000 | 0000 0000 0000 000c |"
        "ffffffff ffff *0005* 0000 0006 00000000 | 0000 0002 0001 0000 | 0000 0008 0002 0000",
        12,
    ),
    "1.3": (
        4,
        "04 0e 0060 00000001 | 0000000000000000 0000000000000000 | 00 00 0000 0000 000e |"
        "ffffffff ffffffff ffffffff | 0000 *0005* 0000 000000000000 |"
        "0001 000c 80000004 00000001 00000000 |"
        "0004 0018 00000000 0000 0010 00000002 ffff 000000000000",
        14,
    ),
}


@pytest.mark.parametrize("layout", FLOW_MODS)
def test_flow_mods_as_captured(layout: str) -> None:
    version, text, priority = FLOW_MODS[layout]
    standard, program = oko2018.standard_flow_mod(version, hexed(text))
    assert program == 5
    assert int.from_bytes(standard[2:4], "big") == len(standard)
    mod = decode_flow_mod(version, standard).mod
    (expected,) = parse_rules(f"priority={priority},in_port=1,actions=output:2", "flows")
    assert mod.command == ADD and mod.flow.priority == priority
    assert mod.flow.match == expected.flow.match
    assert mod.flow.instructions == expected.flow.instructions


@pytest.mark.parametrize("layout", FLOW_MODS)
def test_short_flow_mods(layout: str) -> None:
    version, text, _ = FLOW_MODS[layout]
    for size in range(8 if layout != "NXM" else 16, 48):
        with pytest.raises(OpenFlowError):
            oko2018.standard_flow_mod(version, hexed(text)[:size])


class Counted:
    """A flow as Bridge.flow_stats() gives it."""

    table, priority, filter_prog, cookie, flags, importance = 3, 10, 5, 7, 1, 0
    idle_timeout, hard_timeout = 60, 600
    n_packets, n_bytes, duration, idle_age, hard_age = 4, 400, 1_500_000_000, 10**9, 10**9

    def __init__(self) -> None:
        (mod,) = parse_rules("in_port=1,actions=output:2", "flows")
        self.instructions: Instructions = mod.flow.instructions
        self.match_bytes = compile_match(mod.flow.match)
        self.ops = compile_instructions(mod.flow.instructions)


@pytest.mark.parametrize(
    ("version", "nxm", "at", "grows"),
    [(OF10, False, 54, 0), (OF10, True, 48, 8), (OF13, False, 14, 0)],
)
def test_entries_of_statistics(version: int, nxm: bool, at: int, grows: int) -> None:
    """The number where Oko's tools look for it, and all else as the standard's entry tells it."""
    flow = Counted()
    standard = StatsEncoder(version, nxm=nxm).entry(flow)
    theirs = oko2018.Encoder2018(version, nxm=nxm).entry(flow)
    assert theirs[at : at + 2] == b"\x00\x05"
    assert len(theirs) == len(standard) + grows == int.from_bytes(theirs[:2], "big")
    if nxm:
        assert theirs[2:48] + theirs[56:] == standard[2:]
    else:
        idle, hard = 54, 56
        if version != OF10:
            idle, hard = 14, 16
            assert theirs[20:22] == standard[18:20] and theirs[24:] == standard[24:]
        assert theirs[idle + 2 : idle + 4] == standard[idle : idle + 2] == (60).to_bytes(2, "big")
        assert theirs[hard + 2 : hard + 4] == standard[hard : hard + 2] == (600).to_bytes(2, "big")
        assert theirs[2:at] == standard[2:at]


def test_replies_hold_whole_entries() -> None:
    """A stock tool would read the number as the idle timeout; the rest it would find."""
    (reply,) = oko2018.Encoder2018(OF13).replies(9, [Counted(), Counted()])
    assert len(reply) == int.from_bytes(reply[2:4], "big")
    assert [entry.flow.idle_timeout for entry in decode_flow_stats(OF13, reply)] == [5, 5]
