#!/usr/bin/env python3
"""Records the captures in examples/traces: real programs, talking between our own namespaces.

Three network namespaces on one machine stand in for two hosts and the wire between them:

    oko-rec-a (10.0.0.1, fd00::1)  a0 --- w0  oko-rec-w  w1 --- b0  oko-rec-b (10.0.0.2, fd00::2)

A thread of this program is the wire: it carries frames from w0 to w1 and back, and can lose some
of them or carry them over a third link t0 --- t1 with VLAN tags, so that neither netem nor 802.1Q
support is needed in the kernel. tcpdump listens on w0 (or w1, or t0). The programs are the system's
own where there are such (curl, ping, nmap, dnsmasq, the kernel's TCP), Python's otherwise.

    tools/record-traces.py [--out DIRECTORY] [NAME...]

needs root and ip, tcpdump, curl, ping, nmap, dnsmasq, ethtool. Nothing leaves the namespaces;
everything started is stopped by its process id and the namespaces are removed at exit, however the
program ends. A recording differs from an earlier one in times, ports and sequence numbers: tests
take their expectations from the capture, and only the cast (who scans whom) from the README.

Left out: anything that depends on the host's own configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import pty
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

A, WIRE, B = "oko-rec-a", "oko-rec-w", "oko-rec-b"
A4, B4, A6, B6 = "10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"
A4_SECOND = "10.0.0.11"
TOOLS = ("ip", "tcpdump", "curl", "ping", "nmap", "dnsmasq", "ethtool")
CLONE_NEWNET = 0x40000000
HTTP_PORT, SHELL_PORT, SINK_PORT = 80, 2323, 9000
SOL_PACKET, PACKET_AUXDATA = 263, 8
VLAN_VALID = 0x10  # TP_STATUS_VLAN_VALID

libc = ctypes.CDLL(None, use_errno=True)


def run(*args: str, check: bool = True) -> None:
    """Runs a command to its end, silently; says what it said when it fails."""
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(args)}: exit {done.returncode}\n{done.stdout.decode()}")


def in_a(*args: str, check: bool = True) -> None:
    """Runs a command on host A."""
    run("ip", "netns", "exec", A, *args, check=check)


@contextlib.contextmanager
def namespace(name: str) -> Iterator[None]:
    """This thread is in the namespace meanwhile: sockets it makes belong there for good."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{name}") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {name}")
        try:
            yield
        finally:
            libc.setns(home.fileno(), CLONE_NEWNET)


@contextlib.contextmanager
def program(*args: str, cwd: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs meanwhile; asked to stop at the end, then made to."""
    proc = subprocess.Popen(
        args, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield proc
    finally:
        proc.send_signal(signal.SIGINT)
        try:
            proc.wait(5)
        except subprocess.TimeoutExpired:
            proc.kill()
            proc.wait()


# ---------------------------------------------------------------- the hosts and the wire


@contextlib.contextmanager
def hosts() -> Iterator[None]:
    """The three namespaces with their links and fixed addresses."""
    names = (A, WIRE, B)
    try:
        for name in names:
            run("ip", "netns", "add", name)
        link(A, "a0", "02:00:00:00:00:0a", WIRE, "w0", "02:00:00:00:00:a0")
        link(B, "b0", "02:00:00:00:00:0b", WIRE, "w1", "02:00:00:00:00:b0")
        link(WIRE, "t0", "02:00:00:00:00:c0", WIRE, "t1", "02:00:00:00:00:d0")
        for name, device, addresses in (
            (A, "a0", (f"{A4}/24", f"{A4_SECOND}/24", f"{A6}/64")),
            (B, "b0", (f"{B4}/24", f"{B6}/64")),
        ):
            for address in addresses:
                nodad = ("nodad",) if ":" in address else ()
                run("ip", "-n", name, "addr", "add", address, "dev", device, *nodad)
        yield
    finally:
        for name in names:
            run("ip", "netns", "del", name, check=False)


def link(ns1: str, dev1: str, mac1: str, ns2: str, dev2: str, mac2: str) -> None:
    """A veth pair. Offloads are off: frames look as on a cable, with checksums."""
    run("ip", "-n", ns1, "link", "add", dev1, "address", mac1, "type", "veth",
        "peer", "name", dev2, "address", mac2, "netns", ns2)  # fmt: skip
    for ns, dev in ((ns1, dev1), (ns2, dev2)):
        if ns == WIRE:  # the wire has no address of its own and says nothing
            path = f"/proc/sys/net/ipv6/conf/{dev}/disable_ipv6"
            run("ip", "netns", "exec", ns, "sh", "-c", f"echo 1 > {path}")
        run("ip", "netns", "exec", ns, "ethtool", "-K", dev, "tx", "off", "rx", "off", "sg", "off",
            "tso", "off", "gso", "off", "gro", "off", "txvlan", "off", "rxvlan", "off",
            check=False)  # fmt: skip
        run("ip", "-n", ns, "link", "set", dev, "up")
        run("ip", "-n", ns, "link", "set", "lo", "up")


class Wire:
    """Carries frames between w0 and w1, as a thread.

    tags: (tpid, tci) from the outermost inwards; frames then go over t0 --- t1 and bear the tags
    there. loss: share of frames of more than 200 bytes to lose, from a fixed seed.
    """

    def __init__(self, tags: tuple[tuple[int, int], ...] = (), loss: float = 0.0) -> None:
        self.prefix = b"".join(struct.pack("!HH", tpid, tci) for tpid, tci in tags)
        self.loss = loss
        self.random = random.Random(1)
        self.lost = 0
        self.stopping = False
        with namespace(WIRE):
            self.sockets = {name: self.open(name) for name in ("w0", "w1", "t0", "t1")}
        self.thread = threading.Thread(target=self.carry)

    @staticmethod
    def open(name: str) -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((name, 0))
        return sock

    def __enter__(self) -> Wire:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping = True
        self.thread.join()
        for sock in self.sockets.values():
            sock.close()

    def carry(self) -> None:
        to = {"w0": "w1", "w1": "w0"}
        if self.prefix:
            to = {"w0": "t0", "t1": "w1", "w1": "t1", "t0": "w0"}
        by_socket = {sock: name for name, sock in self.sockets.items()}
        while not self.stopping:
            for sock in select.select(list(by_socket), [], [], 0.05)[0]:
                frame = receive(sock)
                name = by_socket[sock]
                if frame is None or name not in to:
                    continue
                if len(frame) > 200 and self.random.random() < self.loss:
                    self.lost += 1
                    continue
                if to[name].startswith("t"):
                    frame = frame[:12] + self.prefix + frame[12:]
                elif name.startswith("t"):
                    if frame[12 : 12 + len(self.prefix)] != self.prefix:
                        continue
                    frame = frame[:12] + frame[12 + len(self.prefix) :]
                self.sockets[to[name]].send(frame)


def receive(sock: socket.socket) -> bytes | None:
    """The next frame that arrives (not one that leaves), with the VLAN tag the kernel took off."""
    frame, ancillary, _, address = sock.recvmsg(65536, 256)
    if address[2] == socket.PACKET_OUTGOING:
        return None
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, *_, tci, tpid = struct.unpack("IIIHHHH", data)
            if status & VLAN_VALID:
                frame = frame[:12] + struct.pack("!HH", tpid or 0x8100, tci) + frame[12:]
    return frame


@contextlib.contextmanager
def captured(path: Path, device: str = "w0", wire: Wire | None = None) -> Iterator[None]:
    """tcpdump on the wire meanwhile; each recording starts with empty neighbour tables."""
    for name, dev in ((A, "a0"), (B, "b0")):
        run("ip", "-n", name, "neigh", "flush", "dev", dev)
    command = ("ip", "netns", "exec", WIRE, "tcpdump", "--immediate-mode", "-i",
               device, "-U", "-s", "0", "-w")  # fmt: skip
    with wire or Wire() as w, program(*command, str(path)) as tcpdump:
        assert tcpdump.stderr
        while b"listening on" not in tcpdump.stderr.readline():
            if tcpdump.poll() is not None:
                raise SystemExit("tcpdump did not start")
        time.sleep(0.2)
        yield
        time.sleep(0.5)  # last acknowledgements
    if w.loss and not w.lost:
        raise SystemExit(f"{path.name}: the wire lost nothing")


# ---------------------------------------------------------------- servers on host B


@contextlib.contextmanager
def web_server() -> Iterator[None]:
    """python -m http.server with a few files, on IPv4 and IPv6."""
    text = "".join(f"{n}: the quick brown fox jumps over the lazy dog\n" for n in range(2000))
    with tempfile.TemporaryDirectory() as root:
        Path(root, "index.html").write_text("<html><body>It works.</body></html>\n")
        Path(root, "small.txt").write_text(text[:8000])
        Path(root, "large.txt").write_text(text[:60000])
        command = ("ip", "netns", "exec", B, sys.executable, "-m", "http.server", str(HTTP_PORT))
        with program(*command, "--bind", "::", cwd=root):
            wait_for(HTTP_PORT)
            yield


@contextlib.contextmanager
def name_server() -> Iterator[None]:
    """dnsmasq with a few names of its own."""
    command = ["ip", "netns", "exec", B, "dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts",
               "--conf-file=/dev/null", "--pid-file=", "--user=root", "--cache-size=0",
               "--local=/test/", "--mx-host=example.test,mail.example.test,10",
               "--txt-record=example.test,v=spf1 -all"]  # fmt: skip
    for name in ("www.example.test", "mail.example.test", "tracker.ads.test"):
        command.append(f"--host-record={name},{B4},{B6}")
    with program(*command):
        wait_for(53)
        yield


def wait_for(port: int) -> None:
    """Until something on host B accepts connections to the port."""
    with namespace(B):
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def serve_shell(listener: socket.socket) -> None:
    """One remote terminal session: sh on a pseudo terminal, joined to a TCP connection."""
    conn, _ = listener.accept()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(PS1="$ ", TERM="dumb")
        os.execvp("sh", ["sh"])
    with conn:
        while True:
            ready = select.select([conn.fileno(), terminal], [], [])[0]
            try:
                data = os.read(terminal, 4096) if terminal in ready else b""
                if terminal in ready:
                    if not data:
                        break
                    conn.sendall(data)
                if conn.fileno() in ready:
                    typed = conn.recv(4096)
                    if not typed:
                        break
                    os.write(terminal, typed)
            except OSError:  # the shell has gone
                break
    os.close(terminal)
    os.waitpid(pid, 0)


# ---------------------------------------------------------------- clients on host A


def resolve_with(server: str, *command: str) -> None:
    """Runs a command on host A whose C library asks this name server."""
    with tempfile.NamedTemporaryFile("w") as conf:
        conf.write(f"nameserver {server}\n")
        conf.flush()
        script = f'mount --bind {conf.name} /etc/resolv.conf && exec "$@"'
        in_a("sh", "-c", script, "sh", *command)


def dns_query(name: str, qtype: int, flags: int = 0x0100, questions: int = 1) -> bytes:
    """A DNS message with one question, RFC 1035 section 4.1."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".") if part)
    header = struct.pack("!6H", random.randrange(65536), flags, questions, 0, 0, 0)
    return header + labels + b"\0" + struct.pack("!2H", qtype, 1)


def send_udp(to: tuple[str, int], *messages: bytes, source: str = "", answer: bool = True) -> None:
    """Messages from one socket of host A, waiting for an answer to each if there should be one."""
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    with namespace(A), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.connect(to)
        sock.settimeout(0.3)
        for message in messages:
            sock.send(message)
            if answer:
                with contextlib.suppress(OSError):
                    sock.recv(4096)


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(src: str, dst: str, src_port: int, dst_port: int) -> bytes:
    """An IPv4 packet with a bare TCP SYN."""
    addresses = socket.inet_aton(src) + socket.inet_aton(dst)
    tcp = struct.pack("!HHIIBBHHH", src_port, dst_port, random.randrange(1 << 32), 0, 0x50, 2,
                      512, 0, 0)  # fmt: skip
    pseudo = addresses + struct.pack("!HH", 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 40, random.randrange(65536), 0, 64, 6, 0) + addresses
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + tcp


# ---------------------------------------------------------------- the recordings


def record_http(path: Path) -> None:
    with web_server(), name_server(), captured(path):
        resolve_with(B4, "curl", "-s", "-o", "/dev/null", "http://www.example.test/")
        resolve_with(B4, "curl", "-4", "-s", "-o", "/dev/null", "http://www.example.test/large.txt")
        in_a("curl", "-s", "-o", "/dev/null", f"http://{B4}/small.txt", f"http://{B4}/missing")


def record_dns(path: Path) -> None:
    ordinary = [dns_query("www.example.test", 1), dns_query("WWW.Example.TEST", 28),
                dns_query("example.test", 15), dns_query("example.test", 16),
                dns_query("nosuch.example.test", 1), dns_query("2.0.0.10.in-addr.arpa", 12),
                dns_query("tracker.ads.test", 1), dns_query("", 2)]  # fmt: skip
    tunnel = [dns_query(f"{'abcdefgh' * 6}.{n}.tunnel.test", 16) for n in range(4)]
    tunnel.append(
        dns_query(".".join(["0123456789abcdef0123456789abcdef"] * 4) + ".tunnel.test", 16)
    )
    amplify = [dns_query("example.test", 255)] * 3
    whole = dns_query("www.example.test", 1)
    broken = [whole[:8], whole[:20], whole[:-1], whole[:12], b"",
              whole[:12] + b"\xc0\x0c" + whole[-4:],
              dns_query("www.example.test", 1, questions=2),
              dns_query("www.example.test", 1, flags=0x8180)]  # fmt: skip
    with name_server(), captured(path):
        for _ in range(3):
            resolve_with(B4, "getent", "ahosts", "www.example.test")
        resolve_with(B6, "getent", "ahosts", "mail.example.test")
        for server in (B4, B6):
            send_udp((server, 53), *ordinary)
            send_udp((server, 53), *tunnel, *amplify)
            send_udp((server, 53), *broken, answer=False)


def record_ping(path: Path) -> None:
    with captured(path):
        in_a("ping", "-c", "4", "-i", "0.2", B4)
        in_a("ping", "-c", "2", "-i", "0.2", "-R", B4)  # record route: IPv4 options
        in_a("ping", "-c", "2", "-i", "0.2", "-T", "tsonly", B4)
        in_a("ping", "-c", "3", "-i", "0.2", "-s", "4000", B4)  # fragments
        in_a("ping", "-c", "4", "-i", "0.2", B6)
        in_a("ping", "-c", "2", "-i", "0.2", "-s", "4000", B6)
        send_udp((B4, 7), bytes(range(256)) * 20, answer=False)  # a fragmented UDP datagram


def record_interactive(path: Path) -> None:
    with namespace(B):
        listener = socket.create_server(("", SHELL_PORT))
    server = threading.Thread(target=serve_shell, args=(listener,))
    server.start()
    with listener, captured(path):
        with namespace(A):
            conn = socket.create_connection((B4, SHELL_PORT))
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.settimeout(0.25)
        for line in ("echo hello", "seq 1 40", "expr 6 '*' 7", "exit"):
            for char in line + "\n":
                conn.sendall(char.encode())
                time.sleep(0.02)
            with contextlib.suppress(TimeoutError, ConnectionError):
                while conn.recv(4096):
                    pass
        conn.close()
        server.join()


def record_ipv6(path: Path) -> None:
    with web_server(), captured(path):
        in_a("ping", "-c", "2", "-i", "0.2", B6)
        in_a("curl", "-s", "-g", "-o", "/dev/null", f"http://[{B6}]/small.txt")
        in_a("curl", "-s", "-g", "-o", "/dev/null", f"http://[{B6}]/index.html")


def record_scan(path: Path) -> None:
    with web_server(), captured(path):
        in_a("curl", "-s", "-o", "/dev/null", f"http://{B4}/index.html")
        in_a("nmap", "-n", "-Pn", "-sS", "-T4", "-p", "1-150", "-S", A4_SECOND, "-e", "a0", B4)
        in_a("curl", "-s", "-o", "/dev/null", f"http://{B4}/index.html")


def record_lossy(path: Path) -> None:
    # Recorded on the sender's side, so that what gets lost and its repetition are both there.
    with web_server(), captured(path, "w1", Wire(loss=0.06)):
        in_a("curl", "-s", "-o", "/dev/null", f"http://{B4}/large.txt")
        in_a("curl", "-s", "-o", "/dev/null", f"http://{B4}/small.txt")


def tagged_traffic() -> None:
    in_a("ping", "-c", "2", "-i", "0.2", B4)
    in_a("curl", "-s", "-o", "/dev/null", f"http://{B4}/index.html")
    in_a("curl", "-s", "-g", "-o", "/dev/null", f"http://[{B6}]/index.html")
    in_a("nmap", "-n", "-Pn", "-sS", "-T4", "-p", "1-30", B4)
    queries = [dns_query("www.example.test", 1), dns_query("tracker.ads.test", 1)]
    send_udp((B4, 53), *queries, dns_query("example.test", 255))


def record_vlan(path: Path) -> None:
    wire = Wire(tags=((0x8100, 3 << 13 | 42),))
    with web_server(), name_server(), captured(path, "t0", wire):
        tagged_traffic()


def record_qinq(path: Path) -> None:
    wire = Wire(tags=((0x88A8, 100), (0x8100, 7)))
    with web_server(), name_server(), captured(path, "t0", wire):
        tagged_traffic()


def record_udp_burst(path: Path) -> None:
    with namespace(B), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("", SINK_PORT))
        with captured(path):
            for burst in range(3):
                send_udp((B4, SINK_PORT), *[b"burst %d" % burst] * 60, source=A4, answer=False)
                for _ in range(10):  # a well-behaved sender meanwhile
                    send_udp((B4, SINK_PORT), b"steady", source=A4_SECOND, answer=False)
                    time.sleep(0.03)


def record_syn_flood(path: Path) -> None:
    run("ip", "-n", B, "route", "add", "default", "via", A4)  # where the answers get lost
    with web_server(), captured(path):
        in_a("curl", "-s", "-o", "/dev/null", f"http://{B4}/index.html")
        with namespace(A), socket.socket(socket.AF_INET, socket.SOCK_RAW, 255) as raw:
            for n in range(250):  # from addresses that nobody has (RFC 5737)
                raw.sendto(syn(f"198.51.100.{n}", B4, 1024 + n, HTTP_PORT), (B4, 0))
        in_a("curl", "-s", "-o", "/dev/null", "-m", "3", f"http://{B4}/index.html", check=False)
        time.sleep(2.5)
        in_a("curl", "-s", "-o", "/dev/null", f"http://{B4}/index.html")


def record_ip_options(path: Path) -> None:
    """TCP and UDP behind IPv4 headers of 24 to 60 bytes: the kernel adds what IP_OPTIONS says."""
    option_lists = (b"\x01\x01\x01\x01", b"\x07\x0b\x04" + bytes(8) + b"\0", b"\x01" * 20,
                    b"\x07\x27\x04" + bytes(36) + b"\0")  # fmt: skip
    with web_server(), name_server(), captured(path):
        for options in option_lists:
            with namespace(A):
                tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with tcp, udp:
                for sock in (tcp, udp):
                    sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
                    sock.settimeout(2)
                tcp.connect((B4, HTTP_PORT))
                tcp.sendall(b"GET / HTTP/1.0\r\nUser-Agent: options\r\n\r\n")
                while tcp.recv(4096):
                    pass
                udp.connect((B4, 53))
                udp.send(dns_query("example.test", 255))
                udp.recv(4096)


RECORDINGS: dict[str, Callable[[Path], None]] = {
    "http": record_http,
    "dns": record_dns,
    "ping": record_ping,
    "interactive": record_interactive,
    "ipv6": record_ipv6,
    "scan": record_scan,
    "lossy": record_lossy,
    "vlan": record_vlan,
    "qinq": record_qinq,
    "udp-burst": record_udp_burst,
    "syn-flood": record_syn_flood,
    "ip-options": record_ip_options,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Record the captures in examples/traces.")
    parser.add_argument("--out", type=Path, help="directory (default: examples/traces)")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECORDINGS))
    options = parser.parse_args()
    unknown = set(options.names) - set(RECORDINGS)
    if unknown:
        parser.error(
            f"no recording {', '.join(sorted(unknown))}; there are {', '.join(RECORDINGS)}"
        )
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        parser.error(f"needs {', '.join(missing)} (Debian: apt install iproute2 tcpdump curl "
                     "iputils-ping nmap dnsmasq-base ethtool)")  # fmt: skip
    if os.geteuid() != 0:
        parser.error("needs root: it makes network namespaces")
    out: Path = options.out or Path(__file__).resolve().parent.parent / "examples" / "traces"
    out.mkdir(parents=True, exist_ok=True)
    random.seed(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for name in options.names or RECORDINGS:
        path = out / f"{name}.pcap"
        with hosts():
            RECORDINGS[name](path)
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
