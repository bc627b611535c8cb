"""A client that speaks the dialect of the 2018 prototype Oko drives a real oko-switchd."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from ofctl import Ofctl, needs_ovs_ofctl, switch

from oko.openflow import common, oko2018
from oko.openflow.common import OF10, OF13
from oko.openflow.oko2018 import DumpedMap, DumpRequest, Load, Update

ROOT = Path(__file__).resolve().parents[2]
FIREWALL = (ROOT / "examples" / "bpf" / "stateless_firewall.o").read_bytes()
ADDRESS, ONE = bytes((14, 0, 16, 172)), bytes((1, 0, 0, 0))


class Client:
    """One connection; barriers tell when the switch has done what was asked."""

    def __init__(self, path: Path, version: int) -> None:
        self.version = version
        self._xid = 100
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))
        self._socket.sendall(common.message(version, common.HELLO, 1))
        assert self._next()[1] == common.HELLO

    def _next(self) -> bytes:
        data = b""
        while len(data) < 8 or len(data) < int.from_bytes(data[2:4], "big"):
            want = int.from_bytes(data[2:4], "big") if len(data) >= 8 else 8
            more = self._socket.recv(want - len(data))
            assert more, "the switch closed the connection"
            data += more
        return data

    def ask(self, message: bytes) -> list[bytes]:
        """Sends it and a barrier; what comes before the barrier's reply."""
        self._xid += 1
        barrier = common.TYPES[self.version]["BARRIER_REQUEST"]
        self._socket.sendall(message + common.message(self.version, barrier, self._xid))
        replies = []
        while (got := self._next())[1] != barrier + 1:
            replies.append(got)
        return replies

    def error(self, message: bytes) -> str:
        """The error that answers it."""
        (reply,) = self.ask(message)
        assert reply[1] == common.ERROR
        return common.decode_error(self.version, reply).name

    def done(self, message: bytes) -> None:
        """Nothing answers what is in order."""
        assert self.ask(message) == []

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with switch(tmp_path_factory.mktemp("oko2018"), "--oko-2018") as there:
        yield there.run_dir


@pytest.fixture(params=[OF10, OF13], ids=["1.0", "1.3"])
def client(request: pytest.FixtureRequest, run_dir: Path) -> Iterator[Client]:
    made = Client(run_dir / "br0.oko", request.param)
    yield made
    made.close()


def test_the_session_of_its_readme(client: Client) -> None:
    """load-filter-prog, update-map, dump-map."""
    version = client.version
    client.done(oko2018.encode_load(version, 5, Load(1, FIREWALL)))
    client.done(oko2018.encode_update(version, 6, Update(1, 0, 4, 4, ((ADDRESS, ONE),))))
    (reply,) = client.ask(oko2018.encode_dump_request(version, 7, DumpRequest(1, (0,))))
    assert oko2018.decode_dump_reply(reply) == (1, [DumpedMap(0, 4, 4, ((ADDRESS, ONE),))])
    (reply,) = client.ask(oko2018.encode_dump_request(version, 8, DumpRequest(1, (0, 1))))
    assert [m.number for m in oko2018.decode_dump_reply(reply)[1]] == [0, 1]
    client.done(oko2018.encode_load(version, 9, Load(1, FIREWALL)))  # a reload, maps empty
    (reply,) = client.ask(oko2018.encode_dump_request(version, 10, DumpRequest(1, (0,))))
    assert oko2018.decode_dump_reply(reply)[1][0].entries == ()


def test_errors_that_it_knew(client: Client) -> None:
    version = client.version
    client.done(oko2018.encode_load(version, 5, Load(1, FIREWALL)))

    def update(*arguments: object) -> bytes:
        return oko2018.encode_update(version, 6, Update(*arguments))  # type: ignore[arg-type]

    entry = ((ADDRESS, ONE),)
    for wrong in (
        update(9, 0, 4, 4, entry),
        update(1, 7, 4, 4, entry),
        update(1, 0, 4, 3, ((ADDRESS, b"abc"),)),
        oko2018.encode_dump_request(version, 6, DumpRequest(9, (0,))),
        oko2018.encode_dump_request(version, 6, DumpRequest(1, (256,))),
        oko2018.encode_load(version, 6, Load(0, FIREWALL)),
        oko2018.encode_load(version, 6, Load(1, FIREWALL[:500])),
        oko2018.encode_load(version, 6, Load(1, b"no ELF")),
    ):
        assert client.error(wrong) == "OFPBRC_EPERM"
    # an update is all or nothing, and the program of before is still there
    both = ((ADDRESS, ONE), (bytes(4), ONE))
    client.done(update(1, 0, 4, 4, both))
    (reply,) = client.ask(oko2018.encode_dump_request(version, 7, DumpRequest(1, (0,))))
    assert sorted(oko2018.decode_dump_reply(reply)[1][0].entries) == sorted(both)


def flow_mod(version: int, program: int, *, nxm: bool = False) -> bytes:
    """An add: in_port=1,filter_prog=PROGRAM,actions=output:2 (as captured)."""
    number = f"{program:04x}"
    if version == OF13:
        text = (
            "04 0e 0060 00000001 0000000000000000 0000000000000000 00 00 0000 0000 000e"
            f"ffffffff ffffffff ffffffff 0000 {number} 0000 000000000000"
            "0001 000c 80000004 00000001 00000000"
            "0004 0018 00000000 0000 0010 00000002 ffff 000000000000"
        )
    elif nxm:
        text = (
            "01 04 0040 00000001 00002320 0000000d 0000000000000000 0000 0000 0000 000c"
            f"ffffffff ffff {number} 0000 0006 00000000 0000 0002 0001 0000 0000 0008 0002 0000"
        )
    else:
        text = (
            f"01 0e 0058 00000001 003820fe 0001 {'00' * 34} 0000000000000000 0000 0000 0000 000a"
            f"ffffffff ffff {number} 0000 000000000000 0000 0008 0002 0000"
        )
    return bytes.fromhex(text)


def stats_request(version: int, nxm: bool) -> bytes:
    from oko.openflow.flow_stats import FlowRequest, encode_flow_request

    return encode_flow_request(version, FlowRequest(nxm=nxm), 3)


@needs_ovs_ofctl
@pytest.mark.parametrize("nxm", [False, True])
def test_flows(client: Client, run_dir: Path, nxm: bool) -> None:
    """The number goes in and comes out where its structures have it; others see an oko flow."""
    version = client.version
    client.done(oko2018.encode_load(version, 5, Load(5, FIREWALL)))
    assert client.error(flow_mod(version, 77, nxm=nxm)) == "OFPBRC_EPERM"
    client.done(flow_mod(version, 5, nxm=nxm))
    (reply,) = client.ask(stats_request(version, nxm))
    start = 24 if nxm and version == OF10 else 12 if version == OF10 else 16
    at = start + (14 if version == OF13 else 48 if nxm else 54)
    assert reply[at : at + 2] == b"\x00\x05"
    stock = Ofctl(run_dir)
    assert [line.split("priority=")[1].split(",")[1] for line in stock.flows()] == [
        "in_port=1 actions=output:2"
    ]
    stock("del-flows", "br0")


def test_a_peer_that_offers_only_other_versions(run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        peer.connect(str(run_dir / "br0.oko"))
        peer.sendall(bytes((6, 0, 0, 16, 0, 0, 0, 1)) + bytes.fromhex("0001000800000040"))
        data = b""
        while chunk := peer.recv(4096):
            data += chunk
    assert data[int.from_bytes(data[2:4], "big") + 1] == common.ERROR
