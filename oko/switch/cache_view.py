"""What the workers' caches remember, in words: which key leads to which chain of decisions.

    bridge br0, forwarding thread 0:
      table 0: tcp,in_port=1,nw_src=10.0.0.1,nw_dst=10.0.0.2
        1. filter_prog=3 (blocked), priority 9: tcp, cookie 0x1, actions=drop
        2. priority 0: (any), cookie 0x0, actions=output:2

A key is shown in the bits that flows of the table look at. Several protocols share a place in it;
where the key itself does not tell which one it is (eth_type, ip_proto), a place that is zero is
left out, and the rest is named after the first of them, as TCP's ports.

How often an entry was used is not counted: that would be a store for each packet, and its flows'
counters tell more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from oko.datapath import CachedLookup
from oko.model.flow import FIELDS_BY_NAME, Match
from oko.switch.bridge import Bridge
from oko.text.action_format import format_instructions
from oko.text.match import format_match

ARP, IPV4, IPV6, MPLS, PBB = 0x0806, 0x0800, 0x86DD, (0x8847, 0x8848), 0x88E7
_PORTS = {"tcp_src": "src", "tcp_dst": "dst"}
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}


def _owner(name: str, eth_type: int | None, proto: int | None) -> str | None:
    """The field that lies where the core says `name`, in a packet of these types; None: it does not
    have one there. Unknown types: the name as it is."""
    if eth_type is None:
        return name
    ip = eth_type in (IPV4, IPV6)
    if name in ("ipv4_src", "ipv4_dst"):
        arp = {"ipv4_src": "arp_spa", "ipv4_dst": "arp_tpa"}
        return name if eth_type == IPV4 else arp[name] if eth_type == ARP else None
    if name in ("arp_sha", "arp_tha"):
        nd = {"arp_sha": "nd_sll", "arp_tha": "nd_tll"}
        return name if eth_type == ARP else nd[name] if proto == 58 else None
    if name.startswith("arp_"):
        return name if eth_type == ARP else None
    if name.startswith("ipv6_"):
        return name if eth_type == IPV6 else None
    if name.startswith("mpls_"):
        return name if eth_type in MPLS else None
    if name.startswith("pbb_"):
        return name if eth_type == PBB else None
    if name.startswith(("ip_", "nw_")):
        return name if ip else None
    if name not in (*_PORTS, "tcp_flags", "icmp_type", "icmp_code", "nd_target"):
        return name
    if not ip:
        return None
    if proto is None:
        return name
    if name in _PORTS:
        return f"{_PROTOCOLS[proto]}_{_PORTS[name]}" if proto in _PROTOCOLS else None
    if name.startswith("icmp_"):
        return {1: name, 58: name.replace("icmp", "icmpv6")}.get(proto)
    return name if proto == {"nd_target": 58, "tcp_flags": 6}[name] else None


def key_match(key: Match) -> Match:
    """A key of the cache as the match of a packet's own protocol."""
    eth_type, proto = key.exact("eth_type"), key.exact("ip_proto")
    fields = {}
    for field, value, mask in key:
        owner = _owner(field.name, eth_type, proto)
        if owner is None or (
            not value
            and (eth_type is None or proto is None)
            and owner != "in_port"
            and field.name in _SHARED
        ):
            continue  # fmt: skip
        fields[FIELDS_BY_NAME[owner]] = (value, mask)
    return Match.of(fields)


_SHARED = ("ipv4_src", "ipv4_dst", "arp_sha", "arp_tha", "tcp_src", "tcp_dst", "icmp_type",
           "icmp_code")  # fmt: skip


def lookups(bridge: Bridge, worker: int, most: int) -> tuple[list[CachedLookup], bool]:
    """At most so many that a worker remembers, and whether there are more."""
    found = list(islice(bridge.datapath.cache(worker), most + 1))
    return found[:most], len(found) > most


def _flow_texts(bridge: Bridge, found: Iterable[CachedLookup]) -> dict[int, tuple[str, str]]:
    """(match, actions) by flow id."""
    wanted = {flow.id for lookup in found for flow in lookup.flows}
    return {
        flow.id: (format_match(flow.match), format_instructions(flow.instructions))
        for flow in bridge.flow_stats()
        if flow.id in wanted
    }


def _ending(lookup: CachedLookup) -> str:
    """What comes when no program of the chain matches."""
    if lookup.more:
        return "the classifier is asked for more flows"
    if lookup.flows and not lookup.flows[-1].filter_prog:
        return ""
    return "no flow (table miss)"


def _lines(
    found: Iterable[CachedLookup], texts: Mapping[int, tuple[str, str]], names: Mapping[int, str]
) -> Iterator[str]:
    for lookup in found:
        yield f"  table {lookup.table}: {format_match(key_match(lookup.key)) or '(any)'}"
        place = 0
        for place, flow in enumerate(lookup.flows, 1):
            match, actions = texts.get(flow.id, ("", "?"))
            program = flow.filter_prog
            condition = f"filter_prog={program} ({names.get(program, '?')}), " if program else ""
            yield (
                f"    {place}. {condition}priority {flow.priority}: {match or '(any)'}, "
                f"cookie {flow.cookie:#x}, actions={actions}"
            )
        if ending := _ending(lookup):
            yield f"    {place + 1}. {ending}"


def show(bridge: Bridge, most: int) -> tuple[list[str], list[dict[str, Any]]]:
    """Lines, and the same as objects. most: lookups of each worker."""
    names = {p.number: p.name for p in bridge.datapath.programs()}
    n_threads = bridge.datapath.workers - 1
    lines: list[str] = []
    data: list[dict[str, Any]] = []
    for worker in range(bridge.datapath.workers):
        found, cut = lookups(bridge, worker, most)
        who = f"forwarding thread {worker}" if worker < n_threads else "packet-outs"
        if worker == n_threads and not found:
            continue
        texts = _flow_texts(bridge, found)
        lines.append(f"bridge {bridge.name}, {who}:" + ("" if found else " nothing"))
        lines += _lines(found, texts, names)
        if cut:
            lines.append(f"  ... and more than these {most}")
        data.append(
            {
                "worker": worker,
                "complete": not cut,
                "lookups": [_as_json(lookup, texts, names) for lookup in found],
            }
        )
    direct = [table for table, info in bridge.table_stats() if info.n_flows and info.n_masks <= FEW]
    if direct:
        which = ", ".join(map(str, direct))
        lines.append(f"no cache is needed by tables with at most {FEW} masks: {which}")
    return lines, data


FEW = 4
"""Tables with so many masks are looked up without the cache (csrc/lookup.c)."""


def _as_json(
    lookup: CachedLookup, texts: Mapping[int, tuple[str, str]], names: Mapping[int, str]
) -> dict[str, Any]:
    return {
        "table": lookup.table,
        "key": format_match(key_match(lookup.key)),
        "flows": [
            {
                "priority": flow.priority,
                "cookie": flow.cookie,
                "filter_prog": flow.filter_prog,
                "program": names.get(flow.filter_prog, ""),
                "match": texts.get(flow.id, ("", ""))[0],
                "actions": texts.get(flow.id, ("", ""))[1],
            }
            for flow in lookup.flows
        ],
        "then": _ending(lookup),
    }
