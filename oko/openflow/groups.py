"""Groups on the wire: group-mod and the multiparts about groups, OpenFlow 1.3, 1.4 and 1.5.

In 1.5 buckets have numbers and properties, and can be inserted and removed one by one. Weights mean
something in select groups only: elsewhere they are sent as 0 and must be 0. The selection method is
an experimenter's property of 1.5 (Netronome, 0x154d).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from oko.model.fields import PORT_ANY
from oko.model.flow import (
    BUCKET_ALL,
    BUCKET_FIRST,
    BUCKET_MAX,
    GROUP_ALL,
    GROUP_ANY,
    GROUP_MAX,
    GROUP_TYPE_KNOWN,
    GROUP_TYPES,
    Bucket,
    Group,
    GroupMod,
)
from oko.openflow.actions import decode_actions, encode_actions
from oko.openflow.common import (
    MP_GROUP,
    MP_GROUP_DESC,
    MP_GROUP_FEATURES,
    OF15,
    TYPES,
    decode_multipart,
    encode_multipart,
    fail,
    message,
    multipart_replies,
    sized_entries,
    take,
)

COMMANDS = {
    "add": 0, "modify": 1, "delete": 2, "insert_bucket": 3, "remove_bucket": 5,
    "add_or_mod": 0x8000,
}  # fmt: skip
_COMMAND_NAMES = {number: name for name, number in COMMANDS.items()}
SELECT, INDIRECT, FAST_FAILOVER = GROUP_TYPES["select"], GROUP_TYPES["indirect"], GROUP_TYPES["ff"]

_MOD = struct.Struct("!HBxI")
_MOD_15 = struct.Struct("!HBxIH2xI")
_BUCKET = struct.Struct("!HHII4x")
_BUCKET_15 = struct.Struct("!HHI")
_PROPERTY = struct.Struct("!HH")
_WEIGHT, _WATCH_PORT, _WATCH_GROUP, _EXPERIMENTER = 0, 1, 2, 0xFFFF
_SELECTION = struct.Struct("!HHII16s8x")  # type, length, experimenter, its type, method, parameter
_NETRONOME, _NTR_SELECTION = 0x154D, 1


# ---------------------------------------------------------------- buckets


def _encode_bucket(version: int, group: Group, index: int, send_maps: bool) -> bytes:
    bucket = group.buckets[index]
    actions = encode_actions(version, bucket.actions, send_maps=send_maps)
    if version < OF15:
        weight = bucket.weight if group.type == SELECT else 0
        size = _BUCKET.size + len(actions)
        return _BUCKET.pack(size, weight, bucket.watch_port, bucket.watch_group) + actions
    properties = b""
    if group.type == SELECT or (group.type == GROUP_TYPE_KNOWN and bucket.weight):
        properties += struct.pack("!HHH2x", _WEIGHT, 8, bucket.weight)
    if bucket.watch_port != PORT_ANY:
        properties += struct.pack("!HHI", _WATCH_PORT, 8, bucket.watch_port)
    if bucket.watch_group != GROUP_ANY:
        properties += struct.pack("!HHI", _WATCH_GROUP, 8, bucket.watch_group)
    number = index if bucket.id is None else bucket.id
    size = _BUCKET_15.size + len(actions) + len(properties)
    return _BUCKET_15.pack(size, len(actions), number) + actions + properties


def _decode_buckets(version: int, data: bytes) -> tuple[Bucket, ...]:
    result = []
    at = 0
    fixed = _BUCKET if version < OF15 else _BUCKET_15
    while at < len(data):
        if len(data) - at < fixed.size:
            fail("OFPGMFC_BAD_BUCKET", "the group ends inside of a bucket")
        (size,) = struct.unpack_from("!H", data, at)
        if size < fixed.size or size % 8 or size > len(data) - at:
            fail("OFPGMFC_BAD_BUCKET", f"a bucket cannot have {size} bytes here")
        bucket = data[at : at + size]
        result.append(
            _decode_bucket(version, bucket)
            if version < OF15
            else _decode_bucket_15(version, bucket)
        )
        at += size
    return tuple(result)


def _decode_bucket(version: int, data: bytes) -> Bucket:
    _, weight, watch_port, watch_group = _BUCKET.unpack_from(data)
    actions = decode_actions(version, data[_BUCKET.size :])
    return Bucket(actions, weight, watch_port, watch_group)


def _decode_bucket_15(version: int, data: bytes) -> Bucket:
    _, n_actions, number = _BUCKET_15.unpack_from(data)
    at = _BUCKET_15.size + n_actions
    if at > len(data):
        fail("OFPGMFC_BAD_BUCKET", "the actions do not fit into their bucket")
    actions = decode_actions(version, data[_BUCKET_15.size : at])
    bucket = Bucket(actions, 0, id=number)
    for property_, body in _properties(data[at:]):
        if property_ == _EXPERIMENTER:
            fail("OFPBPC_BAD_EXPERIMENTER", "no experimenter's bucket property is supported")
        if property_ > _WATCH_GROUP:
            fail("OFPBPC_BAD_TYPE", f"there is no bucket property {property_}")
        if len(body) != 4:
            fail("OFPBPC_BAD_LEN", f"bucket property {property_} has 8 bytes")
        value = int.from_bytes(body, "big")
        if property_ == _WEIGHT:
            bucket = replace(bucket, weight=value >> 16)
        elif property_ == _WATCH_PORT:
            bucket = replace(bucket, watch_port=value)
        else:
            bucket = replace(bucket, watch_group=value)
    return bucket


def _properties(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, what follows type and length) of each property."""
    at = 0
    while at < len(data):
        if len(data) - at < _PROPERTY.size:
            fail("OFPBPC_BAD_LEN", "a property is cut off")
        kind, size = _PROPERTY.unpack_from(data, at)
        if size < _PROPERTY.size or size > len(data) - at:
            fail("OFPBPC_BAD_LEN", f"a property cannot have {size} bytes here")
        yield kind, data[at + _PROPERTY.size : at + size]
        at += size + (-size % 8)


def _decode_selection(data: bytes) -> str:
    """The selection method among a group's properties of 1.5."""
    selection = ""
    for kind, body in _properties(data):
        if kind != _EXPERIMENTER:
            fail("OFPBPC_BAD_TYPE", f"there is no group property {kind}")
        if len(body) < _SELECTION.size - _PROPERTY.size:
            fail("OFPBPC_BAD_LEN", "a group property is too short")
        experimenter, subtype, method = struct.unpack_from("!II16s", body)
        if (experimenter, subtype) != (_NETRONOME, _NTR_SELECTION):
            fail("OFPBPC_BAD_EXPERIMENTER", "an unknown experimenter's group property")
        selection = method.rstrip(b"\0").decode("ascii", "replace")
        if selection not in ("", "hash", "dp_hash"):
            fail("OFPBPC_BAD_VALUE", "the selection method is neither hash nor dp_hash")
        if len(body) > _SELECTION.size - _PROPERTY.size:
            fail("OFPBPC_BAD_VALUE", "hashing over chosen fields is not supported")
    return selection


def _encode_selection(group: Group) -> bytes:
    if not group.selection:
        return b""
    return _SELECTION.pack(
        _EXPERIMENTER, _SELECTION.size, _NETRONOME, _NTR_SELECTION, group.selection.encode()
    )


def _encode_buckets(version: int, group: Group, send_maps: bool = True) -> bytes:
    buckets = range(len(group.buckets))
    return b"".join(_encode_bucket(version, group, i, send_maps) for i in buckets)


# ---------------------------------------------------------------- group-mod


def decode_group_mod(version: int, msg: bytes) -> GroupMod:
    """OFPT_GROUP_MOD."""
    selection, bucket = "", BUCKET_ALL
    if version < OF15:
        command, kind, number = take(_MOD, msg[8:], "a group-mod")
        buckets, rest = msg[8 + _MOD.size :], b""
    else:
        command, kind, number, size, bucket = take(_MOD_15, msg[8:], "a group-mod")
        at = 8 + _MOD_15.size
        buckets, rest = msg[at : at + size], msg[at + size :]
        if len(buckets) < size:
            fail("OFPGMFC_BAD_BUCKET", "the buckets do not fit into the message")
    name = _COMMAND_NAMES.get(command)
    if name is None or (version < OF15 and name.endswith("_bucket")):
        fail("OFPGMFC_BAD_COMMAND", f"group-mod command {command} is not supported")
    if name == "delete":
        if number > GROUP_MAX and number != GROUP_ALL:
            fail("OFPGMFC_INVALID_GROUP", f"{number:#x} is not the number of a group")
        return GroupMod(Group(number, 0), name)
    if number > GROUP_MAX:
        fail("OFPGMFC_INVALID_GROUP", f"{number:#x} is not the number of a group")
    if name.endswith("_bucket"):
        if bucket > BUCKET_MAX and bucket < BUCKET_FIRST:
            fail("OFPGMFC_UNKNOWN_BUCKET", f"{bucket:#x} is not the number of a bucket")
        return _decode_bucket_mod(version, number, buckets, name, bucket)
    if kind > FAST_FAILOVER:
        fail("OFPGMFC_BAD_TYPE", f"there is no group type {kind}")
    if version >= OF15:
        selection = _decode_selection(rest)
        if selection and kind != SELECT:
            fail("OFPBPC_BAD_VALUE", "a selection method is for groups of type select")
    group = Group(number, kind, _decode_buckets(version, buckets), selection)
    _check(group)
    if kind != SELECT:  # weights mean nothing: the model's default stands for that
        group = replace(group, buckets=tuple(replace(b, weight=1) for b in group.buckets))
    return GroupMod(group, name)


def _decode_bucket_mod(
    version: int, number: int, buckets: bytes, name: str, place: int
) -> GroupMod:
    """Of which type the group is, the switch knows: weights stay as they were sent."""
    if name == "remove_bucket":
        return GroupMod(Group(number, GROUP_TYPE_KNOWN), name, place)
    if place == BUCKET_ALL:
        fail("OFPGMFC_UNKNOWN_BUCKET", "there is no place behind all buckets: first or last")
    group = Group(number, GROUP_TYPE_KNOWN, _decode_buckets(version, buckets))
    _check_numbers(group)
    return GroupMod(group, name, place)


def _check_numbers(group: Group) -> None:
    numbers = [b.id for b in group.buckets if b.id is not None]
    if len(set(numbers)) != len(numbers):
        fail("OFPGMFC_BUCKET_EXISTS", "two buckets have the same number")


def _check(group: Group) -> None:
    if group.type == INDIRECT and len(group.buckets) != 1:
        fail("OFPGMFC_INVALID_GROUP", "a group of type indirect has exactly one bucket")
    _check_numbers(group)
    for bucket in group.buckets:
        watches = bucket.watch_port != PORT_ANY or bucket.watch_group != GROUP_ANY
        if group.type != SELECT and bucket.weight:
            fail("OFPGMFC_INVALID_GROUP", "weights are for groups of type select")
        if group.type == FAST_FAILOVER and not watches:
            fail("OFPGMFC_INVALID_GROUP", "a bucket of type ff must watch a port or a group")


def encode_group_mod(version: int, mod: GroupMod, xid: int = 0) -> bytes:
    """OFPT_GROUP_MOD; OpenFlowError in 1.0, which has no groups."""
    kind = TYPES[version].get("GROUP_MOD")
    if kind is None:
        fail("OFPBRC_BAD_TYPE", "OpenFlow 1.0 has no groups")
    group, command = mod.group, COMMANDS[mod.command]
    if mod.command.endswith("_bucket") and version < OF15:
        fail(
            "OFPGMFC_BAD_COMMAND",
            "single buckets can be changed since OpenFlow 1.5",
            "the switch has to offer it: oko-switchd --protocols OpenFlow10,..,OpenFlow15",
        )
    buckets = _encode_buckets(version, group)
    if version < OF15:
        head = _MOD.pack(command, group.type, group.id)
        return message(version, kind, xid, head + buckets)
    head = _MOD_15.pack(command, max(group.type, 0), group.id, len(buckets), mod.bucket)
    return message(version, kind, xid, head + buckets + _encode_selection(group))


# ---------------------------------------------------------------- multiparts

_REQUEST = struct.Struct("!I4x")
_DESC = struct.Struct("!HBxI")
_DESC_15 = struct.Struct("!HBxIH6x")
_STATS = struct.Struct("!H2xII4xQQII")
_PAIR = struct.Struct("!QQ")
_FEATURES = struct.Struct("!II4I4I")


def encode_group_request(version: int, kind: int, group: int = GROUP_ALL, xid: int = 0) -> bytes:
    """A request for MP_GROUP, MP_GROUP_DESC or MP_GROUP_FEATURES."""
    has_number = kind == MP_GROUP or (kind == MP_GROUP_DESC and version >= OF15)
    return encode_multipart(version, xid, kind, _REQUEST.pack(group) if has_number else b"")


def decode_group_request(version: int, msg: bytes) -> tuple[int, int]:
    """(multipart type, group or GROUP_ALL) of a request about groups."""
    part = decode_multipart(version, msg[8:])
    if part.type == MP_GROUP or (part.type == MP_GROUP_DESC and version >= OF15):
        (group,) = take(_REQUEST, part.body, "a request about groups")
        return part.type, group
    if part.body:
        fail("OFPBRC_BAD_LEN", "this request has no body")
    return part.type, GROUP_ALL


def encode_group_desc(version: int, group: Group, *, aware: bool = True) -> bytes:
    """One entry of a GROUP_DESC reply. aware: the peer knows send_maps."""
    buckets = _encode_buckets(version, group, aware)
    if version < OF15:
        return _DESC.pack(_DESC.size + len(buckets), group.type, group.id) + buckets
    rest = buckets + _encode_selection(group)
    head = _DESC_15.pack(_DESC_15.size + len(rest), group.type, group.id, len(buckets))
    return head + rest


def group_desc_replies(
    version: int, xid: int, groups: Iterable[Group], *, aware: bool = True
) -> Iterator[bytes]:
    """The replies to a GROUP_DESC request."""
    entries = (encode_group_desc(version, group, aware=aware) for group in groups)
    return multipart_replies(version, xid, MP_GROUP_DESC, entries)


def decode_group_desc(version: int, msg: bytes) -> list[Group]:
    """The groups of one GROUP_DESC reply."""
    result = []
    form = _DESC if version < OF15 else _DESC_15
    for entry in sized_entries(decode_multipart(version, msg[8:]).body, form.size):
        selection, buckets = "", entry[form.size :]
        if version < OF15:
            _, kind, number = _DESC.unpack_from(entry)
        else:
            _, kind, number, size = _DESC_15.unpack_from(entry)
            selection = _decode_selection(buckets[size:])
            buckets = buckets[:size]
        group = Group(number, kind, _decode_buckets(version, buckets), selection)
        if kind != SELECT:
            group = replace(group, buckets=tuple(replace(b, weight=1) for b in group.buckets))
        result.append(group)
    return result


@dataclass(frozen=True, slots=True)
class GroupCounters:
    """Counters of a group; buckets: (packets, bytes) each. duration in ns."""

    id: int
    n_flows: int
    n_packets: int
    n_bytes: int
    duration: int
    buckets: tuple[tuple[int, int], ...]


def encode_group_stats(counters: GroupCounters) -> bytes:
    """One entry of a GROUP reply."""
    size = _STATS.size + _PAIR.size * len(counters.buckets)
    head = _STATS.pack(
        size, counters.id, counters.n_flows, counters.n_packets, counters.n_bytes,
        *divmod(counters.duration, 1_000_000_000),
    )  # fmt: skip
    return head + b"".join(_PAIR.pack(*pair) for pair in counters.buckets)


def decode_group_stats(version: int, msg: bytes) -> list[GroupCounters]:
    """The entries of one GROUP reply."""
    result = []
    for entry in sized_entries(decode_multipart(version, msg[8:]).body, _STATS.size):
        _, number, n_flows, n_packets, n_bytes, seconds, ns = _STATS.unpack_from(entry)
        if (len(entry) - _STATS.size) % _PAIR.size:
            fail("OFPBRC_BAD_LEN", "the buckets' counters are cut off")
        buckets = tuple(_PAIR.iter_unpack(entry[_STATS.size :]))
        duration = seconds * 1_000_000_000 + ns
        result.append(GroupCounters(number, n_flows, n_packets, n_bytes, duration, buckets))
    return result


def group_stats_replies(version: int, xid: int, groups: Iterable[GroupCounters]) -> Iterator[bytes]:
    """The replies to a GROUP request."""
    return multipart_replies(version, xid, MP_GROUP, map(encode_group_stats, groups))


@dataclass(frozen=True, slots=True)
class GroupFeatures:
    """types and capabilities: bit masks (OFPGFC_*); max_groups and actions per type."""

    types: int
    capabilities: int
    max_groups: tuple[int, ...]
    actions: tuple[int, ...]


def encode_group_features(version: int, xid: int, features: GroupFeatures) -> bytes:
    """The reply to a GROUP_FEATURES request."""
    body = _FEATURES.pack(
        features.types, features.capabilities, *features.max_groups, *features.actions
    )
    return encode_multipart(version, xid, MP_GROUP_FEATURES, body, reply=True)


def decode_group_features(version: int, msg: bytes) -> GroupFeatures:
    """The inverse."""
    body = decode_multipart(version, msg[8:]).body
    values: Sequence[int] = take(_FEATURES, body, "group features")
    return GroupFeatures(values[0], values[1], tuple(values[2:6]), tuple(values[6:10]))
