"""Actions and instructions: `output:1,set_field:...`, as ovs-actions(7) describes them.

Synonyms meet here (mod_dl_dst, load and set_field make the same SetField; strip_vlan is PopVlan),
and so do the checks that need the match: set_field, load, move and learn on a field whose
prerequisite neither the match nor an earlier push established are errors. Printing is
action_format.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from oko.model import actions as act
from oko.model.actions import Action, Subfield
from oko.model.fields import (
    BY_NAME,
    ETH_TYPE,
    ETH_TYPE_MPLS,
    ETH_TYPE_MPLS_MCAST,
    ETH_TYPE_PBB,
    ETH_TYPE_QINQ,
    ETH_TYPE_VLAN,
    IN_PORT,
    IN_PORT_16,
    IP_DSCP,
    IP_ECN,
    NW_TOS,
    PORT_ANY,
    PORT_CONTROLLER,
    PORT_IN_PORT,
    PORT_LOCAL,
    PORT_NAMES,
    VLAN_PRESENT,
    VLAN_TCI,
    VLAN_VID,
    Field,
    Known,
    field,
    unmet,
)
from oko.model.flow import (
    GROUP_MAX,
    METER_MAX,
    TABLE_MAX,
    Instructions,
    Match,
)
from oko.text.scan import Item, Span, did_you_mean, items, number
from oko.text.values import (
    Ports,
    field_named,
    parse_field,
    parse_ipv4,
    parse_mac,
    parse_port,
    parse_subfield,
    parse_value,
)

_UNSUPPORTED_NAMES = """
    ct ct_clear nat multipath bundle bundle_load sample encap decap dec_nsh_ttl
    check_pkt_larger delete_field debug_recirc debug_slow unroll_xlate
"""
UNSUPPORTED = frozenset(_UNSUPPORTED_NAMES.split())
"""Actions of Open vSwitch that are refused by name."""

_INSTRUCTION_ORDER = (
    "meter", "apply_actions", "clear_actions", "write_actions", "write_metadata", "goto_table",
)  # fmt: skip


class ActionParser:
    """Parses the actions of one flow (or bucket).

    known: what the match says about packets, or None where nothing is known and prerequisites
    are not checked (buckets, packet-outs): there an action on a missing header does nothing.
    """

    def __init__(self, known: Known | None, ports: Ports | None = None, table: int = 0) -> None:
        self.known = None if known is None else dict(known)
        self.ports = ports
        self.table = table

    # ------------------------------------------------------------ lists

    def instructions(self, span: Span) -> Instructions:
        """Everything after actions=."""
        result = Instructions()
        apply: list[Action] = []
        dropped: Item | None = None
        seen: list[str] = []
        n_items = 0
        for item in items(span):
            n_items += 1
            name = item.name
            kind = name if name in _INSTRUCTION_ORDER else "apply_actions"
            self._check_order(item, kind, seen)
            if name == "drop":
                dropped = item
            elif name == "meter":
                meter = number(_argument(item, "a meter number"), 32, "meter", 1, METER_MAX)
                result = replace(result, meter=meter)
            elif name == "apply_actions":
                apply += self.actions(item.value)
            elif name == "clear_actions":
                result = replace(result, clear=True)
            elif name == "write_actions":
                result = replace(result, write=self._action_set(item.value))
            elif name == "write_metadata":
                value, mask = parse_field(field("metadata"), item.required("a value"))
                result = replace(result, metadata=(value, mask))
            elif name == "goto_table":
                goto = number(_argument(item, "a table number"), 8, "table", 0, TABLE_MAX)
                if goto <= self.table:
                    item.value.fail(
                        f"goto_table:{goto} must lead to a table after this one ({self.table})"
                    )
                result = replace(result, goto=goto)
            else:
                apply += self._action(item)
        if dropped is not None and n_items > 1:
            dropped.key.fail('"drop" stands alone: no other action or instruction beside it')
        others = [kind for kind in seen if kind != "apply_actions"]
        if not act.conjunction_is_alone(tuple(apply), other=bool(others)):
            span.fail(
                "conjunction can stand beside other conjunctions and note only",
                "what to do belongs into a flow that matches conj_id",
            )
        return replace(result, apply=tuple(apply))

    def actions(self, span: Span) -> tuple[Action, ...]:
        """A list without instructions; "drop" alone, or nothing, is an empty one."""
        result: list[Action] = []
        dropped: Item | None = None
        n_items = 0
        for item in items(span):
            n_items += 1
            if item.name == "drop":
                dropped = item
            elif item.name in _INSTRUCTION_ORDER:
                item.key.fail(f"{item.name} is an instruction and not allowed here")
            else:
                result += self._action(item)
        if dropped is not None and n_items > 1:
            dropped.key.fail('"drop" stands alone: no other action or instruction beside it')
        return tuple(result)

    def _action_set(self, span: Span) -> tuple[Action, ...]:
        result: list[Action] = []
        for item in items(span):
            if item.name == "drop":
                continue
            if item.name in _INSTRUCTION_ORDER:
                item.key.fail(f"{item.name} is an instruction and not allowed here")
            for action in self._action(item):
                if not isinstance(action, act.ACTION_SET_TYPES):
                    item.key.fail(f"{item.name} has no place in an action set")
                result.append(action)
        return tuple(result)

    @staticmethod
    def _check_order(item: Item, kind: str, seen: list[str]) -> None:
        """meter, actions, clear, write, metadata, goto: each once (OpenFlow 1.3.5, 5.9)."""
        rank = _INSTRUCTION_ORDER.index(kind)
        if kind in seen and kind != "apply_actions":
            item.key.fail(f"{kind} is given twice")
        for before in seen:
            if _INSTRUCTION_ORDER.index(before) > rank:
                shown = "actions" if kind == "apply_actions" else kind
                item.key.fail(
                    f"{shown} must stand before {before}",
                    "the order of execution is " + ", ".join(_INSTRUCTION_ORDER),
                )
        if kind not in seen:
            seen.append(kind)

    def _action(self, item: Item) -> list[Action]:
        name = item.name
        if name in UNSUPPORTED:
            item.key.fail(f"action {name} is not supported yet")
        if item.tail:
            item.tail.fail('expected "," after ")"')
        handler = _HANDLERS.get(name)
        if handler is not None:
            return handler(self, item)
        if not item.separator:  # a bare port number or name
            if name.upper() in PORT_NAMES.values() or name[:1].isdigit() or _quoted(name):
                return [self._output(item.key)]
            if self.ports is not None and name in self.ports:
                return [self._output(item.key)]
        elif name.upper() in PORT_NAMES.values() and name.upper() != "CONTROLLER":
            item.value.fail(f"{name} takes no argument")
        if name.upper() == "CONTROLLER":
            return self.controller(item)
        known = [*_HANDLERS, *UNSUPPORTED, *PORT_NAMES.values()]
        item.key.fail(f'unknown action "{name}"', did_you_mean(name, known))

    # ------------------------------------------------------------ output

    def _output(self, span: Span) -> act.Output:
        port = parse_port(span, self.ports)
        if port in (0, PORT_ANY):
            span.fail(f"cannot output to {span}")
        return act.Output(port, act.MAX_LEN_ALL if port == PORT_CONTROLLER else 0)

    def output(self, item: Item) -> list[Action]:
        value = item.required("a port")
        if item.separator == "(" or (value.text.startswith("(") and value.text.endswith(")")):
            return self._output_trunc(value if item.separator == "(" else value.cut(1, -1))
        if re.match(r"[A-Za-z_]\w*\[", value.text) or self._is_register(value.text):
            sub = parse_subfield(value)
            self._check_readable(sub, value)
            if sub.n_bits > 64:
                value.fail("a port number has at most 64 bits", "like output:xxreg0[0..31]")
            return [act.OutputReg(sub)]
        return [self._output(value)]

    def _is_register(self, text: str) -> bool:
        known_port = self.ports is not None and text in self.ports
        return not known_port and text in BY_NAME and text.upper() not in PORT_NAMES.values()

    def _output_trunc(self, span: Span) -> list[Action]:
        port, max_len = None, None
        for item in items(span):
            if item.name == "port":
                port = self._output(item.required("a port"))
                if port.port in PORT_NAMES and port.port not in (PORT_IN_PORT, PORT_LOCAL):
                    item.value.fail(f"cannot truncate to {item.value}")
            elif item.name == "max_len":
                max_len = number(item.required("bytes"), 32, "max_len", 14)
            else:
                item.key.fail(f'unknown word "{item.name}"', "output(port=...,max_len=...)")
        if port is None or max_len is None:
            span.fail("output(...) needs port= and max_len=")
        return [act.OutputTrunc(port.port, max_len)]

    def controller(self, item: Item) -> list[Action]:
        if not item.value:
            return [act.Output(PORT_CONTROLLER, act.MAX_LEN_ALL)]
        if item.separator != "(":
            return [act.Output(PORT_CONTROLLER, number(item.value, 16, "max_len"))]
        result = act.Controller()
        for part in items(item.value):
            if part.name == "max_len":
                result = replace(result, max_len=number(part.required("bytes"), 16, "max_len"))
            elif part.name == "id":
                result = replace(result, id=number(part.required("a number"), 16, "id"))
            elif part.name == "reason":
                reason = act.REASONS.get(part.required("a reason").text)
                if reason is None:
                    part.value.fail(
                        f'unknown reason "{part.value}"', "one of " + ", ".join(act.REASONS)
                    )
                result = replace(result, reason=reason)
            elif part.name in ("userdata", "pause", "meter_id"):
                part.key.fail(f"controller's {part.name} is not supported yet")
            else:
                part.key.fail(f'unknown word "{part.name}"', "max_len=, reason= or id=")
        if result.reason == act.REASONS["action"] and result.id == 0:
            return [act.Output(PORT_CONTROLLER, result.max_len)]
        return [result]

    def group(self, item: Item) -> list[Action]:
        value = _argument(item, "a group number")
        return [act.ToGroup(number(value, 32, "group", 0, GROUP_MAX))]

    def set_queue(self, item: Item) -> list[Action]:
        return [act.SetQueue(number(_argument(item, "a queue number"), 32, "queue"))]

    def enqueue(self, item: Item) -> list[Action]:
        value = item.required("PORT:QUEUE")
        port, queue = value.split_at("," if "," in value.text else ":")
        if queue is None:
            value.fail("enqueue needs PORT:QUEUE")
        return [
            act.SetQueue(number(queue.strip(), 32, "queue")),
            self._output(port.strip()),
            act.PopQueue(),
        ]

    def resubmit(self, item: Item) -> list[Action]:
        in_port, table = PORT_IN_PORT, act.TABLE_CURRENT
        if item.separator == "(":
            parts = _split_commas(item.value)
            if len(parts) > 2:
                if parts[2].text == "ct":
                    parts[2].fail("resubmit's ct is not supported yet")
                parts[2].fail("resubmit takes a port and a table")
            if parts[0]:
                in_port = parse_port(parts[0], self.ports)
            if len(parts) == 2 and parts[1]:
                table = number(parts[1], 8, "table", 0, TABLE_MAX)
        elif item.value:
            in_port = parse_port(item.value, self.ports)
        if in_port == PORT_IN_PORT and table == act.TABLE_CURRENT and not item.value:
            item.key.fail("resubmit needs a port or a table", "resubmit(,TABLE) or resubmit:PORT")
        return [act.Resubmit(in_port, table)]

    # ------------------------------------------------------------ fields

    def _check(self, field_: Field, place: Span, verb: str) -> None:
        if self.known is not None and unmet(field_, self.known) is not None:
            place.fail(f"{verb} {field_.label} needs {field_.needs} in the match")
        if (
            self.known is not None
            and field_ is VLAN_VID
            and verb == "set_field"
            and not self.known.get(VLAN_VID, (0, 0))[0] & VLAN_PRESENT
        ):
            place.fail(
                "set_field vlan_vid needs a VLAN tag",
                "match dl_vlan or vlan_tci=0x1000/0x1000, push_vlan before, or use mod_vlan_vid",
            )

    def _check_writable(self, field_: Field, place: Span) -> None:
        if not field_.writable:
            place.fail(f"{field_.label} cannot be changed")

    def _check_readable(self, sub: Subfield, place: Span) -> None:
        self._check(sub.field, place, "reading")

    def set_field(self, item: Item) -> list[Action]:
        whole = item.required("VALUE->FIELD")
        value_span, name = whole.split_at("->")
        if name is None:
            whole.fail('missing "->"', "set_field:VALUE[/MASK]->FIELD")
        name = name.strip()
        target = field_named(name)
        self._check_writable(target, name)
        self._check(target, name, "set_field")
        value_span = value_span.strip()
        if target is VLAN_VID and "/" not in value_span.text:
            value = number(value_span, 13, "vlan_vid")
            if not value & VLAN_PRESENT:
                value_span.fail(
                    f"vlan_vid {value} lacks the bit for a present tag",
                    f"write {value | VLAN_PRESENT}, or mod_vlan_vid:{value}",
                )
        written = value_span.split_at("/")[0]
        value, mask = parse_field(target, value_span, self.ports, any_mask=True)
        if mask == 0:
            value_span.fail("set_field needs a value, and a mask that is not 0")
        if target.format not in ("tcp_flags", "frag"):
            stray = parse_value(target, written, self.ports) & ~mask
            if stray and target is not NW_TOS:
                value_span.fail("the value has bits outside its mask")
        return [_set(target, value, mask)]

    def load(self, item: Item) -> list[Action]:
        whole = item.required("VALUE->FIELD[bits]")
        value_span, target_span = whole.split_at("->")
        if target_span is None:
            whole.fail('missing "->"', "load:VALUE->FIELD[FIRST..LAST]")
        target_span = target_span.strip()
        target = parse_subfield(target_span)
        self._check_writable(target.field, target_span)
        self._check(target.field, target_span, "load")
        return [_load(target, _fitting(value_span.strip(), target.n_bits))]

    def move(self, item: Item) -> list[Action]:
        whole = item.required("FROM[bits]->TO[bits]")
        source_span, target_span = whole.split_at("->")
        if target_span is None:
            whole.fail('missing "->"', "move:FROM[bits]->TO[bits]")
        source, target = parse_subfield(source_span.strip()), parse_subfield(target_span.strip())
        if source.n_bits != target.n_bits:
            whole.fail(f"source has {source.n_bits} bits but destination has {target.n_bits}")
        self._check_readable(source, source_span)
        self._check_target(target, target_span)
        return [act.Move(source, target)]

    def _check_target(self, target: Subfield, place: Span) -> None:
        """A place that bits known only at run time go to."""
        self._check_writable(target.field, place)
        self._check(target.field, place, "writing")
        if target.field in (VLAN_TCI, VLAN_VID) and target.ofs <= 12 < target.ofs + target.n_bits:
            place.fail(
                "moving bits over the tag-present bit 12 of the VLAN TCI is not supported yet",
                "move bits 0..11 and 13..15; push_vlan and pop_vlan add and remove tags",
            )

    def push(self, item: Item) -> list[Action]:
        sub = parse_subfield(item.required("FIELD[bits]"))
        self._check_readable(sub, item.value)
        return [act.PushBits(sub)]

    def pop(self, item: Item) -> list[Action]:
        sub = parse_subfield(item.required("FIELD[bits]"))
        self._check_target(sub, item.value)
        return [act.PopBits(sub)]

    def mod_dl(self, item: Item) -> list[Action]:
        target = field("eth_src" if item.name == "mod_dl_src" else "eth_dst")
        return [_set(target, parse_mac(item.required("an Ethernet address")), target.all_ones)]

    def mod_nw(self, item: Item) -> list[Action]:
        target = field("ipv4_src" if item.name == "mod_nw_src" else "ipv4_dst")
        return [_set(target, parse_ipv4(item.required("an IPv4 address")), target.all_ones)]

    def mod_nw_tos(self, item: Item) -> list[Action]:
        tos = number(item.required("a TOS"), 8, "TOS")
        if tos & 3:
            item.value.fail(f"TOS {tos} has ECN bits", "a multiple of 4; mod_nw_ecn sets ECN")
        return [_set(IP_DSCP, tos >> 2, 0x3F)]

    def mod_nw_ecn(self, item: Item) -> list[Action]:
        return [_set(IP_ECN, number(item.required("an ECN value"), 2, "ECN"), 3)]

    def mod_nw_ttl(self, item: Item) -> list[Action]:
        return [act.SetTtl(number(_argument(item, "a TTL"), 8, "TTL"))]

    def mod_tp(self, item: Item) -> list[Action]:
        port = number(item.required("a port"), 16, "port")
        destination = item.name == "mod_tp_dst"
        return [act.SetTransport(destination, port)]

    def mod_vlan_vid(self, item: Item) -> list[Action]:
        vid = number(item.required("a VLAN id"), 12, "VLAN id")
        self._learn_known(VLAN_VID, VLAN_PRESENT, VLAN_PRESENT)
        return [_set(VLAN_TCI, VLAN_PRESENT | vid, 0x1FFF)]

    def mod_vlan_pcp(self, item: Item) -> list[Action]:
        pcp = number(item.required("a VLAN priority"), 3, "VLAN priority")
        self._learn_known(VLAN_VID, VLAN_PRESENT, VLAN_PRESENT)
        return [_set(VLAN_TCI, VLAN_PRESENT | pcp << 13, 0xF000)]

    def set_tunnel(self, item: Item) -> list[Action]:
        return [_set(field("tun_id"), number(item.required("a tunnel id"), 64, "tunnel id"), -1)]

    def set_mpls(self, item: Item) -> list[Action]:
        target = field("mpls_label" if item.name == "set_mpls_label" else "mpls_tc")
        return [_set(target, number(_argument(item, "a value"), target.bits, target.name), -1)]

    # ------------------------------------------------------------ headers

    def _learn_known(self, field_: Field, value: int, mask: int) -> None:
        if self.known is not None:
            self.known[field_] = (value, mask)

    def _change_eth_type(self, eth_type: int) -> None:
        """The packet now starts with another protocol: what was known below it is not."""
        if self.known is not None:
            for known in list(self.known):
                if known.prereqs and known is not field("vlan_pcp"):
                    del self.known[known]
            self.known[ETH_TYPE] = (eth_type, 0xFFFF)

    def push_vlan(self, item: Item) -> list[Action]:
        tpid = number(_argument(item, "an Ethernet type"), 16, "Ethernet type")
        if tpid not in (ETH_TYPE_VLAN, ETH_TYPE_QINQ):
            item.value.fail(f"{item.value} is not a VLAN Ethernet type", "0x8100 or 0x88a8")
        self._learn_known(VLAN_VID, VLAN_PRESENT, VLAN_VID.all_ones)
        return [act.PushVlan(tpid)]

    def pop_vlan(self, item: Item) -> list[Action]:
        _no_argument(item)
        if self.known is not None:
            self.known.pop(VLAN_VID, None)
            self.known.pop(field("vlan_pcp"), None)
        return [act.PopVlan()]

    def push_mpls(self, item: Item) -> list[Action]:
        eth_type = number(_argument(item, "an Ethernet type"), 16, "Ethernet type")
        if eth_type not in (ETH_TYPE_MPLS, ETH_TYPE_MPLS_MCAST):
            item.value.fail(f"{item.value} is not an MPLS Ethernet type", "0x8847 or 0x8848")
        self._change_eth_type(eth_type)
        return [act.PushMpls(eth_type)]

    def pop_mpls(self, item: Item) -> list[Action]:
        eth_type = number(_argument(item, "an Ethernet type"), 16, "Ethernet type")
        self._change_eth_type(eth_type)
        return [act.PopMpls(eth_type)]

    def push_pbb(self, item: Item) -> list[Action]:
        eth_type = number(_argument(item, "an Ethernet type"), 16, "Ethernet type")
        if eth_type != ETH_TYPE_PBB:
            item.value.fail(f"{item.value} is not the PBB Ethernet type", "0x88e7")
        self._change_eth_type(eth_type)
        return [act.PushPbb(eth_type)]

    def pop_pbb(self, item: Item) -> list[Action]:
        _no_argument(item)
        if self.known is not None:
            self._change_eth_type(0)
            del self.known[ETH_TYPE]
        return [act.PopPbb()]

    def set_mpls_ttl(self, item: Item) -> list[Action]:
        return [act.SetMplsTtl(number(_argument(item, "a TTL"), 8, "TTL"))]

    def dec_ttl(self, item: Item) -> list[Action]:
        ids = tuple(number(part, 16, "controller id") for part in _split_commas(item.value) if part)
        return [act.DecTtl(ids)]

    # ------------------------------------------------------------ the rest

    def clone(self, item: Item) -> list[Action]:
        inner = ActionParser(self.known, self.ports, self.table)
        return [act.Clone(inner.actions(item.value))]

    def note(self, item: Item) -> list[Action]:
        digits = item.value.text.replace(".", "")
        if len(digits) % 2 or re.search(r"[^0-9a-fA-F]", digits):
            item.value.fail("note takes pairs of hexadecimal digits", "note:01.ab.ff")
        data = bytes.fromhex(digits)
        # As on the wire, where a note fills up its multiple of 8 bytes (10 of them are header).
        return [act.Note(data + bytes(-(len(data) + 10) % 8))]

    def conjunction(self, item: Item) -> list[Action]:
        """conjunction(ID,K/N)."""
        parts = _split_commas(item.required("ID,K/N"))
        which, n = parts[-1].split_at("/")
        if len(parts) != 2 or n is None:
            item.value.fail("conjunction takes an id and a dimension", "like conjunction(1,2/3)")
        dimensions = number(n.strip(), 8, "number of dimensions", 2, act.MAX_DIMENSIONS)
        dimension = number(which.strip(), 8, "dimension", 1, dimensions)
        return [act.Conjunction(number(parts[0], 32, "conjunction id"), dimension, dimensions)]

    def fin_timeout(self, item: Item) -> list[Action]:
        timeouts = {"idle_timeout": 0, "hard_timeout": 0}
        for part in items(item.value):
            if part.name not in timeouts:
                part.key.fail(f'unknown word "{part.name}"', "idle_timeout= or hard_timeout=")
            timeouts[part.name] = number(part.required("seconds"), 16, part.name)
        return [act.FinTimeout(**timeouts)]

    def send_maps(self, item: Item) -> list[Action]:
        """send_maps(1), send_maps(prog=1,map=0,interval=1s)."""
        program, maps, interval = 0, [], 1000
        for part in items(item.value):
            if not part.separator and not program:
                program = number(part.key, 16, "program", 1)
            elif part.name == "prog":
                program = number(part.required("a program number"), 16, "program", 1)
            elif part.name == "map":
                maps.append(number(part.required("a map number"), 16, "map"))
            elif part.name == "interval":
                interval = _interval(part.required("a time"))
            else:
                part.key.fail(f'unknown word "{part.name}"', "prog=, map= or interval=")
        if not program:
            item.key.fail("send_maps needs a program", "send_maps(1) or send_maps(prog=1,map=0)")
        return [act.SendMaps(program, tuple(maps), interval)]

    def learn(self, item: Item) -> list[Action]:
        learned: Known = {}
        specs: list[act.LearnSpec] = []
        result = act.Learn()
        timeouts: dict[str, int] = {}
        flags: set[str] = set()
        for part in items(item.value):
            name = part.name
            if name in ("idle_timeout", "hard_timeout", "fin_idle_timeout", "fin_hard_timeout"):
                value = number(part.required("seconds"), 16, name)
                timeouts[name] = value
            elif name == "table":
                table = number(part.required("a table number"), 8, "table", 0, TABLE_MAX)
                result = replace(result, table=table)
            elif name == "priority":
                priority = number(part.required("a number"), 16, "priority")
                result = replace(result, priority=priority)
            elif name == "cookie":
                result = replace(result, cookie=number(part.required("a number"), 64, "cookie"))
            elif name == "limit":
                result = replace(result, limit=number(part.required("a number"), 32, "limit"))
            elif name in ("send_flow_rem", "delete_learned"):
                flags.add(name)
            elif name == "result_dst":
                sub = parse_subfield(part.required("FIELD[bit]"))
                self._check_target(sub, part.value)
                if sub.n_bits != 1:
                    part.value.fail("result_dst must be one bit", "like reg0[3]")
                result = replace(result, result=sub)
            else:
                specs.append(self._learn_spec(part, learned))
        return [
            replace(
                result,
                specs=tuple(specs),
                idle_timeout=timeouts.get("idle_timeout", 0),
                hard_timeout=timeouts.get("hard_timeout", 0),
                fin_idle_timeout=timeouts.get("fin_idle_timeout", 0),
                fin_hard_timeout=timeouts.get("fin_hard_timeout", 0),
                send_flow_rem="send_flow_rem" in flags,
                delete_learned="delete_learned" in flags,
            )
        ]

    def _learn_spec(self, part: Item, learned: Known) -> act.LearnSpec:
        if part.name == "load":
            source_span, target_span = part.required("VALUE->FIELD[bits]").split_at("->")
            if target_span is None:
                part.value.fail('missing "->"', "load:VALUE->FIELD or load:FIELD->FIELD")
            target = parse_subfield(target_span.strip())
            self._check_writable(target.field, target_span)
            if unmet(target.field, learned) is not None:
                target_span.fail(f"the learned flow must match {target.field.needs} first")
            if source_span.text.strip()[:1].isdigit():
                return act.LearnLoad(target, _fitting(source_span.strip(), target.n_bits))
            return act.LearnLoad(target, self._learn_source(source_span.strip(), target.n_bits))
        if part.name == "output":
            return act.LearnOutput(self._learn_source(part.required("FIELD[bits]"), None))
        target = parse_subfield(part.key)
        if unmet(target.field, learned) is not None:
            part.key.fail(
                f"the learned flow must match {target.field.needs} before {target.field.label}"
            )
        if not part.value:
            return act.LearnMatch(target, self._learn_source(part.key, target.n_bits))
        if re.match(r"[A-Za-z_]\w*(\[|$)", part.value.text) and (
            "[" in part.value.text or part.value.text in BY_NAME
        ):
            return act.LearnMatch(target, self._learn_source(part.value, target.n_bits))
        if target.n_bits == target.field.width and target.ofs == 0:
            value = parse_value(target.field, part.value, self.ports)
            if target.field is VLAN_VID:
                target = Subfield(VLAN_VID, 0, VLAN_VID.bits)
            if target.field.format == "port":
                target = Subfield(field("in_port"), 0, 32)
            for f, known_value, mask in Match.of({target.field: (value, target.field.all_ones)}):
                learned[f] = (known_value, mask)
        else:
            value = _fitting(part.value, target.n_bits)
        return act.LearnMatch(target, value)

    def _learn_source(self, span: Span, n_bits: int | None) -> Subfield:
        source = parse_subfield(span)
        self._check_readable(source, span)
        if n_bits is not None and source.n_bits != n_bits:
            span.fail(f"source has {source.n_bits} bits but destination has {n_bits}")
        return source


def _quoted(text: str) -> bool:
    return len(text) >= 2 and text[0] == text[-1] == '"'


def _argument(item: Item, what: str) -> Span:
    return item.required(what).strip()


def _no_argument(item: Item) -> None:
    if item.value:
        item.value.fail(f"{item.name} takes no argument")


def _fitting(span: Span, n_bits: int) -> int:
    value = number(span, 128, "value")
    if value >> n_bits:
        span.fail(f"value {span} does not fit into {n_bits} bit{'s' if n_bits > 1 else ''}")
    return value


def _split_commas(span: Span) -> list[Span]:
    parts: list[Span] = []
    rest: Span | None = span
    while rest is not None:
        part, rest = rest.split_at(",")
        parts.append(part.strip())
    return parts


def _interval(span: Span) -> int:
    """A time in milliseconds: 1s, 250ms, 2 (seconds)."""
    match = re.fullmatch(r"(\d+)(ms|s)?", span.text)
    if match is None:
        span.fail(f'"{span}" is not a time', "like 1s or 250ms")
    value = int(match[1]) * (1 if match[2] == "ms" else 1000)
    if not 10 <= value <= 0xFFFFFFFF:
        span.fail("the interval must be at least 10 ms")
    return value


def _set(target: Field, value: int, mask: int) -> act.SetField:
    if target is NW_TOS:
        return act.SetField(IP_DSCP, value >> 2, 0x3F)
    mask &= target.all_ones
    return act.SetField(target, value & mask, mask)


def _load(target: Subfield, value: int) -> act.SetField:
    if target.field is IN_PORT_16:
        if target.n_bits == 16:
            return act.SetField(IN_PORT, _port_of_16_bits(value), IN_PORT.all_ones)
        return act.SetField(IN_PORT, value << target.ofs, _bits(target))
    if target.field is NW_TOS:
        mask = _bits(target) & 0xFC
        return act.SetField(IP_DSCP, (value << target.ofs & mask) >> 2, mask >> 2)
    return act.SetField(target.field, value << target.ofs, _bits(target))


def _port_of_16_bits(port: int) -> int:
    """OpenFlow 1.0's reserved port numbers are 16 bits wide."""
    return port | 0xFFFF0000 if port >= 0xFFF8 else port


def _bits(sub: Subfield) -> int:
    return ((1 << sub.n_bits) - 1) << sub.ofs


def _constant(action: Action) -> Callable[[ActionParser, Item], list[Action]]:
    def handler(parser: ActionParser, item: Item) -> list[Action]:
        _no_argument(item)
        return [action]

    return handler


_P = ActionParser
_HANDLERS: dict[str, Callable[[ActionParser, Item], list[Action]]] = {
    "output": _P.output,
    "controller": _P.controller,
    "CONTROLLER": _P.controller,
    "group": _P.group,
    "set_queue": _P.set_queue,
    "pop_queue": _constant(act.PopQueue()),
    "enqueue": _P.enqueue,
    "resubmit": _P.resubmit,
    "set_field": _P.set_field,
    "load": _P.load,
    "move": _P.move,
    "push": _P.push,
    "pop": _P.pop,
    "mod_dl_src": _P.mod_dl,
    "mod_dl_dst": _P.mod_dl,
    "mod_nw_src": _P.mod_nw,
    "mod_nw_dst": _P.mod_nw,
    "mod_nw_tos": _P.mod_nw_tos,
    "mod_nw_ecn": _P.mod_nw_ecn,
    "mod_nw_ttl": _P.mod_nw_ttl,
    "mod_tp_src": _P.mod_tp,
    "mod_tp_dst": _P.mod_tp,
    "mod_vlan_vid": _P.mod_vlan_vid,
    "set_vlan_vid": _P.mod_vlan_vid,
    "mod_vlan_pcp": _P.mod_vlan_pcp,
    "set_vlan_pcp": _P.mod_vlan_pcp,
    "set_tunnel": _P.set_tunnel,
    "set_tunnel64": _P.set_tunnel,
    "set_mpls_label": _P.set_mpls,
    "set_mpls_tc": _P.set_mpls,
    "push_vlan": _P.push_vlan,
    "pop_vlan": _P.pop_vlan,
    "strip_vlan": _P.pop_vlan,
    "push_mpls": _P.push_mpls,
    "pop_mpls": _P.pop_mpls,
    "push_pbb": _P.push_pbb,
    "pop_pbb": _P.pop_pbb,
    "set_mpls_ttl": _P.set_mpls_ttl,
    "dec_mpls_ttl": _constant(act.DecMplsTtl()),
    "dec_ttl": _P.dec_ttl,
    "copy_ttl_out": _constant(act.CopyTtlOut()),
    "copy_ttl_in": _constant(act.CopyTtlIn()),
    "clone": _P.clone,
    "note": _P.note,
    "conjunction": _P.conjunction,
    "exit": _constant(act.Exit()),
    "fin_timeout": _P.fin_timeout,
    "send_maps": _P.send_maps,
    "learn": _P.learn,
}
