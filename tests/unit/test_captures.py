"""CaptureFile: compression, pipes, damage."""

from __future__ import annotations

import gzip
import os
import re
import threading
from pathlib import Path

import pytest
import zstandard
from captures import pcap

from oko.captures import CaptureFile
from oko.errors import CaptureError

PACKETS = [(i * 1000, os.urandom(60)) for i in range(40_000)]  # 3 MB: several chunks
PLAIN = pcap(PACKETS)


def read(path: Path | str) -> tuple[int, str, str]:
    """(records that are right, damage, error)"""
    n = 0
    with CaptureFile(path) as file:
        try:
            for record, (_, data) in zip(file.capture, PACKETS, strict=False):
                assert record.frame == data
                n += 1
            assert next(iter(file.capture), None) is None
        except CaptureError as exc:
            return n, file.damage, str(exc)
        return n, file.damage, ""


COMPRESSED = {
    "plain": PLAIN,
    "gz": gzip.compress(PLAIN, 1),
    "gz members": gzip.compress(PLAIN[:100_001], 1) + gzip.compress(PLAIN[100_001:], 1),
    "gz padding": gzip.compress(PLAIN, 1) + bytes(513),
    "zst": zstandard.ZstdCompressor(level=1, write_checksum=True).compress(PLAIN),
    "zst frames": zstandard.compress(PLAIN[:77]) + zstandard.compress(PLAIN[77:]),
}


@pytest.mark.parametrize("kind", COMPRESSED)
def test_kinds(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "no-telling-suffix"
    path.write_bytes(COMPRESSED[kind])
    assert read(path) == (len(PACKETS), "", "")


@pytest.mark.parametrize("kind", COMPRESSED)
def test_through_a_fifo(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    thread = threading.Thread(target=lambda: path.write_bytes(COMPRESSED[kind]))
    thread.start()
    assert read(path) == (len(PACKETS), "", "")
    thread.join()


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_cut_off(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "cut"
    path.write_bytes(COMPRESSED[kind][:-1000])
    n, damage, error = read(path)
    assert 30_000 < n < len(PACKETS)
    assert "cut off after" in damage
    assert error.startswith("cut off at byte")


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_corrupt(tmp_path: Path, kind: str) -> None:
    data = bytearray(COMPRESSED[kind])
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    path = tmp_path / "corrupt"
    path.write_bytes(data)
    n, damage, error = read_any(path)
    assert n < len(PACKETS)
    assert damage or error
    assert "\n" not in damage


def read_any(path: Path) -> tuple[int, str, str]:
    """As read(), but damaged bytes may come out as packets."""
    with CaptureFile(path) as file:
        n = 0
        try:
            for _ in file.capture:
                n += 1
        except CaptureError as exc:
            return n, file.damage, str(exc)
        return n, file.damage, ""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"BZh91AY&SY" + bytes(50), "compressed with bzip2"),
        (b"\xfd7zXZ\0" + bytes(50), "compressed with xz"),
        (b"hello, world", "not a capture"),
        (b"\x1f\x8b" + bytes(50), "the gzip data is corrupt"),
        (gzip.compress(PLAIN)[:15], "the gzip data is cut off after 15 bytes"),
        (gzip.compress(b"not a capture at all"), "starts with bytes 6e 6f 74 20"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 50, "the zstd data is corrupt"),
    ],
    ids=["empty", "bzip2", "xz", "text", "bad gzip", "short gzip", "gzip of text", "bad zstd"],
)
def test_refused(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(CaptureError, match=re.escape(words)) as caught:
        CaptureFile(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="No such file"):
        CaptureFile(tmp_path / "absent")
    with pytest.raises(CaptureError, match="Is a directory"):
        CaptureFile(tmp_path)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_closed_early(tmp_path: Path, kind: str) -> None:
    """A reader that stops early ends the decompressor, without leaving descriptors open."""
    path = tmp_path / "x"
    path.write_bytes(COMPRESSED[kind])
    before = len(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    for _ in range(5):
        with CaptureFile(path) as file:
            next(iter(file.capture))
            assert file.position > 0
    assert len(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads
