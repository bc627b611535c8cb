"""OpenFlow messages in words, as ovs-ofctl prints them: refusals, what monitor and ofp-parse show.

    OFPT_FLOW_MOD (OF1.3) (xid=0x6): ADD priority=7,ip cookie:0x1 actions=output:2

A message that cannot be read is shown with its reason and its bytes; nothing here raises.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from oko.errors import OkoError
from oko.model.fields import PORT_ANY
from oko.model.flow import FLAG_NAMES, PRIORITY_DEFAULT, TABLE_ALL, FlowMod, GroupMod
from oko.ofctl.printing import port_text, title, xid_of
from oko.openflow.client import RefusedError
from oko.openflow.common import (
    EXPERIMENTER,
    NICIRA,
    OF10,
    OKO,
    ONF,
    TYPE_NAMES,
)
from oko.text.action_format import format_actions, format_instructions
from oko.text.match import format_match

_COMMANDS = ("ADD", "MOD", "MOD_STRICT", "DEL", "DEL_STRICT")
_OLD = {"MULTIPART_REQUEST": "STATS_REQUEST", "MULTIPART_REPLY": "STATS_REPLY"}
_NICIRA = {
    8: "NXT_SET_FLOW_FORMAT", 10: "NXT_ROLE_REQUEST", 11: "NXT_ROLE_REPLY",
    12: "NXT_SET_FLOW_FORMAT", 13: "NXT_FLOW_MOD", 14: "NXT_FLOW_REMOVED",
    15: "NXT_FLOW_MOD_TABLE_ID", 16: "NXT_SET_PACKET_IN_FORMAT", 17: "NXT_PACKET_IN",
    18: "NXT_FLOW_AGE", 19: "NXT_SET_ASYNC_CONFIG", 20: "NXT_SET_CONTROLLER_ID",
    21: "NXT_FLOW_MONITOR_CANCEL", 22: "NXT_FLOW_MONITOR_PAUSED", 23: "NXT_FLOW_MONITOR_RESUMED",
    30: "NXT_PACKET_IN2",
}  # fmt: skip
_OKO = {
    1: "OKO_HELLO", 2: "OKO_LOAD_FILTER_PROG", 3: "OKO_LOADED", 4: "OKO_UNLOAD_FILTER_PROG",
    5: "OKO_UPDATE_MAP", 6: "OKO_DELETE_KEYS", 7: "OKO_UPDATED", 8: "OKO_SUBSCRIBE",
    9: "OKO_SEND_MAPS", 10: "OKO_ERROR_TEXT",
}  # fmt: skip
_ONF = {
    1870: "ONFT_FLOW_MONITOR_CANCEL", 1871: "ONFT_FLOW_MONITOR_PAUSED",
    1872: "ONFT_FLOW_MONITOR_RESUMED", 2300: "ONFT_BUNDLE_CONTROL", 2301: "ONFT_BUNDLE_ADD_MESSAGE",
}  # fmt: skip


def type_name(msg: bytes) -> str:
    """OFPT_FLOW_MOD, NXT_FLOW_MOD, ..."""
    version, kind = msg[0], msg[1]
    if kind == EXPERIMENTER and len(msg) >= 16:
        experimenter, subtype = struct.unpack_from("!II", msg, 8)
        names = {NICIRA: _NICIRA, OKO: _OKO, ONF: _ONF}.get(experimenter, {})
        return names.get(subtype, f"experimenter {experimenter:#x} type {subtype}")
    names_of = TYPE_NAMES.get(version, ())
    if kind >= len(names_of):
        return f"type {kind}"
    name = names_of[kind]
    return "OFPT_" + (_OLD.get(name, name) if version == OF10 else name)


def describe(msg: bytes, *, more: bool = False) -> str:
    """A message, on one or more lines."""
    version, name = msg[0], type_name(msg)
    if version not in TYPE_NAMES:
        return f"a message of an unknown version {version:#x}:\n{hex_dump(msg)}"
    head = title(name, version, xid_of(msg))
    handler = _HANDLERS.get(name)
    try:
        if name in _MULTIPART_NAMES and len(msg) >= 12:
            return _multipart(msg, reply=name.endswith("REPLY")) + _bytes(msg, more)
        if handler is None:
            return head + _bytes(msg, more)
        return head + handler(version, msg) + _bytes(msg, more)
    except (OkoError, struct.error) as exc:
        return f"{head} ***decode error: {exc}***\n" + hex_dump(msg)


_MULTIPART_NAMES = (
    "OFPT_STATS_REQUEST", "OFPT_STATS_REPLY", "OFPT_MULTIPART_REQUEST", "OFPT_MULTIPART_REPLY",
)  # fmt: skip


def _bytes(msg: bytes, more: bool) -> str:
    return "\n" + hex_dump(msg) if more else ""


def hex_dump(data: bytes) -> str:
    """Sixteen bytes a line, as ds_put_hex_dump()."""
    lines = []
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        cells = [f"{byte:02x}" for byte in part] + ["  "] * (16 - len(part))
        left, right = " ".join(cells[:8]), " ".join(cells[8:])
        shown = "".join(chr(b) if 32 <= b < 127 else "." for b in part)
        dash = "-" if len(part) > 8 else " "
        lines.append(f"{at:08x}  {left}{dash}{right} |{shown:<16}|")
    return "\n".join(lines)


def refusal_lines(refusal: RefusedError, command: str) -> list[str]:
    """A refusal as ovs-ofctl prints it, and the switch's own words. Where a message of oko's was
    refused the words are enough."""
    reason = refusal.reason.removeprefix(f"{refusal.name}: ").rstrip()
    if reason and is_oko(refusal.request):
        first, *more = reason.split("\n")
        return [f"{command}: {first} ({refusal.name})", *more]
    lines = [f"{title('OFPT_ERROR', refusal.version, refusal.xid)} {refusal.name}"]
    request = inner_message(refusal.request)
    if len(request) >= 8:
        if int.from_bytes(request[2:4], "big") == len(request):
            lines.append(describe(request))
        else:  # the error carries the beginning only
            lines.append(title(type_name(request), request[0], xid_of(request)))
            whole = int.from_bytes(request[2:4], "big")
            lines.append(f"(***truncated to {len(request)} bytes from {whole}***)")
            lines.append(hex_dump(request))
    if reason:
        lines += ["reason: " + reason.replace("\n", "\n        ")]
    return lines


def is_oko(msg: bytes) -> bool:
    """Whether this is a message or a multipart of oko's extension."""
    own = OKO.to_bytes(4, "big")
    if msg[1:2] == bytes((EXPERIMENTER,)):
        return msg[8:12] == own
    return own in (msg[12:16], msg[16:20])


def inner_message(msg: bytes) -> bytes:
    """The message that a bundle's message is about, or the message itself."""
    name = type_name(msg) if len(msg) >= 8 else ""
    if name == "ONFT_BUNDLE_ADD_MESSAGE" and len(msg) >= 32:
        return msg[24:]
    if name == "OFPT_BUNDLE_ADD_MESSAGE" and len(msg) >= 24:
        return msg[16:]
    return msg


# ---------------------------------------------------------------- by type


def _flow_mod(version: int, msg: bytes) -> str:
    from oko.openflow.flows import NO_BUFFER, decode_flow_mod

    # Where 1.0 was extended by tables they are part of the command, elsewhere that part is 0.
    found = decode_flow_mod(version, msg, table_id_ext=version == OF10)
    buffered = f"buf:{found.buffer_id:#x} " if found.buffer_id != NO_BUFFER else ""
    return " " + flow_mod_text(found.mod, buffered, version)


def flow_mod_text(mod: FlowMod, buffered: str = "", version: int = 0) -> str:
    """ADD table:3 priority=7,ip cookie:0x1 actions=output:2"""
    flow = mod.flow
    words = [_COMMANDS[mod.command]]
    if flow.table and not (version == OF10 and flow.table == TABLE_ALL):
        words.append(f"table:{flow.table}")
    match = format_match(flow.match)
    parts = [f"priority={flow.priority}"] if flow.priority != PRIORITY_DEFAULT else []
    parts += [f"filter_prog={flow.filter_prog}"] if flow.filter_prog else []
    parts += [match] if match else []
    if parts:
        words.append(",".join(parts))
    if mod.cookie_mask:
        words.append(f"cookie:{flow.cookie:#x}/{mod.cookie_mask:#x}")
    elif flow.cookie:
        words.append(f"cookie:{flow.cookie:#x}")
    if flow.idle_timeout:
        words.append(f"idle:{flow.idle_timeout}")
    if flow.hard_timeout:
        words.append(f"hard:{flow.hard_timeout}")
    if flow.importance:
        words.append(f"importance:{flow.importance}")
    if buffered:
        words.append(buffered.strip())
    if mod.out_port != PORT_ANY:
        words.append(f"out_port:{port_text(mod.out_port)}")
    if mod.out_group != PORT_ANY:
        words.append(f"out_group:{mod.out_group}")
    shown = flow.flags & ~4 if version == OF10 else flow.flags
    words += [name for name, bit in FLAG_NAMES.items() if shown & bit]
    return " ".join([*words, f"actions={format_instructions(flow.instructions, version)}"])


def _hello(version: int, msg: bytes) -> str:
    from oko.openflow.client import versions_of

    bits = versions_of(msg)
    shown = ", ".join(f"0x{v:02x}" for v in range(32) if bits >> v & 1)
    return f"\n version bitmap: {shown}"


def _echo(version: int, msg: bytes) -> str:
    payload = msg[8:]
    text = f" {len(payload)} bytes of payload"
    return f"{text}\n{hex_dump(payload)}" if payload else text


def _error(version: int, msg: bytes) -> str:
    from oko.openflow.common import decode_error

    found = decode_error(version, msg)
    text = f" {found.name}"
    if found.name.startswith("OFPHFC_"):
        return f"{text}\n{found.data.decode('utf-8', 'replace')}"
    if len(found.data) >= 8 and int.from_bytes(found.data[2:4], "big") == len(found.data):
        return f"{text}\n{describe(found.data)}"
    return f"{text}\n{hex_dump(found.data)}" if found.data else text


def _features(version: int, msg: bytes) -> str:
    from oko.ofctl import switch
    from oko.openflow import messages

    found = messages.decode_features(version, msg)
    lines = switch.features_lines(version, found)
    for port in switch.by_number(found.ports):
        lines += switch.port_lines(version, port)
    return f" dpid:{found.dpid:016x}\n" + "\n".join(lines)


def _config(version: int, msg: bytes) -> str:
    from oko.ofctl import switch
    from oko.openflow import messages

    found = messages.decode_config(msg)
    return f" frags={switch.FRAGS[found.flags & 3]} miss_send_len={found.miss_send_len}"


def _port_status(version: int, msg: bytes) -> str:
    from oko.ofctl import switch
    from oko.openflow import port_messages

    number, port = port_messages.decode_port_status(version, msg)
    reason = {0: "ADD", 1: "DEL", 2: "MOD"}.get(number, str(number))
    return f" {reason}:" + "\n".join(switch.port_lines(version, port))


_REASONS = ("no_match", "action", "invalid_ttl", "action_set", "group", "packet_out")


def _packet_in(version: int, msg: bytes) -> str:
    from oko.ofctl.frames import summary
    from oko.openflow import packets
    from oko.openflow.flows import NO_BUFFER

    found = packets.decode_packet_in(version, msg)
    words = [f"table_id={found.table}"] if found.table else []
    if _has_cookie(version, msg, found.cookie):
        words.append(f"cookie={found.cookie:#x}")
    words.append(f"total_len={found.total_len}")
    fields = format_match(found.match) if found.match else f"in_port={port_text(found.in_port)}"
    words.append(fields)
    known = found.reason < len(_REASONS)
    words.append(f"(via {_REASONS[found.reason] if known else found.reason})")
    words.append(f"data_len={len(found.data)}")
    unbuffered = found.buffer_id == NO_BUFFER
    words.append("(unbuffered)" if unbuffered else f"buffer={found.buffer_id:#010x}")
    return " " + " ".join(words) + "\n" + summary(found.data)


def _has_cookie(version: int, msg: bytes, cookie: int) -> bool:
    """Whether a packet-in tells of a flow: not 1.0's own, nor one that missed or was sent out."""
    if msg[1] != EXPERIMENTER:
        return version != OF10 and cookie != _NO_COOKIE
    if int.from_bytes(msg[12:16], "big") == 30:  # NXT_PACKET_IN2: the property is there, or not
        there = any(kind == _NXPINT_COOKIE for kind, _ in _properties(msg[16:]))
        return there and cookie != _NO_COOKIE
    return cookie != _NO_COOKIE


def _properties(data: bytes) -> Iterator[tuple[int, bytes]]:
    from oko.openflow.port_messages import properties

    return properties(data)


_NXPINT_COOKIE = 4
_NO_COOKIE = (1 << 64) - 1
_REMOVED = ("idle", "hard", "delete", "group_delete", "meter_delete", "eviction")


def _flow_removed(version: int, msg: bytes) -> str:
    from oko.ofctl.printing import duration_text
    from oko.openflow import flow_stats

    found = flow_stats.decode_flow_removed(version, msg)
    parts = [f"priority={found.priority}"] if found.priority != PRIORITY_DEFAULT else []
    parts += [f"filter_prog={found.filter_prog}"] if found.filter_prog else []
    parts += [format_match(found.match)] if found.match else []
    known = found.reason < len(_REMOVED)
    words = [",".join(parts)] if parts else []
    words.append(f"reason={_REMOVED[found.reason] if known else found.reason}")
    if version != OF10:
        words.append(f"table_id={found.table}")
    words += [f"cookie:{found.cookie:#x}"] if found.cookie else []
    words.append(f"duration{duration_text(found.duration)} idle{found.idle_timeout}")
    if version != OF10 and found.hard_timeout:
        words.append(f"hard{found.hard_timeout}")
    words.append(f"pkts{found.n_packets} bytes{found.n_bytes}")
    return " " + " ".join(words)


def _group_mod(version: int, msg: bytes) -> str:
    from oko.openflow.groups import decode_group_mod
    from oko.text.groups import format_group

    mod = decode_group_mod(version, msg)
    verb = {"add": "ADD", "modify": "MOD", "add_or_mod": "ADD_OR_MOD"}.get(mod.command, "DEL")
    if mod.command.endswith("_bucket"):
        return "\n " + _bucket_mod(version, mod)
    return f"\n {verb} {format_group(mod.group, version)}"


def _bucket_mod(version: int, mod: GroupMod) -> str:
    from oko.text.groups import PLACE_NAMES, format_bucket

    place = PLACE_NAMES.get(mod.bucket, mod.bucket)
    words = [f"{mod.command.upper()} command_bucket_id:{place}", f"group_id={mod.group.id}"]
    words += [f"bucket={format_bucket(bucket, version)}" for bucket in mod.group.buckets]
    return ",".join(words)


def _meter_mod(version: int, msg: bytes) -> str:
    from oko.openflow.meters import decode_meter_mod
    from oko.text.groups import format_meter

    mod = decode_meter_mod(version, msg)
    if mod.command == "delete":
        return f" DEL meter={mod.meter.id}"
    return f" {'ADD' if mod.command == 'add' else 'MOD'} {format_meter(mod.meter)}"


def _packet_out(version: int, msg: bytes) -> str:
    from oko.ofctl.frames import summary
    from oko.openflow import packets

    out = packets.decode_packet_out(version, msg)
    shown = format_actions(out.actions, version)
    head = f" in_port={port_text(out.in_port)} actions={shown} data_len={len(out.data)}"
    return f"{head}\n{summary(out.data)}" if out.data else head


_MULTIPARTS = {
    0: "DESC", 1: "FLOW", 2: "AGGREGATE", 3: "TABLE", 4: "PORT", 5: "QUEUE", 6: "GROUP",
    7: "GROUP_DESC", 8: "GROUP_FEATURES", 9: "METER", 10: "METER_CONFIG", 11: "METER_FEATURES",
    12: "TABLE_FEATURES", 13: "PORT_DESC", 14: "TABLE_DESC", 15: "QUEUE_DESC", 16: "FLOW_MONITOR",
}  # fmt: skip


def multipart_name(msg: bytes) -> str:
    """OFPST_FLOW, NXST_FLOW, ... of a multipart message."""
    kind = int.from_bytes(msg[8:10], "big")
    if kind != 0xFFFF:
        return f"OFPST_{_MULTIPARTS.get(kind, kind)}"
    at = 12 if msg[0] == OF10 else 16
    experimenter, subtype = (int.from_bytes(msg[i : i + 4], "big") for i in (at, at + 4))
    if experimenter == NICIRA:
        return {0: "NXST_FLOW", 1: "NXST_AGGREGATE", 2: "NXST_FLOW_MONITOR"}.get(
            subtype, f"NXST_{subtype}"
        )
    if (experimenter, subtype) == (ONF, 1870):
        return "ONFST_FLOW_MONITOR"
    if experimenter == OKO:
        return {1: "OKO_SHOW", 2: "OKO_DUMP_MAP", 3: "OKO_MAP_TYPES"}.get(subtype, f"OKO_{subtype}")
    return f"experimenter {experimenter:#x} statistics {subtype}"


def _multipart(msg: bytes, reply: bool) -> str:
    from oko.ofctl import printing, switch
    from oko.openflow import flow_stats, port_messages, tables

    version, name = msg[0], multipart_name(msg)
    head = title(f"{name} {'reply' if reply else 'request'}", version, xid_of(msg))
    head += " flags=[more]" if msg[11] & 1 else ""
    if not reply:
        return head + (" port=ANY" if name == "OFPST_PORT_DESC" else "")
    if name in ("OFPST_FLOW", "NXST_FLOW"):
        entries = flow_stats.decode_flow_stats(version, msg)
        return "\n".join([head, *(printing.flow_line(entry, version) for entry in entries)])
    if name == "OFPST_PORT_DESC":
        ports = switch.by_number(port_messages.decode_port_desc(version, msg))
        return "\n".join([head, *(line for p in ports for line in switch.port_lines(version, p))])
    if name == "OFPST_PORT":
        counters = port_messages.decode_port_stats(version, msg)
        lines = [line for c in counters for line in switch.counters_lines(version, c)]
        return "\n".join([f"{head} {len(counters)} ports", *lines])
    if name == "OFPST_TABLE":
        found = tables.decode_table_stats(version, msg)
        return (head + "".join(switch.table_lines(version, found))).rstrip("\n")
    if name.endswith("_FLOW_MONITOR"):
        return "\n".join([head, *_updates(version, msg)])
    if name in ("OFPST_AGGREGATE", "NXST_AGGREGATE"):
        packets, octets, flows = flow_stats.decode_aggregate(version, msg)
        return f"{head} packet_count={packets} byte_count={octets} flow_count={flows}"
    return head


_EVENTS = ("ADDED", "DELETED", "MODIFIED", "ABBREV", "INITIAL", "PAUSED", "RESUMED")


def _updates(version: int, msg: bytes) -> Iterator[str]:
    """The updates of a flow monitor."""
    from oko.openflow import flow_monitor
    from oko.openflow.flows import take_match, take_nxm
    from oko.openflow.instructions import decode_instructions

    for event, part in flow_monitor.split_updates(version, msg):
        words = [f"event={_EVENTS[event]}"]
        if event == flow_monitor.ABBREVIATED:
            yield f" {words[0]} xid={int.from_bytes(part[4:8], 'big'):#x}"
            continue
        if event in (flow_monitor.PAUSED, flow_monitor.RESUMED):
            yield f" {words[0]}"
            continue
        update = flow_monitor.decode_update(version, event, part)
        if event == flow_monitor.GONE:
            known = update.reason < len(_REMOVED)
            words.append(f"reason={_REMOVED[update.reason] if known else update.reason}")
        words.append(f"table={update.table}")
        words += [f"idle_timeout={update.idle_timeout}"] if update.idle_timeout else []
        words += [f"hard_timeout={update.hard_timeout}"] if update.hard_timeout else []
        words.append(f"cookie={update.cookie:#x}" if update.cookie else "cookie=0")
        if version == OF10:
            found, _ = take_nxm(update.match, 0, update.match_size, cookie=False)
        else:
            found, _ = take_match(update.match, 0)
        match = [f"filter_prog={found.filter_prog}"] if found.filter_prog else []
        match += [format_match(found.match)] if found.match else []
        words.append(",".join(match))
        if update.instructions:
            instructions = decode_instructions(version, update.instructions, dict(found.known))
            words.append(f"actions={format_instructions(instructions, version)}")
            words = [word for word in words if word]
        yield " " + " ".join(words)


def _bundle_control(version: int, msg: bytes) -> str:
    from oko.openflow.bundles import ATOMIC, ORDERED, decode_bundle_control

    found = decode_bundle_control(msg)
    names = ("OPEN", "CLOSE", "COMMIT", "DISCARD")
    name = names[found.type // 2] if found.type < 8 else str(found.type)
    side = "REPLY" if found.type & 1 else "REQUEST"
    flags = ((ATOMIC, "atomic"), (ORDERED, "ordered"))
    shown = " ".join(word for bit, word in flags if found.flags & bit) or "0"
    return f"\n bundle_id={found.id:#x} type={name}_{side} flags={shown}"


def _bundle_add(version: int, msg: bytes) -> str:
    from oko.openflow.bundles import decode_bundle_add

    found = decode_bundle_add(msg)
    return f"\n bundle_id={found.id:#x}\n{describe(found.message)}"


_HANDLERS: dict[str, Callable[[int, bytes], str]] = {
    "OFPT_FLOW_MOD": _flow_mod,
    "NXT_FLOW_MOD": _flow_mod,
    "OFPT_HELLO": _hello,
    "OFPT_ERROR": _error,
    "OFPT_ECHO_REQUEST": _echo,
    "OFPT_ECHO_REPLY": _echo,
    "OFPT_FEATURES_REPLY": _features,
    "OFPT_GET_CONFIG_REPLY": _config,
    "OFPT_SET_CONFIG": _config,
    "OFPT_PORT_STATUS": _port_status,
    "OFPT_PACKET_IN": _packet_in,
    "NXT_PACKET_IN": _packet_in,
    "NXT_PACKET_IN2": _packet_in,
    "OFPT_PACKET_OUT": _packet_out,
    "OFPT_FLOW_REMOVED": _flow_removed,
    "NXT_FLOW_REMOVED": _flow_removed,
    "OFPT_GROUP_MOD": _group_mod,
    "OFPT_METER_MOD": _meter_mod,
    "OFPT_BUNDLE_CONTROL": _bundle_control,
    "ONFT_BUNDLE_CONTROL": _bundle_control,
    "OFPT_BUNDLE_ADD_MESSAGE": _bundle_add,
    "ONFT_BUNDLE_ADD_MESSAGE": _bundle_add,
}
