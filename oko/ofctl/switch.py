"""The switch itself: features, description, tables, ports, queues."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from oko.errors import OkoError
from oko.model.fields import PORT_ANY, PORT_LOCAL, PORT_MAX
from oko.ofctl.commandline import UsageError
from oko.ofctl.printing import duration_text, port_text, title, xid_of
from oko.ofctl.run import Run
from oko.openflow import messages, port_messages
from oko.openflow.client import Connection
from oko.openflow.common import (
    FEATURES_REQUEST,
    GET_CONFIG_REQUEST,
    MP_DESC,
    MP_QUEUE,
    MP_QUEUE_DESC,
    MP_TABLE,
    OF10,
    OF14,
    encode_multipart,
    message,
)
from oko.openflow.messages import Features
from oko.openflow.port_messages import QUEUE_ALL, PortCounters, PortDesc, PortMod, QueueConfig
from oko.text.values import format_mac

if TYPE_CHECKING:
    from oko.openflow.tables import TableCounters

_CAPABILITIES = (
    "FLOW_STATS", "TABLE_STATS", "PORT_STATS", "GROUP_STATS", "", "IP_REASM", "QUEUE_STATS",
    "ARP_MATCH_IP", "PORT_BLOCKED", "BUNDLES", "FLOW_MONITORING",
)  # fmt: skip
_ACTIONS_10 = {
    0: "output", 11: "enqueue", 1: "set_vlan_vid", 2: "set_vlan_pcp", 3: "strip_vlan",
    4: "mod_dl_src", 5: "mod_dl_dst", 6: "mod_nw_src", 7: "mod_nw_dst", 8: "mod_nw_tos",
    9: "mod_tp_src", 10: "mod_tp_dst",
}  # fmt: skip
CONFIG = {
    0: "PORT_DOWN", 1: "NO_STP", 2: "NO_RECV", 3: "NO_RECV_STP", 4: "NO_FLOOD", 5: "NO_FWD",
    6: "NO_PACKET_IN",
}  # fmt: skip
_STATE = {0: "LINK_DOWN", 1: "BLOCKED", 2: "LIVE"}
_SPEEDS = ("10MB-HD", "10MB-FD", "100MB-HD", "100MB-FD", "1GB-HD", "1GB-FD", "10GB-FD")
_MEDIA = ("COPPER", "FIBER", "AUTO_NEG", "AUTO_PAUSE", "AUTO_PAUSE_ASYM")
_FEATURES_10 = dict(enumerate(_SPEEDS + _MEDIA))
_FEATURES = dict(enumerate((*_SPEEDS, "40GB-FD", "100GB-FD", "1TB-FD", "OTHER", *_MEDIA)))
_BITS_PER_SECOND = (10, 10, 100, 100, 1000, 1000, 10_000, 40_000, 100_000, 1_000_000)
FRAGS = ("normal", "drop", "reassemble", "nx-match")


def _bit_names(bits: int, names: dict[int, str]) -> list[str]:
    found = [name for bit, name in names.items() if bits >> bit & 1]
    known = sum(1 << bit for bit in names)
    if bits & ~known:
        found.append(f"{bits & ~known:#x}")
    return found


# ---------------------------------------------------------------- show


def show(run: Run, words: list[str]) -> None:
    """show SWITCH"""
    switch = run.connect(words[0])
    version = switch.version
    answer = switch.transact(message(version, FEATURES_REQUEST, 0))
    features = messages.decode_features(version, answer)
    ports, port_titles = features.ports, ""
    if version != OF10:
        ports, port_titles = port_descs(switch)
    answered = switch.transact(message(version, GET_CONFIG_REQUEST, 0))
    config = messages.decode_config(answered)
    frags = FRAGS[config.flags & 3]
    if run.json:
        run.print_json(
            {
                "dpid": f"{features.dpid:016x}",
                "openflow": {1: "1.0", 4: "1.3", 5: "1.4", 6: "1.5"}[version],
                "n_tables": features.n_tables,
                "n_buffers": features.n_buffers,
                "capabilities": _capabilities(version, features),
                "ports": [port_json(version, port) for port in by_number(ports)],
                "frags": frags,
                "miss_send_len": config.miss_send_len,
            }
        )
        return
    head = title("OFPT_FEATURES_REPLY", version, xid_of(answer))
    print("\n".join([f"{head} dpid:{features.dpid:016x}", *features_lines(version, features)]))
    if port_titles:
        print(port_titles)
    for port in by_number(ports):
        print("\n".join(port_lines(version, port)))
    head = title("OFPT_GET_CONFIG_REPLY", version, xid_of(answered))
    print(f"{head} frags={frags} miss_send_len={config.miss_send_len}")


def _capabilities(version: int, features: Features) -> list[str]:
    names = {bit: name for bit, name in enumerate(_CAPABILITIES) if name}
    if version == OF10:
        names[3] = "STP"
    return _bit_names(features.capabilities, names)


def features_lines(version: int, features: Features) -> list[str]:
    auxiliary = f", auxiliary_id:{features.auxiliary}" if features.auxiliary else ""
    lines = [f"n_tables:{features.n_tables}, n_buffers:{features.n_buffers}{auxiliary}"]
    lines.append("capabilities: " + " ".join(_capabilities(version, features)))
    if version == OF10:
        lines.append("actions: " + " ".join(_bit_names(features.actions, _ACTIONS_10)))
    return lines


def by_number(ports: Iterable[PortDesc]) -> list[PortDesc]:
    """Sorted by number, the reserved ones last."""
    return sorted(ports, key=lambda port: port.number)


def port_descs(switch: Connection) -> tuple[tuple[PortDesc, ...], str]:
    """The ports that PORT_DESC tells of, and the reply's title."""
    found: list[PortDesc] = []
    head = ""
    for reply in switch.multipart(port_messages.encode_port_desc_request(switch.version)):
        head = head or title("OFPST_PORT_DESC reply", switch.version, xid_of(reply))
        found += port_messages.decode_port_desc(switch.version, reply)
    return tuple(found), head


def _megabits(version: int, port: PortDesc) -> tuple[int, int]:
    """Speed now and at most, in Mbps; 1.0 tells only by its bits."""
    if version != OF10:
        return port.curr_speed // 1000, port.max_speed // 1000

    def fastest(bits: int) -> int:
        return max((_BITS_PER_SECOND[i] for i in range(7) if bits >> i & 1), default=0)

    return fastest(port.curr), fastest(port.supported)


def port_lines(version: int, port: PortDesc) -> list[str]:
    """A port as show prints it."""
    names = _FEATURES_10 if version == OF10 else _FEATURES

    def bits(value: int, of: dict[int, str]) -> str:
        return " ".join(_bit_names(value, of)) or "0"

    lines = [f" {port_text(port.number)}({port.name}): addr:{format_mac(port.hw_addr)}"]
    lines.append(f"     config:     {bits(port.config, CONFIG)}")
    lines.append(f"     state:      {bits(port.state, _STATE)}")
    for label in ("curr", "advertised", "supported", "peer"):
        value = getattr(port, label)
        if value:
            shown = "current" if label == "curr" else label
            lines.append(f"     {shown + ':':<11} {bits(value, names)}")
    now, most = _megabits(version, port)
    lines.append(f"     speed: {now} Mbps now, {most} Mbps max")
    return lines


def port_json(version: int, port: PortDesc) -> dict[str, Any]:
    """A port as an object."""
    names = _FEATURES_10 if version == OF10 else _FEATURES
    now, most = _megabits(version, port)
    return {
        "number": port.number,
        "name": port.name,
        "hw_addr": format_mac(port.hw_addr),
        "config": _bit_names(port.config, CONFIG),
        "state": _bit_names(port.state, _STATE),
        "current": _bit_names(port.curr, names),
        "speed_mbps": now,
        "max_speed_mbps": most,
    }


# ---------------------------------------------------------------- description, tables


def dump_desc(run: Run, words: list[str]) -> None:
    """dump-desc SWITCH"""
    switch = run.connect(words[0])
    (reply,) = switch.multipart(encode_multipart(switch.version, 0, MP_DESC))
    found = messages.decode_desc(switch.version, reply)
    if run.json:
        run.print_json(asdict(found))
        return
    print(title("OFPST_DESC reply", switch.version, xid_of(reply)))
    print(f"Manufacturer: {found.manufacturer}\nHardware: {found.hardware}")
    print(
        f"Software: {found.software}\nSerial Num: {found.serial}\nDP Description: {found.datapath}"
    )


_MATCHING_10 = "in_port eth_{src,dst,type} vlan_{vid,pcp} ip_{src,dst} nw_{proto,tos} tcp_{src,dst}"


def dump_tables(run: Run, words: list[str]) -> None:
    """dump-tables SWITCH"""
    from oko.openflow import tables

    switch = run.connect(words[0])
    version = switch.version
    found: list[TableCounters] = []
    head = ""
    for reply in switch.multipart(encode_multipart(version, 0, MP_TABLE)):
        head = head or title("OFPST_TABLE reply", version, xid_of(reply))
        found += tables.decode_table_stats(version, reply)
    if run.json:
        shown = [
            {"table": t.table, "n_flows": t.n_flows, "lookups": t.lookups, "matches": t.matches}
            for t in found
        ]
        run.print_json({"tables": shown})
        return
    print(head + "".join(table_lines(version, found)), end="")


def table_lines(version: int, found: list[TableCounters]) -> list[str]:
    """Tables as dump-tables prints them: equal ones that follow each other are put together."""
    parts: list[str] = []
    before: TableCounters | None = None
    ditto: list[int] = []

    def end_ditto() -> None:
        if not ditto:
            return
        first, last = ditto[0], ditto[-1]
        which = f"table {first}" if first == last else f"tables {first}...{last}"
        parts.append(f"\n  {which}: ditto\n")
        ditto.clear()

    for table in found:
        same = before is not None and replace(before, table=table.table) == table
        if same:
            ditto.append(table.table)
            continue
        end_ditto()
        name = f' ("{table.name}")' if table.name else ""
        parts.append(f"\n  table {table.table}{name}:\n")
        counters = f"active={table.n_flows}, lookup={table.lookups}, matched={table.matches}"
        parts.append(f"    {counters}\n")
        if version == OF10:
            if before is not None and table.max_entries == before.max_entries:
                parts.append("    (same features)\n")
            else:
                if table.max_entries:
                    parts.append(f"    max_entries={table.max_entries}\n")
                parts.append(f"    matching:\n      exact match or wildcard: {_MATCHING_10}\n")
        before = table
    end_ditto()
    return parts


# ---------------------------------------------------------------- ports


def dump_ports_desc(run: Run, words: list[str]) -> None:
    """dump-ports-desc SWITCH [PORT]"""
    switch = run.connect(words[0])
    ports, head = port_descs(switch)
    if len(words) > 1:
        number = find_port(switch, words[1], words[0]).number
        ports = tuple(port for port in ports if port.number == number)
    if run.json:
        run.print_json({"ports": [port_json(switch.version, p) for p in by_number(ports)]})
        return
    print(head)
    for port in by_number(ports):
        print("\n".join(port_lines(switch.version, port)))


def find_port(switch: Connection, name: str, bridge: str) -> PortDesc:
    """The port of that name or number."""
    ports, _ = port_descs(switch)
    number = int(name) if name.isdecimal() else -1
    if name.upper() == "LOCAL":
        number = PORT_LOCAL
    for port in ports:
        if port.name == name or port.number == number:
            return port
    there = ", ".join(f"{port_text(p.number)} {p.name}" for p in by_number(ports))
    raise OkoError(f"{bridge}: couldn't find port `{name}'", f"there are {there}")


def dump_ports(run: Run, words: list[str]) -> None:
    """dump-ports SWITCH [PORT]"""
    switch = run.connect(words[0])
    version = switch.version
    number = None
    if len(words) > 1 and words[1].upper() not in ("ANY", "NONE"):
        number = find_port(switch, words[1], words[0]).number
    found: list[PortCounters] = []
    head = ""
    for reply in switch.multipart(port_messages.encode_port_stats_request(version, number)):
        head = head or title("OFPST_PORT reply", version, xid_of(reply))
        found += port_messages.decode_port_stats(version, reply)
    if run.json:
        run.print_json({"ports": [_counters_json(counters) for counters in found]})
        return
    print(f"{head} {len(found)} ports")
    for counters in found:
        print("\n".join(counters_lines(version, counters)))


def _counters_json(counters: PortCounters) -> dict[str, Any]:
    found = asdict(counters)
    found["custom"] = dict(counters.custom)
    found["duration"] = None if counters.duration is None else counters.duration / 1e9
    return found


def _told(value: int | None) -> str:
    return "?" if value is None else str(value)


def counters_lines(version: int, c: PortCounters) -> list[str]:
    """Counters of a port as dump-ports prints them."""
    pad = " " if c.number < 10 else ""
    received = {
        "pkts": c.rx_packets, "bytes": c.rx_bytes, "drop": c.rx_dropped, "errs": c.rx_errors,
        "frame": c.rx_frame_errors, "over": c.rx_over_errors, "crc": c.rx_crc_errors,
    }  # fmt: skip
    sent = {
        "pkts": c.tx_packets, "bytes": c.tx_bytes, "drop": c.tx_dropped, "errs": c.tx_errors,
        "coll": c.collisions,
    }  # fmt: skip

    def words(counters: dict[str, int | None]) -> str:
        return ", ".join(f"{name}={_told(value)}" for name, value in counters.items())

    lines = [f"  port {pad}{port_text(c.number)}: rx {words(received)}"]
    lines.append(f"           tx {words(sent)}")
    if c.duration is not None and version != OF10:
        lines.append(f"           duration={duration_text(c.duration)}")
    if c.custom:
        lines.append("           CUSTOM Statistics")
        for at in range(0, len(c.custom), 3):
            some = " ".join(f"{name}={value}," for name, value in c.custom[at : at + 3])
            lines.append(f"{'':22}{some}")
    return lines


_PORT_ACTS = {
    "up": (1, 0), "down": (1, 1), "flood": (16, 0), "no-flood": (16, 16), "receive": (4, 0),
    "no-receive": (4, 4), "forward": (32, 0), "no-forward": (32, 32), "packet-in": (64, 0),
    "no-packet-in": (64, 64), "stp": (2, 0), "no-stp": (2, 2), "receive-stp": (8, 0),
    "no-receive-stp": (8, 8),
}  # fmt: skip
_ONLY_10 = 2 | 8 | 16


def mod_port(run: Run, words: list[str]) -> None:
    """mod-port SWITCH PORT ACT"""
    name, port_name, act = words
    found = _PORT_ACTS.get(act)
    if found is None:
        raise UsageError(f"unknown mod-port command '{act}'", "one of " + ", ".join(_PORT_ACTS))
    mask, config = found
    switch = run.connect(name)
    if mask & _ONLY_10 and switch.version != OF10:
        raise OkoError(f"{act} is for OpenFlow 1.0", "-O OpenFlow10")
    port = find_port(switch, port_name, name)
    change = PortMod(port.number, port.hw_addr, config, mask)
    switch.send(port_messages.encode_port_mod(switch.version, change))
    switch.finish()
    now = find_port(switch, port_name, name)
    if (now.config ^ config) & mask:
        raise OkoError(f"{name}: the switch did not change port {port.name}")


def queue_stats(run: Run, words: list[str]) -> None:
    """queue-stats SWITCH [PORT [QUEUE]]"""
    switch = run.connect(words[0])
    version = switch.version
    port, queue = PORT_ANY, QUEUE_ALL
    if len(words) > 1 and words[1].upper() not in ("ANY", "ALL"):
        port = find_port(switch, words[1], words[0]).number
    if len(words) > 2 and words[2].upper() != "ALL":
        if not words[2].isdecimal():
            raise UsageError(f"{words[2]}: a queue's number is wanted")
        queue = int(words[2])
    found = []
    head = ""
    for reply in switch.multipart(
        port_messages.encode_queue_request(version, MP_QUEUE, port, queue)
    ):
        head = head or title("OFPST_QUEUE reply", version, xid_of(reply))
        found += port_messages.decode_queue_stats(version, reply)
    if run.json:
        run.print_json({"queues": [asdict(q) for q in found]})
        return
    print(f"{head} {len(found)} queues")
    for q in found:
        print(
            f"  port {port_text(q.port)} queue {q.queue}: bytes={_told(q.tx_bytes)}, "
            f"pkts={_told(q.tx_packets)}, errors={_told(q.tx_errors)}, "
            f"duration={_queue_age(version, q.duration)}"
        )


def _queue_age(version: int, duration: int | None) -> str:
    return "?" if version == OF10 else duration_text(duration)


def queue_get_config(run: Run, words: list[str]) -> None:
    """queue-get-config SWITCH [PORT [QUEUE]]"""
    name, *rest = words
    switch = run.connect(name)
    version = switch.version
    port, queue = PORT_ANY, QUEUE_ALL
    if rest and rest[0].upper() != "ANY":
        port = find_port(switch, rest[0], name).number
    if len(rest) > 1 and rest[1].upper() != "ANY":
        if not rest[1].isdecimal():
            raise UsageError(f"{rest[1]}: a queue's number is wanted")
        queue = int(rest[1])
    found = []
    for number in _asked_ports(switch, port):
        head, of, queues = _queue_configs(switch, number, queue)
        found += queues
        if not run.json:
            print("\n".join(_queue_config_lines(version, head, of, queues)))
    if run.json:
        run.print_json({"queues": [asdict(q) for q in found]})


def _asked_ports(switch: Connection, port: int) -> list[int]:
    """1.0 asks port by port."""
    if switch.version != OF10 or port != PORT_ANY:
        return [port]
    return [p.number for p in by_number(port_descs(switch)[0]) if p.number < PORT_MAX]


def _queue_configs(switch: Connection, port: int, queue: int) -> tuple[str, int, list[QueueConfig]]:
    """(title, the port that the reply names, queues by number)."""
    version = switch.version
    found: list[QueueConfig] = []
    head = ""
    if version < OF14:
        request = port_messages.encode_queue_config_request(version, port)
        replies: Iterable[bytes] = [switch.transact(request)]
        name = "OFPT_QUEUE_GET_CONFIG_REPLY"
    else:
        request = port_messages.encode_queue_request(version, MP_QUEUE_DESC, port, queue)
        replies, name = switch.multipart(request), "OFPST_QUEUE_DESC reply"
    of = port
    for reply in replies:
        head = head or title(name, version, xid_of(reply))
        of, queues = port_messages.decode_queue_configs(version, reply)
        found += queues
    return head, of, sorted(found, key=lambda q: (q.port, q.queue))


def _queue_config_lines(version: int, head: str, of: int, queues: list[QueueConfig]) -> list[str]:
    if version < OF14:
        return [f"{head} port={port_text(of)}", *map(_queue_config_line, queues)]
    lines = []
    last = None
    for q in queues:
        if q.port != last:
            lines.append(f"port={port_text(q.port)}")
            last = q.port
        lines.append(_queue_config_line(q))
    return [f"{head} {lines[0]}", *lines[1:]] if lines else [head]


def _queue_config_line(q: QueueConfig) -> str:
    text = f"queue {q.queue}:"
    for name, rate in (("min_rate", q.min_rate), ("max_rate", q.max_rate)):
        if rate is not None and rate <= 1000:
            text += f" {name}:{rate // 10}.{rate % 10}%"
        elif rate is not None and rate < 0xFFFF:
            text += f" {name}:(disabled)"
    return text


# ---------------------------------------------------------------- fragments


def get_frags(run: Run, words: list[str]) -> None:
    """get-frags SWITCH"""
    frags = FRAGS[_config(run.connect(words[0])).flags & messages.FRAG_MASK]
    if run.json:
        run.print_json({"frags": frags})
    else:
        print(frags)


def _config(switch: Connection) -> messages.Config:
    return messages.decode_config(switch.transact(message(switch.version, GET_CONFIG_REQUEST, 0)))


def set_frags(run: Run, words: list[str]) -> None:
    """set-frags SWITCH MODE"""
    name, mode = words
    if mode not in FRAGS:
        raise UsageError(f"{mode}: unknown fragment handling mode", "one of " + ", ".join(FRAGS))
    switch = run.connect(name)
    version, wanted = switch.version, FRAGS.index(mode)
    old = _config(switch)
    flags = (old.flags & ~messages.FRAG_MASK) | wanted
    if flags != old.flags:
        change = messages.Config(flags, old.miss_send_len)
        switch.send(messages.encode_config(version, 0, change, ask=True))
        refused = switch.barrier()
        if refused or _config(switch).flags & messages.FRAG_MASK != wanted:
            raise OkoError(
                f"{name}: setting fragment handling mode failed (this switch probably doesn't "
                f'support mode "{mode}")'
            )
