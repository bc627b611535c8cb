"""How things look: titles of replies, flows, ports, names for numbers, JSON.

Texts are those of ovs-ofctl (lib/ofp-print.c and its neighbours in Open vSwitch are the reference),
so that eyes and scripts that know it find what they look for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oko.model.fields import PORT_NAMES
from oko.openflow.common import OF10, VERSION_NAMES

if TYPE_CHECKING:
    from oko.openflow.flow_stats import FlowEntry

SECOND = 1_000_000_000
ACTION_NAMES = {
    0: "output", 22: "group", 25: "set_field", 18: "strip_vlan", 17: "push_vlan", 23: "mod_nw_ttl",
    24: "dec_ttl", 15: "set_mpls_ttl", 16: "dec_mpls_ttl", 19: "push_mpls", 20: "pop_mpls",
    21: "set_queue", 11: "copy_ttl_out", 12: "copy_ttl_in", 26: "push_pbb", 27: "pop_pbb",
}  # fmt: skip
"""Actions of features replies by number (OFPAT_*), in Open vSwitch's order."""
_PORT_PLACES = re.compile(
    r"(?<![\w.])(in_port=|output:|watch_port[:=]|out_port=|enqueue:|resubmit[:(]|port=)([0-9]+)\b"
)


def title(name: str, version: int, xid: int) -> str:
    """OFPST_FLOW reply (OF1.3) (xid=0x2):"""
    shown = "" if version == OF10 else f" (OF{VERSION_NAMES[version]})"
    return f"{name}{shown} (xid={xid:#x}):"


def xid_of(msg: bytes) -> int:
    """The number that a message carries."""
    return int.from_bytes(msg[4:8], "big")


def port_text(number: int) -> str:
    """A port by number, or by its reserved name."""
    return PORT_NAMES.get(number, str(number))


def with_names(text: str, names: Mapping[int, str]) -> str:
    """Text of a flow with names of ports instead of their numbers."""

    def name(match: re.Match[str]) -> str:
        found = names.get(int(match[2]))
        if found is None:
            return match[0]
        plain = re.fullmatch(r"[A-Za-z_][\w.-]*", found)
        return match[1] + (found if plain else f'"{found}"')

    return _PORT_PLACES.sub(name, text)


# ---------------------------------------------------------------- flows


def flow_line(entry: FlowEntry, version: int, *, stats: bool = True, ages: bool = True) -> str:
    """A flow as dump-flows prints it."""
    from oko.text.flows import FlowStats, dump_flow

    if not stats:
        return dump_flow(entry.flow, None, version)

    def seconds(age: int | None) -> int | None:
        return None if age is None or not ages else age // SECOND

    hard = seconds(entry.hard_age)
    return dump_flow(
        entry.flow,
        FlowStats(
            duration=entry.duration / SECOND,
            n_packets=entry.n_packets,
            n_bytes=entry.n_bytes,
            idle_age=seconds(entry.idle_age),
            # Open vSwitch leaves it out where it tells nothing beside the duration.
            hard_age=None if hard == entry.duration // SECOND else hard,
        ),
        version,
    )


def flow_json(entry: FlowEntry, version: int = 0, *, stats: bool = True) -> dict[str, Any]:
    """A flow as an object."""
    from oko.text.action_format import format_instructions
    from oko.text.match import format_match

    flow = entry.flow
    found: dict[str, Any] = {
        "table": flow.table,
        "priority": flow.priority,
        "filter_prog": flow.filter_prog,
        "match": format_match(flow.match),
        "actions": format_instructions(flow.instructions, version),
        "cookie": flow.cookie,
        "idle_timeout": flow.idle_timeout,
        "hard_timeout": flow.hard_timeout,
        "importance": flow.importance,
        "flags": flag_names(flow.flags),
    }
    if stats:
        found |= {
            "duration": entry.duration / SECOND,
            "n_packets": entry.n_packets,
            "n_bytes": entry.n_bytes,
            "idle_age": None if entry.idle_age is None else entry.idle_age // SECOND,
        }
    return found


def flag_names(flags: int) -> list[str]:
    """The names of a flow's flags."""
    from oko.model.flow import FLAG_NAMES

    return [name for name, bit in FLAG_NAMES.items() if flags & bit]


def duration_text(ns: int | None) -> str:
    """0.250s, or ? where it is not known."""
    from oko.text.flows import format_duration

    return "?" if ns is None else format_duration(ns / SECOND)


# ---------------------------------------------------------------- colour

_PARTS = re.compile(
    r"(?P<key>\b(?:actions|cookie|duration|table|n_packets|n_bytes|idle_timeout|hard_timeout|"
    r"idle_age|hard_age|priority|importance)=)|(?P<filter>\bfilter_prog=\d+|send_maps\([^)]*\))"
    r"|(?P<drop>\bdrop\b)"
)
_CODES = {"key": "36", "filter": "1;35", "drop": "33"}


def colored(text: str) -> str:
    """A flow with its words coloured."""

    def color(match: re.Match[str]) -> str:
        return f"\x1b[{_CODES[str(match.lastgroup)]}m{match[0]}\x1b[0m"

    return _PARTS.sub(color, text)
