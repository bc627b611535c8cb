"""A switch in plain Python: the naive twin of the datapath.

Packets one after another, each to its end; tables are lists, looked through from the top; nothing
is remembered between packets but what an OpenFlow switch has to remember. It takes the model's
dataclasses, so it depends neither on the text grammar nor on the compiled records. What it does
is design.md sections 3 and 5, OpenFlow 1.3.5, Open vSwitch's ovs-actions(7), and, where a number
has to be exact (hash of select groups, meters), the words in csrc/group.h and csrc/meter.h.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from oracle_frames import parse

from oko.model import actions as act
from oko.model.actions import Action
from oko.model.fields import (
    PORT_ALL,
    PORT_CONTROLLER,
    PORT_FLOOD,
    PORT_IN_PORT,
    PORT_MAX,
    PORT_NORMAL,
    PORT_TABLE,
    Field,
)
from oko.model.flow import (
    ADD,
    CHECK_OVERLAP,
    DELETE,
    DELETE_STRICT,
    GROUP_ALL,
    GROUP_ANY,
    MODIFY_STRICT,
    PORT_ANY,
    RESET_COUNTS,
    SEND_FLOW_REM,
    TABLE_ALL,
    Bucket,
    DropBand,
    Flow,
    FlowMod,
    Group,
    Instructions,
    Match,
    Meter,
)
from twin import frame as fr
from twin.parts import (
    Packet,
    all_actions,
    complete_conjunction,
    dimensions_of,
    get_field,
    growth,
    is_table_miss,
    load_bits,
    meter_capacity,
    narrower,
    overlap,
    read_bits,
    select_hash,
    set_order,
    set_slots,
    shorter_timeout,
    wide_port,
    write_field,
)

SECOND = 10**9
MAC_AGE = 300 * SECOND
MAX_FRAME = 65535
MAX_DEPTH, MAX_RESUBMITS = 64, 4096
MAX_SET_FIELDS = 256  # set-fields and moves that an action set holds

# Reasons for a drop, the first that applies (enum oko_drop).
DROPS = (
    "resubmit-limit", "too-long", "port-no-recv", "meter", "invalid-ttl", "no-buffer", "no-group",
    "queue-rate", "port-tx-failed", "no-port", "output-to-in-port", "normal", "table-miss", "drop",
)  # fmt: skip

Program = Callable[["PassMeta", bytes], bool]


@dataclass(frozen=True)
class PassMeta:
    """What a program sees beside the frame."""

    rx_ns: int
    in_port: int
    wire_len: int
    tun_id: int = 0


class TwinError(Exception):
    """A change that the switch refuses."""


@dataclass(eq=False)
class Entry:
    """A flow in a table."""

    flow: Flow
    seq: int
    created: int | None  # datapath clock; None: before it started
    modified: int | None
    used: int | None = None
    packets: int = 0
    bytes: int = 0
    learned: bool = False


@dataclass(eq=False)
class Band:
    tokens: int
    packets: int = 0


@dataclass(eq=False)
class MeterState:
    meter: Meter
    bands: list[Band]
    last: int | None = None
    packets: int = 0


class _Stop(Exception):
    """Ends everything that is still to be done to this packet."""


class _Dropped(Exception):
    """Ends everything that is still to be done to this packet, or to this clone or bucket of it."""


class _Exit(Exception):
    """The action of that name: ends all action lists of this packet (or clone, or bucket), but
    not the action set (ovs-actions(7))."""


class _EndList(Exception):
    """Ends the current flow's list of actions and instructions."""


@dataclass
class Pass:
    """What belongs to the pass as a whole."""

    original: bytes
    meta: PassMeta
    seq: int
    verdicts: dict[int, bool] = field(default_factory=dict)  # id(program) -> verdict
    reasons: set[str] = field(default_factory=lambda: {"drop"})
    sent: int = 0
    resubmits: int = 0
    last: Entry | None = None  # whose instructions are, or were last, executed
    table: int = 0  # where the packet is, or was last


class Switch:
    """ports: numbers that exist; no_flood: those that flooding leaves out."""

    def __init__(self, ports: Sequence[int] = (1, 2, 3, 4)) -> None:
        self.ports = set(ports)
        self.no_flood: set[int] = set()
        self.down: set[int] = set()
        self.entries: list[Entry] = []
        self.groups: dict[int, Group] = {}
        self.group_counts: dict[int, list[int]] = {}  # packets: of the group, of each bucket
        self.meters: dict[int, MeterState] = {}
        self.macs: dict[tuple[int, int], tuple[int, int]] = {}  # (vlan, mac) -> (port, seen)
        self.programs: dict[int, Program] = {}
        self.clock: int | None = None
        self.born = 0
        self.seq = 0
        self.outputs: dict[int, list[bytes]] = {}
        self.events: list[tuple[object, ...]] = []
        self.drops: Counter[str] = Counter()
        self.log: list[tuple[int, int]] = []  # (packet's seq, program's number): who ran when

    # ------------------------------------------------------------ changes

    def apply(self, mods: Sequence[FlowMod]) -> None:
        """All of these changes, or none of them (TwinError)."""
        entries, events = self.entries, self.events
        # Entries are changed in place: keep copies to go back to.
        saved = [(e, copy.copy(e)) for e in entries]
        self.entries, self.events = list(entries), list(events)
        try:
            for mod in mods:
                self._apply(mod)
        except TwinError:
            self.entries, self.events = entries, events
            for entry, before in saved:
                entry.__dict__.update(before.__dict__)
            raise

    def _apply(self, mod: FlowMod) -> None:
        flow = mod.flow
        if mod.command == ADD:
            self._add(flow)
            return
        if mod.command not in (DELETE, DELETE_STRICT):
            self._check_references(flow)
        chosen = [e for e in self.entries if self._covers(mod, e)]
        for entry in chosen:
            if mod.command in (DELETE, DELETE_STRICT):
                self._remove(entry, "delete", self.clock or 0)
            else:
                goto = flow.instructions.goto
                if goto is not None and goto <= entry.flow.table:
                    raise TwinError("goto_table must lead on")
                if entry.flow.filter_prog and dimensions_of(flow):
                    raise TwinError("conjunction and filter")
                entry.flow = replace(entry.flow, instructions=flow.instructions)
                entry.modified = self.clock  # hard timeouts start again
                if flow.flags & RESET_COUNTS:
                    entry.packets = entry.bytes = 0

    def _add(self, flow: Flow, learned: bool = False) -> Entry:
        if flow.filter_prog and flow.filter_prog not in self.programs:
            raise TwinError(f"program {flow.filter_prog} is not loaded")
        if flow.filter_prog and dimensions_of(flow):
            raise TwinError("conjunction and filter")
        self._check_references(flow)
        if flow.flags & CHECK_OVERLAP:
            for e in self.entries:
                same = e.flow.table == flow.table and e.flow.priority == flow.priority
                if same and overlap(e.flow.match, flow.match):
                    raise TwinError("overlap")
        entry = Entry(flow, self.seq, self.clock, self.clock, learned=learned)
        for old in self.entries:
            if old.flow.identity == flow.identity:
                entry.seq = old.seq
                if not flow.flags & RESET_COUNTS:
                    entry.packets, entry.bytes = old.packets, old.bytes
                self.entries.remove(old)
                break
        else:
            self.seq += 1
        self.entries.append(entry)
        return entry

    def _check_references(self, flow: Flow) -> None:
        if flow.instructions.meter and flow.instructions.meter not in self.meters:
            raise TwinError(f"no meter {flow.instructions.meter}")
        for action in all_actions(flow.instructions):
            if isinstance(action, act.ToGroup) and action.group not in self.groups:
                raise TwinError(f"no group {action.group}")

    def _covers(self, mod: FlowMod, entry: Entry) -> bool:
        """Is the flow one of those that a MODIFY or DELETE is about?"""
        want, have = mod.flow, entry.flow
        if want.table not in (TABLE_ALL, have.table):
            return False
        if (have.cookie ^ want.cookie) & mod.cookie_mask:
            return False
        if mod.command in (MODIFY_STRICT, DELETE_STRICT):
            if have.identity[1:] != want.identity[1:]:
                return False
        else:
            if want.filter_prog not in (0, have.filter_prog):
                return False
            if not narrower(have.match, want.match):
                return False
        if mod.command not in (DELETE, DELETE_STRICT):
            return True
        listed = list(all_actions(have.instructions))
        if mod.out_port != PORT_ANY and not any(
            isinstance(a, (act.Output, act.OutputTrunc)) and a.port == mod.out_port for a in listed
        ):
            return False
        return mod.out_group == GROUP_ANY or any(
            isinstance(a, act.ToGroup) and a.group == mod.out_group for a in listed
        )

    def _remove(self, entry: Entry, reason: str, when: int) -> None:
        self.entries.remove(entry)
        if entry.flow.flags & SEND_FLOW_REM:
            flow = entry.flow
            self.events.append(
                ("removed", reason, when, flow.table, flow.priority, flow.filter_prog, flow.match,
                 flow.cookie, entry.packets, entry.bytes)
            )  # fmt: skip

    def set_group(self, group: Group) -> None:
        self.groups[group.id] = group
        self.group_counts[group.id] = [0] * (1 + len(group.buckets))

    def delete_group(self, number: int) -> None:
        """Also the flows that use it (OpenFlow 1.3.5, 6.7)."""
        gone = set(self.groups) if number == GROUP_ALL else {number}
        for each in gone:
            self.groups.pop(each, None)
            self.group_counts.pop(each, None)
        for entry in list(self.entries):
            used = {
                a.group for a in all_actions(entry.flow.instructions) if isinstance(a, act.ToGroup)
            }
            if used & gone:
                self._remove(entry, "group", self.clock or 0)

    def set_meter(self, meter: Meter) -> None:
        bands = [Band(meter_capacity(meter, band) * SECOND) for band in meter.bands]
        self.meters[meter.id] = MeterState(meter, bands)

    # ------------------------------------------------------------ time

    def tick(self, ns: int) -> None:
        """The clock moves on; flows whose deadline has come go."""
        if self.clock is None:
            self.born = ns
            for entry in self.entries:
                entry.created = entry.modified = ns
        self.clock = max(ns, self.clock or 0)
        due = []
        for entry in self.entries:
            deadline, reason = self._deadline(entry)
            if deadline is not None and deadline <= self.clock:
                due.append((deadline, entry.seq, reason, entry))
        for deadline, _, reason, entry in sorted(due, key=lambda item: item[:2]):
            self._remove(entry, reason, deadline)

    @staticmethod
    def _deadline(entry: Entry) -> tuple[int | None, str]:
        flow = entry.flow
        assert entry.modified is not None
        hard = idle = None
        if flow.hard_timeout:
            hard = entry.modified + flow.hard_timeout * SECOND
        if flow.idle_timeout:
            last = entry.modified if entry.used is None else max(entry.used, entry.modified)
            idle = last + flow.idle_timeout * SECOND
        if hard is not None and (idle is None or hard <= idle):
            return hard, "hard"
        return idle, "idle"

    # ------------------------------------------------------------ packets

    def process(self, data: bytes, in_port: int, ns: int, wire_len: int = 0, seq: int = 0) -> None:
        """One packet from a port, to its end."""
        self.tick(ns)
        assert self.clock is not None
        meta = PassMeta(self.clock, in_port, wire_len or len(data))
        run = Pass(data, meta, seq)
        regs = {"in_port": in_port, "in_phy_port": in_port, "metadata": 0, "tun_id": 0}
        regs |= {"pkt_mark": 0} | {f"reg{i}": 0 for i in range(16)}
        packet = Packet(bytearray(data), regs)
        if len(data) > MAX_FRAME:
            run.reasons.add("too-long")
        else:
            with suppress(_Stop, _Dropped):
                with suppress(_Exit):
                    self._walk(run, packet, 0, 0)
                with suppress(_Exit, _EndList):
                    self._actions(run, packet, set_order(packet.action_set), run.last, 0)
        if not run.sent or "resubmit-limit" in run.reasons:
            self.drops[next(reason for reason in DROPS if reason in run.reasons)] += 1

    def _key(self, packet: Packet) -> dict[str, int]:
        return parse(bytes(packet.data)) | packet.regs

    def _matches(self, key: dict[str, int], match: Match) -> bool:
        return all(get_field(key, f) & mask == value for f, value, mask in match)

    def _lookup(
        self, run: Pass, key: dict[str, int], table: int, conjunctions: bool = True
    ) -> Entry | None:
        """In falling priority: filter before none, older before newer; the first that fits and
        whose program, if it has one, says so. Where none of a priority does and flows of it
        complete a conjunction, what a second lookup finds for that one (ovs-fields(7))."""
        fitting = sorted(
            (e for e in self.entries if e.flow.table == table and self._matches(key, e.flow.match)),
            key=lambda e: (-e.flow.priority, e.flow.filter_prog == 0, e.seq),
        )
        for priority in sorted({e.flow.priority for e in fitting}, reverse=True):
            here = [e for e in fitting if e.flow.priority == priority]
            for entry in here:
                if not dimensions_of(entry.flow) and self._passes(run, entry.flow.filter_prog):
                    return entry
            number = complete_conjunction([e.flow for e in here]) if conjunctions else None
            if number is not None:
                found = self._lookup(run, key | {"conj_id": number}, table, conjunctions=False)
                if found is not None:
                    return found
        return None

    def _passes(self, run: Pass, number: int) -> bool:
        """A program runs at most once per packet and pass."""
        if number == 0:
            return True
        program = self.programs[number]
        if id(program) not in run.verdicts:
            self.log.append((run.seq, number))
            run.verdicts[id(program)] = program(run.meta, run.original)
        return run.verdicts[id(program)]

    def _walk(
        self, run: Pass, packet: Packet, table: int, depth: int, in_port: int = PORT_IN_PORT
    ) -> None:
        """From a table on, as far as goto leads. in_port: the first lookup is as if from there."""
        key = self._key(packet)
        if in_port != PORT_IN_PORT:
            key["in_port"] = in_port
        while True:
            entry = self._lookup(run, key, table)
            run.last, run.table = entry, table
            if entry is None:
                run.reasons.add("table-miss")
                return
            entry.packets += 1
            entry.bytes += run.meta.wire_len
            entry.used = run.meta.rx_ns
            todo = entry.flow.instructions
            if todo.meter:
                self._meter(run, packet, todo.meter)
            try:
                self._actions(run, packet, todo.apply, entry, depth)
            except _EndList:
                return
            if todo.clear:
                packet.action_set = []
            packet.action_set = packet.action_set + list(todo.write)
            if sum(map(set_slots, packet.action_set)) > MAX_SET_FIELDS:
                run.reasons.add("resubmit-limit")
                raise _Stop
            if todo.metadata is not None:
                value, mask = todo.metadata
                packet.regs["metadata"] = packet.regs["metadata"] & ~mask | value
            if todo.goto is None:
                return
            table = todo.goto
            key = self._key(packet)

    # ------------------------------------------------------------ actions

    def _actions(
        self, run: Pass, packet: Packet, actions: Sequence[Action], entry: Entry | None, depth: int
    ) -> None:
        for action in actions:
            self._action(run, packet, action, entry, depth)

    def _action(
        self, run: Pass, packet: Packet, action: Action, entry: Entry | None, depth: int
    ) -> None:
        before = len(packet.data)
        self._change(run, packet, action, entry, depth)
        if not isinstance(action, act.Resubmit | act.Output | act.OutputReg):
            packet.room -= len(packet.data) - before

    def _change(
        self, run: Pass, packet: Packet, action: Action, entry: Entry | None, depth: int
    ) -> None:
        data = packet.data
        if growth(packet, action) > min(packet.room, MAX_FRAME - len(data)):
            run.reasons.add("no-buffer")
            raise _Dropped
        if isinstance(action, act.Output | act.OutputTrunc):
            self._output(run, packet, action.port, action.max_len, entry, depth)
        elif isinstance(action, act.OutputReg):
            port = read_bits(self._key(packet), action.source)
            port = wide_port(port)
            max_len = action.max_len if port == PORT_CONTROLLER else 0
            self._output(run, packet, port, max_len, entry, depth)
        elif isinstance(action, act.Controller):
            self._controller(run, packet, action.max_len, action.reason, action.id, entry)
        elif isinstance(action, act.ToGroup):
            self._group(run, packet, action.group, entry, depth)
        elif isinstance(action, act.SetQueue):
            packet.queue = action.queue
        elif isinstance(action, act.PopQueue):
            packet.queue = 0
        elif isinstance(action, act.SetField):
            write_field(packet, action.field, action.value, action.mask)
        elif isinstance(action, act.SetTransport):
            side = "dst" if action.destination else "src"
            for transport in ("tcp", "udp", "sctp"):
                fr.set_field(data, f"{transport}_{side}", action.port, 0xFFFF)
        elif isinstance(action, act.Move):
            value = read_bits(self._key(packet), action.source)
            load_bits(packet, action.target, value)
        elif isinstance(action, act.PushBits):
            packet.stack.append((read_bits(self._key(packet), action.source), action.source.n_bits))
        elif isinstance(action, act.PopBits):
            if packet.stack:  # an empty stack: nothing happens (ovs-actions(7))
                value, _ = packet.stack.pop()
                load_bits(packet, action.target, value & ((1 << action.target.n_bits) - 1))
        elif isinstance(action, act.PushVlan):
            fr.push_vlan(data, action.tpid)
        elif isinstance(action, act.PopVlan):
            fr.pop_vlan(data)
        elif isinstance(action, act.PushMpls):
            fr.push_mpls(data, action.eth_type)
        elif isinstance(action, act.PopMpls):
            fr.pop_mpls(data, action.eth_type)
        elif isinstance(action, act.PushPbb):
            fr.push_pbb(data)
        elif isinstance(action, act.PopPbb):
            fr.pop_pbb(data)
        elif isinstance(action, act.SetMplsTtl):
            fr.set_field(data, "mpls_ttl", action.ttl, 0xFF)
        elif isinstance(action, act.SetTtl):
            fr.set_field(data, "nw_ttl", action.ttl, 0xFF)
        elif isinstance(action, act.DecTtl):
            self._dec_ttl(run, packet, "nw_ttl", action.controllers or (0,), entry)
        elif isinstance(action, act.DecMplsTtl):
            self._dec_ttl(run, packet, "mpls_ttl", (0,), entry)
        elif isinstance(action, act.CopyTtlOut):
            fr.copy_ttl_out(data)
        elif isinstance(action, act.CopyTtlIn):
            fr.copy_ttl_in(data)
        elif isinstance(action, act.Resubmit):
            self._resubmit(run, packet, action, entry, depth)
        elif isinstance(action, act.Learn):
            self._learn(run, packet, action)
        elif isinstance(action, act.Clone):
            self._on_a_copy(run, packet, action.actions, entry, depth)
        elif isinstance(action, act.Exit):
            raise _Exit
        elif isinstance(action, act.FinTimeout):
            self._fin_timeout(packet, action, entry)

    def _dec_ttl(
        self, run: Pass, packet: Packet, name: str, ids: Sequence[int], entry: Entry | None
    ) -> None:
        if fr.place(packet.data, name) is None:
            return
        ttl = self._key(packet).get(name, 0)
        if ttl > 1:
            fr.set_field(packet.data, name, ttl - 1, 0xFF)
            return
        run.reasons.add("invalid-ttl")
        for number in ids:
            self._controller(run, packet, MAX_FRAME, 2, number, entry)
        raise _EndList

    def _on_a_copy(
        self, run: Pass, packet: Packet, actions: Sequence[Action], entry: Entry | None, depth: int
    ) -> None:
        """Nothing of what happens to the copy is seen afterwards."""
        if depth == MAX_DEPTH:
            run.reasons.add("resubmit-limit")
            raise _Stop
        twin = copy.deepcopy(packet)
        twin.room = Packet.room
        with suppress(_Exit, _EndList, _Dropped):
            self._actions(run, twin, actions, entry, depth + 1)

    def _resubmit(
        self, run: Pass, packet: Packet, action: act.Resubmit, entry: Entry | None, depth: int
    ) -> None:
        run.resubmits += 1
        if depth == MAX_DEPTH or run.resubmits > MAX_RESUBMITS:
            run.reasons.add("resubmit-limit")
            raise _Stop
        table = action.table
        if table == act.TABLE_CURRENT:
            table = entry.flow.table if entry is not None else 0
        self._walk(run, packet, table, depth + 1, action.in_port)
        run.last = entry
        run.table = entry.flow.table if entry is not None else run.table

    def _group(
        self, run: Pass, packet: Packet, number: int, entry: Entry | None, depth: int
    ) -> None:
        group = self.groups.get(number)
        if group is None:
            run.reasons.add("no-group")
            return
        live = [b for b in group.buckets if group.type == 2 or self._live(b)]
        if group.type == 0:
            chosen = live
        else:
            chosen = self._select(live, self._key(packet)) if group.type == 1 else live[:1]
            if not chosen:
                run.reasons.add("no-group")
        self.group_counts[number][0] += 1
        for bucket in chosen:
            at = next(i for i, b in enumerate(group.buckets) if b is bucket)
            self.group_counts[number][1 + at] += 1
            self._on_a_copy(run, packet, set_order(bucket.actions), entry, depth)

    def _live(self, bucket: Bucket, depth: int = 0) -> bool:
        if bucket.watch_port == PORT_ANY and bucket.watch_group == GROUP_ANY:
            return True
        if bucket.watch_port in self.ports - self.down:
            return True
        watched = self.groups.get(bucket.watch_group)
        if watched is None or depth == MAX_DEPTH:
            return False
        return any(self._live(b, depth + 1) for b in watched.buckets)

    @staticmethod
    def _select(live: list[Bucket], key: dict[str, int]) -> list[Bucket]:
        at = (select_hash(key) >> 32) * sum(b.weight for b in live) >> 32
        for bucket in live:
            if at < bucket.weight:
                return [bucket]
            at -= bucket.weight
        return []

    def _meter(self, run: Pass, packet: Packet, number: int) -> None:
        state = self.meters.get(number)
        if state is None:
            return
        now, meter = run.meta.rx_ns, state.meter
        elapsed = 0 if state.last is None else max(0, now - state.last)
        state.last = max(now, state.last or 0)
        state.packets += 1
        cost = SECOND if meter.pktps else run.meta.wire_len * 8 * (SECOND // 1000)
        over = []
        for band, bucket in zip(meter.bands, state.bands, strict=True):
            full = meter_capacity(meter, band) * SECOND
            bucket.tokens = min(full, bucket.tokens + elapsed * band.rate)
            if bucket.tokens >= cost:
                bucket.tokens -= cost
            else:
                over.append((band, bucket))
        if not over:
            return
        band, bucket = max(over, key=lambda pair: pair[0].rate)
        bucket.packets += 1
        if isinstance(band, DropBand):
            run.reasons.add("meter")
            raise _Dropped
        dscp = self._key(packet).get("ip_dscp", 0)
        precedence = dscp >> 1 & 3
        if not dscp & 1 and 1 <= dscp >> 3 <= 4 and precedence:
            raised = min(3, precedence + band.prec_level)
            fr.set_field(packet.data, "ip_dscp", dscp & 0x38 | raised << 1, 0x3F)

    # ------------------------------------------------------------ learn

    def _learn(self, run: Pass, packet: Packet, action: act.Learn) -> None:
        key = self._key(packet)
        match: dict[Field, tuple[int, int]] = {}
        actions: list[Action] = []
        if action.fin_idle_timeout or action.fin_hard_timeout:
            actions.append(act.FinTimeout(action.fin_idle_timeout, action.fin_hard_timeout))
        for spec in action.specs:
            if isinstance(spec, act.LearnOutput):
                port = wide_port(read_bits(key, spec.source))
                if port and port != PORT_ANY and not PORT_MAX <= port < PORT_IN_PORT:
                    whole = act.MAX_LEN_ALL if port == PORT_CONTROLLER else 0
                    actions.append(act.Output(port, whole))
                continue
            source = spec.source
            value = source if isinstance(source, int) else read_bits(key, source)
            mask = ((1 << spec.target.n_bits) - 1) << spec.target.ofs
            value <<= spec.target.ofs
            if isinstance(spec, act.LearnMatch):
                old_value, old_mask = match.get(spec.target.field, (0, 0))
                match[spec.target.field] = (old_value & ~mask | value, old_mask | mask)
            else:
                actions.append(act.SetField(spec.target.field, value, mask))
        flow = Flow(
            table=action.table,
            priority=action.priority,
            match=Match.of(match),
            instructions=Instructions(apply=tuple(actions)),
            cookie=action.cookie,
            idle_timeout=action.idle_timeout,
            hard_timeout=action.hard_timeout,
            flags=SEND_FLOW_REM if action.send_flow_rem else 0,
        )
        there = [e for e in self.entries if e.flow.identity == flow.identity]
        if not there and action.limit:
            of_cookie = [
                e
                for e in self.entries
                if e.flow.table == action.table and e.flow.cookie == action.cookie
            ]
            if len(of_cookie) >= action.limit:
                if action.result is not None:
                    load_bits(packet, action.result, 0)
                return
        if there:
            entry = there[0]
            entry.modified = run.meta.rx_ns
            if entry.flow.instructions != flow.instructions:
                entry.flow = replace(entry.flow, instructions=flow.instructions)
        else:
            self._add(flow, learned=True)
            self.events.append(("learned", run.meta.rx_ns, flow.table, flow.priority, flow.match))
        if action.result is not None:
            load_bits(packet, action.result, 1)

    def _fin_timeout(self, packet: Packet, action: act.FinTimeout, entry: Entry | None) -> None:
        flags = self._key(packet).get("tcp_flags", 0)
        if entry is None or not flags & 0x05:  # FIN or RST
            return
        flow = entry.flow
        idle = shorter_timeout(flow.idle_timeout, action.idle_timeout)
        hard = shorter_timeout(flow.hard_timeout, action.hard_timeout)
        entry.flow = replace(flow, idle_timeout=idle, hard_timeout=hard)

    # ------------------------------------------------------------ output

    def _output(
        self, run: Pass, packet: Packet, port: int, max_len: int, entry: Entry | None, depth: int
    ) -> None:
        in_port = packet.regs["in_port"]
        if port == PORT_CONTROLLER:
            miss = entry is not None and is_table_miss(entry.flow)
            self._controller(run, packet, max_len, 0 if miss else 1, 0, entry)
        elif port == PORT_TABLE:
            self._resubmit(run, packet, act.Resubmit(table=0), entry, depth)
        elif port == PORT_IN_PORT:
            self._send(run, packet, in_port, max_len)
        elif port in (PORT_ALL, PORT_FLOOD):
            skip = self.down | {in_port} | (self.no_flood if port == PORT_FLOOD else set())
            self._send_all(run, packet, self.ports - skip)
        elif port == PORT_NORMAL:
            self._normal(run, packet)
        elif port == in_port:
            run.reasons.add("output-to-in-port")
        else:
            self._send(run, packet, port, max_len)

    def _send_all(self, run: Pass, packet: Packet, ports: set[int]) -> None:
        for number in sorted(ports):
            self._send(run, packet, number)
        if not ports:
            run.reasons.add("no-port")

    def _send(self, run: Pass, packet: Packet, port: int, max_len: int = 0) -> None:
        if port not in self.ports or port in self.down:
            run.reasons.add("no-port")
            return
        run.sent += 1
        data = bytes(packet.data)
        self.outputs.setdefault(port, []).append(data[:max_len] if max_len else data)

    def _controller(
        self, run: Pass, packet: Packet, max_len: int, reason: int, number: int,
        entry: Entry | None,
    ) -> None:  # fmt: skip
        run.sent += 1
        flow = entry.flow if entry is not None else Flow()
        shown = {k: v for k, v in packet.regs.items() if v and k != "in_phy_port"}
        self.events.append(
            ("packet-in", run.meta.rx_ns, run.seq, reason, number, run.table, flow.cookie,
             tuple(sorted(shown.items())), bytes(packet.data[:max_len]),
             run.meta.wire_len + len(packet.data) - len(run.original))
        )  # fmt: skip

    def _normal(self, run: Pass, packet: Packet) -> None:
        """IEEE 802.1D learning, one table entry per VLAN and address."""
        key, in_port, now = self._key(packet), packet.regs["in_port"], run.meta.rx_ns
        source, destination = key.get("eth_src", 0), key.get("eth_dst", 0)
        vlan = key.get("vlan_vid", 0) & 0xFFF
        if destination >> 4 == 0x0180C200000:
            run.reasons.add("normal")
            return
        if not source >> 40 & 1 and source and in_port in self.ports:
            self.macs[vlan, source] = (in_port, now)
        port, seen = self.macs.get((vlan, destination), (0, 0))
        if destination >> 40 & 1 or not port or now - seen >= MAC_AGE or port not in self.ports:
            self._send_all(run, packet, self.ports - self.down - self.no_flood - {in_port})
        elif port == in_port:
            run.reasons.add("normal")
        else:
            self._send(run, packet, port)
