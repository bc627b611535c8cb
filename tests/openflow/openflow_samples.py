"""Messages for the codec's tests: random flows, groups and meters, encoded in every version."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from types import SimpleNamespace

from twin.generate import Options, flow_of, group_of, meter_of

from oko.model.compile import compile_instructions, compile_match
from oko.model.flow import Flow, FlowMod, GroupMod, MeterMod
from oko.openflow import extension, flow_stats, flows, groups, meters
from oko.openflow.common import OF10, VERSIONS, OpenFlowError

OPTIONS = Options(programs=(1, 2), groups=(1, 2), meters=(3,), text_only=True)


def encodable(version: int, flow: Flow) -> bytes | None:
    """An ADD of the flow, or None where the version cannot say it or refuses it: 1.0's mod_*
    actions stand without prerequisites, which later versions ask for."""
    try:
        msg = flows.encode_flow_mod(version, FlowMod(flow), 7, table_id_ext=True)
        flows.decode_flow_mod(version, msg, table_id_ext=True)
    except OpenFlowError as exc:
        allowed = ("OFPBAC_MATCH_INCONSISTENT", "OFPBAC_BAD_TYPE", "OFPBIC_UNSUP_INST")
        assert exc.name in allowed, str(exc)
        return None
    return msg


def counters(flow: Flow) -> flow_stats.FlowCounters:
    """What a bridge tells of the flow."""
    names = ("table", "priority", "filter_prog", "cookie", "flags", "importance", "idle_timeout",
             "hard_timeout", "instructions")  # fmt: skip
    return SimpleNamespace(
        **{name: getattr(flow, name) for name in names},
        n_packets=5,
        n_bytes=1 << 40,
        duration=7_000_000_008,
        idle_age=3_000_000_000,
        hard_age=4_000_000_000,
        match_bytes=compile_match(flow.match),
        ops=compile_instructions(flow.instructions),
    )


def messages(rng: Random) -> Iterator[tuple[int, bytes]]:
    """(version, message) of every kind that the codec has, from one random flow."""
    flow = flow_of(rng, OPTIONS)
    removed = flow_stats.RemovedFlow(
        2, flow.table, flow.priority, flow.match, 0, flow.cookie, 5, 0, 0, 1, 2
    )
    for version in VERSIONS:
        mod = encodable(version, flow)
        if mod is not None:
            yield version, mod
        for nxm in (False, True) if version == OF10 else (False,):
            yield (
                version,
                next(
                    flow_stats.StatsEncoder(version, nxm=nxm, aware=True).replies(
                        1, [counters(flow)]
                    )
                ),
            )
            yield version, flow_stats.encode_flow_removed(version, removed, nxm=nxm, aware=True)
        request = flow_stats.FlowRequest(match=flow.match, filter_prog=flow.filter_prog or None)
        yield version, flow_stats.encode_flow_request(version, request)
        yield version, extension.encode(version, extension.LoadProgram(1, 9, 0, b"\x7fELF"))
        yield version, extension.encode_dump_request(version, extension.MapName(1, 0))
        if version == OF10:
            continue
        group = group_of(rng, 3, Options(groups=(4, 5)))
        yield version, groups.encode_group_mod(version, GroupMod(group))
        yield version, next(groups.group_desc_replies(version, 1, [group]))
        meter = meter_of(rng, 3)
        yield version, meters.encode_meter_mod(version, MeterMod(meter))
        yield version, next(meters.meter_config_replies(version, 1, [meter]))
