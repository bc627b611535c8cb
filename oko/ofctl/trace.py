"""trace: a packet's way through an oko-switchd, without sending it.

The question goes to the daemon's control socket (the one of ovs-appctl), as ofproto/trace; the
packet is made here from a flow, hexadecimal digits, or a capture's N-th record.
"""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

from oko.errors import OkoError
from oko.ofctl.commandline import UsageError
from oko.ofctl.packets import frame_of
from oko.ofctl.run import Run, run_dirs
from oko.text.scan import Span
from oko.text.values import parse_port

_CAPTURE = re.compile(r"(?:pcap:)?(.+):([0-9]+)\Z")

_FILE = re.compile(r"^pcap:|/|\.(?:pcap|pcapng|cap|dump)(?:\.gz|\.zst)?:[0-9]+\Z")
"""What looks like the name of a capture rather than like a flow."""


def trace(run: Run, words: list[str]) -> None:
    """trace SWITCH PACKET"""
    name, packet, *frame = words
    in_port = parse_port(Span.of(run.line.get("in_port") or "1"), run.ports(name))
    capture = _CAPTURE.match(packet)
    if frame:
        params = [name, packet, frame_of(frame[0]).hex()]
    elif capture is not None and Path(capture[1]).exists():
        data = captured(capture[1], int(capture[2]))
        params = [name, f"in_port={in_port}", data.hex()]
    elif re.fullmatch(r"(?:[0-9a-fA-F]{2}[:\s]?){14,}", packet):
        params = [name, f"in_port={in_port}", frame_of(packet).hex()]
    else:
        if packet.startswith("pcap:") and capture is None:
            raise UsageError(f"{packet}: pcap:FILE:NUMBER is wanted")
        if capture is not None and _FILE.search(packet):
            raise OkoError(f"{capture[1]}: open failed (No such file or directory)")
        given = "in_port" in packet
        params = [name, packet if given else f"in_port={in_port},{packet}"]
    answer = ask(control_socket(run, name), "ofproto/trace", params, as_json=run.json)
    if run.json:
        run.print_json(answer)
    else:
        print(str(answer).rstrip("\n"))


def captured(path: str, number: int) -> bytes:
    """The frame of a capture's record, counted from 1."""
    from oko.captures import CaptureFile  # needs the C core, unlike everything else here

    if not number:
        raise UsageError("packets are counted from 1")
    with CaptureFile(path) as file:
        for i, record in enumerate(file.capture, 1):
            if i == number:
                if record.frame is None:
                    raise OkoError(f"{path}: packet {number} is too long")
                return record.frame
    raise OkoError(f"{path}: has no packet {number}")


def control_socket(run: Run, bridge: str) -> Path:
    """The control socket of the daemon that runs beside a bridge's socket."""
    if ":" in bridge or "/" in bridge:
        raise OkoError("trace needs a bridge's name", "it asks the daemon in the run directory")
    folders = [Path(folder) for folder in run_dirs(run.line.get("run_dir"))]
    for folder in folders:
        found = sorted(folder.glob("oko-switchd.*.ctl"), key=lambda p: p.stat().st_mtime)
        if found:
            return found[-1]
    looked = ", ".join(map(str, folders))
    raise OkoError("there is no oko-switchd to ask", f"looked for oko-switchd.PID.ctl in {looked}")


def ask(path: Path, method: str, params: list[str], *, as_json: bool = False) -> Any:
    """A command of ovs-appctl's kind (JSON-RPC, lib/unixctl.c); its result. OkoError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        try:
            connection.connect(str(path))
            decoder, waiting = json.JSONDecoder(), ""
            requests = [("set-options", ["--format", "json"])] if as_json else []
            reply: dict[str, Any] = {}
            for number, (name, words) in enumerate([*requests, (method, params)]):
                request = {"id": number, "method": name, "params": words}
                connection.sendall(json.dumps(request).encode())
                while True:
                    try:
                        reply, end = decoder.raw_decode(waiting)
                        waiting = waiting[end:].lstrip()
                        break
                    except ValueError:
                        chunk = connection.recv(1 << 20)
                    if not chunk:
                        raise OkoError(f"{path}: the daemon closed the connection")
                    waiting += chunk.decode("utf-8", "replace")
        except OSError as exc:
            raise OkoError(f"{path}: {exc.strerror or exc}") from None
    if reply.get("error"):
        error, _, hint = str(reply["error"]).rstrip("\n").partition("\n")
        raise OkoError(error, hint)
    return reply.get("result")
