"""Flow tables: what they can do, how they are set, and to set it.

Texts are ovs-ofctl's. Of another switch's fields those that oko does not know are counted, not
named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from oko.errors import OkoError
from oko.model.fields import IN_PORT, OXM_OF, Field
from oko.ofctl.commandline import UsageError
from oko.ofctl.printing import ACTION_NAMES, title, xid_of
from oko.ofctl.run import SINCE_13, Run
from oko.openflow import oxm, tables
from oko.openflow.client import Connection
from oko.openflow.common import (
    MP_TABLE_FEATURES,
    OF10,
    OF13,
    OF14,
    OF15,
    OpenFlowError,
    decode_multipart,
    encode_multipart,
)
from oko.openflow.tables import EVICTION, TABLE_ALL, VACANCY_EVENTS, TableFeatures, TableMod

_INSTRUCTIONS = {
    6: "meter", 4: "apply_actions", 5: "clear_actions", 3: "write_actions", 2: "write_metadata",
    1: "goto_table",
}  # fmt: skip
_VERSIONS_14 = (OF14, OF15)


# ---------------------------------------------------------------- features

# The order in which Open vSwitch has its fields; what is not here comes behind.
_ORDER = """
    conj_id tun_id metadata in_port in_port_oxm in_phy_port pkt_mark
    reg0 reg1 reg2 reg3 reg4 reg5 reg6 reg7 reg8 reg9
    reg10 reg11 reg12 reg13 reg14 reg15 xreg0 xreg1 xreg2 xreg3 xreg4 xreg5 xreg6 xreg7
    xxreg0 xxreg1 xxreg2 xxreg3 eth_src eth_dst eth_type vlan_tci vlan_vid vlan_pcp mpls_label
    mpls_tc mpls_bos mpls_ttl ip_src ip_dst ipv6_src ipv6_dst ipv6_label ipv6_exthdr nw_proto nw_tos
    ip_dscp nw_ecn nw_ttl ip_frag arp_op arp_spa arp_tpa arp_sha arp_tha tcp_src tcp_dst tcp_flags
    udp_src udp_dst sctp_src sctp_dst icmp_type icmp_code icmpv6_type icmpv6_code nd_target nd_sll
    nd_tll pbb_isid pbb_uca
"""
_PLACE = {name: place for place, name in enumerate(_ORDER.split())}


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a property: names in Open vSwitch's order, which of them take masks, and how
    many there are that oko does not know."""

    names: tuple[str, ...] = ()
    masked: frozenset[str] = frozenset()
    n_unknown: int = 0

    def text(self, names: Iterable[str] | None = None) -> str:
        """The names, shortened: tcp_{src,dst} reg0...reg15."""
        return " ".join(shortened(self.names if names is None else list(names)))


def _name(f: Field, kind: int) -> str:
    if f is IN_PORT:
        return "in_port_oxm" if kind == OXM_OF else "in_port"
    return f.label


def fields_of(body: bytes) -> Fields:
    """The fields whose headers these are."""
    names: set[str] = set()
    masked = set()
    n_unknown = 0
    at = 0
    while at + 4 <= len(body):
        kind = int.from_bytes(body[at : at + 2], "big")
        try:
            f, has_mask, at, _ = oxm.header_at(body, at)
        except OpenFlowError:
            n_unknown += 1
            at += 8 if kind == oxm.EXPERIMENTER_CLASS else 4
            continue
        name = _name(f, kind)
        names.add(name)
        if has_mask:
            masked.add(name)
    ordered = sorted(names, key=lambda name: (_PLACE.get(name, len(_PLACE)), name))
    return Fields(tuple(ordered), frozenset(masked), n_unknown)


def shortened(names: Sequence[str]) -> list[str]:
    """Names that follow each other and begin alike, up to a "_", are put into braces; those that
    differ in a rising number become a range."""
    found: list[str] = []
    at = 0
    while at < len(names):
        end = _range_end(names, at)
        if end - at > 2:
            found.append(f"{names[at]}...{names[end - 1]}")
            at = end
            continue
        head, underscore, _ = names[at].partition("_")
        end = at + 1
        while underscore and end < len(names) and names[end].startswith(head + "_"):
            end += 1
        if end - at > 1:
            rest = [name[len(head) + 1 :] for name in names[at:end]]
            found.append(f"{head}_{{{','.join(shortened(rest))}}}")
        else:
            found.append(names[at])
        at = end
    return found


def _range_end(names: Sequence[str], at: int) -> int:
    """Where a run of names that count up ends: reg0, reg1, reg2."""
    stem = names[at].rstrip("0123456789")
    digits = names[at][len(stem) :]
    end = at + 1
    if digits:
        while end < len(names) and names[end] == f"{stem}{int(digits) + end - at}":
            end += 1
    return end


def dump_features(run: Run, words: list[str]) -> None:
    """dump-table-features SWITCH"""
    run.need(OF13, "dump-table-features")
    found = read_features(run.connect(words[0], SINCE_13))
    if run.json:
        run.print_json({"tables": [_features_json(table) for table in found]})
        return
    print("".join(features_text(found)), end="")


def read_features(switch: Connection) -> list[TableFeatures]:
    """Of all tables."""
    version = switch.version
    if version == OF10:
        raise OkoError("table features came with OpenFlow 1.3; the switch speaks 1.0 only")
    found: list[TableFeatures] = []
    for reply in switch.multipart(encode_multipart(version, 0, MP_TABLE_FEATURES)):
        found += tables.decode_table_features(version, decode_multipart(version, reply[8:]).body)
    return found


def features_text(found: list[TableFeatures]) -> Iterator[str]:
    """As ovs-ofctl prints them: nameless tables that are like the one before are put together."""
    before: TableFeatures | None = None
    ditto: list[int] = []
    for table in found:
        same = before is not None and _same(before, table)
        if same and not table.name:
            ditto.append(table.table)
        else:
            yield _ditto(ditto)
            ditto = []
            name = f' ("{table.name}")' if table.name else ""
            yield f"  table {table.table}{name}:"
            yield " ditto\n" if same else "\n" + "".join(_features_lines(table, before)) + "\n"
        before = table
    yield _ditto(ditto)


def _ditto(tables: list[int]) -> str:
    if not tables:
        return ""
    first, last = tables[0], tables[-1]
    which = f"table {first}" if first == last else f"tables {first}...{last}"
    return f"  {which}: ditto\n\n"


def _next_tables(table: TableFeatures, kind: int = tables.NEXT_TABLES) -> list[int]:
    return sorted(table.ids(kind))


def _same(one: TableFeatures, other: TableFeatures) -> bool:
    """Whether two tables can do the same. A table before the other may of course go to it."""

    def common(table: TableFeatures) -> TableFeatures:
        kept = tuple((kind, body) for kind, body in table.properties if kind not in (2, 3))
        return replace(table, table=0, name="", properties=kept)

    def onwards(table: TableFeatures, kind: int) -> set[int]:
        return {n for n in table.ids(kind) if n > max(one.table, other.table)}

    return common(one) == common(other) and all(
        onwards(one, kind) == onwards(other, kind) and bool(one.ids(kind)) == bool(other.ids(kind))
        for kind in (2, 3)
    )


def _features_lines(table: TableFeatures, before: TableFeatures | None) -> Iterator[str]:
    if table.metadata_match or table.metadata_write:
        yield (f"    metadata: match={table.metadata_match:#x} write={table.metadata_write:#x}\n")
    if table.capabilities is not None:
        evicts = "" if table.capabilities & EVICTION else "not "
        tells = "" if table.capabilities & VACANCY_EVENTS else "not "
        yield f"    eviction: {evicts}supported\n    vacancy events: {tells}supported\n"
    if table.max_entries:
        yield f"    max_entries={table.max_entries}\n"
    told = {kind for kind, _ in table.properties}
    alike = all(
        kind + 1 not in told or table.body(kind) == table.body(kind + 1)
        for kind in tables.REQUIRED
        if kind not in (tables.MATCH, tables.WILDCARDS)
    )
    if alike:
        yield "    instructions (table miss and others):\n"
        yield from _instruction_lines(table, before, 0)
    else:
        yield "    instructions (other than table miss):\n"
        yield from _instruction_lines(table, before, 0)
        yield "    instructions (table miss):\n"
        yield from _instruction_lines(table, before, 1)
    yield from _match_lines(table, before)


def _instruction_lines(
    table: TableFeatures, before: TableFeatures | None, miss: int
) -> Iterator[str]:
    def body(of: TableFeatures, kind: int) -> bytes:
        """The table-miss flow's own, or what holds for all."""
        own = of.body(kind + miss)
        return own if own is not None else of.body(kind) or b""

    following = sorted(body(table, tables.NEXT_TABLES))
    if following:
        yield f"      next tables: {_ranges(following)}\n"
    names = _words(tables.ids(body(table, tables.INSTRUCTIONS)), _INSTRUCTIONS)
    earlier = before and _words(tables.ids(body(before, tables.INSTRUCTIONS)), _INSTRUCTIONS)
    if names and names == earlier:
        yield "      (same instructions)\n"
    elif names:
        yield f"      instructions: {' '.join(names)}\n"
    kinds = (
        tables.WRITE_ACTIONS, tables.APPLY_ACTIONS, tables.WRITE_SETFIELD, tables.APPLY_SETFIELD,
    )  # fmt: skip
    write, apply, write_set, apply_set = (body(table, kind) for kind in kinds)
    if before is not None and all(body(before, kind) == body(table, kind) for kind in kinds):
        yield "      (same actions)\n"
    elif (write, write_set) == (apply, apply_set):
        yield "      Write-Actions and Apply-Actions features:\n"
        yield from _action_lines(write, write_set)
    else:
        yield "      Write-Actions features:\n"
        yield from _action_lines(write, write_set)
        yield "      Apply-Actions features:\n"
        yield from _action_lines(apply, apply_set)


def _action_lines(actions: bytes, settable: bytes) -> Iterator[str]:
    yield f"        actions: {' '.join(_words(tables.ids(actions), ACTION_NAMES))}\n"
    fields = fields_of(settable)
    yield f"        supported on Set-Field: {fields.text()}{_unknown(fields)}\n"


def _unknown(fields: Fields) -> str:
    return f" (and {fields.n_unknown} that oko does not know)" if fields.n_unknown else ""


def _words(ids: list[int], names: dict[int, str]) -> list[str]:
    """Names of ids, in the order of the names; ids without a name as numbers."""
    return [name for number, name in names.items() if number in ids] + [
        str(number) for number in sorted(set(ids) - set(names))
    ]


def _ranges(numbers: list[int]) -> str:
    """1-3,7"""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def _match_lines(table: TableFeatures, before: TableFeatures | None) -> Iterator[str]:
    match, wildcards = table.body(tables.MATCH), table.body(tables.WILDCARDS)
    if not match:
        return
    if before is not None and (before.body(tables.MATCH), before.body(tables.WILDCARDS)) == (
        match, wildcards,
    ):  # fmt: skip
        yield "    (same matching)\n"
        return
    yield "    matching:\n"
    fields = fields_of(match)
    optional = set(fields_of(wildcards or b"").names)
    tests: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("arbitrary mask", lambda name: name in fields.masked and name in optional),
        ("exact match or wildcard", lambda name: name not in fields.masked and name in optional),
        ("must mask", lambda name: name in fields.masked and name not in optional),
        ("must exact match", lambda name: name not in fields.masked and name not in optional),
    )
    for label, belongs in tests:
        names = [name for name in fields.names if belongs(name)]
        if names:
            yield f"      {label}: {fields.text(names)}\n"
    if fields.n_unknown:
        yield f"      {fields.n_unknown} fields that oko does not know\n"


def _features_json(table: TableFeatures) -> dict[str, Any]:
    told: dict[str, Any] = {
        "table": table.table,
        "name": table.name,
        "max_entries": table.max_entries,
        "metadata_match": table.metadata_match,
        "metadata_write": table.metadata_write,
    }
    if table.capabilities is not None:
        told["eviction"] = bool(table.capabilities & EVICTION)
        told["vacancy_events"] = bool(table.capabilities & VACANCY_EVENTS)

    def names(kind: int) -> list[str]:
        return list(fields_of(table.body(kind) or b"").names)

    match = fields_of(table.body(tables.MATCH) or b"")
    return told | {
        "next_tables": _next_tables(table),
        "instructions": _words(table.ids(tables.INSTRUCTIONS), _INSTRUCTIONS),
        "write_actions": _words(table.ids(tables.WRITE_ACTIONS), ACTION_NAMES),
        "apply_actions": _words(table.ids(tables.APPLY_ACTIONS), ACTION_NAMES),
        "match": list(match.names),
        "masked": [name for name in match.names if name in match.masked],
        "wildcards": names(tables.WILDCARDS),
        "write_setfield": names(tables.WRITE_SETFIELD),
        "apply_setfield": names(tables.APPLY_SETFIELD),
        "unknown_fields": match.n_unknown,
    }


# ---------------------------------------------------------------- descriptions

_EVICTION_FLAGS = ((1, "OTHER"), (2, "IMPORTANCE"), (4, "LIFETIME"))
_EVICTION_PROPERTY, _VACANCY_PROPERTY = 2, 3


def dump_desc(run: Run, words: list[str]) -> None:
    """dump-table-desc SWITCH"""
    run.need(OF14, "dump-table-desc")
    switch = run.connect(words[0], _VERSIONS_14)
    found, head = read_desc(switch)
    if run.json:
        run.print_json({"tables": [_desc_json(table) for table in found]})
        return
    print(head)
    print("\n".join(desc_text(table) for table in found), end="")


def read_desc(switch: Connection) -> tuple[list[TableMod], str]:
    """Descriptions of all tables, and the reply's title."""
    if switch.version < OF14:
        raise OkoError("table descriptions came with OpenFlow 1.4; the switch does not speak it")
    head = ""
    found: list[TableMod] = []
    for reply in switch.multipart(tables.encode_table_desc_request(switch.version)):
        head = head or title("OFPST_TABLE_DESC reply", switch.version, xid_of(reply))
        found += tables.decode_table_desc(switch.version, reply)
    return found, head


def _eviction_flags(table: TableMod) -> int:
    body = dict(table.properties).get(_EVICTION_PROPERTY, b"")
    return int.from_bytes(body[:4], "big")


def _vacancy(table: TableMod) -> tuple[int, int, int]:
    """Percentages: down, up, now."""
    body = dict(table.properties).get(_VACANCY_PROPERTY, b"").ljust(3, b"\0")
    return body[0], body[1], body[2]


def desc_text(table: TableMod) -> str:
    """As ovs-ofctl prints it."""
    flags = _eviction_flags(table)
    shown = "|".join(name for bit, name in _EVICTION_FLAGS if flags & bit)
    evicts = "on" if table.config & EVICTION else "off"
    text = f"  table {table.table}:\n   eviction={evicts} eviction_flags={shown or '(default)'}\n"
    if not table.config & VACANCY_EVENTS:
        return text + "   vacancy=off\n"
    down, up, now = _vacancy(table)
    return text + f"   vacancy=on vacancy_down={down}% vacancy_up={up}% vacancy={now}%\n"


def _desc_json(table: TableMod) -> dict[str, Any]:
    flags = _eviction_flags(table)
    told: dict[str, Any] = {
        "table": table.table,
        "eviction": bool(table.config & EVICTION),
        "eviction_flags": [name for bit, name in _EVICTION_FLAGS if flags & bit],
        "vacancy": bool(table.config & VACANCY_EVENTS),
    }
    if told["vacancy"]:
        told |= dict(
            zip(("vacancy_down", "vacancy_up", "vacancy_now"), _vacancy(table), strict=True)
        )
    return told


# ---------------------------------------------------------------- mod-table


def mod_table(run: Run, words: list[str]) -> None:
    """mod-table SWITCH TABLE SETTING"""
    name, table_text, setting = words
    table = _table_number(table_text)
    if setting in ("drop", "continue", "controller"):
        raise UsageError(
            f"table_mod '{setting}' requires one of the OpenFlow versions OpenFlow11, OpenFlow12",
            "in later ones a flow of priority 0 says what happens to packets that miss the others",
        )
    if setting.startswith("name:"):
        raise UsageError("oko-ofctl does not name tables", f"ovs-ofctl mod-table {name} ..")
    thresholds = _thresholds(setting)
    if run.versions is not None and not set(run.versions) & set(_VERSIONS_14):
        raise UsageError(
            f"table_mod '{setting}' requires one of the OpenFlow versions OpenFlow14, OpenFlow15"
        )
    switch = run.connect(name, _VERSIONS_14)
    found, _ = read_desc(switch)
    meant = [old for old in found if table in (old.table, TABLE_ALL)]
    if not meant:
        raise OkoError(f"{name}: has no table {table_text}")
    old = meant[0]
    bit = EVICTION if "evict" in setting else VACANCY_EVENTS
    on = not setting.startswith("no")
    config = (old.config & ~bit) | (bit if on else 0)
    properties: list[tuple[int, bytes]] = []
    if bit == VACANCY_EVENTS and on:
        properties.append((_VACANCY_PROPERTY, bytes((*thresholds, 0, 0))))
    elif config & VACANCY_EVENTS:
        properties.append((_VACANCY_PROPERTY, bytes((*_vacancy(old)[:2], 0, 0))))
    switch.send(tables.encode_table_mod(switch.version, TableMod(table, config, tuple(properties))))
    switch.finish()


def _table_number(text: str) -> int:
    if text.lower() == "all":
        return TABLE_ALL
    if not text.isdecimal() or int(text) > 254:
        raise UsageError(f'unknown table "{text}"', "a number, 0 to 254, or all")
    return int(text)


def _thresholds(setting: str) -> tuple[int, int]:
    """Of vacancy:LOW,HIGH; UsageError for what is no setting."""
    if setting in ("evict", "noevict", "novacancy"):
        return 0, 0
    word, colon, numbers = setting.partition(":")
    if word != "vacancy" or not colon:
        raise UsageError(
            f"invalid table_mod setting {setting}", "evict, noevict, vacancy:LOW,HIGH or novacancy"
        )
    low, comma, high = numbers.partition(",")
    if not comma:
        raise UsageError("Vacancy up value missing", "vacancy:LOW,HIGH in percent")
    if not (low.isdecimal() and high.isdecimal() and int(low) <= 100 and int(high) <= 100):
        raise UsageError(f"{numbers}: two percentages, 0 to 100, are wanted")
    if int(low) >= int(high):
        raise UsageError(
            "Invalid vacancy range, vacancy up should be greater than vacancy down "
            "(OFPBPC_BAD_VALUE)"
        )
    return int(low), int(high)
