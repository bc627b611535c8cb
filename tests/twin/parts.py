"""Small questions and answers of the naive switch: reading and writing fields, relations between
matches, the order of an action set, the hash of select groups. Pure functions, but for the two
that write a packet."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from oko.model import actions as act
from oko.model.actions import Action, Subfield
from oko.model.fields import PORT_ANY, VLAN_TCI, Field
from oko.model.fields import field as field_of
from oko.model.flow import Band, Flow, Instructions, Match, Meter
from twin import frame as fr


@dataclass
class Packet:
    """One packet on its way: what actions change."""

    data: bytearray
    regs: dict[str, int]  # in_port, metadata, tun_id, pkt_mark, reg0..reg15
    queue: int = 0
    room: int = 128  # bytes in front of the frame, for tags to come (OKO_HEADROOM)
    stack: list[tuple[int, int]] = field(default_factory=list)  # (value, bits)
    action_set: list[Action] = field(default_factory=list)


# ---------------------------------------------------------------- the action set

_SET_ORDER: tuple[tuple[type, ...], ...] = (
    (act.CopyTtlIn,), (act.PopVlan,), (act.PopMpls,), (act.PopPbb,), (act.PushMpls,),
    (act.PushPbb,), (act.PushVlan,), (act.CopyTtlOut,), (act.DecTtl,), (act.DecMplsTtl,),
)  # fmt: skip
_SET_FIELDS = (act.SetField, act.SetTransport, act.Move, act.SetTtl, act.SetMplsTtl)
_SET_LAST: tuple[tuple[type, ...], ...] = (
    (act.ToGroup,), (act.Output, act.OutputTrunc), (act.Resubmit,),
)  # fmt: skip


def set_slots(action: Action) -> int:
    """How many field changes of the datapath an action is made of."""
    if isinstance(action, act.SetTransport):
        return 3
    if isinstance(action, act.Move) and action.source.field is VLAN_TCI:
        return 1 + (action.source.ofs < 13 < action.source.ofs + action.source.n_bits)
    return isinstance(action, _SET_FIELDS)


def set_order(written: Sequence[Action]) -> list[Action]:
    """OpenFlow 1.3.5, 5.10: one of each kind (the last written), fields in the order written,
    and at the end a group, else an output, else a resubmit."""

    def last(kinds: tuple[type, ...]) -> list[Action]:
        return [a for a in written if isinstance(a, kinds)][-1:]

    result = [a for kinds in _SET_ORDER for a in last(kinds)]
    result += [a for a in written if isinstance(a, _SET_FIELDS)]
    result += last((act.SetQueue, act.PopQueue))
    for kinds in _SET_LAST:
        if last(kinds):
            return result + last(kinds)
    return result


def growth(packet: Packet, action: Action) -> int:
    """By how much an action makes the frame longer."""
    if isinstance(action, act.PushVlan | act.PushMpls):
        return 4 if len(packet.data) >= 14 else 0
    if isinstance(action, act.PushPbb):
        return 18 if len(packet.data) >= 14 else 0
    if isinstance(action, act.SetField) and action.field is VLAN_TCI:
        longer = copy.copy(packet.data)
        fr.set_vlan_tci(longer, action.value, action.mask)
        return len(longer) - len(packet.data)
    return 0


def all_actions(instructions: Instructions) -> list[Action]:
    result: list[Action] = []

    def walk(actions: Sequence[Action]) -> None:
        for action in actions:
            result.append(action)
            if isinstance(action, act.Clone):
                walk(action.actions)

    walk(instructions.apply)
    walk(instructions.write)
    return result


def dimensions_of(flow: Flow) -> list[act.Conjunction]:
    """What a flow says about conjunctions; empty: an ordinary flow."""
    return [a for a in flow.instructions.apply if isinstance(a, act.Conjunction)]


def complete_conjunction(flows: Sequence[Flow]) -> int | None:
    """The lowest id of which these flows name every dimension (flows that disagree about their
    number: the smallest counts), or None."""
    named = [a for flow in flows for a in dimensions_of(flow)]
    for number in sorted({a.id for a in named}):
        mine = [a for a in named if a.id == number]
        n = min(a.dimensions for a in mine)
        if set(range(1, n + 1)) <= {a.dimension for a in mine}:
            return number
    return None


def meter_capacity(meter: Meter, band: Band) -> int:
    """What a band's bucket holds, in packets or kilobits."""
    return band.burst if meter.burst and band.burst else band.rate


def shorter_timeout(have: int, limit: int) -> int:
    if not limit:
        return have
    return min(have, limit) if have else limit


def narrower(have: Match, want: Match) -> bool:
    """Does every packet that `have` matches match `want` too?"""
    mine = {f: (value, mask) for f, value, mask in have}
    for f, value, mask in want:
        my_value, my_mask = mine.get(f, (0, 0))
        if mask & ~my_mask or (my_value ^ value) & mask:
            return False
    return True


def overlap(a: Match, b: Match) -> bool:
    """Can one packet match both?"""
    mine = {f: (value, mask) for f, value, mask in a}
    for f, value, mask in b:
        my_value, my_mask = mine.get(f, (0, 0))
        if (my_value ^ value) & mask & my_mask:
            return False
    return True


def get_field(key: dict[str, int], f: Field) -> int:
    """A field's value; zero where the packet lacks it. xreg and vlan_tci are made of others."""
    if f.name.startswith(("xreg", "xxreg")):
        width = 2 if f.name.startswith("xreg") else 4
        first = int(f.name.lstrip("xreg")) * width
        value = 0
        for i in range(first, first + width):
            value = value << 32 | key[f"reg{i}"]
        return value
    if f.parts:
        return sum((key.get(name, 0) & ((1 << bits) - 1)) << ofs for name, ofs, bits in f.parts)
    return key.get(f.name, 0)


def read_bits(key: dict[str, int], sub: Subfield) -> int:
    return get_field(key, sub.field) >> sub.ofs & ((1 << sub.n_bits) - 1)


def write_field(packet: Packet, f: Field, value: int, mask: int) -> None:
    """field = (field & ~mask) | value."""
    regs = packet.regs
    if f is VLAN_TCI:
        fr.set_vlan_tci(packet.data, value, mask)
    elif f.name.startswith(("xreg", "xxreg")):
        width = 2 if f.name.startswith("xreg") else 4
        first = int(f.name.lstrip("xreg")) * width
        for i in range(width):
            shift = 32 * (width - 1 - i)
            part = field_of(f"reg{first + i}")
            write_field(packet, part, value >> shift & 0xFFFFFFFF, mask >> shift & 0xFFFFFFFF)
    elif f.name in regs:
        regs[f.name] = regs[f.name] & ~mask | value
    else:
        fr.set_field(packet.data, f.name, value, mask)


def load_bits(packet: Packet, target: Subfield, value: int) -> None:
    """A number into some bits of a field."""
    if target.field.parts:
        for name, start, bits in target.field.parts:
            low = max(target.ofs, start)
            high = min(target.ofs + target.n_bits, start + bits)
            if low < high:
                part = Subfield(field_of(name), low - start, high - low)
                load_bits(packet, part, value >> (low - target.ofs) & ((1 << high - low) - 1))
        return
    mask = ((1 << target.n_bits) - 1) << target.ofs
    write_field(packet, target.field, value << target.ofs, mask)


def wide_port(port: int) -> int:
    """Registers may hold OpenFlow 1.0's reserved numbers."""
    if port > 0xFFFFFFFF:
        return PORT_ANY
    return port | 0xFFFF0000 if 0xFFF8 <= port <= 0xFFFF else port


def is_table_miss(flow: Flow) -> bool:
    """OpenFlow 1.3.5, 5.4."""
    return flow.priority == 0 and not flow.match.fields and not flow.filter_prog


def select_hash(key: dict[str, int]) -> int:
    """As csrc/group.h says."""
    k1, k2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9

    def fold(a: int, b: int) -> int:
        product = a * b
        return product & (1 << 64) - 1 ^ product >> 64

    def of(*names: str) -> int:
        return next((key[name] for name in names if key.get(name)), 0)

    h = fold(of("eth_src") << 16 | of("vlan_vid"), k1)
    h = fold(h ^ (of("eth_dst") << 16 | of("eth_type")), k2)
    for address in (of("ipv6_src"), of("ipv6_dst")):
        h = fold(h ^ address >> 64, k1)
        h = fold(h ^ address & (1 << 64) - 1, k1)
    h = fold(h ^ (of("ipv4_src", "arp_spa") << 32 | of("ipv4_dst", "arp_tpa")), k2)
    ports = of("tcp_src", "udp_src", "sctp_src") << 16 | of("tcp_dst", "udp_dst", "sctp_dst")
    return fold(h ^ (of("ip_proto") << 32 | ports), k1)
