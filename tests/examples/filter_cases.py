"""What the tests of the examples share: where filters and captures are, and a capture reader."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

import dpkt

ROOT = Path(__file__).resolve().parents[2]
FILTERS = ROOT / "examples" / "bpf"
OWN_TRACES = ROOT / "examples" / "traces"
NAMES = sorted(path.stem for path in FILTERS.glob("*.c"))


class Frame(NamedTuple):
    """A frame of a capture with its time on the datapath clock, ns, which never goes back."""

    data: bytes
    now: int


def read_capture(path: Path) -> Iterator[Frame]:
    """The frames of a pcap or pcapng file, gzip-compressed or not; read by dpkt, not by oko."""
    last = 0
    opened = gzip.open if path.suffix == ".gz" else open
    with cast(IO[bytes], opened(path, "rb")) as file:
        reader = dpkt.pcapng.Reader(file) if ".pcapng" in path.name else dpkt.pcap.Reader(file)
        link = reader.datalink()
        assert link in (dpkt.pcap.DLT_EN10MB, dpkt.pcap.DLT_LINUX_SLL)
        for seconds, data in reader:
            last = max(last, round(float(seconds) * 1_000_000) * 1000)
            yield Frame(data if link == dpkt.pcap.DLT_EN10MB else with_ethernet(data), last)


def with_ethernet(data: bytes) -> bytes:
    """A LINUX_SLL record (of an Ethernet card) with the Ethernet header that it stands for."""
    sll = dpkt.sll.SLL(data)
    assert (sll.hrd, sll.hlen) == (1, 6)
    target = b"\xff" * 6 if sll.type == 1 else bytes(6)  # to all, else not recorded
    header = dpkt.ethernet.Ethernet(dst=target, src=sll.hdr[:6], type=sll.ethtype)
    return bytes(header)[:14] + data[16:]
