"""Flows as text: what `ovs-ofctl add-flow`, `add-flows` and `del-flows` accept, and back.

    table=1,priority=100,filter_prog=1,tcp,nw_src=10.0.0.0/8,actions=output:2

A file has one flow per line, comments after "#", blank lines, and optionally a command before the
flow (add, modify, modify_strict, delete, delete_strict), as ovs-ofctl's bundles have; lines that
start with "group" or "meter" define groups and meters in the same file. Output of dump-flows is
accepted as input: its statistics are read over.

Errors are FlowSyntaxError: file, line, column, the offending piece and what was expected.
The whole grammar stands in docs/flows.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from oko.model.actions import Conjunction
from oko.model.fields import PORT_ANY, PREREQUISITES, Known
from oko.model.flow import (
    ADD,
    COMMANDS,
    DELETE,
    DELETE_STRICT,
    FLAG_NAMES,
    GROUP_ANY,
    MODIFY,
    MODIFY_STRICT,
    PRIORITY_DEFAULT,
    TABLE_ALL,
    TABLE_MAX,
    Flow,
    FlowMod,
    GroupMod,
    Instructions,
    MeterMod,
)
from oko.text.action_format import format_instructions
from oko.text.actions import ActionParser
from oko.text.match import MatchParser, format_match
from oko.text.scan import FlowSyntaxError, Item, Span, items, number
from oko.text.values import Ports, parse_port

# What dump-flows prints about a flow's past.
_STATISTICS = frozenset(["duration", "n_packets", "n_bytes", "idle_age", "hard_age"])
_ACTIONS = re.compile(r"(?:^|(?<=[\s,]))actions?\s*=")


def parse_flow(text: str, ports: Ports | None = None) -> Flow:
    """One flow as add-flow takes it; FlowSyntaxError says what is wrong with it and where."""
    return parse_flow_mod(text, ports=ports).flow


def parse_flow_mod(text: str, command: int = ADD, ports: Ports | None = None) -> FlowMod:
    """One flow-mod of the given command. For deletion the actions may be missing."""
    return _parse_flow(Span.of(text), command, ports)


def parse_rules(
    text: str, source: str = "", ports: Ports | None = None
) -> list[FlowMod | GroupMod | MeterMod]:
    """All lines of a file, in order."""
    return list(iterate_rules(text, source, ports))


def parse_flows(text: str, source: str = "", ports: Ports | None = None) -> list[FlowMod]:
    """All lines of a file of flows, in order; groups and meters are errors."""
    rules: list[FlowMod] = []
    for line in _lines(text, source):
        rule = _parse_rule(line, ports)
        if not isinstance(rule, FlowMod):
            line.fail("only flows are expected here, not groups or meters")
        rules.append(rule)
    return rules


def iterate_rules(
    text: str | Iterable[str], source: str = "", ports: Ports | None = None
) -> Iterator[FlowMod | GroupMod | MeterMod]:
    """As parse_rules(), one at a time; text may be a file's lines, which are then not kept."""
    for line in _lines(text, source):
        yield _parse_rule(line, ports)


def _lines(text: str | Iterable[str], source: str) -> Iterator[Span]:
    lines = text.splitlines() if isinstance(text, str) else (line.rstrip("\n") for line in text)
    for n, line in enumerate(lines, 1):
        span = Span.of(line, source, n).split_at("#")[0].strip()
        if span:
            yield span


_GROUP_COMMANDS = ("add", "modify", "add_or_mod", "delete", "insert_bucket", "remove_bucket")


def _parse_rule(line: Span, ports: Ports | None) -> FlowMod | GroupMod | MeterMod:
    kind, rest = _leading_word(line, ("flow", "group", "meter"))
    line = rest
    if kind == "group":
        from oko.text.groups import parse_group_mod  # imported when used: a start takes less time

        verb, line = _leading_word(line, _GROUP_COMMANDS)
        return parse_group_mod(line, verb or "add", ports)
    if kind == "meter":
        from oko.text.groups import parse_meter_span

        verb, line = _leading_word(line, ("add", "modify", "delete"))
        return MeterMod(parse_meter_span(line, verb or "add"), verb or "add")
    verb, line = _leading_word(line, tuple(COMMANDS))
    return _parse_flow(line, COMMANDS[verb or "add"], ports)


def _leading_word(line: Span, words: tuple[str, ...]) -> tuple[str, Span]:
    """The first word, if it is one of these and stands alone, and the rest."""
    match = re.match(r"([a-z_]+)(\s+|$)", line.text)
    if match is None or match[1] not in words:
        return "", line
    return match[1], line.cut(match.end())


@dataclass
class _Head:
    """What precedes the actions, beside the match."""

    table: int
    priority: int = PRIORITY_DEFAULT
    cookie: int = 0
    cookie_mask: int = 0
    has_cookie: bool = False
    idle_timeout: int = 0
    hard_timeout: int = 0
    importance: int = 0
    flags: int = 0
    filter_prog: int = 0
    out_port: int = PORT_ANY
    out_group: int = GROUP_ANY


def _parse_flow(span: Span, command: int, ports: Ports | None) -> FlowMod:
    found = _ACTIONS.search(span.text)
    head_span = span if found is None else span.cut(0, found.start())
    head = _Head(table=0 if command == ADD else TABLE_ALL)
    match_parser = MatchParser(ports, _HEAD_NAMES)
    seen: dict[str, Span] = {}
    for item in items(head_span):
        if item.tail or item.separator in ("(", ":"):
            item.whole.fail(f'expected "=" after "{item.name}"')
        if not _parse_head(item, head, command, ports):
            match_parser.add(item)
        elif item.separator:
            if item.name in seen:
                item.key.fail(f'"{item.name}" is given twice')
            seen[item.name] = item.key
    match = match_parser.finish(head_span)
    deleting = command in (DELETE, DELETE_STRICT)
    if found is None and not deleting:
        end = span.cut(len(span.text.rstrip()))
        end.fail("must specify an action", "actions=drop, or actions=output:2, for example")
    table = 0 if head.table == TABLE_ALL else head.table
    instructions = Instructions()
    if found is not None:
        instructions = _instructions(span.cut(found.end()), match_parser.known, ports, table)
        if head.filter_prog and any(isinstance(a, Conjunction) for a in instructions.apply):
            seen["filter_prog"].fail(
                "a flow with conjunction cannot have a filter program",
                "put filter_prog into the flow that matches conj_id",
            )
    flow = Flow(
        table=head.table,
        priority=head.priority,
        match=match,
        filter_prog=head.filter_prog,
        instructions=instructions,
        cookie=head.cookie,
        idle_timeout=head.idle_timeout,
        hard_timeout=head.hard_timeout,
        importance=head.importance,
        flags=head.flags,
    )
    return FlowMod(
        flow,
        command,
        cookie_mask=head.cookie_mask,
        new_cookie=head.has_cookie and not head.cookie_mask and command in (MODIFY, MODIFY_STRICT),
        out_port=head.out_port,
        out_group=head.out_group,
    )


_parsed: dict[tuple[object, ...], Instructions] = {}
_PARSED_LIMIT = 1024


def _instructions(span: Span, known: Known, ports: Ports | None, table: int) -> Instructions:
    """Everything after actions=. Most flows do what others do, so what was read is remembered, with
    all that its meaning depends on."""
    if ports:
        return ActionParser(known, ports, table).instructions(span)
    key = (span.text, table, *map(known.get, PREREQUISITES))
    instructions = _parsed.get(key)
    if instructions is None:
        instructions = ActionParser(known, None, table).instructions(span)
        if len(_parsed) >= _PARSED_LIMIT:
            _parsed.clear()
        _parsed[key] = instructions
    return instructions


_HEAD_NAMES = (
    *FLAG_NAMES,
    *("table", "priority", "filter_prog", "idle_timeout", "hard_timeout", "importance"),
    *("cookie", "out_port", "out_group", "actions"),
)
"""What may stand in a flow beside its match, for hints about unknown names."""


def _parse_head(item: Item, head: _Head, command: int, ports: Ports | None) -> bool:
    """Takes an item that is not part of the match; False if it is."""
    name = item.name
    if name in FLAG_NAMES and not item.separator:
        head.flags |= FLAG_NAMES[name]
    elif name == "allow_hidden_fields" and not item.separator:
        pass
    elif name == "table":
        value = item.required("a table number")
        if value.text == "255":
            head.table = 0 if command == ADD else TABLE_ALL
        else:
            head.table = number(value, 8, "table", 0, TABLE_MAX)
    elif name == "priority":
        head.priority = number(item.required("a number"), 16, "priority")
    elif name == "filter_prog":
        _parse_filter_prog(item, head, command)
    elif name in ("idle_timeout", "hard_timeout", "importance"):
        setattr(head, name, number(item.required("a number"), 16, name))
    elif name == "cookie":
        value, mask = item.required("a number").split_at("/")
        if mask is not None:
            if command == ADD:
                mask.fail("a new flow's cookie takes no mask")
            exact = mask.text == "-1"
            head.cookie_mask = (1 << 64) - 1 if exact else number(mask, 64, "cookie mask")
        elif command in (DELETE, DELETE_STRICT):
            head.cookie_mask = (1 << 64) - 1
        head.cookie = number(value, 64, "cookie")
        head.has_cookie = True
    elif name in ("out_port", "out_group"):
        if command not in (DELETE, DELETE_STRICT):
            item.key.fail(f"{name} is for deletion only")
        if name == "out_port":
            head.out_port = parse_port(item.required("a port"), ports)
        else:
            head.out_group = number(item.required("a group number"), 32, "group")
    elif name not in _STATISTICS:
        return False
    return True


def _parse_filter_prog(item: Item, head: _Head, command: int) -> None:
    value = item.required("a program number")
    head.filter_prog = number(value, 16, "filter_prog")
    if head.filter_prog == 0 and command in (MODIFY, DELETE):
        value.fail(
            "filter_prog=0 has no meaning here",
            "leave it out to cover flows with any filter or none; it means no filter in add and "
            "strict commands",
        )


# ---------------------------------------------------------------- formatting


@dataclass(frozen=True, slots=True)
class FlowStats:
    """What dump-flows tells about a flow's past. Ages in seconds; None: not known."""

    duration: float = 0.0
    n_packets: int = 0
    n_bytes: int = 0
    idle_age: int | None = None
    hard_age: int | None = None


def format_flow(flow: Flow) -> str:
    """One flow as a line that parse_flow() reads back; defaults are left out."""
    words: list[str] = []
    if flow.table:
        words.append(f"table={flow.table}")
    if flow.cookie:
        words.append(f"cookie={flow.cookie:#x}")
    for name in ("idle_timeout", "hard_timeout", "importance"):
        value = getattr(flow, name)
        if value:
            words.append(f"{name}={value}")
    words += [name for name, bit in FLAG_NAMES.items() if flow.flags & bit]
    words += _identity_words(flow)
    return f"{','.join(words)} actions={format_instructions(flow.instructions)}".lstrip()


def format_match_part(flow: Flow) -> str:
    """priority, filter_prog and match: what identifies a flow within its table."""
    return ",".join(_identity_words(flow))


def _identity_words(flow: Flow) -> list[str]:
    words = []
    if flow.priority != PRIORITY_DEFAULT:
        words.append(f"priority={flow.priority}")
    if flow.filter_prog:
        words.append(f"filter_prog={flow.filter_prog}")
    shown = format_match(flow.match)
    if shown:
        words.append(shown)
    return words


def dump_flow(flow: Flow, stats: FlowStats | None = None, version: int = 0) -> str:
    """One flow as `ovs-ofctl dump-flows` prints it (with stats None: `--no-stats`).

    version: of OpenFlow, as action_format has it.
    """
    words = []
    if stats is not None or flow.cookie:
        words.append(f"cookie={flow.cookie:#x}")
    if stats is not None:
        words.append(f"duration={format_duration(stats.duration)}")
    if stats is not None or flow.table:
        words.append(f"table={flow.table}")
    if stats is not None:
        words += [f"n_packets={stats.n_packets}", f"n_bytes={stats.n_bytes}"]
    if flow.idle_timeout:
        words.append(f"idle_timeout={flow.idle_timeout}")
    if flow.hard_timeout:
        words.append(f"hard_timeout={flow.hard_timeout}")
    line = " " + "".join(f"{word}, " for word in words)
    line += "".join(f"{name} " for name, bit in FLAG_NAMES.items() if flow.flags & bit)
    if flow.importance:
        line += f"importance={flow.importance}, "
    if stats is not None and stats.idle_age is not None:
        line += f"idle_age={stats.idle_age}, "
    if stats is not None and stats.hard_age is not None:
        line += f"hard_age={stats.hard_age}, "
    identity = format_match_part(flow)
    actions = format_instructions(flow.instructions, version)
    return f"{line}{identity}{' ' if identity else ''}actions={actions}"


def format_duration(seconds: float) -> str:
    """3.250s, as ovs-ofctl: milliseconds, and none for a whole number."""
    thousandths = int(seconds * 1000)
    whole, rest = divmod(thousandths, 1000)
    return f"{whole}.{rest:03d}s" if rest else f"{whole}s"


__all__ = [
    "FlowStats",
    "FlowSyntaxError",
    "dump_flow",
    "format_flow",
    "format_match_part",
    "iterate_rules",
    "parse_flow",
    "parse_flow_mod",
    "parse_flows",
    "parse_rules",
]
