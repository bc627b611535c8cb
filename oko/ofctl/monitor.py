"""What a switch says by itself: monitor, with flow monitors ("watch:"); and what it and its
controllers say to each other: snoop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

from oko.model.flow import DELETE
from oko.ofctl.commandline import UsageError
from oko.ofctl.messages import describe, type_name
from oko.ofctl.run import Run
from oko.openflow import flow_monitor
from oko.openflow.client import Connection
from oko.openflow.common import OF14, VERSIONS
from oko.openflow.flow_monitor import ACTIONS, ADD, INITIAL, MODIFY, OWN, Monitor
from oko.text.flows import parse_flow_mod
from oko.text.values import Ports

_WATCH = "watch:"
_FLAGS = {
    "initial": INITIAL, "add": ADD, "delete": flow_monitor.DELETE, "modify": MODIFY, "own": OWN,
    "actions": ACTIONS,
}  # fmt: skip
_ALL_FLAGS = sum(_FLAGS.values())
_INVALID_TTL = 4  # OFPC_INVALID_TTL_TO_CONTROLLER


def monitor(run: Run, words: list[str]) -> None:
    """monitor SWITCH [MISSLEN] [invalid_ttl] [watch:[SPEC]...]"""
    name, *rest = words
    miss, config = None, 0
    watched: list[Monitor] = []
    for word in rest:
        if word == "invalid_ttl":
            config = _INVALID_TTL
        elif word.startswith(_WATCH):
            watched.append(parse_watch(word[len(_WATCH) :], len(watched), run.ports(name)))
        elif word.isdecimal() and int(word) <= 0xFFFF:
            miss = int(word)
        elif word.isdecimal():
            raise UsageError(f"{word}: MISSLEN is a number of bytes, 0 to 65535")
        else:
            raise UsageError(f"{word}: unsupported \"monitor\" argument",
                             "a number of bytes, invalid_ttl, or watch:[SPEC]")  # fmt: skip
    switch = run.connect(name, aware=True)
    if any(one.out_group != Monitor(0, 0).out_group for one in watched) and switch.version < OF14:
        raise UsageError("watch: out_group needs OpenFlow 1.4 or later ('-O OpenFlow14')")
    _prepare(switch, miss, config)
    _print_all(run, _messages(switch, watched))


def parse_watch(text: str, number: int, ports: Ports) -> Monitor:
    """A flow monitor: flags that are taken away (!initial, ..), and what flows are meant."""
    flags = _ALL_FLAGS
    kept = []
    for part in text.split(","):
        word = part.strip()
        if word.startswith("!"):
            bit = _FLAGS.get(word[1:])
            if bit is None:
                raise UsageError(f"{word}: unknown flag", "one of !" + ", !".join(_FLAGS))
            flags &= ~bit
        elif word:
            kept.append(word)
    mod = parse_flow_mod(",".join(kept), DELETE, ports)
    flow = mod.flow
    return Monitor(number, flags, flow.table, flow.match, flow.filter_prog or None, mod.out_port,
                   mod.out_group)  # fmt: skip


def _messages(switch: Connection, watched: list[Monitor]) -> Iterator[bytes]:
    """What the switch answers to the monitors, and then says by itself."""
    early: list[bytes] = []
    switch.listener = early.append
    for one in watched:
        for reply in switch.multipart(flow_monitor.encode_request(switch.version, one)):
            yield from early
            early.clear()
            yield reply
    switch.listener = None
    while True:
        msg = switch.wait(None)
        if msg is not None:
            yield msg


def _prepare(switch: Connection, miss: int | None, flags: int) -> None:
    """Asks for packets in the form that tells most, and for the beginning of missed ones."""
    from oko.openflow import messages, packets
    from oko.openflow.nicira_messages import encode_set_packet_in_format

    version = switch.version
    for form in (packets.NXM, packets.NXM2):  # the last one that the switch knows
        request = encode_set_packet_in_format(version, form)
        switch.send(request, ignore_errors=True)
    if miss is not None or flags:
        config = messages.Config(flags, miss or 0)
        switch.send(messages.encode_config(version, 0, config, ask=True))
    switch.finish()


def snoop(run: Run, words: list[str]) -> None:
    """snoop SWITCH"""
    switch = run.connect(words[0], VERSIONS, suffix="snoop")
    _print_all(run, _copies(switch))


def _copies(switch: Connection) -> Iterator[bytes]:
    while True:
        msg = switch.wait(None, everything=True)
        if msg is not None:
            yield msg


def _print_all(run: Run, messages: Iterator[bytes]) -> None:
    most = run.number("count", "a number")
    stamps = run.line.has("timestamp")
    for seen in count():
        if most is not None and seen >= most:
            return
        msg = next(messages)
        if run.json:
            _print_event(msg)
            continue
        if stamps:
            print(time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), end=": ")
        print(describe(msg, more=run.more), flush=True)


def _print_event(msg: bytes) -> None:
    from oko.ofctl.frames import summary
    from oko.openflow.packets import decode_packet_in

    found: dict[str, Any] = {"time": time.time(), "message": type_name(msg)}
    if found["message"] in ("OFPT_PACKET_IN", "NXT_PACKET_IN", "NXT_PACKET_IN2"):
        packet = decode_packet_in(msg[0], msg)
        found |= {
            "in_port": packet.in_port,
            "reason": packet.reason,
            "table": packet.table,
            "cookie": packet.cookie,
            "total_len": packet.total_len,
            "frame": packet.data.hex(),
            "packet": summary(packet.data),
        }
    else:
        found["text"] = describe(msg)
    print(json.dumps(found), flush=True)
