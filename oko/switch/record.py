"""State records: changes as JSON values and back.

What is written must be read by later versions, so it goes by names: fields of matches by name,
instructions, groups and meters in the ovs-ofctl grammar, which has a parser of its own already and
reads well in an editor. Equal instructions are formatted and parsed once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

from oko.model.flow import (
    FIELDS_BY_NAME,
    Flow,
    FlowMod,
    Group,
    GroupMod,
    Instructions,
    Match,
    Meter,
    MeterMod,
)
from oko.text import format_group, format_meter, parse_group, parse_meter
from oko.text.action_format import format_instructions
from oko.text.actions import ActionParser
from oko.text.scan import Span

Json: TypeAlias = Any


def match_to(match: Match) -> Json:
    """[[name, value, mask], ...]"""
    return [[f.name, value, mask] for f, value, mask in match]


def match_from(record: Json) -> Match:
    """The inverse."""
    return Match(tuple((FIELDS_BY_NAME[name], value, mask) for name, value, mask in record))


@lru_cache(4096)
def _instructions_from(text: str) -> Instructions:
    """Without the checks that need the match: they were made when the flow came."""
    return ActionParser(None).instructions(Span.of(text))


class Formatter:
    """Formats instructions, equal objects once."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[Instructions, str]] = {}

    def instructions(self, instructions: Instructions) -> str:
        """In the grammar."""
        known = self._texts.get(id(instructions))
        if known is not None and known[0] is instructions:
            return known[1]
        if len(self._texts) > 4096:
            self._texts.clear()
        text = format_instructions(instructions)
        self._texts[id(instructions)] = (instructions, text)
        return text

    def change(self, change: FlowMod | GroupMod | MeterMod) -> Json:
        """A change; change_from() is the inverse."""
        if isinstance(change, GroupMod):
            return ["group", change.command, format_group(change.group), change.group.id]
        if isinstance(change, MeterMod):
            return ["meter", change.command, format_meter(change.meter), change.meter.id]
        flow = change.flow
        return [
            "flow", change.command, flow.table, flow.priority, match_to(flow.match),
            flow.filter_prog, self.instructions(flow.instructions), flow.cookie, flow.flags,
            flow.idle_timeout, flow.hard_timeout, flow.importance, change.cookie_mask,
            int(change.new_cookie), change.out_port, change.out_group, int(change.or_add),
        ]  # fmt: skip


def change_from(record: Json) -> FlowMod | GroupMod | MeterMod:
    """The change that a record stands for."""
    kind, command, *rest = record
    if kind == "group":
        group = Group(rest[1], 0) if command == "delete" else parse_group(rest[0])
        return GroupMod(group, command)
    if kind == "meter":
        meter = Meter(rest[1]) if command == "delete" else parse_meter(rest[0])
        return MeterMod(meter, command)
    (
        table, priority, match, filter_prog, actions, cookie, flags, idle, hard, importance,
        cookie_mask, new_cookie, out_port, out_group, or_add,
    ) = rest  # fmt: skip
    flow = Flow(
        table=table,
        priority=priority,
        match=match_from(match),
        filter_prog=filter_prog,
        instructions=_instructions_from(actions),
        cookie=cookie,
        idle_timeout=idle,
        hard_timeout=hard,
        importance=importance,
        flags=flags,
    )
    return FlowMod(
        flow, command, cookie_mask, bool(new_cookie), out_port, out_group, or_add=bool(or_add)
    )
