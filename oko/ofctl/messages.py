"""OpenFlow messages in words, as ovs-ofctl prints them: refusals, what monitor and ofp-parse show.

    OFPT_FLOW_MOD (OF1.3) (xid=0x6): ADD priority=7,ip cookie:0x1 actions=output:2

A message that cannot be read is shown with its reason and its bytes; nothing here raises.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from oko.errors import OkoError
from oko.model.fields import PORT_ANY
from oko.model.flow import FLAG_NAMES, PRIORITY_DEFAULT, TABLE_ALL, FlowMod
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
from oko.text.action_format import format_instructions
from oko.text.match import format_match

_COMMANDS = ("ADD", "MOD", "MOD_STRICT", "DEL", "DEL_STRICT")
_OLD = {"MULTIPART_REQUEST": "STATS_REQUEST", "MULTIPART_REPLY": "STATS_REPLY"}
_NICIRA = {
    8: "NXT_SET_FLOW_FORMAT", 10: "NXT_ROLE_REQUEST", 11: "NXT_ROLE_REPLY",
    12: "NXT_SET_FLOW_FORMAT", 13: "NXT_FLOW_MOD", 14: "NXT_FLOW_REMOVED",
    15: "NXT_FLOW_MOD_TABLE_ID", 16: "NXT_SET_PACKET_IN_FORMAT", 17: "NXT_PACKET_IN",
    18: "NXT_FLOW_AGE", 19: "NXT_SET_ASYNC_CONFIG", 20: "NXT_SET_CONTROLLER_ID",
}  # fmt: skip
_OKO = {
    1: "OKO_HELLO", 2: "OKO_LOAD_FILTER_PROG", 3: "OKO_LOADED", 4: "OKO_UNLOAD_FILTER_PROG",
    5: "OKO_UPDATE_MAP", 6: "OKO_DELETE_KEYS", 7: "OKO_UPDATED", 8: "OKO_SUBSCRIBE",
    9: "OKO_SEND_MAPS", 10: "OKO_ERROR_TEXT",
}  # fmt: skip
_BUNDLES = {2300: "ONFT_BUNDLE_CONTROL", 2301: "ONFT_BUNDLE_ADD_MESSAGE"}


def type_name(msg: bytes) -> str:
    """OFPT_FLOW_MOD, NXT_FLOW_MOD, ..."""
    version, kind = msg[0], msg[1]
    if kind == EXPERIMENTER and len(msg) >= 16:
        experimenter, subtype = struct.unpack_from("!II", msg, 8)
        names = {NICIRA: _NICIRA, OKO: _OKO, ONF: _BUNDLES}.get(experimenter, {})
        return names.get(subtype, f"experimenter {experimenter:#x} type {subtype}")
    names_of = TYPE_NAMES.get(version, ())
    if kind >= len(names_of):
        return f"type {kind}"
    name = names_of[kind]
    return "OFPT_" + (_OLD.get(name, name) if version == OF10 else name)


def describe(msg: bytes, *, more: bool = False) -> str:
    """A message, on one or more lines."""
    version, name = msg[0], type_name(msg)
    head = title(name, version, xid_of(msg))
    handler = _HANDLERS.get(name)
    if handler is None:
        return head
    try:
        return head + handler(version, msg)
    except OkoError as exc:
        return f"{head} ***decode error: {exc}***\n" + hex_dump(msg)


def hex_dump(data: bytes) -> str:
    """Sixteen bytes a line, as ds_put_hex_dump()."""
    lines = []
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        cells = [f"{byte:02x}" for byte in part] + ["  "] * (16 - len(part))
        left, right = " ".join(cells[:8]), " ".join(cells[8:])
        shown = "".join(chr(b) if 32 <= b < 127 else "." for b in part)
        lines.append(f"{at:08x}  {left}-{right} |{shown:<16}|")
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

    found = decode_flow_mod(version, msg)
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


_HANDLERS: dict[str, Callable[[int, bytes], str]] = {
    "OFPT_FLOW_MOD": _flow_mod,
    "NXT_FLOW_MOD": _flow_mod,
}
