"""Flows as the switch has them: dump-flows, dump-aggregate, and the reading of them for others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from oko.errors import OkoError
from oko.model.flow import DELETE
from oko.ofctl import printing
from oko.ofctl.run import FIRST, Run, port_names
from oko.openflow import flow_stats
from oko.openflow.client import Connection, RefusedError
from oko.openflow.common import MP_EXPERIMENTER, OF10, OF13, OpenFlowError, decode_multipart
from oko.openflow.flow_stats import FlowEntry, FlowRequest
from oko.text.flows import parse_flow_mod


def request_of(text: str, run: Run, name: str, *, aggregate: bool = False) -> FlowRequest:
    """What a FLOW asks for in dump-flows and dump-aggregate."""
    mod = parse_flow_mod(text, DELETE, run.ports(name))
    flow = mod.flow
    return FlowRequest(
        flow.table,
        flow.match,
        flow.filter_prog or None,
        flow.cookie,
        mod.cookie_mask,
        mod.out_port,
        mod.out_group,
        aggregate,
        nxm=run.line.get("flow_format").lower() != "openflow10",
    )


def _versions(request: FlowRequest) -> tuple[int, ...]:
    """1.0, unless it cannot ask so."""
    try:
        flow_stats.encode_flow_request(OF10, request)
    except OkoError:
        return (OF13,)
    return FIRST


@dataclass(frozen=True, slots=True)
class Part:
    """One reply: its title, its flows, and why others of its flows cannot be shown."""

    title: str
    flows: list[FlowEntry]
    unknown: tuple[OpenFlowError, ...] = ()


def flow_replies(switch: Connection, request: FlowRequest) -> Iterator[Part]:
    """The flows that a switch has, reply by reply."""
    asked = flow_stats.encode_flow_request(switch.version, request)
    name = "OFPST_FLOW"
    replies = switch.multipart(asked)
    if switch.version == OF10 and request.nxm:
        name = "NXST_FLOW"
        replies = _nxm_or_plain(switch, request, replies)
    for reply in replies:
        if decode_multipart(switch.version, reply[8:]).type != MP_EXPERIMENTER:
            name = "OFPST_FLOW"
        more = " flags=[more]" if reply[11] & 1 else ""
        title = printing.title(f"{name} reply", switch.version, printing.xid_of(reply))
        flows: list[FlowEntry] = []
        unknown = []
        for entry in flow_stats.iterate_flow_stats(switch.version, reply):
            if isinstance(entry, FlowEntry):
                flows.append(entry)
            else:
                unknown.append(entry)
        yield Part(title + more, flows, tuple(unknown))


def refuse_unknown(unknown: Sequence[OpenFlowError]) -> None:
    """OkoError if there are flows that cannot be shown."""
    if unknown:
        flows = "1 flow is" if len(unknown) == 1 else f"{len(unknown)} flows are"
        raise OkoError(
            f"{flows} left out: {unknown[0]}", "they use what oko does not know; see ovs-ofctl"
        )


def _nxm_or_plain(
    switch: Connection, request: FlowRequest, replies: Iterator[bytes]
) -> Iterator[bytes]:
    """Falls back on what 1.0 has, where the switch does not know Nicira's extensions."""
    try:
        first = next(replies)
    except RefusedError as exc:
        if exc.name not in ("OFPBRC_BAD_VENDOR", "OFPBRC_BAD_STAT", "OFPBRC_BAD_SUBTYPE"):
            raise
        if request.filter_prog or request.cookie_mask:
            raise
        plain = flow_stats.FlowRequest(
            request.table, request.match, out_port=request.out_port, aggregate=request.aggregate
        )
        yield from switch.multipart(flow_stats.encode_flow_request(OF10, plain))
        return
    yield first
    yield from replies


def dump(run: Run, words: list[str]) -> None:
    """dump-flows SWITCH [FLOW]"""
    name, text = [*words, ""][:2]
    request = request_of(text, run, name)
    switch = run.connect(name, _versions(request), aware=True)
    line = run.line
    stats = not line.has("no_stats")
    unknown: list[OpenFlowError] = []
    if run.json:
        flows = []
        for part in flow_replies(switch, request):
            flows += part.flows
            unknown += part.unknown
        shown = [
            printing.flow_json(entry, switch.version, stats=stats) for entry in _sorted(run, flows)
        ]
        run.print_json({"flows": shown})
        refuse_unknown(unknown)
        return
    names = _names(run, name)
    color = run.color
    by_reply = stats and not line.sorts and not names
    parts = flow_replies(switch, request)
    if not by_reply:
        everything = []
        for part in parts:
            everything += part.flows
            unknown += part.unknown
        parts = iter([Part("", _sorted(run, everything))])
    for part in parts:
        unknown += part.unknown
        lines = [part.title] if part.title else []
        for entry in part.flows:
            shown_line = printing.flow_line(entry, switch.version, stats=stats, ages=by_reply)
            if names:
                shown_line = printing.with_names(shown_line, names)
            lines.append(printing.colored(shown_line) if color else shown_line)
        if lines:
            print("\n".join(lines))
    refuse_unknown(unknown)


def _names(run: Run, name: str) -> dict[int, str]:
    if not run.wants_names:
        return {}
    return port_names(run.connect(name))


def _sorted(run: Run, flows: list[FlowEntry]) -> list[FlowEntry]:
    """By --sort and --rsort; flows that lack the field come last, equal ones by priority."""
    if not run.line.sorts:
        return flows
    flows = sorted(flows, key=lambda entry: -entry.flow.priority)
    for field, descending in reversed(run.line.sorts):
        if field == "priority":
            flows = sorted(flows, key=lambda entry: entry.flow.priority, reverse=descending)
            continue
        name = _canonical(field)

        def value(entry: FlowEntry, name: str = name) -> tuple[int, int]:
            return entry.flow.match.get(name) or (0, 0)

        has = [entry for entry in flows if entry.flow.match.get(name) is not None]
        lacks = [entry for entry in flows if entry.flow.match.get(name) is None]
        flows = sorted(has, key=value, reverse=descending) + lacks
    return flows


def _canonical(name: str) -> str:
    from oko.model.fields import field
    from oko.ofctl.commandline import UsageError

    # tp_src and tp_dst stand for TCP's, as in Open vSwitch's list of fields.
    try:
        return field({"tp_src": "tcp_src", "tp_dst": "tcp_dst"}.get(name, name)).name
    except (KeyError, OkoError):
        raise UsageError(f"{name}: unknown field name") from None


def aggregate(run: Run, words: list[str]) -> None:
    """dump-aggregate SWITCH [FLOW]"""
    name, text = [*words, ""][:2]
    request = request_of(text, run, name, aggregate=True)
    switch = run.connect(name, _versions(request), aware=bool(request.filter_prog))
    replies = switch.multipart(flow_stats.encode_flow_request(switch.version, request))
    if switch.version == OF10 and request.nxm:
        replies = _nxm_or_plain(switch, request, replies)
    for reply in replies:
        n_packets, n_bytes, n_flows = flow_stats.decode_aggregate(switch.version, reply)
        if run.json:
            run.print_json({"n_packets": n_packets, "n_bytes": n_bytes, "n_flows": n_flows})
            continue
        nxm = decode_multipart(switch.version, reply[8:]).type == MP_EXPERIMENTER
        kind = "NXST_AGGREGATE" if nxm else "OFPST_AGGREGATE"
        print(
            printing.title(f"{kind} reply", switch.version, printing.xid_of(reply)),
            f"packet_count={n_packets} byte_count={n_bytes} flow_count={n_flows}",
        )
