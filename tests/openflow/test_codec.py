"""The rest of the codec: errors, groups, meters, oko's messages, os-ken's corpus, and noise."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openflow_samples import messages
from twin.generate import Options, group_of, meter_of

from oko.model.flow import GroupMod, MeterMod
from oko.openflow import common, extension, flow_stats, flows, groups, meters
from oko.openflow.common import (
    ERRORS,
    OF10,
    OF13,
    OF14,
    OF15,
    OKO,
    VERSION_NAMES,
    VERSIONS,
    OpenFlowError,
    decode_error,
    encode_error,
)

OVS_OFCTL = shutil.which("ovs-ofctl")

# ---------------------------------------------------------------- errors

SAME_NUMBERS = {  # two names of the table for one pair of numbers
    "OFPBRC_IS_SLAVE": "OFPBRC_EPERM",  # in 1.0
    "OFPBPC_BAD_TYPE": "OFPTFFC_BAD_TYPE",  # in 1.3, like the next two
    "OFPBPC_BAD_LEN": "OFPTFFC_BAD_LEN",
    "OFPBPC_BAD_VALUE": "OFPTFFC_BAD_ARGUMENT",
}


@pytest.mark.parametrize("version", VERSIONS)
def test_errors_come_back(version: int) -> None:
    for name in ERRORS[version]:
        found = decode_error(version, encode_error(version, 3, name, b"the message"))
        assert found.name in (name, SAME_NUMBERS.get(name))
        assert found.data == b"the message"


def test_errors_that_a_version_lacks_have_a_substitute() -> None:
    for name in {name for codes in ERRORS.values() for name in codes}:
        for version in VERSIONS:
            encode_error(version, 0, name, b"")
    bad_field = encode_error(OF10, 0, "OFPBMC_BAD_FIELD", b"")
    assert bad_field[8:] == bytes.fromhex("b0c20000 00002320 00000107")  # protocol.md, section 1
    assert encode_error(OF10, 0, "OFPBRC_IS_SLAVE", b"")[8:] == bytes.fromhex("00010005")


@pytest.mark.skipif(OVS_OFCTL is None, reason="ovs-ofctl is not installed")
def test_error_numbers_are_open_vswitchs() -> None:
    names = sorted({name for codes in ERRORS.values() for name in codes})
    versions = {VERSION_NAMES[version]: version for version in VERSIONS}
    row = re.compile(r"OpenFlow (1\.\d): vendor (\w+), type (\d+), code (\d+)")
    n_known = 0
    for name in names:
        done = subprocess.run(
            [str(OVS_OFCTL), "print-error", name], capture_output=True, text=True, check=False
        )
        if done.returncode:
            assert name.startswith("OFPTFFC_") or name == "OFPBRC_IS_SLAVE", name
            continue
        n_known += 1
        told = {
            versions[version]: (int(vendor, 16), int(kind), int(code))
            for version, vendor, kind, code in row.findall(done.stdout)
            if version in versions
        }
        ours = {
            version: (codes[name].experimenter, codes[name].type, codes[name].code)
            for version, codes in ERRORS.items()
            if name in codes
        }
        assert ours == told, name
    assert n_known > 150


# ---------------------------------------------------------------- groups, meters


@pytest.mark.parametrize("version", [OF13, OF14, OF15])
@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_groups_and_meters_come_back(version: int, rng: Random) -> None:
    group = group_of(rng, 3, Options(groups=(4, 5)))
    msg = groups.encode_group_mod(version, GroupMod(group), 1)
    back = groups.decode_group_mod(version, msg)
    assert groups.encode_group_mod(version, back, 1) == msg
    (desc,) = groups.group_desc_replies(version, 1, [group])
    assert groups.decode_group_desc(version, desc) == [back.group]
    assert [b.watch_port for b in back.group.buckets] == [b.watch_port for b in group.buckets]
    meter = meter_of(rng, 3)
    msg = meters.encode_meter_mod(version, MeterMod(meter), 1)
    assert meters.decode_meter_mod(version, msg) == MeterMod(meter)
    (config,) = meters.meter_config_replies(version, 1, [meter])
    assert meters.decode_meter_configs(version, config) == [meter]


def test_counters_of_groups_and_meters_come_back() -> None:
    group = groups.GroupCounters(1, 2, 3, 4, 5_000_000_006, ((7, 8), (9, 10)))
    (msg,) = groups.group_stats_replies(OF13, 1, [group])
    assert groups.decode_group_stats(OF13, msg) == [group]
    meter = meters.MeterCounters(1, 2, 3, 4, 5_000_000_006, ((7, 8),))
    (msg,) = meters.meter_stats_replies(OF13, 1, [meter])
    assert meters.decode_meter_stats(OF13, msg) == [meter]


# ---------------------------------------------------------------- oko's own messages

MAP = extension.MapName(1, 2)
OWN: list[extension.Message] = [
    extension.Hello(7),
    extension.LoadProgram(1, 5, 0, b"abcde", extension.CREATE_ONLY),
    extension.Loaded(4),
    extension.UnloadProgram(3, extension.FORCE),
    extension.UpdateMap(MAP, 2, 3, ((b"ab", b"cde"), (b"xy", b"z\0\0")), extension.REPLACE),
    extension.DeleteKeys(extension.MapName(1, name="blocked"), 2, (b"ab", b"cd")),
    extension.Updated(1, 2, 3),
    extension.Subscribe(1, 10, (1, 2)),
    extension.MapContents(MAP, 1, 1, ((b"a", b"b"),), 3, 4, 5, 6, extension.MORE),
    extension.ErrorText("the verifier's log, with an é"),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("message", OWN, ids=lambda m: type(m).__name__)
def test_own_messages_come_back(version: int, message: extension.Message) -> None:
    msg = extension.encode(version, message, 9)
    assert msg[:2] == bytes((version, 4)) and msg[8:12] == OKO.to_bytes(4, "big")
    assert extension.decode(msg) == message


def test_an_elf_of_any_size_comes_in_chunks() -> None:
    elf = Random(1).randbytes(200_000)
    chunks = [extension.decode(extension.encode(OF13, c)) for c in extension.load_chunks(3, elf)]
    assert b"".join(c.data for c in chunks if isinstance(c, extension.LoadProgram)) == elf
    assert [c.last for c in chunks if isinstance(c, extension.LoadProgram)] == [False] * 3 + [True]


def test_a_map_of_any_size_comes_in_chunks() -> None:
    entries = [(i.to_bytes(4, "little"), bytes(4)) for i in range(20_000)]
    updates = list(extension.update_chunks(MAP, 4, 4, entries, extension.REPLACE))
    assert [bool(u.flags & extension.MORE) for u in updates] == [True] * 2 + [False]
    assert [entry for u in updates for entry in u.entries] == entries
    for version in (OF10, OF13):
        dumps = [
            extension.decode_dump(version, msg)
            for msg in extension.dump_replies(version, 1, MAP, 4, 4, entries)
        ]
        assert [entry for dump in dumps for entry in dump.entries] == entries
    (empty,) = extension.dump_replies(OF13, 1, MAP, 4, 4, [])
    assert extension.decode_dump(OF13, empty).entries == ()


def test_programs_are_listed() -> None:
    program = extension.ProgramEntry(
        1, "syn_flood", "tcp:127.0.0.1:4711", bytes(range(32)), 2, 3, 4, 5, 6, 7, 8,
        (extension.MapEntry(0, "counters", 1, 2, 3, 4, 5, 6),),
    )  # fmt: skip
    for version in VERSIONS:
        (msg,) = extension.show_replies(version, 1, [program, program])
        assert extension.decode_programs(version, msg) == [program, program]
        request = extension.encode_show_request(version, 7)
        assert extension.decode_request(version, request) == 7
        request = extension.encode_dump_request(version, MAP)
        assert extension.decode_request(version, request) == MAP


def test_own_messages_that_do_not_add_up() -> None:
    whole = extension.encode(OF13, OWN[4])
    for broken, name in (
        (whole[:-1], "OFPBRC_BAD_LEN"),
        (whole[:12] + bytes(4) + whole[16:], "OFPBRC_BAD_SUBTYPE"),
        (whole[:8] + bytes(4) + whole[12:], "OFPBRC_BAD_VENDOR"),
        (whole[:12], "OFPBRC_BAD_LEN"),
        (extension.encode(OF13, extension.LoadProgram(1, 5, 3, b"abc")), "OFPBRC_BAD_LEN"),
    ):
        with pytest.raises(OpenFlowError) as caught:
            extension.decode(broken)
        assert caught.value.name == name


# ---------------------------------------------------------------- os-ken's corpus

Codec = tuple[Callable[[int, bytes], object], Callable[[int, object, int], bytes]]


def _codec(version: int, msg: bytes) -> Codec | None:
    """How to read a message, and to write what was read; None for what this codec leaves."""
    name = common.TYPE_NAMES[version][msg[1]]
    if name == "FLOW_MOD":
        return flows.decode_flow_mod, lambda v, d, x: flows.encode_flow_mod(
            v, d.mod, x, buffer_id=d.buffer_id, nxm=False
        )
    if name == "GROUP_MOD":
        return groups.decode_group_mod, groups.encode_group_mod
    if name == "METER_MOD":
        return meters.decode_meter_mod, meters.encode_meter_mod
    if name == "FLOW_REMOVED":
        return flow_stats.decode_flow_removed, lambda v, d, x: flow_stats.encode_flow_removed(
            v, d, x
        )
    if not name.startswith("MULTIPART"):
        return None
    kind = common.decode_multipart(version, msg[8:]).type
    request = name.endswith("REQUEST")
    if kind in (common.MP_FLOW, common.MP_AGGREGATE):
        if request:
            return flow_stats.decode_flow_request, flow_stats.encode_flow_request
        if kind == common.MP_AGGREGATE:
            return flow_stats.decode_aggregate, lambda v, d, x: flow_stats.encode_aggregate(
                v, x, *d
            )
    if kind == common.MP_FLOW_STATS_15 and version == OF15 and request:
        return flow_stats.decode_flow_request, flow_stats.encode_flow_request
    if version == OF10 or kind not in range(6, 12):
        return None
    if request and kind < 9:
        return groups.decode_group_request, lambda v, d, x: groups.encode_group_request(v, *d, x)
    if request:
        return meters.decode_meter_request, lambda v, d, x: meters.encode_meter_request(v, *d, x)
    return {
        6: (groups.decode_group_stats, lambda v, d, x: next(groups.group_stats_replies(v, x, d))),
        7: (groups.decode_group_desc, lambda v, d, x: next(groups.group_desc_replies(v, x, d))),
        8: (
            groups.decode_group_features,
            lambda v, d, x: groups.encode_group_features(v, x, d),
        ),
        9: (meters.decode_meter_stats, lambda v, d, x: next(meters.meter_stats_replies(v, x, d))),
        10: (
            meters.decode_meter_configs,
            lambda v, d, x: next(meters.meter_config_replies(v, x, d)),
        ),
        11: (
            meters.decode_meter_features,
            lambda v, d, x: meters.encode_meter_features(v, x, d),
        ),
    }[kind]


# Files that do not come back byte for byte, and why. All others must.
REFUSED_FILES = {
    "no such field: tunnels": [
        "libofproto-OFP13-flow_mod", "libofproto-OFP13-flow_removed", "ovs-ofctl-of13-action_learn",
        "ovs-ofctl-of13-action_resubmit", "libofproto-OFP15-flow_mod", "action_conjunction",
    ],
    "no such field: experimenter 0x4f4e4600/0, connection tracking": [
        "4-2-ofp_flow_mod", "action_ct",
    ],
    "a field without its prerequisite": [
        "4-60-ofp_flow_mod", "5-58-ofp_flow_mod", "5-2-ofp_flow_mod", "flow_mod_match_conj",
    ],
    "weights where they mean nothing": ["4-21-ofp_group_mod", "5-21-ofp_group_mod",
        "4-34-ofp_group_desc_reply", "5-34-ofp_group_desc_reply"],
    "an experimenter's band": ["4-45-ofp_meter_mod", "5-43-ofp_meter_mod"],
    "not supported": ["controller", "action_sample", "OFP15-group_mod"],
    "a value out of range": ["action_set_mpls_tc"],
    "max_len of a port that is no controller": ["1-2-ofp_flow_mod", "4-46-ofp_flow_mod",
        "5-44-ofp_flow_mod"],
    "another form of the same action": ["action_set_mpls_label"],
    "another order of fields": ["match_pkt_mark"],
    "counters that 1.5 leaves out": ["OFP15-aggregate_stats_reply", "OFP15-flow_removed"],
    "padding that is not zero": ["OFP15-group_desc_reply"],
}  # fmt: skip


def test_os_kens_corpus_comes_back_byte_for_byte() -> None:
    os_ken = pytest.importorskip("os_ken")
    corpus = Path(os_ken.__file__).parent / "tests" / "packet_data"
    if not corpus.is_dir():
        pytest.skip("this os-ken comes without its packet files")
    excused = [part for parts in REFUSED_FILES.values() for part in parts]
    n_same, different = 0, []
    for path in sorted(corpus.glob("of1[0345]/*.packet")):
        msg = path.read_bytes()
        version, xid = msg[0], int.from_bytes(msg[4:8], "big")
        if version not in VERSIONS or int.from_bytes(msg[2:4], "big") != len(msg):
            continue
        codec = _codec(version, msg)
        if codec is None:
            continue
        decode, encode = codec
        try:
            same = encode(version, decode(version, msg), xid) == msg
        except OpenFlowError:
            same = False
        if same:
            n_same += 1
        else:
            different.append(path.stem)
    assert [name for name in different if not any(part in name for part in excused)] == []
    assert [part for part in excused if not any(part in name for name in different)] == []
    assert n_same >= 55


# ---------------------------------------------------------------- noise


def _decoders(version: int) -> list[Callable[[bytes], object]]:
    return [
        lambda msg: flows.decode_flow_mod(version, msg, table_id_ext=True),
        lambda msg: flow_stats.decode_flow_stats(version, msg),
        lambda msg: flow_stats.decode_flow_request(version, msg),
        lambda msg: flow_stats.decode_aggregate(version, msg),
        lambda msg: flow_stats.decode_flow_removed(version, msg),
        lambda msg: groups.decode_group_mod(version, msg),
        lambda msg: groups.decode_group_desc(version, msg),
        lambda msg: groups.decode_group_stats(version, msg),
        lambda msg: groups.decode_group_request(version, msg),
        lambda msg: meters.decode_meter_mod(version, msg),
        lambda msg: meters.decode_meter_configs(version, msg),
        lambda msg: meters.decode_meter_stats(version, msg),
        lambda msg: meters.decode_meter_request(version, msg),
        extension.decode,
        lambda msg: extension.decode_request(version, msg),
        lambda msg: extension.decode_dump(version, msg),
        lambda msg: extension.decode_programs(version, msg),
        lambda msg: common.decode_error(version, msg),
    ]


def _mutated(rng: Random, msg: bytes) -> bytes:
    data = bytearray(msg)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(8, len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] = rng.choice((0, 1, 255, rng.randrange(256)))
        elif kind == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2 and len(data) > 24:
            del data[at : at + rng.choice((1, 4, 8))]
        else:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 8)))
        if len(data) < 12:
            data += bytes(12)
    return bytes(data)


@given(st.integers(0, (1 << 64) - 1))
@settings(max_examples=80, deadline=None)
def test_nothing_but_openflow_errors_escapes(seed: int) -> None:
    """Damaged messages of every kind, given to every decoder: a value, or OpenFlowError."""
    rng = Random(seed)
    for version, msg in messages(rng):
        for decode in _decoders(version):
            for damaged in (msg, _mutated(rng, msg), _mutated(rng, msg), msg[: rng.randrange(60)]):
                try:
                    decode(damaged)
                except OpenFlowError as exc:
                    common.error_code(version, exc.name)
                    assert exc.name in ERRORS[OF15] or any(exc.name in e for e in ERRORS.values())
