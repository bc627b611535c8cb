"""Two sets of flows side by side: replace-flows makes a switch have those of a file, diff-flows
shows what differs.

A flow's identity is table, priority, match and filter_prog. What two flows of one identity do is
compared as it is on the wire, so that two ways to write the same thing are no difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from oko.model.flow import ADD, DELETE_STRICT, Flow, FlowMod, Match
from oko.ofctl import changes
from oko.ofctl.dump import flow_replies, refuse_unknown
from oko.ofctl.flows import read_text
from oko.ofctl.printing import flow_json
from oko.ofctl.run import Run
from oko.openflow.actions import protocol_of
from oko.openflow.client import Connection
from oko.openflow.common import OF14, OF15, OpenFlowError
from oko.openflow.flow_stats import FlowEntry, FlowRequest
from oko.openflow.instructions import encode_instructions
from oko.text.action_format import format_instructions
from oko.text.flows import format_match_part, parse_flows

Identity = tuple[int, int, Match, int]
Flows = dict[Identity, Flow]


def _of_file(run: Run, file: str, name: str = "") -> Flows:
    ports = run.ports(name) if name else None
    mods = parse_flows(read_text(file), "" if file == "-" else file, ports)
    return {mod.flow.identity: mod.flow for mod in mods if mod.command == ADD}


def _of_switch(switch: Connection) -> Flows:
    entries = []
    for part in flow_replies(switch, FlowRequest(nxm=True)):
        refuse_unknown(part.unknown)
        entries += part.flows
    return {entry.flow.identity: entry.flow for entry in entries}


def _meaning(flow: Flow, version: int) -> tuple[object, ...]:
    """What two equal flows have in common beside their identity."""
    try:
        wire: object = encode_instructions(
            version, flow.instructions, ip_proto=protocol_of(flow.match)
        )
    except OpenFlowError:  # this version cannot say it
        wire = flow.instructions
    importance = flow.importance if version >= OF14 else 0
    return flow.cookie, flow.idle_timeout, flow.hard_timeout, importance, wire


def replace_flows(run: Run, words: list[str]) -> None:
    """replace-flows SWITCH FILE"""
    name, file = words
    wanted = _of_file(run, file, name)
    adds = [FlowMod(flow) for flow in wanted.values()]
    bundle = run.line.has("bundle")
    switch = run.connect(name, changes.versions_for(adds, bundle), aware=True)
    there = _of_switch(switch)
    gone = [
        FlowMod(Flow(flow.table, flow.priority, flow.match, flow.filter_prog), DELETE_STRICT)
        for identity, flow in there.items()
        if identity not in wanted
    ]
    again = run.line.has("readd")
    version = switch.version
    new = [
        FlowMod(flow)
        for identity, flow in wanted.items()
        if again
        or identity not in there
        or _meaning(flow, version) != _meaning(there[identity], version)
    ]
    changes.send(run, switch, gone + new)


def diff_flows(run: Run, words: list[str]) -> int:
    """diff-flows SOURCE1 SOURCE2"""
    versions: list[int] = []
    first, second = (_source(run, word, versions) for word in words)
    version = min(versions, default=OF15)
    lines = []
    told: list[dict[str, object]] = []
    for identity in sorted({**first, **second}, key=_order):
        a, b = first.get(identity), second.get(identity)
        if a is not None and b is not None and _meaning(a, version) == _meaning(b, version):
            continue
        lines += [f"-{_line(flow, version)}" for flow in (a,) if flow is not None]
        lines += [f"+{_line(flow, version)}" for flow in (b,) if flow is not None]
        told.append({"first": _json(a, version), "second": _json(b, version)})
    if run.json:
        run.print_json({"differences": told})
    elif lines:
        print("\n".join(lines))
    return 2 if lines else 0


def _source(run: Run, word: str, versions: list[int]) -> Flows:
    """The flows of a file or a switch. As ovs-ofctl tells them apart: names that begin with / or .
    are files, those with a : are switches, others are files if there are such."""
    if word == "-" or word.startswith((".", "/")):
        return _of_file(run, word)
    if ":" not in word and os.path.isfile(word):
        return _of_file(run, word)
    switch = run.connect(word, aware=True)
    versions.append(switch.version)
    return _of_switch(switch)


def _order(identity: Identity) -> tuple[int, int, str]:
    table, priority, match, program = identity
    return table, -priority, format_match_part(Flow(table, priority, match, program))


def _json(flow: Flow | None, version: int) -> dict[str, object] | None:
    return None if flow is None else flow_json(FlowEntry(flow, 0, 0, 0), version, stats=False)


def _line(flow: Flow, version: int) -> str:
    words: Iterable[str] = (
        f"table={flow.table}" if flow.table else "",
        format_match_part(flow),
        f"cookie={flow.cookie:#x}" if flow.cookie else "",
        f"idle_timeout={flow.idle_timeout}" if flow.idle_timeout else "",
        f"hard_timeout={flow.hard_timeout}" if flow.hard_timeout else "",
        f"importance={flow.importance}" if flow.importance else "",
        f"actions={format_instructions(flow.instructions, version)}",
    )
    return " ".join(word for word in words if word)
