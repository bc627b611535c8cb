"""What the example filters should do: one small Python model of each, written from the description
at the top of its C file, not from its C.

A model takes frames one by one, with the time and the port they came from, and says whether the
filter matches. `maps()` tells what the filter's maps must then hold: {map name: {key: value}}, for
array maps only the entries that are not all zero. Sketches are modelled exactly (a set, a dict):
the captures are too small for a false positive of theirs.

Naive on purpose: no state shared between models, every number computed anew, slow. Byte strings are
kept as on the wire; numbers inside map values are little-endian, as the C structs have them.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import NamedTuple

Contents = dict[bytes, bytes]
SECOND = 1_000_000_000

FIN, SYN, RST, ACK = 1, 2, 4, 16


# ---------------------------------------------------------------- headers


def be16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def be32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def network(frame: bytes) -> tuple[int, int] | None:
    """(EtherType behind up to two VLAN tags, offset of what follows); None if that is cut off."""
    at = 12
    if len(frame) < at + 2:
        return None
    for _ in range(2):
        if be16(frame, at) not in (0x8100, 0x88A8):
            break
        at += 4
        if len(frame) < at + 2:
            return None
    return be16(frame, at), at + 2


class Ip(NamedTuple):
    """An IP packet: where it is in the frame and what its header says."""

    version: int
    at: int  # of the header
    payload: int  # offset of what follows
    end: int  # by the packet's own length; may lie beyond the frame
    proto: int
    src: bytes
    dst: bytes
    offset: int  # IPv4 fragment offset, in bytes
    more: bool  # IPv4 more-fragments bit
    df: bool
    ttl: int

    @property
    def fragment(self) -> bool:
        return self.more or self.offset > 0


def ipv4(frame: bytes) -> Ip | None:
    """The well-formed IPv4 header of a frame."""
    found = network(frame)
    if not found or found[0] != 0x0800:
        return None
    at = found[1]
    header = frame[at : at + 20]
    if len(header) < 20 or header[0] >> 4 != 4:
        return None
    size = (header[0] & 15) * 4
    total = be16(header, 2)
    if size < 20 or at + size > len(frame) or total < size:
        return None
    frag = be16(header, 6)
    return Ip(
        version=4,
        at=at,
        payload=at + size,
        end=at + total,
        proto=header[9],
        src=header[12:16],
        dst=header[16:20],
        offset=(frag & 0x1FFF) * 8,
        more=bool(frag & 0x2000),
        df=bool(frag & 0x4000),
        ttl=header[8],
    )


def ipv6(frame: bytes) -> Ip | None:
    """The fixed IPv6 header of a frame."""
    found = network(frame)
    if not found or found[0] != 0x86DD:
        return None
    at = found[1]
    header = frame[at : at + 40]
    if len(header) < 40 or header[0] >> 4 != 6:
        return None
    length = be16(header, 4)
    return Ip(
        version=6,
        at=at,
        payload=at + 40,
        end=at + 40 + length,
        proto=header[6],
        src=header[8:24],
        dst=header[24:40],
        offset=0,
        more=False,
        df=False,
        ttl=header[7],
    )


class Tcp(NamedTuple):
    """The 20 fixed bytes of a TCP header."""

    src: bytes
    dst: bytes
    seq: int
    ack: int
    size: int  # of the whole header, as its data offset says
    flags: int
    window: int


def tcp(frame: bytes, ip: Ip | None) -> Tcp | None:
    """The TCP header behind an IP header."""
    if not ip or ip.proto != 6:
        return None
    header = frame[ip.payload : ip.payload + 20]
    if len(header) < 20:
        return None
    return Tcp(
        src=header[0:2],
        dst=header[2:4],
        seq=be32(header, 4),
        ack=be32(header, 8),
        size=(header[12] >> 4) * 4,
        flags=header[13],
        window=be16(header, 14),
    )


def whole_tcp4(frame: bytes) -> tuple[Ip, Tcp] | None:
    """IPv4, no fragment, with a TCP header."""
    ip = ipv4(frame)
    header = tcp(frame, ip)
    if ip and header and not ip.fragment:
        return ip, header
    return None


# ---------------------------------------------------------------- the models


class Model:
    """One filter. config: contents that the controller has put into maps."""

    def __init__(self, config: dict[str, Contents] | None = None) -> None:
        self.config = config or {}

    def setting(self, name: str, default: int) -> int:
        """The first four or eight bytes of entry 0 of an array; the default where that is 0."""
        value = self.config.get(name, {}).get(u32(0), b"")
        return int.from_bytes(value, "little") or default

    def packet(self, frame: bytes, now: int, in_port: int) -> bool:
        raise NotImplementedError

    def maps(self) -> dict[str, Contents]:
        """Expected contents of all maps but the sketches."""
        return dict(self.config)


class StatelessFirewall(Model):
    def packet(self, frame: bytes, now: int, in_port: int) -> bool:
        found = network(frame)
        if not found or found[0] != 0x0800:
            return False
        ip = ipv4(frame)
        if not ip:
            return True
        if any(self.config.get("blocked", {}).get(ip.src, b"")):
            return True
        if any(self.longest_prefix(ip.src)):
            return True
        if ip.proto not in (6, 17) or ip.offset > 0 or len(frame) < ip.payload + 4:
            return False
        port = be16(frame, ip.payload + 2)
        closed = self.config.get("closed_ports", {}).get(u32(port), b"\0")[0]
        return bool(closed & (1 if ip.proto == 6 else 2))

    def longest_prefix(self, address: bytes) -> bytes:
        best = -1, b""
        for key, value in self.config.get("blocked_nets", {}).items():
            length = int.from_bytes(key[:4], "little")
            shift = 32 - length
            if length > best[0] and be32(key, 4) >> shift == be32(address, 0) >> shift:
                best = length, value
        return best[1]


class StatefulFirewall(Model):
    def __init__(self, config: dict[str, Contents] | None = None) -> None:
        super().__init__(config)
        self.connections: dict[bytes, dict[str, int]] = {}

    def packet(self, frame: bytes, now: int, in_port: int) -> bool:
        found = whole_tcp4(frame)
        if not found:
            return False
        ip, header = found
        source, dest = ip.src + header.src, ip.dst + header.dst
        low, high = min(source, dest), max(source, dest)
        sender = 0 if source == low else 1
        key = low[:4] + high[:4] + low[4:] + high[4:]
        entry = self.connections.get(key)
        if entry and entry["expires"] <= now:
            entry = None
        if header.flags & RST:
            if entry:
                del self.connections[key]
            return entry is not None
        if header.flags & SYN:
            if header.flags & ACK:
                return self.answer(entry, sender, now)
            return self.open(key, entry, sender, now, in_port)
        return self.data(entry, sender, header.flags, now)

    def open(
        self, key: bytes, entry: dict[str, int] | None, sender: int, now: int, in_port: int
    ) -> bool:
        if entry is None or entry["state"] == 4:
            if self.setting("inside_port", in_port) != in_port:
                return False
            self.connections[key] = {
                "expires": now + 30 * SECOND, "state": 1, "opener": sender, "fins": 0
            }  # fmt: skip
            return True
        if entry["state"] == 1 and sender == entry["opener"]:
            entry["expires"] = now + 30 * SECOND
            return True
        return False

    def answer(self, entry: dict[str, int] | None, sender: int, now: int) -> bool:
        if entry is None or sender == entry["opener"]:
            return False
        if entry["state"] == 1:
            entry["state"] = 2
            entry["expires"] = now + 30 * SECOND
        return True

    def data(self, entry: dict[str, int] | None, sender: int, flags: int, now: int) -> bool:
        if entry is None or entry["state"] == 1:
            return False
        if entry["state"] == 2:
            if sender != entry["opener"] or not flags & ACK:
                return False
            entry["state"] = 3
        if flags & FIN:
            entry["fins"] |= 2 if sender else 1
            if entry["fins"] == 3:
                entry["state"] = 4
        entry["expires"] = now + (10 if entry["state"] == 4 else 300) * SECOND
        return True

    def maps(self) -> dict[str, Contents]:
        return {
            **self.config,
            "connections": {
                key: struct.pack("<QBBB5x", e["expires"], e["state"], e["opener"], e["fins"])
                for key, e in self.connections.items()
            },
        }


class RateLimiter(Model):
    def __init__(self, config: dict[str, Contents] | None = None) -> None:
        super().__init__(config)
        cost, depth = struct.unpack("<QQ", self.config.get("limit", {}).get(u32(0), bytes(16)))
        self.cost = cost or 10_000_000
        self.depth = depth or 200_000_000
        self.buckets: dict[bytes, tuple[int, int]] = {}

    def packet(self, frame: bytes, now: int, in_port: int) -> bool:
        ip = ipv4(frame)
        if not ip:
            return False
        last, credit = self.buckets.get(ip.src, (now, self.depth))
        credit = min(credit + now - last, self.depth)
        conforms = credit >= self.cost
        self.buckets[ip.src] = now, credit - self.cost if conforms else credit
        return conforms

    def maps(self) -> dict[str, Contents]:
        buckets = {src: u64(last) + u64(credit) for src, (last, credit) in self.buckets.items()}
        return {**self.config, "buckets": buckets}


class P0f(Model):
    SIGNATURES = (
        # system, ttl, df, window, layouts
        (1, 64, True, None, ([2, 4, 8, 1, 3],)),
        (2, 128, True, None, ([2, 1, 3, 1, 1, 4], [2, 1, 1, 4], [2, 1, 3, 1, 1, 8, 1, 1, 4])),
        (3, 64, True, 65535, ([2, 1, 3, 1, 1, 8, 4, 0], [2, 1, 3, 4, 8])),
        (4, None, False, 1024, ([2], [])),
    )

    def __init__(self, config: dict[str, Contents] | None = None) -> None:
        super().__init__(config)
        self.hosts: Contents = {}
        self.systems: Counter[int] = Counter()

    def packet(self, frame: bytes, now: int, in_port: int) -> bool:
        found = whole_tcp4(frame)
        if not found:
            return False
        ip, header = found
        if header.flags & (SYN | ACK | FIN | RST) != SYN or header.size < 20:
            return False
        options = frame[ip.payload + 20 : ip.payload + header.size]
        if ip.payload + header.size > len(frame):
            return False
        ttl = min(initial for initial in (32, 64, 128, 255) if initial >= ip.ttl)
        layout = self.layout(options)
        system = 0
        for number, want_ttl, want_df, want_window, layouts in self.SIGNATURES:
            if (
                layout in layouts
                and want_ttl in (None, ttl)
                and want_df == ip.df
                and want_window in (None, header.window)
            ):
                system = number
                break
        self.systems[system] += 1
        self.hosts[ip.src] = struct.pack("<BBH4x", system, ttl - ip.ttl, header.window)
        wanted = self.setting("wanted", 0)
        return system == wanted if wanted else system != 0

    @staticmethod
    def layout(options: bytes) -> list[int] | None:
        kinds = []
        at = 0
        while at < len(options):
            if len(kinds) == 15:
                return None
            kind = options[at]
            kinds.append(kind)
            if kind == 0:
                break
            if kind == 1:
                at += 1
                continue
            if at + 1 >= len(options) or options[at + 1] < 2:
                return None
            at += options[at + 1]
            if at > len(options):
                return None
        return kinds

    def maps(self) -> dict[str, Contents]:
        systems = {u32(number): u64(count) for number, count in self.systems.items()}
        return {**self.config, "systems": systems, "hosts": self.hosts}


class Flow:
    """An entry of dapper's table."""

    def __init__(self, **known: int) -> None:
        self.packets = self.bytes = self.timed_ns = self.srtt_ns = self.min_rtt_ns = 0
        self.next_seq = self.timed_seq = self.last_ack = self.mss = self.retransmits = 0
        self.acks = self.dup_acks = self.receiver_limited = self.window = self.max_flight = 0
        self.timing = self.scale = 0
        self.__dict__.update(known)

    def pack(self) -> bytes:
        return struct.pack(
            "<5Q10IBB6x", self.packets, self.bytes, self.timed_ns, self.srtt_ns, self.min_rtt_ns,
            self.next_seq, self.timed_seq, self.last_ack, self.mss, self.retransmits, self.acks,
            self.dup_acks, self.receiver_limited, self.window, self.max_flight, self.timing,
            self.scale,
        )  # fmt: skip


class Dapper(Model):
    def __init__(self, config: dict[str, Contents] | None = None) -> None:
        super().__init__(config)
        self.flows: dict[bytes, Flow] = {}

    def packet(self, frame: bytes, now: int, in_port: int) -> bool:
        found = whole_tcp4(frame)
        if not found:
            return False
        ip, header = found
        payload = ip.end - ip.payload - header.size
        if header.size < 20 or payload < 0:
            return False
        key = ip.src + ip.dst + header.src + header.dst
        reverse = ip.dst + ip.src + header.dst + header.src
        scale = self.as_data(frame, ip, header, key, payload, now)
        if header.flags & ACK and not header.flags & SYN and reverse in self.flows:
            self.as_acknowledgement(self.flows[reverse], header, payload, scale, now)
        return False

    def as_data(self, frame: bytes, ip: Ip, header: Tcp, key: bytes, payload: int, now: int) -> int:
        size = payload + bool(header.flags & SYN) + bool(header.flags & FIN)
        next_seq = (header.seq + size) % 2**32
        if header.flags & SYN:
            scale = self.scale(frame[ip.payload + 20 : ip.payload + header.size])
            self.flows[key] = Flow(packets=1, next_seq=next_seq, scale=scale)
            return 0
        flow = self.flows.get(key)
        if not flow:
            self.flows[key] = Flow(packets=1, bytes=payload, next_seq=next_seq, mss=payload)
            return 0
        flow.packets += 1
        flow.mss = max(flow.mss, payload)
        if size:
            if self.before(header.seq, flow.next_seq):
                flow.retransmits += 1
                flow.timing = 0
            else:
                flow.bytes += payload
                flow.next_seq = next_seq
                if not flow.timing:
                    flow.timing, flow.timed_seq, flow.timed_ns = 1, next_seq, now
        return flow.scale

    def as_acknowledgement(
        self, flow: Flow, header: Tcp, payload: int, scale: int, now: int
    ) -> None:
        unacknowledged = self.before(header.ack, flow.next_seq)
        if payload == 0 and header.ack == flow.last_ack and unacknowledged and flow.acks:
            flow.dup_acks += 1
        flow.acks += 1
        flow.last_ack = header.ack
        flow.window = header.window << scale
        if flow.timing and not self.before(header.ack, flow.timed_seq):
            rtt = now - flow.timed_ns
            flow.srtt_ns = flow.srtt_ns - flow.srtt_ns // 8 + rtt // 8 if flow.srtt_ns else rtt
            flow.min_rtt_ns = min(flow.min_rtt_ns, rtt) if flow.min_rtt_ns else rtt
            flow.timing = 0
        flight = (flow.next_seq - header.ack) % 2**32 if unacknowledged else 0
        flow.max_flight = max(flow.max_flight, flight)
        if flight + flow.mss > flow.window:
            flow.receiver_limited += 1

    @staticmethod
    def before(a: int, b: int) -> bool:
        return (a - b) % 2**32 >= 2**31

    @staticmethod
    def scale(options: bytes) -> int:
        at = 0
        for _ in range(20):
            rest = options[at:]
            if not rest or rest[0] == 0:
                return 0
            if rest[0] == 1:
                at += 1
                continue
            if len(rest) < 2 or rest[1] < 2 or rest[1] > len(rest):
                return 0
            if rest[0] == 3 and rest[1] == 3:
                return min(rest[2], 14)
            at += rest[1]
        return 0

    def maps(self) -> dict[str, Contents]:
        return {**self.config, "flows": {key: flow.pack() for key, flow in self.flows.items()}}


class HeavyHitter(Model):
    def __init__(self, config: dict[str, Contents] | None = None) -> None:
        super().__init__(config)
        self.packets: Counter[bytes] = Counter()
        self.hitters: Counter[bytes] = Counter()

    def packet(self, frame: bytes, now: int, in_port: int) -> bool:
        ip = ipv4(frame) or ipv6(frame)
        if not ip:
            return False
        source = bytes(10) + b"\xff\xff" + ip.src if ip.version == 4 else ip.src
        self.packets[source] += 1
        if self.packets[source] <= self.setting("threshold", 100):
            return False
        self.hitters[source] += 1
        return True

    def maps(self) -> dict[str, Contents]:
        return {**self.config, "hitters": {src: u64(n) for src, n in self.hitters.items()}}


class PortScan(Model):
    def __init__(self, config: dict[str, Contents] | None = None) -> None:
        super().__init__(config)
        self.seen: set[tuple[bytes, bytes, bytes]] = set()
        self.scanners: Counter[bytes] = Counter()

    def packet(self, frame: bytes, now: int, in_port: int) -> bool:
        ip = ipv4(frame)
        header = tcp(frame, ip)
        if not ip or not header or ip.offset > 0 or header.flags & (SYN | ACK) != SYN:
            return False
        probe = ip.src, ip.dst, header.dst
        if probe not in self.seen:
            self.seen.add(probe)
            self.scanners[ip.src] += 1
        return self.scanners[ip.src] > self.setting("threshold", 20)

    def maps(self) -> dict[str, Contents]:
        return {**self.config, "scanners": {src: u32(n) for src, n in self.scanners.items()}}


class DnsGuard(Model):
    def __init__(self, config: dict[str, Contents] | None = None) -> None:
        super().__init__(config)
        self.classes: Counter[int] = Counter()

    def packet(self, frame: bytes, now: int, in_port: int) -> bool:
        ip = ipv4(frame) or ipv6(frame)
        if not ip or ip.fragment or ip.proto != 17 or len(frame) < ip.payload + 8:
            return False
        if be16(frame, ip.payload + 2) != 53:
            return False
        number = self.classify(frame[ip.payload + 8 : ip.end])
        self.classes[number] += 1
        return number != 0

    def classify(self, message: bytes) -> int:
        if len(message) < 12 or be16(message, 2) & 0x8000 or be16(message, 4) != 1:
            return 1
        labels: list[bytes] = []
        rest = message[12:]
        while True:
            if not rest or rest[0] > 63:
                return 1
            size, rest = rest[0], rest[1:]
            if size == 0:
                break
            if len(rest) < size:
                return 1
            labels.append(rest[:size])
            rest = rest[size:]
        name_size = len(message) - 12 - len(rest)
        if name_size > 255 or len(labels) > 127 or len(rest) < 4:
            return 1
        if name_size > 120 or any(len(label) > 40 for label in labels):
            return 2
        if be16(rest, 0) == 255:
            return 3
        # bytes.lower() is ASCII only, as the description wants.
        domain = b".".join(labels[-2:]).lower()
        if labels and len(domain) <= 63:
            value = self.config.get("blocked", {}).get(domain.ljust(64, b"\0"), b"")
            if any(value):
                return 4
        return 0

    def maps(self) -> dict[str, Contents]:
        return {**self.config, "classes": {u32(c): u64(n) for c, n in self.classes.items()}}


class SynFlood(Model):
    def __init__(self, config: dict[str, Contents] | None = None) -> None:
        super().__init__(config)
        self.pending: dict[bytes, int] = {}
        self.services: dict[bytes, list[int]] = {}  # since, half open
        self.refused = 0

    def packet(self, frame: bytes, now: int, in_port: int) -> bool:
        found = whole_tcp4(frame)
        if not found:
            return False
        ip, header = found
        client = ip.src + ip.dst + header.src + header.dst
        server = ip.dst + header.dst + b"\0\0"
        flags = header.flags & (SYN | ACK | FIN | RST)
        if flags == SYN:
            return self.begin(client, server, now)
        completes = flags & RST or (flags & ACK and not flags & SYN)
        if completes and client in self.pending:
            del self.pending[client]
            if server in self.services and self.services[server][1] > 0:
                self.services[server][1] -= 1
        return False

    def begin(self, client: bytes, server: bytes, now: int) -> bool:
        if client in self.pending:
            return False
        service = self.services.setdefault(server, [now, 0])
        seconds = (now - service[0]) // SECOND
        service[0] += seconds * SECOND
        service[1] >>= seconds
        if service[1] >= self.setting("limit", 64):
            self.refused += 1
            return True
        service[1] += 1
        self.pending[client] = now
        return False

    def maps(self) -> dict[str, Contents]:
        return {
            **self.config,
            "pending": {client: u64(now) for client, now in self.pending.items()},
            "services": {key: struct.pack("<QI4x", *s) for key, s in self.services.items()},
            "refused": {u32(0): u64(self.refused)} if self.refused else {},
        }


class PayloadMatch(Model):
    def __init__(self, config: dict[str, Contents] | None = None) -> None:
        super().__init__(config)
        value = self.config.get("pattern", {}).get(u32(0), bytes(20))
        size = int.from_bytes(value[:4], "little")
        self.pattern = value[4 : 4 + size] if size else b"User-Agent: curl"
        self.matchable = size <= 16
        self.searched = self.found = 0

    def packet(self, frame: bytes, now: int, in_port: int) -> bool:
        ip = ipv4(frame) or ipv6(frame)
        if not ip or ip.offset > 0:
            return False
        header = tcp(frame, ip)
        if header and header.size >= 20:
            start = ip.payload + header.size
        elif ip.proto == 17 and len(frame) >= ip.payload + 8:
            start = ip.payload + 8
        else:
            return False
        self.searched += 1
        payload = frame[start : max(start, ip.end)]
        found = payload.find(self.pattern)
        if not self.matchable or not 0 <= found < 1024:
            return False
        self.found += 1
        return True


MODELS: dict[str, type[Model]] = {
    "stateless_firewall": StatelessFirewall,
    "stateful_firewall": StatefulFirewall,
    "rate_limiter": RateLimiter,
    "p0f": P0f,
    "dapper": Dapper,
    "heavy_hitter": HeavyHitter,
    "port_scan": PortScan,
    "dns_guard": DnsGuard,
    "syn_flood": SynFlood,
    "payload_match": PayloadMatch,
}
