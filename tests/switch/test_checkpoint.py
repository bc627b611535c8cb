"""What packets change is there again after kill -9: maps of every type, data, idle times."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib

import dpkt
import pytest
from switchd_process import ROOT, Switchd
from test_map_replace import PER_WORKER, SKETCHES, key_of, reader
from test_state import killed, opened, revived, rules
from waiting import wait_until

from oko.bpf.spec import MapType
from oko.datapath import Datapath
from oko.model.compose import compose
from oko.switch import checkpoint
from oko.switch.bridge import Bridge
from oko.text import parse_flow

SECOND = 10**9


def filled(kind: MapType, rng: random.Random, workers: int = 2) -> Datapath:
    """A program whose map has entries, and values of their own for each worker."""
    dp = Datapath(workers=workers)
    dp.load_program(1, reader(kind))
    found = dp.maps(1)["m"]
    for number in rng.sample(range(16), 9):
        key = key_of(kind, number)
        for _ in range(rng.randrange(1, 4)):
            if kind in SKETCHES:
                found.add(key)
            else:
                found[key] = rng.randbytes(4)
    if kind in PER_WORKER:
        each = len(found.dump()) // len(found)
        values = [entry for entry in cut(found.dump(), each) if any(entry[8:])]
        changed = b"".join(e[:8] + rng.randbytes(4 * workers) for e in values)
        found.restore(changed, workers)
        assert set(cut(changed, each)) <= set(cut(found.dump(), each))
    return dp


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.mark.parametrize("kind", list(MapType), ids=lambda kind: kind.label)
def test_dump_and_restore(kind):
    rng = random.Random(int(kind))
    with filled(kind, rng) as dp, Datapath(workers=2) as other:
        old = dp.maps(1)["m"]
        other.load_program(1, reader(kind))
        new = other.maps(1)["m"]
        if kind in SKETCHES:
            new.add(key_of(kind, 77))  # goes
        else:
            new[key_of(kind, 3)] = b"gone"
        new.restore(old.dump(), 2)
        assert any(any(value) for _, value in new.items())
        assert sorted(new.items()) == sorted(old.items())
        for number in range(16):
            assert new.get(key_of(kind, number)) == old.get(key_of(kind, number))
        if kind not in SKETCHES:
            return
        new.add(key_of(kind, 5))  # goes on counting
        value = int.from_bytes(new.get(key_of(kind, 5)), "little")
        before = int.from_bytes(old.get(key_of(kind, 5)), "little")
        assert value == (1 if kind == MapType.BLOOM else before + 1)


@pytest.mark.parametrize("kind", PER_WORKER, ids=lambda kind: kind.label)
@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 4)])
def test_another_number_of_workers(kind, before, after):
    with filled(kind, random.Random(1), before) as dp, Datapath(workers=after) as other:
        other.load_program(1, reader(kind))
        other.maps(1)["m"].restore(dp.maps(1)["m"].dump(), before)
        new = dict(other.maps(1)["m"].items())
        for key, value in dp.maps(1)["m"].items():
            assert new[key] == value[: 4 * after].ljust(4 * after, b"\0")


def test_everything_of_a_bridge(tmp_path, monkeypatch):
    """Through the file: all types at once, .bss included; another object's is left alone."""
    rng = random.Random(5)
    bridge, other = Bridge("br0", Datapath(workers=2)), Bridge("br0", Datapath(workers=2))
    wanted = {}
    for kind in MapType:
        for made in (bridge, other):
            made.datapath.load_program(int(kind), reader(kind))
        with filled(kind, rng) as source:
            found = bridge.datapath.maps(int(kind))["m"]
            found.restore(source.maps(1)["m"].dump(), 2)
            wanted[int(kind)] = sorted(found.items())
        bridge.datapath.set_data(int(kind), {0: int(kind).to_bytes(8, "big")})
    for made in (bridge, other):
        monkeypatch.setattr(made, "programs", lambda: [Loaded(int(kind)) for kind in MapType])
    checkpoint.Contents(bridge).save(tmp_path / "maps", 7)
    saved = checkpoint.read_contents(tmp_path / "maps")
    assert saved.number == 7
    saved.put_back(other)
    for kind in MapType:
        number = int(kind)
        assert sorted(other.datapath.maps(number)["m"].items()) == wanted[number]
        assert other.datapath.data(number) == {0: number.to_bytes(8, "big")}
    monkeypatch.setattr(other, "programs", lambda: [Loaded(3, "another")])
    other.datapath.set_data(3, {0: bytes(8)})
    saved.put_back(other)
    assert other.datapath.data(3) == {0: bytes(8)}
    bridge.close()
    other.close()


class Loaded:
    def __init__(self, number: int, sha256: str = "the same") -> None:
        self.number = number
        self.sha256 = sha256


def test_contents_after_a_compaction(tmp_path):
    """What packets changed is in the maps' file, not in the journal's snapshot."""
    bridge = opened(tmp_path)
    elf = (ROOT / "examples" / "bpf" / "payload_match.o").read_bytes()
    asyncio.run(bridge.load_program(1, elf))
    bridge.datapath.set_data(1, {0: b"something packets"[:16]})
    bridge.map(1, 0).restore(bridge.map(1, 0).dump()[:-1] + b"\7", 2)
    before = bridge.map(1, 0).dump()
    asyncio.run(bridge.state.compact(bridge))
    bridge = revived(bridge, tmp_path)
    assert bridge.datapath.data(1) == {0: b"something packets"[:16]}
    assert bridge.map(1, 0).dump() == before
    killed(bridge)


# ---------------------------------------------------------------- idle times


def test_idle_time_goes_on_where_it_was(tmp_path):
    """Neither from the start nor as if the flow had been idle while the switch was down."""
    bridge = opened(tmp_path)
    bridge.start()
    began = time.monotonic()
    bridge.apply(rules("idle_timeout=60,tcp,actions=drop\nidle_timeout=90,udp,actions=drop\n"
                       "table=1,idle_timeout=60,actions=drop\npriority=1,actions=drop",
                       ))  # fmt: skip
    time.sleep(1.5)
    bridge.apply(rules("modify_strict table=1,idle_timeout=60,actions=output:1"))
    asyncio.run(bridge.state.checkpoint(bridge))
    idle = time.monotonic() - began
    bridge.apply(rules("table=2,idle_timeout=60,actions=drop"))  # after the checkpoint
    killed(bridge)
    time.sleep(1)
    began = time.monotonic()
    bridge = opened(tmp_path)
    bridge.start()
    ages = {(f.table, f.priority, f.idle_timeout): f.idle_age / SECOND for f in bridge.flow_stats()}
    again = time.monotonic() - began
    assert 1.5 <= ages[0, 32768, 60] <= idle + again + 0.1
    assert ages[2, 32768, 60] <= again + 0.1  # nobody knows: as used now
    assert 1.5 <= ages[0, 32768, 90] <= idle + again + 0.1
    bridge.datapath.tick(bridge.now + 59 * SECOND, worker=1)  # one has 1.5 s less left
    left = {(f.table, f.idle_timeout) for f in bridge.flow_stats()}
    assert ((0, 60) not in left and {(0, 90), (2, 60)} <= left) or again > 0.9
    killed(bridge)


def test_idle_times_after_a_compaction(tmp_path):
    bridge = opened(tmp_path)
    bridge.start()
    began = time.monotonic()
    bridge.apply(rules("idle_timeout=100,tcp,actions=drop"))
    time.sleep(1.2)
    asyncio.run(bridge.state.compact(bridge))
    bridge = revived(bridge, tmp_path)
    (flow,) = bridge.flow_stats()
    assert 1.2 <= flow.idle_age / SECOND <= time.monotonic() - began + 0.1
    killed(bridge)


def test_a_damaged_idle_file(tmp_path):
    bridge = opened(tmp_path)
    bridge.apply(rules("idle_timeout=100,tcp,actions=drop"))
    asyncio.run(bridge.state.checkpoint(bridge))
    killed(bridge)
    path = tmp_path / "idle"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    bridge = opened(tmp_path)
    assert len(list(tmp_path.glob("idle.damaged-*"))) == 1 and len(list(bridge.flow_stats())) == 1
    killed(bridge)


def test_saving_idle_times_takes_its_share_only(tmp_path):
    bridge = opened(tmp_path)
    bridge.apply(rules("".join(f"table=1,reg0={i},idle_timeout=9,actions=drop\n"
                               for i in range(3000))))  # fmt: skip

    async def twice() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await bridge.state.checkpoint(bridge)
        took = loop.time() - began
        return took, bridge.state._idle_due - loop.time()

    took, wait = asyncio.run(twice())
    assert 0 < wait < 21 * took
    assert checkpoint.read_idle(tmp_path / "idle").number == bridge.state._number
    killed(bridge)


# ---------------------------------------------------------------- the daemon


def test_a_sketch_counts_on_after_kill_9(tmp_path):
    """A sender's packets before and after the kill together make it a heavy hitter, of more than
    100 packets; the map says how many came above that. Nothing is forwarded before the maps are
    back, for the capture plays as soon as the threads run."""
    capture = tmp_path / "in.pcap"
    with capture.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        frame = compose(parse_flow("udp,nw_src=10.0.0.7,actions=drop").match)[1]
        for i in range(90):
            writer.writepkt(frame, ts=i / 1e6)
    state = ["--state-dir", str(tmp_path / "state"), "--bridge", "br0"]
    player = [*state, "--port", f"1=pcap:{capture},speed=max"]

    def ofctl(*words: str) -> str:
        command = [
            sys.executable,
            "-c",
            "from oko.ofctl.main import main; raise SystemExit(main())",
            *words,
        ]
        environment = os.environ | {"OVS_RUNDIR": str(tmp_path / "run"), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def kill(switch: Switchd) -> None:
        switch.signal(signal.SIGKILL)
        switch.process.wait(60)

    with Switchd(tmp_path / "run", *state) as switch:
        ofctl("load-filter-prog", "br0", "1", str(ROOT / "examples" / "bpf" / "heavy_hitter.o"))
        ofctl("add-flow", "br0", "filter_prog=1,actions=drop")
        kill(switch)
    with Switchd(tmp_path / "run", *player) as switch:

        def saved() -> bool:
            maps = checkpoint.read_contents(tmp_path / "state" / "br0" / "maps")
            return maps is not None and (90).to_bytes(4, "little") in b"".join(
                zlib.decompress(blob) for part, blob in maps._parts() if part.get("packed")
            )

        wait_until(saved, every=0.2)
        assert json.loads(ofctl("dump-map", "br0", "1", "map=hitters", "--json"))["entries"] == []
        kill(switch)
    with Switchd(tmp_path / "run", *player):

        def counts() -> list[int]:
            found = json.loads(ofctl("dump-map", "br0", "1", "map=hitters", "--json"))["entries"]
            return [int.from_bytes(bytes.fromhex(e["value"]), "little") for e in found]

        wait_until(lambda: counts() == [80], lambda: str(counts()), every=0.2)
