"""Ports as OpenFlow shows them, and the kinds of ports that a bridge can open.

OpenFlow's configuration bits (OFPPC_*, 1.3.5 section 7.2.1; NO_FLOOD is 1.0's) and the datapath's
port flags say the same with different numbers; the translation is here.
"""

from __future__ import annotations

import fcntl
import hashlib
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from oko import datapath
from oko.errors import OkoError

LOCAL = 0xFFFFFFFE

# OFPPC_*
PORT_DOWN, NO_RECV, NO_FLOOD, NO_FWD, NO_PACKET_IN = 1, 4, 16, 32, 64
CONFIG_BITS = PORT_DOWN | NO_RECV | NO_FLOOD | NO_FWD | NO_PACKET_IN
# OFPPS_*
LINK_DOWN, BLOCKED, LIVE = 1, 2, 4

_FLAGS = (
    (NO_RECV, datapath.NO_RECV),
    (NO_FLOOD, datapath.NO_FLOOD),
    (NO_FWD, datapath.NO_FWD),
    (NO_PACKET_IN, datapath.NO_PACKET_IN),
)


@dataclass(frozen=True, slots=True)
class Port:
    """struct ofp_port. hw_addr is a 48-bit number; config and state are OFPPC_* and OFPPS_*;
    speeds in kbit/s, 0 = not known; curr, advertised, supported, peer: OFPPF_*."""

    number: int
    name: str
    hw_addr: int
    kind: str
    config: int = 0
    state: int = 0
    curr: int = 0
    advertised: int = 0
    supported: int = 0
    peer: int = 0
    curr_speed: int = 0
    max_speed: int = 0


@dataclass(frozen=True, slots=True)
class PortStats:
    """struct ofp_port_stats; duration in ns since the port was added."""

    number: int
    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_dropped: int
    tx_dropped: int
    rx_errors: int
    tx_errors: int
    duration: int


@dataclass(frozen=True, slots=True)
class QueueStats:
    """struct ofp_queue_stats; duration in ns since the queue was declared; max_rate: bit/s, 0 = no
    limit. tx_errors: dropped, beyond the rate or because the port could not take it."""

    port: int
    queue: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    duration: int
    max_rate: int = 0


def flags_of(config: int, state: int) -> int:
    """The datapath's port flags (enum oko_port_flag) for OFPPC_* and OFPPS_* bits."""
    flags = sum(flag for bit, flag in _FLAGS if config & bit)
    if config & PORT_DOWN:
        flags |= datapath.DOWN | datapath.NO_RECV
    if state & LINK_DOWN:
        flags |= datapath.DOWN
    return flags


DEVICE_KINDS = ("afpacket", "tap", "internal")

_SIOCGIFFLAGS, _SIOCGIFHWADDR = 0x8913, 0x8927
_IFF_UP, _IFF_RUNNING = 0x1, 0x40


def _ask(request: int, device: str) -> bytes | None:
    """An ioctl of netdevice(7); None when there is no such device."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            return fcntl.ioctl(any_socket, request, struct.pack("16s24x", device.encode()))
        except OSError:
            return None


def with_liveness(port: Port) -> Port:
    """The port with LIVE as its other bits have it."""
    live = not (port.config & PORT_DOWN or port.state & LINK_DOWN)
    return replace(port, state=port.state & ~LIVE | (LIVE if live else 0))


def look_at_device(port: Port, device: str) -> Port:
    """The port with its device's address and link state as they are now."""
    flags, address = _ask(_SIOCGIFFLAGS, device), _ask(_SIOCGIFHWADDR, device)
    bits = struct.unpack_from("16xH", flags)[0] if flags is not None else 0
    up = bits & _IFF_UP and bits & _IFF_RUNNING
    hw_addr = port.hw_addr if address is None else int.from_bytes(address[18:24], "big")
    state = port.state & ~LINK_DOWN | (0 if up else LINK_DOWN)
    return replace(port, state=state, hw_addr=hw_addr)


def add_capture(
    dp: datapath.Datapath, number: int, name: str, path: str, options: Mapping[str, str]
) -> None:
    """Adds a port of kind pcap: 2=pcap:in.pcap,write=out.pcap,speed=10,loop"""
    speed = options.get("speed", "1")
    try:
        factor = 0.0 if speed == "max" else float(speed)
        if not 0 <= factor < 1e9:
            raise ValueError
    except ValueError:
        raise OkoError(f"port {number}: speed={speed} is not a factor such as 10, or max") from None
    dp.add_file_port(
        number,
        name,
        read=path or None,
        write=options.get("write"),
        speed=factor,
        loop="loop" in options,
    )


def watch_links() -> socket.socket:
    """A netlink socket that is readable when a device of this host changed (rtnetlink(7))."""
    watch = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    watch.bind((0, 1))  # RTMGRP_LINK
    return watch


def made_up_address(*names: str) -> int:
    """A locally administered MAC address that is the same at every start."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return int.from_bytes(b"\x02" + digest[:5], "big")
