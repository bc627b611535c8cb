"""Packets and connections: packet-out, ping, probe, benchmark, ofp-parse."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import asdict

from oko.errors import OkoError
from oko.model.actions import Action
from oko.model.fields import PORT_ANY, PORT_CONTROLLER
from oko.ofctl.commandline import UsageError
from oko.ofctl.messages import describe, type_name
from oko.ofctl.run import FIRST, SINCE_13, Run
from oko.openflow.common import (
    ECHO_REQUEST,
    HEADER_SIZE,
    OF10,
    OpenFlowError,
    message,
)
from oko.text.flows import parse_flow
from oko.text.scan import Span
from oko.text.values import Ports, parse_port

_ECHO_SIZE = 64


# ---------------------------------------------------------------- packet-out

_PARTS = re.compile(r"(?:^|(?<=[\s,]))(in_port|packet|actions?)\s*=")


def packet_out(run: Run, words: list[str]) -> None:
    """packet-out SWITCH IN_PORT ACTIONS PACKET..., or SWITCH "in_port=.. packet=.. actions=.." """
    from oko.openflow.packets import PacketOut, encode_packet_out

    name, *rest = words
    ports = run.ports(name)
    if len(rest) == 1:
        in_port, actions_text, packets = packet_words(rest[0], ports)
    elif len(rest) >= 3:
        in_port, actions_text, packets = _in_port(rest[0], ports), rest[1], rest[2:]
    else:
        raise UsageError(
            "'packet-out' command requires at least 4 arguments",
            'or SWITCH "in_port=1 packet=HEX actions=output:2"',
        )
    actions = parse_actions(actions_text, ports)
    frames = [frame_of(text) for text in packets]
    try:
        for frame in frames:
            encode_packet_out(OF10, PacketOut(in_port, actions, frame))
        versions = FIRST
    except OpenFlowError:
        versions = SINCE_13
    switch = run.connect(name, versions)
    for frame in frames:
        switch.send(encode_packet_out(switch.version, PacketOut(in_port, actions, frame)))
    switch.finish()


def packet_words(text: str, ports: Ports) -> tuple[int, str, list[str]]:
    """(in_port, actions, frames in hexadecimal) of "in_port=.. packet=.. actions=.." """
    places = list(_PARTS.finditer(text))
    found: dict[str, str] = {}
    for at, place in enumerate(places):
        end = places[at + 1].start() if at + 1 < len(places) else len(text)
        found[place[1].removesuffix("s")] = text[place.end() : end].strip(" ,\t")
    for needed in ("packet", "action"):
        if needed not in found:
            raise UsageError(f"must specify {'actions' if needed == 'action' else needed}")
    return _in_port(found.get("in_port", "ANY"), ports), found["action"], [found["packet"]]


def _in_port(text: str, ports: Ports) -> int:
    if text.upper() in ("ANY", "NONE"):
        return PORT_ANY
    if text.upper() == "CONTROLLER":
        return PORT_CONTROLLER
    return parse_port(Span.of(text), ports)


def parse_actions(text: str, ports: Ports) -> tuple[Action, ...]:
    """The actions of a packet-out."""
    instructions = parse_flow(f"actions={text}", ports).instructions
    if instructions.goto is not None or instructions.write or instructions.meter:
        raise OkoError("packet-out takes actions only, no instructions")
    return instructions.apply


def frame_of(text: str) -> bytes:
    """A frame in hexadecimal."""
    try:
        frame = bytes.fromhex(re.sub(r"[:\s]", "", text))
    except ValueError:
        raise UsageError(f"{text[:40]}: a packet is given in hexadecimal") from None
    if not 14 <= len(frame) <= 65000:
        raise UsageError("Packet data too short for Ethernet" if len(frame) < 14
                         else "Packet is longer than a message can hold")  # fmt: skip
    return frame


# ---------------------------------------------------------------- echo


def ping(run: Run, words: list[str]) -> None:
    """ping TARGET [N]"""
    name, *rest = words
    size = _ECHO_SIZE
    if rest:
        if not rest[0].isdecimal() or not HEADER_SIZE <= int(rest[0]) <= 65535:
            raise UsageError(f"{rest[0]}: N is a number of bytes, 8 to 65535")
        size = int(rest[0])
    switch = run.connect(name)
    payload = bytes(i & 0xFF for i in range(size - HEADER_SIZE))
    times = []
    for _ in range(int(run.number("count", "a number") or 10)):
        xid = switch.coming_xid
        began = time.perf_counter()
        answer = switch.transact(message(switch.version, ECHO_REQUEST, 0, payload))
        taken = time.perf_counter() - began
        times.append(taken)
        if answer[HEADER_SIZE:] != payload:
            raise OkoError(f"{name}: the echo reply has other bytes than the request")
        if not run.json:
            print(f"{size} bytes from {name}: xid={xid:08x} time={taken * 1000:.1f} ms", flush=True)
    if run.json:
        run.print_json({"bytes": size, "milliseconds": [round(t * 1000, 3) for t in times]})


def probe(run: Run, words: list[str]) -> None:
    """probe TARGET"""
    switch = run.connect(words[0])
    switch.transact(message(switch.version, ECHO_REQUEST, 0))


def benchmark(run: Run, words: list[str]) -> None:
    """benchmark TARGET N COUNT"""
    name, size_text, count_text = words
    if not size_text.isdecimal() or int(size_text) > 65535 - HEADER_SIZE:
        raise UsageError(f"{size_text}: N is a number of bytes, 0 to {65535 - HEADER_SIZE}")
    if not count_text.isdecimal() or not int(count_text):
        raise UsageError(f"{count_text}: COUNT is a number of packets")
    size, count = int(size_text), int(count_text)
    switch = run.connect(name)
    request = message(switch.version, ECHO_REQUEST, 0, bytes(size))
    whole = size + HEADER_SIZE
    if not run.json:
        print(
            f"Sending {count} packets * {whole} bytes (with header) = {count * whole} bytes total"
        )
    began = time.perf_counter()
    for _ in range(count):
        switch.transact(request)
    taken = time.perf_counter() - began
    if run.json:
        run.print_json({"bytes": whole, "count": count, "seconds": taken})
        return
    print(
        f"Finished in {taken * 1000:.1f} ms ({count / taken:.0f} packets/s) "
        f"({count * whole / taken:.0f} bytes/s)"
    )


# ---------------------------------------------------------------- ofp-parse


def parse_file(run: Run, words: list[str]) -> None:
    """ofp-parse FILE"""
    (name,) = words
    try:
        if name == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(name, "rb") as file:
                data = file.read()
    except OSError as exc:
        raise OkoError(f"{name}: open failed ({exc.strerror})") from None
    at = 0
    found: list[dict[str, object]] = []
    while at < len(data):
        size = int.from_bytes(data[at + 2 : at + 4], "big") if len(data) - at >= HEADER_SIZE else 0
        if size < HEADER_SIZE or at + size > len(data):
            raise OkoError(f"{name}: byte {at}: no whole OpenFlow message")
        msg = data[at : at + size]
        at += size
        if not run.json:
            print(describe(msg, more=run.more))
            continue
        xid = int.from_bytes(msg[4:8], "big")
        found.append(
            {"version": msg[0], "message": type_name(msg), "xid": xid, "text": describe(msg)}
        )
    if run.json:
        run.print_json({"messages": found})


def print_error(run: Run, words: list[str]) -> None:
    """print-error ENUM"""
    from oko.openflow.common import ERRORS, VERSION_NAMES

    (name,) = words
    rows = [(v, ERRORS[v][name]) for v in ERRORS if name in ERRORS[v]]
    if not rows:
        raise OkoError(f"unknown error {name}", "names are those of the standard: OFPBRC_EPERM")
    if run.json:
        shown = {VERSION_NAMES[version]: asdict(code) for version, code in rows}
        run.print_json({"name": name, "versions": shown})
        return
    for version, code in rows:
        vendor = f"vendor {code.experimenter:#x}, " if code.experimenter else ""
        print(f"OpenFlow {VERSION_NAMES[version]}: {vendor}type {code.type}, code {code.code}")
