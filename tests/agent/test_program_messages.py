"""Filter programs and maps over OpenFlow: oko's extension, in memory."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path

import pytest
from conversation import Peer, made_agent
from waiting import PATIENCE

from oko.datapath import Frame
from oko.openflow import common, flow_stats, roles
from oko.openflow import extension as ext
from oko.openflow.common import OF10, OF13, OF14
from oko.openflow.extension import MapName
from oko.openflow.flows import encode_flow_mod
from oko.text import parse_rules

BPF = Path(__file__).resolve().parents[2] / "examples" / "bpf"
SYN_FLOOD = (BPF / "syn_flood.o").read_bytes()
FIREWALL = (BPF / "stateless_firewall.o").read_bytes()
FRAME = bytes.fromhex("020000000002020000000001080045") + bytes(45)


@pytest.fixture
def agent():
    made = made_agent()
    yield made
    made.bridge.close()


@pytest.fixture(params=[OF10, OF13, OF14])
def peer(request, agent):
    return Peer(agent, request.param)


def told(peer: Peer, message: ext.Message, xid: int = 3) -> list[bytes]:
    return peer(ext.encode(peer.version, message, xid))


def answer(peer: Peer, *messages: ext.Message, xid: int = 3) -> ext.Message:
    """The one answer of oko's to messages that come together."""
    (reply,) = peer(*(ext.encode(peer.version, message, xid) for message in messages))
    assert reply[4:8] == xid.to_bytes(4, "big")
    return ext.decode(reply)


def load(peer: Peer, number: int, elf: bytes, flags: int = 0) -> ext.Message:
    return answer(peer, *ext.load_chunks(number, elf, flags))


def failure(peer: Peer, *messages: ext.Message) -> tuple[str, str]:
    """(name, text) of the one error; text "" for peers that are not told."""
    replies = peer(*(ext.encode(peer.version, message, 3) for message in messages))
    text = ""
    if len(replies) == 2:
        said = ext.decode(replies.pop(0))
        assert isinstance(said, ext.ErrorText)
        text = said.text
    (reply,) = replies
    return common.decode_error(peer.version, reply).name, text


def add(peer: Peer, text: str) -> bytes:
    (mod,) = parse_rules(text, "test")
    return encode_flow_mod(peer.version, mod)


# ---------------------------------------------------------------- programs


def test_hello(peer):
    hello = answer(peer, ext.Hello())
    assert hello == ext.Hello(7)
    assert peer.session.aware


def test_load_show_unload(peer):
    assert load(peer, 0, SYN_FLOOD) == ext.Loaded(1)
    assert load(peer, 7, FIREWALL) == ext.Loaded(7)
    (reply,) = peer(ext.encode_show_request(peer.version))
    first, second = ext.decode_programs(peer.version, reply)
    assert (first.number, first.owner, first.size) == (1, "a test", len(SYN_FLOOD))
    assert first.sha256 == hashlib.sha256(SYN_FLOOD).digest()
    assert second.number == 7 and second.maps and second.maps[0].key_size
    (reply,) = peer(ext.encode_show_request(peer.version, 7))
    assert [p.number for p in ext.decode_programs(peer.version, reply)] == [7]
    assert peer.error(ext.encode_show_request(peer.version, 9)) == "OFPBMC_BAD_VALUE"
    assert answer(peer, ext.UnloadProgram(1)) == ext.Loaded(1)
    assert failure(peer, ext.UnloadProgram(1))[0] == "OFPBMC_BAD_VALUE"


def test_an_elf_larger_than_a_message(peer):
    large = SYN_FLOOD + bytes(150_000)  # what follows the section headers is nobody's
    chunks = list(ext.load_chunks(4, large))
    assert len(chunks) == 3
    assert told(peer, chunks[0]) == []
    assert told(peer, chunks[1]) == []
    assert told(peer, chunks[2]) != []
    assert peer.agent.quota.uploads == 0 and peer.agent.quota.bytes == 0


def test_chunks_out_of_order_end_the_upload(peer):
    chunks = list(ext.load_chunks(4, SYN_FLOOD + bytes(150_000)))
    assert failure(peer, chunks[1])[0] == "OFPBRC_BAD_LEN"
    assert told(peer, chunks[0]) == []
    assert failure(peer, chunks[2])[0] == "OFPBRC_BAD_LEN"
    assert peer.agent.quota.uploads == 0 and peer.agent.quota.bytes == 0


def test_uploads_are_limited_and_go_with_the_connection(agent):
    peer, other = Peer(agent), Peer(agent)
    chunk = next(iter(ext.load_chunks(4, bytes(100_000))))

    async def both() -> list[bytes]:
        for xid in range(16):
            assert await peer.ask(ext.encode(OF13, chunk, xid)) == []
        return await other.ask(ext.encode(OF13, chunk, 99))

    (reply,) = asyncio.run(both())
    assert common.decode_error(OF13, reply).name == "OFPBRC_EPERM"
    peer.leave()
    assert agent.quota.uploads == 0 and agent.quota.bytes == 0
    assert load(other, 4, SYN_FLOOD) == ext.Loaded(4)


def test_create_only_and_ownership(agent):
    peer = Peer(agent)
    load(peer, 1, SYN_FLOOD)
    chunks = list(ext.load_chunks(1, SYN_FLOOD, ext.CREATE_ONLY))
    assert failure(peer, *chunks)[0] == "OFPBRC_EPERM"
    slave = Peer(agent)
    slave(roles.encode_role(OF13, 1, roles.Role(roles.SLAVE, 0), reply=False))
    assert failure(slave, *ext.load_chunks(2, SYN_FLOOD))[0] == "OFPBRC_IS_SLAVE"
    assert failure(slave, ext.UnloadProgram(1))[0] == "OFPBRC_IS_SLAVE"
    assert len(slave(ext.encode_show_request(OF13))) == 1


def test_a_refusal_is_explained_to_those_who_know(peer):
    name, text = failure(peer, *ext.load_chunks(2, b"no ELF at all"))
    assert (name, text) == ("OFPBRC_EPERM", "")
    answer(peer, ext.Hello())
    name, text = failure(peer, *ext.load_chunks(2, b"no ELF at all"))
    assert name == "OFPBRC_EPERM" and "ELF" in text


def test_a_barrier_waits_for_verification(agent):
    peer = Peer(agent)
    barrier = common.message(OF13, common.TYPES[OF13]["BARRIER_REQUEST"], 9)
    chunks = [ext.encode(OF13, chunk, 3) for chunk in ext.load_chunks(1, SYN_FLOOD)]
    replies = peer(*chunks, add(peer, "filter_prog=1,actions=drop"), barrier)
    assert [reply[1] for reply in replies] == [common.EXPERIMENTER, 21]
    assert [f.filter_prog for f in agent.bridge.flow_stats()] == [1]


def test_a_bridge_waits_for_what_is_being_verified(agent):
    peer = Peer(agent)
    (chunk,) = ext.load_chunks(1, SYN_FLOOD)

    async def interrupted() -> list[int]:
        asking = asyncio.create_task(peer.ask(ext.encode(OF13, chunk, 3)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await agent.bridge.settle()
        return [p.number for p in agent.bridge.datapath.programs()]

    assert asyncio.run(interrupted()) == [1]


def test_unload_of_a_used_program(peer):
    load(peer, 1, SYN_FLOOD)
    peer(add(peer, "filter_prog=1,actions=drop"))
    assert failure(peer, ext.UnloadProgram(1))[0] == "OFPBRC_EPERM"
    assert answer(peer, ext.UnloadProgram(1, ext.FORCE)) == ext.Loaded(1)
    assert list(peer.agent.bridge.flow_stats()) == []


# ---------------------------------------------------------------- filters in flows


def test_only_those_who_know_see_filters(agent):
    for version in (OF10, OF13, OF14):
        knows, ignorant = Peer(agent, version), Peer(agent, version)
        load(knows, 1, SYN_FLOOD)
        assert not knows.session.aware  # oko's other messages do not count
        knows(add(knows, "priority=5,filter_prog=1,actions=output:2"))
        assert knows.session.aware
        ask = flow_stats.encode_flow_request(
            version, flow_stats.FlowRequest(nxm=version == OF10), 5
        )
        seen = [
            flow_stats.decode_flow_stats(version, peer(ask)[0])[0].flow.filter_prog
            for peer in (knows, ignorant)
        ]
        assert seen == [1, 0]
        assert ignorant.session.hides_told and not knows.session.hides_told


def test_a_program_that_is_not_loaded(peer):
    (text, error) = peer(add(peer, "filter_prog=9,actions=drop"))
    assert "9" in ext.decode(text).text
    assert common.decode_error(peer.version, error).name == "OFPBMC_BAD_VALUE"
    assert peer(add(peer, "delete filter_prog=9")) == []
    request = flow_stats.FlowRequest(filter_prog=9, aggregate=True)
    (reply,) = peer(flow_stats.encode_flow_request(peer.version, request, 5))
    assert flow_stats.decode_aggregate(peer.version, reply) == (0, 0, 0)


# ---------------------------------------------------------------- maps


@pytest.fixture
def blocked(agent):
    """A peer, and the map of a loaded firewall."""
    peer = Peer(agent)
    load(peer, 5, FIREWALL)
    return peer, MapName(5, 0)


def dump(peer: Peer, name: MapName) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for reply in peer(ext.encode_dump_request(peer.version, name)):
        found.update(ext.decode_dump(peer.version, reply).entries)
    return found


def key(i: int) -> bytes:
    return i.to_bytes(4, "big")


ONE, TWO = b"\1\0\0\0", b"\2\0\0\0"


def update(peer: Peer, name: MapName, entries: dict[bytes, bytes], flags: int = 0):
    return answer(peer, *ext.update_chunks(name, 4, 4, entries.items(), flags))


def test_update_dump_delete(blocked):
    peer, name = blocked
    assert update(peer, name, {key(1): ONE, key(2): TWO}) == ext.Updated(5, 0, 2)
    assert dump(peer, name) == {key(1): ONE, key(2): TWO}
    by_name = MapName(5, name=peer.agent.bridge.maps(5).find(0).name)
    assert answer(peer, ext.DeleteKeys(by_name, 4, (key(1),))) == ext.Updated(5, 0, 1)
    assert dump(peer, by_name) == {key(2): TWO}
    error, _ = failure(peer, ext.DeleteKeys(name, 4, (key(2), key(9))))
    assert error == "OFPBRC_EPERM"
    assert dump(peer, name) == {key(2): TWO}


def test_updates_are_all_or_nothing(blocked):
    peer, name = blocked
    update(peer, name, {key(1): ONE})
    both = ((key(2), TWO), (key(1), TWO))
    error, _ = failure(peer, ext.UpdateMap(name, 4, 4, both, ext.NO_EXIST))
    assert error == "OFPBRC_EPERM" and dump(peer, name) == {key(1): ONE}
    error, _ = failure(peer, ext.UpdateMap(name, 4, 4, both, ext.EXIST))
    assert error == "OFPBRC_EPERM" and dump(peer, name) == {key(1): ONE}
    error, _ = failure(peer, ext.UpdateMap(name, 3, 4, ((b"abc", ONE),)))
    assert error == "OFPBRC_EPERM"
    room = peer.agent.bridge.map(5, 0).spec.max_entries
    many = {key(i): ONE for i in range(10, 10 + room)}
    error, _ = failure(peer, *ext.update_chunks(name, 4, 4, many.items()))
    assert error == "OFPBRC_EPERM" and dump(peer, name) == {key(1): ONE}


def test_replace_leaves_nothing_else(blocked):
    peer, name = blocked
    update(peer, name, {key(1): ONE, key(2): ONE})
    assert update(peer, name, {key(2): TWO, key(3): TWO}, ext.REPLACE) == ext.Updated(5, 0, 2)
    assert dump(peer, name) == {key(2): TWO, key(3): TWO}


def test_maps_that_there_are_not(blocked):
    peer, _ = blocked
    for name in (MapName(5, 9), MapName(5, name="nothing"), MapName(9, 0)):
        assert peer.error(ext.encode_dump_request(OF13, name)) == "OFPBMC_BAD_VALUE"
        assert failure(peer, ext.UpdateMap(name, 4, 4, ()))[0] == "OFPBMC_BAD_VALUE"


# ---------------------------------------------------------------- send_maps


def test_send_maps_to_subscribers(blocked):
    peer, name = blocked
    update(peer, name, {key(1): ONE})
    peer(add(peer, "priority=9,cookie=0x77,actions=send_maps(5),output:2"))
    bridge = peer.agent.bridge
    other = Peer(peer.agent)

    def forward(seconds: int) -> None:
        bridge.datapath.process([Frame(FRAME, 1, ns=seconds * 10**9)])
        bridge.poll()

    forward(10)
    assert peer.told.take() == []
    assert told(peer, ext.Subscribe(5, maps=(0,))) == []
    forward(20)
    (event,) = peer.told.take()
    got = ext.decode(event)
    assert got == ext.MapContents(
        MapName(5, 0, bridge.map(5, 0).name), 4, 4, ((key(1), ONE),), 0, 9, 0x77, 20 * 10**9
    )
    assert other.told.take() == []
    peer.told.full = 4 << 20
    forward(30)
    assert peer.told.take() == [] and bridge.counters["send_maps_dropped"] == 1
    peer.told.full = 0
    assert told(peer, ext.Subscribe(5, flags=ext.UNSUBSCRIBE)) == []
    forward(40)
    assert peer.told.take() == []
    assert failure(peer, ext.Subscribe(9))[0] == "OFPBMC_BAD_VALUE"


def test_periodic_maps(blocked):
    peer, name = blocked
    update(peer, name, {key(1): ONE})

    async def listen() -> list[bytes]:
        await peer.ask(ext.encode(OF13, ext.Subscribe(5, interval=20, maps=(0,)), 1))
        heard: list[bytes] = []
        while len(heard) < 3:
            await asyncio.sleep(0.005)
            heard += peer.told.take()
        peer.session.close()
        await asyncio.sleep(0.05)
        assert peer.told.take() == []
        return heard

    began = time.monotonic()
    heard = asyncio.run(asyncio.wait_for(listen(), PATIENCE))
    assert (len(heard) - 1) * 0.02 <= time.monotonic() - began
    assert ext.decode(heard[0]).entries == ((key(1), ONE),)
